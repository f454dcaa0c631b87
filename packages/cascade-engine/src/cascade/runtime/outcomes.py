"""Nodes without a value, and what stands in its place: they were skipped, or failed (R6, R9)."""

from __future__ import annotations

from typing import Any

from cascade.spec.errors import DependencyMissingError
from cascade.spec.lazy_types import LazyResult


class Missing:
    """The outcome of a node that has no value; what depends on its value gets the same one."""

    __slots__ = ()

    @property
    def reason(self) -> tuple[str, BaseException | None]:
        """What TaskSkipped tells of it: the condition, or what failed and with what."""
        raise NotImplementedError


class Skipped(Missing):
    """The outcome of a node that did not run because of a condition (R6)."""

    __slots__ = ("condition", "node")

    def __init__(self, node: str, condition: str) -> None:
        #: The node whose ``run_if`` was not met.
        self.node = node
        self.condition = condition

    @property
    def reason(self) -> tuple[str, None]:
        return self.condition, None

    def __repr__(self) -> str:
        return f"<skipped: the condition '{self.condition}' of '{self.node}' was falsy>"


class Failed(Missing):
    """The outcome of a node that failed, in a run that goes on nevertheless."""

    __slots__ = ("error", "node")

    def __init__(self, node: str, error: Exception) -> None:
        self.node = node
        self.error = error

    @property
    def reason(self) -> tuple[str, BaseException]:
        return self.node, self.error

    def __repr__(self) -> str:
        return f"<failed: '{self.node}' raised {type(self.error).__name__}>"


def value_or_raise(outcome: Any, name: str, target: LazyResult[Any] | None) -> Any:
    """The value of a finished target.

    Args:
        outcome: What a strategy gave.
        name: What the target is called.
        target: Its lazy value, where there is one.

    Raises:
        DependencyMissingError: It has none, because it or something it needs was skipped.
        Exception: What it, or something it needs, failed with.
    """
    if isinstance(outcome, Failed):
        raise outcome.error
    if not isinstance(outcome, Skipped):
        return outcome
    called = f" (called at {target.callsite})" if target is not None else ""
    skipped = f"'{outcome.node}'" if outcome.node != name else "it"
    raise DependencyMissingError(
        f"the target '{name}'{called} has no value: {skipped} was skipped, because its condition "
        f"'{outcome.condition}' was falsy",
        outcome.condition,
    )
