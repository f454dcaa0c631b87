"""After each call of a node: it has its value, continues (R4, R5), or tries again."""

from __future__ import annotations

from typing import Any

from cascade.runtime.attempts import pause_after
from cascade.runtime.graph_path.compiled_loops.awaited_loops import NOT_ENTERED
from cascade.runtime.graph_path.compiled_loops.loop_driver import MOVED
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.semantics.outcomes import Missing, refuse_coroutine
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult, result_of
from cascade.spec.mapping import expand


class AfterCall(Part):
    """Settles nodes that have their value, and lets the others continue, in either lane.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._commits = None if parts.run.journal is None else parts.commits

    def next_work(self, work: Work, result: Any, on_loop: bool) -> Work | None:
        """The work after a call: the same node's next call in this lane, or none here."""
        result = searched(work, result)
        kind = type(result)
        if self._commits is not None and issubclass(kind, (TailCall, LazyResult)):
            with self._lock:
                if self._commits.waits(work, result):
                    return None
        if issubclass(kind, TailCall):
            going_on = self._parts.continuations.tail(work, result)
        elif issubclass(kind, LazyResult):
            if work.operation.func is expand and self._parts.map_over_map.has_takers(work):
                self._parts.continuations.count_step(work)
                self._parts.map_over_map.hand_over(work, result)
                return None
            going_on = self._parts.continuations.become(work, result, on_loop)
        elif issubclass(kind, Missing):  # of a blueprint that the virtual machine executed
            self._parts.failures.leave_out_rest(work, result)
            return None
        else:
            refuse_coroutine(result, work.operation.name)
            if self._reports.wanted:
                self._reports.finished(work)
            with self._lock:
                self._nodes.settle(work.segment, work.node, result)
            return None
        if not going_on:
            return None
        if work.source._plain and not on_loop and issubclass(kind, LazyResult):
            return work
        return self._in_lane(work, on_loop)

    def after_batch(self, work: Work, result: Any) -> Work | None:
        """The same after a batch of steps of a loop, made in the event loop's thread."""
        if result is PAUSED:
            return work
        if result is not NOT_ENTERED and result is not MOVED:
            return self.next_work(work, result, on_loop=True)
        return self._in_lane(work, on_loop=True)

    def go_on(self, work: Work, result: Any) -> None:
        """Go on with a node whose last call gave ``result``. In the event loop's thread."""
        try:
            going_on = self.next_work(work, result, on_loop=True)
        except BaseException as error:
            self._parts.failures.fail(error, work)
        else:
            if going_on is not None:
                with self._lock:
                    self._dispatch.to_loop((going_on.segment, going_on))

    def tries_again(self, work: Work, error: Exception) -> bool:
        """Whether a failed attempt is followed by another, which is then scheduled.

        During the delay the node holds neither a thread nor an asyncio task.
        """
        pause = pause_after(work.policies, work.attempt, error)
        if pause is None:
            return False
        self._reports.retrying(work, work.attempt, pause, error)
        work.attempt += 1
        work.rounds = 0  # a retried attempt has all of its rounds again (M20)
        if self._reports.wanted:
            self._reports.waits(work)
        self._dispatch.retry_delays.begin(work, pause)
        return True

    def _in_lane(self, work: Work, on_loop: bool) -> Work | None:
        """``work`` if its next call belongs to this lane; otherwise sends it to the other lane."""
        if self._dispatch.is_for_loop(work) == on_loop:
            return work
        with self._lock:
            self._dispatch.send(work)
        return None


def searched(work: Work, result: Any) -> Any:
    """The result of a call; a lazy value, if it is a container with lazy values inside (R4)."""
    kind = type(result)  # isinstance reads __class__, which may run a user's code
    if (
        kind is LazyResult
        or kind is TailCall
        or kind in ATOMS
        or work.operation.structural
        or issubclass(kind, Missing)
    ):
        return result
    source = work.source
    return result_of(result, work.operation, source._code, source._lasti)
