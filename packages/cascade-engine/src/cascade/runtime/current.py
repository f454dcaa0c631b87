"""``cs.current``: a description of the present call, for its task.

Nothing is prepared for it: it looks at what the machinery of graphs has to know anyway, such as the
item that a worker works on. Loops and straight-line code know no single calls, so tasks whose code
names ``current`` are called one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from cascade.runtime.middleware import WITH_MIDDLEWARE
from cascade.runtime.run import Run, current_run
from cascade.spec.callables import function_of
from cascade.spec.errors import RunError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation

if TYPE_CHECKING:
    from cascade.spec.task import Task


@dataclass(frozen=True, slots=True)
class Current:
    """The call of a task.

    Attributes:
        run_id: The id of its run.
        task: The name of the task.
        node: ``LazyResult.number`` of its node, as in events; unique in the process.
        key: The name of the node in the store, in hex digits; None if the run is not durable. The
            same in each process.
        attempt: 1, or more after failed ones (R10).
        step: How often the node has continued before this call, by a tail call or a returned lazy
            value (M20). It goes on when a durable run is resumed.
        item: Its position in the list of a map; None if it is no item.
        epoch: How often the durable run was claimed; None if the run is not durable (D6).
    """

    run_id: str
    task: str
    node: int
    key: str | None
    attempt: int
    step: int
    item: int | None
    epoch: int | None


@dataclass(slots=True)
class Place:
    """A call that is being made, as the machinery knows it."""

    node: LazyResult[Any]
    #: The node that it has continued as.
    source: LazyResult[Any]
    operation: Operation
    attempt: int = 1
    #: None in a compiled loop, whose steps are not told apart.
    step: int | None = 0


#: The run and the call of an attempt on a thread that belongs to no worker.
attempt_here: ContextVar[tuple[Run, Any] | None] = ContextVar("cascade.attempt", default=None)


def current() -> Current:
    """What is known about the call of the task that calls this.

    >>> import cascade as cs
    >>> @cs.task
    ... def shard(n):
    ...     return n, cs.current().item
    >>> cs.run(shard.map(n=[5, 6]))
    [(5, 0), (6, 1)]

    Call it in the task itself, or in a function that the task calls. Not in an asyncio task or a
    thread that the task has started: hand the result over to these.

    Raises:
        RunError: It is not called in a call of a task, or that cannot be told from others. In a
            process of its own, a task knows nothing of its run.

    Cost: some microseconds. A loop of a task whose code names ``current`` is not compiled.
    """
    run = current_run.get(None)
    if run is None:
        raise RunError("cs.current() was called outside of a run; call it in a task")
    place: Place | None = run.locate()
    if place is None or place.step is None or not _is_below(place.operation):
        raise RunError(
            "cs.current() was called where no task can be told from others\n"
            "    wrong:  in a function that a compiled loop calls, or in an asyncio task or thread "
            "that the task has started\n"
            "    right:  here = cs.current()      # in the task itself; hand it over"
        )
    journal, key = run.journal, None
    if journal is not None:
        named = journal.keys.named(place.source) or journal.keys.named(place.node)
        key = None if named is None else named.key.hex()
    return Current(
        run.id,
        place.operation.name,
        place.source.number,
        key,
        place.attempt,
        place.step,
        place.source._index,
        None if journal is None else journal.desk.epoch,
    )


def call_here() -> dict[str, Any]:
    """What is known of the call of a task that the calling code belongs to, by name.

    ``run_id``, ``task``, ``node``, ``attempt``, ``step`` and ``item``, as far as they are known.
    """
    run = current_run.get(None)
    if run is None:
        return {}
    found: dict[str, Any] = {"run_id": run.id}
    place: Place | None = run.locate()
    if place is None or not (place.step is None or _is_below(place.operation)):
        return found
    found["task"], found["node"] = place.operation.name, place.source.number
    found["attempt"] = place.attempt
    if place.source._index is not None:
        found["item"] = place.source._index
    if place.step is not None:
        found["step"] = place.step
    return found


def _is_below(operation: Operation) -> bool:
    """Whether the function of ``operation``, or a middleware around it, is being called.

    As far as that can be told.

    What is known of a thread may be the node whose call has returned straight-line code.
    """
    code = getattr(function_of(operation.func), "__code__", None)
    if code is None:
        return True
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code is code or frame.f_code in WITH_MIDDLEWARE:
            return True
        frame = frame.f_back
    return False


def uses_current(task: Task[..., Any]) -> bool:
    """Whether the code of a task names ``current``; determined once per task."""
    found: bool | None = task.derived.get("uses_current")
    if found is None:
        found = task.derived["uses_current"] = _names_current(function_of(task.func))
    return found


def _names_current(function: Any) -> bool:
    if not isinstance(function, FunctionType):
        return False
    names = set(_names_in(function.__code__))
    scope = function.__globals__
    for name in names:
        value = scope.get(name)
        if value is current:
            return True
        if "current" in names and isinstance(value, ModuleType):
            is_facade = value.__name__ == "cascade"  # which has it after the first use
            if is_facade or vars(value).get("current") is current:
                return True
    return False


def _names_in(code: CodeType) -> Iterator[str]:
    """The global names and attributes in ``code``, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
