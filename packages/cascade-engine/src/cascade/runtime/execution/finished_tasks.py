"""FinishedTasks: the sum of a run's finished tasks, for ``TasksFinished``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import TasksFinished


class FinishedTasks:
    """Counts in any thread without a lock, and tells the event loop's thread now and then.

    Args:
        run_id: The run.
        bus: Gets the sums.
        soon: Has ``tell`` called in the event loop's thread.
    """

    __slots__ = ("_bus", "_looks", "_run_id", "_soon", "_tick", "_told", "planned")

    def __init__(self, run_id: str, bus: MessageBus, soon: Callable[[], None]) -> None:
        self._run_id, self._bus, self._soon = run_id, bus, soon
        # next() of a counter is one step of the interpreter, unlike `+= 1`. To look at the counter
        # counts as well, so looks are counted, too.
        self._tick = count().__next__
        self._looks = self._told = 0
        #: Whether ``tell`` will be called.
        self.planned = False

    def one_more(self) -> None:
        """Count a task. From any thread."""
        self._tick()
        if not self.planned:
            self.planned = True
            self._soon()

    def tell(self) -> None:
        """Publish the tasks since the last time, if any. In the event loop's thread."""
        self.planned = False  # before the look: a task that is counted after it plans another
        finished = self._tick() - self._looks
        self._looks += 1
        new, self._told = finished - self._told, finished
        if new:
            self._bus.publish(TasksFinished(self._run_id, new))
