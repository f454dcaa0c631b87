"""Before the first call of a node: turn the node, which has its inputs, into the work of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Item, Segment, Work
from cascade.runtime.semantics.outcomes import Failed, Missing, fallback_for
from cascade.spec.blueprint import Literal
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import RESOURCES
from cascade.spec.repeatable import check_values


class BeforeCall(Part):
    """Begins the nodes of one run, in either lane: conditions, inputs, amounts, the cache (R10).

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        #: The values that are elsewhere, if values may stay there.
        self._staying = parts.staying if parts.run.elsewhere.keeps else None

    def begin(self, item: Item) -> Work | None:
        """The work of a node, or None if it makes no call."""
        segment, node = item
        if isinstance(node, Work):
            return node
        if self._nodes.streams.is_taker(segment, node):
            return self._parts.map_over_map.begin(segment, node)
        if self._staying is not None and self._staying.is_away(item):
            return None
        if self._end.any_missing or node._policies is not None:
            missing = self._parts.missing_inputs.of(segment, node)
            if missing is not None:
                segment.let_go_inputs(node)
                return self._without(segment, node, missing)
        work = Work(segment, node)
        if node._dependencies or node._special & ~RESOURCES:
            work.take_inputs()
        amounts = work.amounts() if node._amounts else {}
        segment.let_go_inputs(node)
        if work.policies.cache is not None and self._finds(work, amounts):
            return None
        return self.admitted(work, amounts)

    def admitted(self, work: Work, amounts: Mapping[str, Any]) -> Work | None:
        """The same for a node whose value is in no cache."""
        if self._reports.wanted:
            self._reports.started(work)
        if work.policies.repeats and not self._may_repeat(work):
            return None
        return work if not amounts or self._takes(work, amounts) else None

    def _may_repeat(self, work: Work) -> bool:
        """Whether every attempt can use the arguments (M23); otherwise the node has failed."""
        args, kwargs, node = work.args, work.kwargs, work.node
        if node._special:  # literals are not examined
            args = [a if type(a) is Literal else v for a, v in zip(node.args, args, strict=True)]
            kwargs = {n: a if type(a) is Literal else kwargs[n] for n, a in node.kwargs.items()}
        try:
            check_values(work.operation, args, kwargs)
        except Exception as error:
            self._parts.failures.fail(error, work)
            return False
        return True

    def _without(self, segment: Segment, node: LazyResult[Any], missing: Missing) -> Work | None:
        """The work of a node that lacks an input: it goes on with its fallback, or not at all."""
        fallback = fallback_for(node, missing)
        if fallback is None:
            self._parts.failures.leave_out(segment, node, missing)
            return None
        error = missing.error if type(missing) is Failed else None
        if error is not None:
            leave_out_machinery(error)  # a handler's argument: the user's frames only (R9)
        work = Work(segment, node)
        work.handed = fallback.result(error)
        return work

    def _takes(self, work: Work, amounts: Mapping[str, Any]) -> bool:
        """Whether the amounts given by nodes can be granted; otherwise the node has failed."""
        try:
            work.policies = self._run.gate.taking(work.policies, amounts, work.node.name)
        except Exception as error:
            self._parts.failures.fail(error, work)
            return False
        return True

    def _finds(self, work: Work, amounts: Mapping[str, Any]) -> bool:
        """Whether the value comes from elsewhere, or the cache has failed."""
        try:
            return self._parts.caches.finds(work, amounts)
        except BaseException as error:
            if self._reports.wanted:
                self._reports.started(work)
            self._parts.failures.fail(error, work)
            return True
