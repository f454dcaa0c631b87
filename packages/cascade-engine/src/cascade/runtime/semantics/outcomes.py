"""Outcomes of nodes without a value: skipped, or failed (R6, R9)."""

from __future__ import annotations

from collections.abc import Sequence
from types import CoroutineType
from typing import Any, Final

from cascade.spec.containers import GATHER
from cascade.spec.errors import DefinitionError, DependencyMissingError, ReleasedValueError
from cascade.spec.fallbacks import NEVER_CAUGHT, Fallback
from cascade.spec.lazy_types import LazyResult
from cascade.spec.misuse import written
from cascade.spec.operation import FallbackOperation


class Missing:
    """The outcome of a node without a value; nodes that need its value get the same one."""

    __slots__ = ()

    @property
    def reason(self) -> tuple[str, BaseException | None]:
        """The reason for TaskSkipped: the condition, or the failed node and its error."""
        raise NotImplementedError


class Skipped(Missing):
    """The outcome of a node that did not run because of a condition (R6)."""

    __slots__ = ("condition", "node")

    def __init__(self, node: str, condition: str) -> None:
        #: The node whose ``run_if`` was falsy.
        self.node = node
        self.condition = condition

    @property
    def reason(self) -> tuple[str, None]:
        return self.condition, None

    def __repr__(self) -> str:
        return f"<skipped: the condition '{self.condition}' of '{self.node}' was falsy>"


class Failed(Missing):
    """The outcome of a failed node, in a run that goes on nevertheless."""

    __slots__ = ("counted", "error", "node")

    def __init__(self, node: str, error: Exception) -> None:
        self.node = node
        self.error = error
        #: Whether the error has been added to those of the run.
        self.counted = False

    @property
    def can_be_value(self) -> bool:
        """Whether it may be caught (M27)."""
        return not isinstance(self.error, NEVER_CAUGHT)

    def count(self, failures: list[Exception]) -> None:
        """Add the error to those of the run, once: no node above has caught it."""
        if not self.counted:
            self.counted = True
            failures.append(self.error)

    @property
    def reason(self) -> tuple[str, BaseException]:
        return self.node, self.error

    def __repr__(self) -> str:
        return f"<failed: '{self.node}' raised {type(self.error).__name__}>"


class _Released:
    def __repr__(self) -> str:
        return "(released)"


#: Replaces a value after its last use (M21).
RELEASED: Final = _Released()


def released(lazy: LazyResult[Any]) -> ReleasedValueError:
    """The error for a lazy value that is used again after its release."""
    return ReleasedValueError(
        f"the value of {lazy!r} was released after its last use, and now a task returned a "
        "lazy value that needs it again; the run could not foresee that, because no closure, "
        "global, default or literal of its tasks names the lazy value\n"
        f"    to keep the value until the run ends:  {written(lazy)}.keep()"
    )


def refuse_coroutine(result: Any, task: str) -> None:
    """Refuse a coroutine as the result of a call, because no code would await it.

    Raises:
        DefinitionError: The result is a coroutine.
    """
    if issubclass(type(result), CoroutineType):
        result.close()  # otherwise Python warns that it was never awaited
        raise DefinitionError(
            f"task '{task}' returned a coroutine, which is never awaited; declare the task "
            "itself with async def and await it there"
        )


def is_error(outcome: Any, node: LazyResult[Any]) -> bool:
    """Whether the value of ``node`` is the error that it failed with."""
    return type(outcome) is Failed and node._calls.catches and outcome.can_be_value


def fallback_for(node: LazyResult[Any], missing: Missing) -> Fallback | None:
    """The fallback with which ``node`` goes on although it lacks an input (M26), or None."""
    if type(node.task) is not FallbackOperation:
        return None
    fallback: Fallback = node.args[0]
    error = missing.error if type(missing) is Failed else None
    return fallback if fallback.covers(error) else None


def in_order(node: LazyResult[Any]) -> Sequence[LazyResult[Any]]:
    """The dependencies of ``node`` in the order of its arguments, also those of a container."""
    inputs = node._dependencies
    if node.task is not GATHER or not (order := node.args[0].order):
        return inputs
    return [inputs[place] for place in order]


def worst(lacks: Sequence[Missing]) -> Missing | None:
    """The outcome of a node that lacks these, in order: the first failure, or the first skip.

    Failures come first, so that no error is lost.
    """
    return next((lack for lack in lacks if type(lack) is Failed), lacks[0] if lacks else None)


def value_or_raise(outcome: Any, name: str, target: LazyResult[Any] | None) -> Any:
    """The value of a finished target.

    Args:
        outcome: The result of a strategy.
        name: The target's name.
        target: Its lazy value, if there is one.

    Raises:
        DependencyMissingError: The target, or a node that it needs, was skipped.
        Exception: The error of the target, or of a node that it needs.
    """
    if issubclass(type(outcome), Failed):
        raise outcome.error
    if not issubclass(type(outcome), Skipped):
        return outcome
    called = f" (called at {target.callsite})" if target is not None else ""
    skipped = f"'{outcome.node}'" if outcome.node != name else "it"
    raise DependencyMissingError(
        f"the target '{name}'{called} has no value: {skipped} was skipped, because its condition "
        f"'{outcome.condition}' was falsy",
        outcome.condition,
    )
