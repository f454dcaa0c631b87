"""Failures: settle nodes that end without a value, and end the run if need be (R6, R9)."""

from __future__ import annotations

from typing import Any

from cascade.runtime.diagnostics.error_notes import annotate
from cascade.runtime.graph_path.node_rules.paths_to_target import names_on_path
from cascade.runtime.graph_path.run_parts import Part
from cascade.runtime.graph_path.segments import Item, Segment, Work
from cascade.runtime.graph_path.templates import TemplateNode
from cascade.runtime.semantics.outcomes import Failed, Missing
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS


class Failures(Part):
    """Settles the nodes of one run that are skipped or fail."""

    def leave_out_rest(self, work: Work, missing: Missing) -> None:
        """Settle a node that has begun, and cannot continue."""
        self.leave_out(work.segment, work.node, missing, work.source)

    def leave_out(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        source: LazyResult[Any] | None = None,
    ) -> None:
        """Settle a node that does not run; ``source`` is its last continuation."""
        with self._lock:
            if self._parts.missing_inputs.goes_on_without(segment, node, missing, source=source):
                self._nodes.settle(segment, node, missing)

    def not_kept(self, error: Exception, segment: Segment, node: LazyResult[Any]) -> Missing:
        """The outcome of a node whose value a cache could not keep. Under the lock."""
        annotate(error, node.name, node, names_on_path(segment, node, node.name, node))
        failed = Failed(node.name, error)
        self._parts.missing_inputs.goes_on_after(segment, node, failed)
        return failed

    def fail(
        self, error: BaseException, work: Work | None = None, item: Item | None = None
    ) -> None:
        """Add the origin of an error, and end the run, or go on without the node's value.

        Args:
            error: The error of the call of ``work``; without ``work``, the error of ``item``;
                without both, an error of no node.
            work: A node that has begun.
            item: A node that may have begun.
        """
        with self._lock:
            if work is None and item is not None and isinstance(item[1], Work):
                work = item[1]
            if work is not None:
                self._reports.failed(work, error)
                segment, node = work.segment, work.node
                source, name, given = work.source, work.operation.name, work.given
            elif item is not None:
                segment, node = item  # type: ignore[assignment]  # no Work, as said above
                source, name, given = node, node.name, NO_KWARGS
            else:
                self._end.fail(error)
                return
            if not self._end.stopping:
                path = names_on_path(segment, node, name, source)
                annotate(error, name, None if type(source) is TemplateNode else source, path, given)
            if not isinstance(error, Exception):
                self._end.fail(error)
                return
            self._settle(segment, node, Failed(name, error))

    def _settle(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> None:
        goes_on = self._parts.missing_inputs.goes_on_after(segment, node, failed)
        try:
            if goes_on:
                self._nodes.settle(segment, node, failed)
            elif self._run.record is not None:
                self._run.record(node, failed)  # nothing else is told of it
        except Exception as fault:  # of what records outcomes
            self._end.fail(fault)
