"""The ends of calls that the pump has begun: how their nodes go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import Any

from cascade.runtime.graph_path.lanes.fast_lane import GOES_ON
from cascade.runtime.graph_path.lanes.spares import Spare
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import goes_on


class CallEnds(Part):
    """Settles nodes, or sends them on their way. Used in the event loop's thread.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._thread = get_ident()
        self.left: Callable[[asyncio.Task[Any]], object] = parts.dispatch.left

    def settle(self, call: Spare, value: Any) -> None:
        """Settle a node whose call has returned ``value``, or send it on its way."""
        kind = type(value)
        try:
            if call.work is None and (
                kind in ATOMS or not (issubclass(kind, GOES_ON) or goes_on(value))
            ):
                lock = self._lock
                if not lock.shared and lock.owner == self._thread:  # as in the fast lane
                    lock.inside = self._thread
                    try:
                        if not lock.shared:
                            self._nodes.settle(call.segment, call.node, value)
                            return
                    finally:
                        lock.inside = 0
                with lock:
                    self._nodes.settle(call.segment, call.node, value)
                return
        except BaseException as error:
            work = call.begun()
            if self._parts.event_loop_lane.failed(error, work, (work.segment, work)):
                raise
        else:
            self.after(call.begun(), value)

    def after(self, work: Work, value: Any) -> None:
        """Settle a node whose call has returned something, or send it on its way."""
        try:
            going_on = self._parts.after_call.next_work(work, value, on_loop=True)
            if going_on is not None:
                with self._lock:
                    self._dispatch.to_loop((going_on.segment, going_on))
        except BaseException as error:
            if self._parts.event_loop_lane.failed(error, work, (work.segment, work)):
                raise

    def fails(self, call: Spare, error: BaseException) -> bool:
        """Settle a node whose call has failed; whether the error must be raised as well."""
        work = call.begun()
        try:
            if isinstance(error, Exception) and self._parts.after_call.tries_again(work, error):
                return False
        except BaseException as other:
            error = other
        return self._parts.event_loop_lane.failed(error, work, (work.segment, work))
