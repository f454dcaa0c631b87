"""Waits: nodes that wait for a time or for a signal, and call no function (D10, D11).

``cs.sleep(…)`` and ``cs.wait_for(…)`` make ordinary nodes. While such a node waits it holds no
thread, no asyncio task and no coroutine. In a durable run it goes on waiting after a crash.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple, TypeVar, overload

from cascade.spec.checks import is_number
from cascade.spec.errors import ArgumentError, RunError
from cascade.spec.fallbacks import NOT_GIVEN
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import LazyValue
from cascade.spec.task_class import Task
from cascade.spec.wording import short

T = TypeVar("T")
#: A time in seconds that a program gives, or computes.
Seconds = float | LazyResult[Any]


class Plan(NamedTuple):
    """What a node waits for.

    Attributes:
        signal: The name of a signal; None for a time alone.
        seconds: The longest time; None for no limit.
        value: The value of the node when the time is over; NOT_GIVEN if that is an error.
    """

    signal: str | None
    seconds: float | None
    value: Any


class Wait(Task[..., Any]):
    """A task whose nodes wait. The engine calls ``plan`` in place of its function.

    Args:
        func: Has the name and the signature.
        plan: Gives the Plan for the arguments of a call.
    """

    is_wait = True
    refuses = frozenset({"with_timeout", "with_capacity", "with_checkpoint"})

    def __init__(self, func: Callable[..., Any], plan: Callable[..., Plan]) -> None:
        # It never blocks. But the engine makes calls of tasks that may block one by one, and not
        # in its shortest loop, which does not know of waits.
        super().__init__(func, may_block=True)
        self._plan = plan

    def __call__(self, /, *args: Any, **kwargs: Any) -> LazyResult[Any]:
        frame = sys._getframe(1)
        return self.make(args, kwargs, frame.f_code, frame.f_lasti)

    def plan(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Plan:
        """What a call with these arguments waits for.

        Raises:
            ArgumentError: An argument is at fault.
        """
        return self._plan(*args, **kwargs)

    def make(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
    ) -> LazyResult[Any]:
        lazy = super().make(args, kwargs, code, lasti)
        if not any(isinstance(value, LazyValue) for value in (*args, *kwargs.values())):
            self.plan(args, kwargs)
        return lazy


def _seconds(whose: str, given: Any) -> float:
    if not is_number(given, 0) or given == float("inf"):
        raise ArgumentError(f"{whose} must be a number of seconds ≥ 0, but is {short(given)}")
    return float(given)


def _sleeping(seconds: Any, then: Any = None) -> Plan:
    return Plan(None, _seconds("the time of sleep()", seconds), then)


def _waiting(name: Any, *, timeout: Any = None, default: Any = NOT_GIVEN) -> Plan:
    if timeout is not None:
        timeout = _seconds("the timeout of wait_for()", timeout)
    return Plan(check_signal("wait_for()", name), timeout, default)


def check_signal(whose: str, name: Any) -> str:
    """The name of a signal.

    Raises:
        ArgumentError: ``name`` is empty or no text.
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(
            f"{whose} takes the name of a signal, a text that is not empty, but got {short(name)}"
        )
    return name


class Sleep(Wait):
    """The class of ``cs.sleep``, for type checkers."""

    @overload
    def __call__(self, /, seconds: Seconds) -> LazyResult[None]: ...
    @overload
    def __call__(self, /, seconds: Seconds, then: LazyResult[T]) -> LazyResult[T]: ...
    @overload
    def __call__(self, /, seconds: Seconds, then: T) -> LazyResult[T]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> LazyResult[Any]:
        frame = sys._getframe(1)
        return self.make(args, kwargs, frame.f_code, frame.f_lasti)


async def _sleep(seconds: float, then: Any = None) -> Any:
    """A node that waits for some seconds, and then has the value ``then`` (D10).

    The time begins when the arguments have their values. A durable run records when it ends: after
    a crash the node waits for the rest.

    >>> import cascade as cs
    >>> cs.run(cs.sleep(0.01, then="awake"))
    'awake'

    Args:
        seconds: How long, ≥ 0; may be lazy.
        then: The value of the node; may be lazy.

    Raises:
        ArgumentError: ``seconds`` is not a number ≥ 0.
    """
    import asyncio  # 30 ms that programs without an engine do not need

    await asyncio.sleep(seconds)
    return then


async def _wait_for(
    name: str,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # it is no coroutine that waits
    default: Any = NOT_GIVEN,
) -> Any:
    """A node that waits for a signal, and has its value (D11).

    Signals come from ``engine.signal(run_id, name, value)`` and ``cs.signal(store, …)``. Each is
    taken by one node, in the order in which they came; it may come before the node begins to wait.

    >>> import cascade as cs
    >>> cs.run(cs.wait_for("approval", timeout=0.01, default="nobody answered"))
    'nobody answered'

    Args:
        name: The name of the signal; may be lazy.
        timeout: Seconds to wait at most, ≥ 0; None for no limit.
        default: The value of the node when no signal has come in time.

    Raises:
        ArgumentError: ``name`` is no text, or ``timeout`` is not a number ≥ 0.
        TaskTimeoutError: No signal has come in time, and there is no default. The run raises it.
    """
    raise RunError(f"wait_for({name!r}) waits only as a node of a run, and was called directly")


def _public(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``func`` under its public name, by which documents refer to the task."""
    func.__name__ = func.__qualname__ = name
    return func


sleep = Sleep(_public(_sleep, "sleep"), _sleeping)
wait_for = Wait(_public(_wait_for, "wait_for"), _waiting)
