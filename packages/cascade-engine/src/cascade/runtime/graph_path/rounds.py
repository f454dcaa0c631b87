"""Rounds: the calls that one node continues with, and their limit (M20).

A node makes a round when its call returns a tail call or a lazy value. If it continues as a graph,
the count goes with its address, to the node that will give its value.
"""

from __future__ import annotations

from cascade.runtime.graph_path.segments import Address, Work
from cascade.runtime.run import Run
from cascade.spec.errors import StepLimitError


class Rounds:
    """Counts the rounds of the nodes of a run that limits them.

    Args:
        limit: Most rounds of each node.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        self._limit = limit

    @classmethod
    def of(cls, run: Run) -> Rounds | None:
        """None if the run has no limit, so that nothing needs to be counted."""
        return None if run.max_rounds is None else cls(run.max_rounds)

    def count(self, work: Work, made: int = 1) -> None:
        """Count rounds of a node.

        Raises:
            StepLimitError: They are too many.
        """
        rounds = work.rounds = self._made(work) + made
        if rounds > self._limit:
            raise StepLimitError(
                f"task '{work.operation.name}' asks for another step, but its node has made its "
                f"max_rounds={self._limit}",
                self._limit,
            )

    def allowed(self, work: Work, calls: int) -> int:
        """The number of ``calls`` that a loop may make at once; at least one, which may be too
        many.
        """
        return max(min(calls, self._limit - self._made(work)), 1)

    def _made(self, work: Work) -> int:
        if work.rounds is not None:
            return work.rounds
        segment = work.segment
        onward = segment.continuation
        if work.node is segment.target and isinstance(onward, Address):
            return onward.rounds
        return 0
