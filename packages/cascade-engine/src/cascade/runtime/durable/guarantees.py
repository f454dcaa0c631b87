"""Guarantees: what an engine promises about its durable runs."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.runtime.options import Durability, OnCodeChange


@dataclass(frozen=True, slots=True)
class Guarantees:
    """Three options of an engine, with the names that they have there.

    Attributes:
        durability: What runs wait for (D4).
        on_code_change: What becomes of a run whose code has changed (D9).
        strict: Whether a value that cannot be stored is the error of its node (D7).
    """

    durability: Durability = "sync"
    on_code_change: OnCodeChange = "warn"
    strict: bool = False
