"""Guarantees: the promises of an engine about its durable runs."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.runtime.options import Durability, OnCodeChange


@dataclass(frozen=True, slots=True)
class Guarantees:
    """Three options of an engine, with the names that they have there.

    Attributes:
        durability: The commits that runs wait for (D4).
        on_code_change: The treatment of runs whose code has changed (D9).
        strict: Whether a value that cannot be stored is the error of its node (D7).
    """

    durability: Durability = "sync"
    on_code_change: OnCodeChange = "warn"
    strict: bool = False
