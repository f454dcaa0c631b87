"""The runs that hosts execute, for the views and the subscribers of the driver."""

from __future__ import annotations

import asyncio
from time import perf_counter

from cascade.runtime.bus import MessageBus
from cascade.runtime.elsewhere.host_events import loads_events
from cascade.runtime.elsewhere.host_messages import Progress, Told, received
from cascade.runtime.engine_runs import RunInfo
from cascade.runtime.events import RunFinished, RunStarted
from cascade.runtime.execution.waiting import Waiting


class HostedRuns:
    """The hosted runs of one engine that have not ended.

    Args:
        bus: Publishes their events.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        #: Id → target, strategy, and start by ``perf_counter``.
        self._active: dict[str, tuple[str, str, float]] = {}
        self._progress: dict[str, Progress] = {}
        self._waits: dict[str, list[Waiting]] = {}
        #: Runs whose start was published, but not yet their end.
        self._open: set[str] = set()

    def begin(self, run_id: str, target: str, strategy: str) -> None:
        """A run is given to hosts."""
        self._active[run_id] = target, strategy, perf_counter()

    def take(self, told: Told) -> None:
        """A host has told of its runs. In the loop's thread."""
        for progress in told.progress:
            if progress.run_id in self._active:
                self._progress[progress.run_id] = progress
        for run_id, waits in told.waits:
            if run_id in self._active:
                self._waits[run_id] = [received(wait) for wait in waits]
        for event in loads_events(told.events):
            if isinstance(event, RunStarted):
                self._open.add(event.run_id)
            elif isinstance(event, RunFinished):
                self._open.discard(event.run_id)
            self._bus.publish(event)

    def lose(self, run_id: str) -> None:
        """The host of a run has ended, and what the run waited for there."""
        self._waits.pop(run_id, None)

    def end(self, run_id: str, error: BaseException | None) -> None:
        """A run has ended for the driver; its host may have had no time to tell of that."""
        self._waits.pop(run_id, None)
        found, last = self._active.pop(run_id, None), self._progress.pop(run_id, None)
        if run_id not in self._open or found is None:
            return
        self._open.discard(run_id)
        status = "succeeded" if error is None else "failed"
        if isinstance(error, asyncio.CancelledError):
            status = "cancelled"
        seconds, steps = perf_counter() - found[2], last.steps if last else 0
        self._bus.publish(RunFinished(run_id, status, seconds, error, steps))

    def infos(self) -> list[RunInfo]:
        """The runs, and the progress of their loops when their hosts last told. From any thread."""
        now = perf_counter()
        infos = []
        for run_id, (target, strategy, began) in list(self._active.items()):
            last = self._progress.get(run_id) or Progress(run_id, 0, 0.0, None)
            infos.append(RunInfo(run_id, target, strategy, now - began, *last[1:]))
        return infos

    def waiting(self) -> list[Waiting]:
        """What the runs waited for when their hosts last told. From any thread."""
        return [wait for waits in list(self._waits.values()) for wait in waits]
