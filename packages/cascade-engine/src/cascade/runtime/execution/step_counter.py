"""Steps: the progress of a run's loops, and their limit.

A step is a call that a node continues with: by a tail call (R5) or a returned lazy value (R4). It
is counted where it is made, alone or in a batch, at almost no cost. Active batches of all threads
are registered here: their completed steps count, and with a limit the steps that they may still
make are reserved.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeVar

from cascade.spec.errors import StepLimitError

#: The clock is read at steps whose number has no bit in common with this.
LOOK_MASK = 1023
#: Least seconds over which the speed of a run is measured.
_WINDOW = 1.0


class Batch(Protocol):
    """A batch of steps that a loop makes by itself.

    Attributes:
        began: Start of a batch on a thread; 0 for others.
    """

    began: float

    @property
    def made(self) -> int:
        """Number of calls that it has begun. From any thread."""

    @property
    def left(self) -> int:
        """Number of further calls that it may begin."""

    def end(self) -> None:
        """Let the running call be the last, if possible. From any thread."""


B = TypeVar("B", bound=Batch)


class Steps:
    """The steps of one run, made and counted from any thread.

    Args:
        limit: Most steps of the run; None for no limit.
        every: Least seconds between two reports.
        clock: Returns the time, in any thread.
        began: Start of the run, by that clock; now by default.

    Attributes:
        task: Name of the task with the last examined step; None before the first.
    """

    def __init__(
        self,
        limit: int | None,
        every: float,
        clock: Callable[[], float] = monotonic,
        began: float | None = None,
    ) -> None:
        self.limit = limit
        self.task: str | None = None
        self._every = every
        self._clock = clock
        self._ones = itertools.count()  # its next() is atomic
        #: Returns the number of earlier steps, and counts one; pass the number to ``is_due``.
        self.next = self._ones.__next__
        #: Guards the two fields below: a batch ends and is counted, or begins and reserves its
        #: steps, in one change.
        self._lock = threading.Lock()
        self._many = 0
        self._batches: set[Batch] = set()
        self._told = self._marked = self._earlier = clock() if began is None else began
        self._marked_count = self._earlier_count = self._told_count = 0

    @property
    def count(self) -> int:
        """The number of steps so far, including those of active batches."""
        with self._lock:
            return self._counted()

    @property
    def per_second(self) -> float:
        """The speed over the last second or two; soon 0 for a loop that stands still."""
        now = self._clock()
        self._mark(now)
        elapsed = now - self._earlier
        return (self.count - self._earlier_count) / elapsed if elapsed else 0.0

    def one(self, task: str) -> bool:
        """Count a step of ``task``; whether a report is due.

        Raises:
            StepLimitError: It is one too many.
        """
        return self.is_due(self.next(), task)

    def is_due(self, before: int, task: str) -> bool:
        """Whether a report is due after a step of ``task``.

        The first part is inlined at each step: ``if not before & LOOK_MASK or steps.limit is not
        None``.

        Raises:
            StepLimitError: It is one too many.
        """
        if self.limit is not None:
            if self._batches:
                self._check(self.count, task)
                with self._lock:
                    self._keep_within(self.limit)
            else:
                self._check(before + 1 + self._many, task)
        return not before & LOOK_MASK and self._look(task)

    # -- batches ------------------------------------------------------------------------------

    def allowed(self, calls: int) -> int:
        """The number of ``calls`` that a loop might make at once now; at least one."""
        if self.limit is None:
            return calls
        with self._lock:
            return self._within(self.limit, calls)

    def begin(self, make: Callable[[int], B], calls: int) -> B:
        """Begin a batch, and reserve its steps.

        Args:
            make: Makes a batch of a number of calls.
            calls: Most calls that it may make. It gets at least one, which may be too many.
        """
        with self._lock:
            if self.limit is not None:
                calls = self._within(self.limit, calls)
            batch = make(calls)
            self._batches.add(batch)
        return batch

    def many(self, count: int, task: str, batch: Batch | None = None) -> bool:
        """Count steps of a loop of ``task``, in the event loop's thread; whether a report is due.

        Args:
            count: Number of steps.
            task: The loop's task.
            batch: The batch that has ended with these.

        Raises:
            StepLimitError: They are too many.
        """
        with self._lock:
            if batch is not None:
                self._batches.discard(batch)
            self._many += count
        if not count:
            return False
        if self.limit is not None:
            self._check(self.count, task)
        return self._look(task)

    def add_earlier(self, count: int) -> None:
        """Count steps that were made before this process began. Before the first own one."""
        self._many += count

    def under_way(self) -> list[Batch]:
        """The active batches. From any thread."""
        with self._lock:
            return list(self._batches)

    def end_batches(self) -> None:
        """End each active batch with its current step. From any thread."""
        for batch in self.under_way():
            batch.end()

    # The rest is called under the lock.

    def _counted(self) -> int:
        many = self._many
        if self._batches:
            many += sum(max(batch.made - 1, 0) for batch in self._batches)
        # next() would count one.
        return int(repr(self._ones)[len("count(") : -1]) + many

    def _within(self, limit: int, calls: int) -> int:
        """The number of ``calls`` that a batch may make; it leaves half of the steps to others."""
        free = limit - self._counted() - self._promised()
        if free < 1 and self._batches:
            self._keep_within(limit)
            free = limit - self._counted() - self._promised()
        return max(min(calls, (free + 1) // 2 if self._batches else free), 1)

    def _promised(self) -> int:
        """The number of steps that active batches may still make."""
        return sum(batch.left + (batch.made > 0) for batch in self._batches)

    def _keep_within(self, limit: int) -> None:
        """End batches if together they may make more steps than are left."""
        if self._counted() + self._promised() >= limit:
            for batch in self._batches:
                batch.end()

    # -- looks at the clock -------------------------------------------------------------------

    def tell(self, task: str) -> bool:
        """Whether there were steps since the last report, which is made now; ``task`` made the
        last.
        """
        if self.count == self._told_count:
            return False
        self.task = task
        now = self._clock()
        self._mark(now)
        self._tell(now)
        return True

    def next_tell(self) -> float:
        """Seconds until the next report is due."""
        return max(self._told + self._every - self._clock(), 0)

    def _check(self, count: int, task: str) -> None:
        if self.limit is not None and count > self.limit:
            raise StepLimitError(
                f"task '{task}' asks for another step, but the run has made its "
                f"max_steps={self.limit}",
                self.limit,
            )

    def _look(self, task: str) -> bool:
        self.task = task
        now = self._clock()
        self._mark(now)
        if now - self._told < self._every:
            return False
        self._tell(now)
        return True

    def _tell(self, now: float) -> None:
        self._told = now
        self._told_count = self.count

    def _mark(self, now: float) -> None:
        """Record the present count, once in a while."""
        if now - self._marked >= _WINDOW:
            self._earlier, self._earlier_count = self._marked, self._marked_count
            self._marked, self._marked_count = now, self.count
