"""Wrapping: the functions of tasks with the middlewares of the engine around them.

Only runs with middlewares make this part. It concerns the general lanes alone: such a run takes no
short cut (``Run.short_cuts``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Address, Handed, Resume, Segment, Work
from cascade.runtime.middleware import Layers, TaskCall
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation


class Wrapping:
    """Puts middlewares around the calls of one run.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        self._run = parts.run
        assert parts.run.middleware is not None
        self._middleware = parts.run.middleware
        self._overrides = parts.run.overrides

    def func(self, work: Work) -> Callable[..., Any]:
        """The function for the next call of ``work``; Cascade's own have no middlewares around."""
        operation = work.operation
        func = self._replaced(work) or operation.func
        if operation.structural:
            return func
        return self._middleware.around(self._call(work), func, operation.is_async)

    def operation(self, work: Work) -> Operation:
        """An operation like that of ``work``, with this function."""
        operation, func = work.operation, self.func(work)
        return operation if func is operation.func else _Wrapped(operation, func)

    def entered(self, work: Work, args: Sequence[Any], kwargs: dict[str, Any]) -> _Entered:
        """The beginning of a call that another process makes."""
        call = self._call(work)
        layers = self._middleware.entered(call, args, kwargs)
        func = self._replaced(work)
        if func is not None and layers.goes_on:  # it is called here, and not there
            layers.goes_on = False
            try:
                layers.value = func(*call.args, **call.kwargs)
            except BaseException as error:
                layers.fail(error, func)
        return call, layers

    def _replaced(self, work: Work) -> Callable[..., Any] | None:
        """The function in the place of that of ``work``, if there is one."""
        if self._overrides is None:
            return None
        return self._overrides.function(work.operation, work.source.number)

    def _call(self, work: Work) -> TaskCall:
        source, operation = work.source, work.operation
        parent = _parent(work.segment)
        return TaskCall(
            self._run.id,
            operation.name,
            source.number,
            None if parent is None else parent.number,
            source._index,
            work.attempt,
            work.steps,
            operation.is_async,
        )


_Entered = tuple[TaskCall, Layers]


class _Wrapped(Operation):
    """A task's operation with another function, for one call."""

    __slots__ = ("may_block", "mode", "structural")

    def __init__(self, operation: Operation, func: Callable[..., Any]) -> None:
        super().__init__(func, operation.name, operation.is_async)
        self.mode, self.may_block = operation.mode, operation.may_block
        self.structural = operation.structural


def _parent(segment: Segment) -> LazyResult[Any] | None:
    """The node of a task whose call has returned the graph of ``segment``; None for the target."""
    while True:
        onward = segment.continuation
        source: LazyResult[Any] | None = None
        above: Segment | None = None
        if isinstance(onward, Resume):
            source, above = onward.work.source, onward.work.segment
        elif isinstance(onward, Address):
            source, above = onward.node, onward.segment
        elif isinstance(onward, Handed):
            above = onward.segment
        if source is not None and not source.task.structural:
            return source
        if above is None:
            return None
        segment = above
