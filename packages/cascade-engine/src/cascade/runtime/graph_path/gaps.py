"""Gaps: nodes without a value, and whether the run goes on without it (R6, R9)."""

from __future__ import annotations

from typing import Any

from cascade.runtime.graph_path.segments import Segment, way_above
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.semantics.outcomes import Failed, Missing
from cascade.spec.lazy_types import LazyResult


class Gaps:
    """Decides whether one run goes on when nodes are skipped or fail. Call it under the lock.

    Args:
        surroundings: The shared parts of the run.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._run, _, self._reports, self._end = surroundings

    def goes_on_without(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        goes_on: bool = False,
        source: LazyResult[Any] | None = None,
    ) -> bool:
        """Publish that a node does not run; whether the run goes on.

        Args:
            segment: The segment of the node.
            node: The node.
            missing: The Skipped or Failed that replaces its value.
            goes_on: Whether the run is known to go on.
            source: The node's last continuation, if it has begun.
        """
        self._reports.skipped(node if source is None else source, missing)
        if goes_on:
            return True
        self._end.have_gap()
        return type(missing) is not Failed or self.goes_on_after(segment, node, missing)

    def goes_on_after(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether the run goes on after a failure of ``node``; otherwise this ends it."""
        self._end.have_gap()
        if failed.counted or (failed.can_be_value and _is_caught(segment, node, failed.error)):
            return True
        if self._run.fail_fast:
            self._end.fail(failed.error)
            return False
        failed.count(self._run.failures)
        return True


def _is_caught(segment: Segment, node: LazyResult[Any], error: Exception) -> bool:
    """Whether an error of this node becomes its value, or is caught on the way to the target."""
    return node._calls.catches or isinstance(error, way_above(segment, node).catches)
