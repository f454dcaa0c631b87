"""Serving: a worker process makes the calls that it was sent.

It makes the call, and the ones that follow as tail calls of the task to itself, for a while.
Everything else is the driver's: the next attempt, the next task, a lazy value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import copy_context
from time import monotonic, perf_counter
from typing import Any, Final

from cascade.runtime.semantics.tail_calls import next_call, searched
from cascade.spec.blueprint import TailCall
from cascade.spec.culprits import unsendable
from cascade.spec.errors import ArgumentError, SendError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.remote_calls import Outcome, serving
from cascade.spec.task import Task
from cascade.spec.wire import dumps, loads
from cascade.spec.wire_errors import dumps_error
from cascade.spec.wording import error_text

#: Stands for the place of a call, which only nodes have.
_TAIL_CODE: Final = compile("", "<tail call>", "exec")


class Server:
    """Makes calls. One for each worker process."""

    def __init__(self) -> None:
        #: Token → task, so that each is read once.
        self._tasks: dict[bytes, Task[..., Any]] = {}

    def learn(self, tasks: Mapping[bytes, bytes]) -> None:
        """Take along tasks as bytes by token; one that cannot be read fails at its first call."""
        for token, data in tasks.items():
            if token not in self._tasks:
                try:
                    self._tasks[token] = loads(data)
                except Exception as error:
                    self._tasks[token] = _unreadable(error)

    def call(self, name: str, token: bytes, arguments: bytes, spins: float) -> Outcome:
        """Make a call. It never raises: any error is that of the call."""
        return copy_context().run(self._call, name, token, arguments, spins)

    def _call(self, name: str, token: bytes, arguments: bytes, spins: float) -> Outcome:
        serving.set(name)
        steps = [0]
        try:
            task = self._tasks[token]
            try:
                args, kwargs = loads(arguments)
            except Exception as error:
                raise _not_read(f"the arguments of task '{name}'", error) from error
            value, named = _make(task, args, kwargs, spins, steps)
            kind = type(value)
            goes_on = issubclass(kind, (TailCall, LazyResult))
            try:
                data = dumps((value, named) if goes_on else value)
            except Exception as error:
                raise unsendable(f"the result of task '{name}'", value, error) from None
        except BaseException as error:
            return Outcome("error", dumps_error(error), steps[0])
        return Outcome("goes on" if goes_on else "value", data, steps[0])


def _make(
    task: Task[..., Any], args: Any, kwargs: Any, spins: float, steps: list[int]
) -> tuple[Any, dict[str, Any] | None]:
    """The result of a call and of its tail calls to itself; and the arguments of the last one.

    Args:
        task: The task.
        args, kwargs: The arguments of the first call.
        spins: Seconds for which tail calls are followed here.
        steps: Its item counts them.
    """
    named: dict[str, Any] | None = None
    value = task.func(*args, **kwargs)
    if type(value) is not TailCall or not spins:
        return value, None
    until = monotonic() + spins
    while type(value) is TailCall and monotonic() < until:
        if not (value.target is None or value.target is task) or value.target_blueprint_id:
            break
        try:
            if searched(value, (*args, *kwargs.values()), _TAIL_CODE, 0)[1]:
                break  # lazy arguments are computed first
            before = task.parameters.named(args, kwargs) if named is None else named
            _, named = next_call(task, before, value)
        except ArgumentError:
            break  # the driver raises it
        args, kwargs = task.parameters.spread(named)
        steps[0] += 1
        value = task.func(*args, **kwargs)
    return value, named


def _not_read(what: str, error: Exception) -> SendError:
    """The error for a task or arguments that this process cannot read."""
    hint = "workers import modules by the driver's sys.path, as it was when they started"
    return SendError(
        f"{what} cannot be read in a worker process: {error_text(error)}\n    {hint}", what
    )


def _unreadable(problem: Exception) -> Task[..., Any]:
    """Stands for a task that cannot be read: each call of it fails."""

    def unreadable(*_args: Any, **_kwargs: Any) -> None:
        raise _not_read(f"task '{serving.get()}'", problem) from problem

    return Task(unreadable)


#: The server of this process, for pools that only call functions.
_here: Final = Server()


def serve(
    tasks: Mapping[bytes, bytes], calls: Sequence[tuple[str, bytes, bytes, float]]
) -> list[tuple[tuple[Any, ...], float]]:
    """Make calls in a worker of a pool: their outcomes as tuples, and the seconds of each."""
    _here.learn(tasks)
    ends = []
    for call in calls:
        began = perf_counter()
        outcome = _here.call(*call)
        ends.append((tuple(outcome), perf_counter() - began))
    return ends
