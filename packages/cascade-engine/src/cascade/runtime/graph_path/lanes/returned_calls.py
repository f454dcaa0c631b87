"""Calls that plain calls return: the steps of a recursion, made one after the other on a worker.

A task that returns a call of itself, which needs nothing but plain arguments, goes on as that call
(R4). In general this takes several times as long as the calls: the run has to remember the lazy
value, because another node may return it as well (M14), and each call has a context of its own
(M12). A recursion needs neither. Where its references show that no other code has the lazy value,
no node can ever return it again. And calls share a context until one sets a variable in
it, as on the fast lane.
"""

from __future__ import annotations

from contextvars import Context
from sys import getrefcount
from typing import Any

from cascade.runtime.execution.contexts import differs
from cascade.runtime.graph_path.run_parts import Part
from cascade.runtime.graph_path.segments import Work
from cascade.spec.lazy_types import LazyResult
from cascade.spec.policies import PLAIN_CALLS


class ReturnedCalls(Part):
    """Makes calls that others have returned, for one run. In workers' threads."""

    def fits(self, work: Work) -> bool:
        """Whether the next call of ``work`` is a plain one that a call has returned."""
        source = work.source
        return (
            source is not work.node
            and source._plain
            and not source._special
            and work.policies is PLAIN_CALLS
            and work.operation is source.task
            and work.permit is None
            and work.blueprint is None
            and not self._reports.wanted
            and self._run.steps.limit is None
            and self._run.max_rounds is None
            and self._run.journal is None
            and self._nodes.simple
        )

    def call(self, work: Work) -> Any:
        """Make the call of ``work``, and those that it returns; the first other result.

        That may also be a lazy value that must go the general way. ``work`` is at the last call.

        Raises:
            BaseException: The error of the last call.
        """
        context = self._run.context.copy()
        return context.run(self._call_in, context, work)

    def _call_in(self, context: Context, work: Work) -> Any:
        variables, held = len(context), self._run.held
        constraints, end = self._run.constraints, self._end
        count_step = self._parts.continuations.count_step
        value = work.operation.func(*work.args, **work.kwargs)
        while (
            type(value) is LazyResult
            and getrefcount(value) == _NO_OTHER
            and value.__weakref__ is None  # type: ignore[attr-defined]
            and value._plain
            and not value._dependencies
            and value._policies is None
            and not value._special
            and len(context) == variables
            and not (held and differs(context, held))
            and not constraints.any
            and not end.stopping
        ):
            count_step(work)
            work.continue_as(value)
            value = value.task.func(*value.args, **value.kwargs)
        return value


def _references_to_a_new_value() -> int:
    """The count of references to a value of a local variable: it differs between Pythons."""
    value = object()
    return getrefcount(value)


_NO_OTHER = _references_to_a_new_value()
