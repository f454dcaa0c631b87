"""Steps: how far the loops of a run are, and how far they may go.

A step is a call that a node continues with: by a tail call (R5) or a returned lazy value (R4). It
is counted where it is made, by itself or in a batch, for next to nothing. A batch of a loop of
coroutines may take long, so those under way are known here: what they have made so far counts, and
what they may still make is kept from others where the run has a limit.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from cascade.spec.errors import StepLimitError

#: What the number of a step has in common with none of these is when to look at the clock.
LOOK_MASK = 1023
#: Seconds over which the speed of a run is measured, at least.
_WINDOW = 1.0


class Batch(Protocol):
    """Steps that a loop makes by itself."""

    @property
    def made(self) -> int:
        """How many calls it has begun. From any thread."""

    @property
    def left(self) -> int:
        """How many more it may begin."""

    def end(self) -> None:
        """Let the call under way be the last, if that can be. In the event loop's thread."""


class Steps:
    """The steps of one run. Counted from any thread; made in the event loop's thread.

    Args:
        limit: Most steps that the run may make; None for any number.
        every: Seconds between two times that it is to be told of, at least.
        clock: Tells the time, from any thread.

    Attributes:
        task: Name of the task that made the last step that was looked at; None before.
    """

    def __init__(
        self, limit: int | None, every: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self.limit = limit
        self.task: str | None = None
        self._every = every
        self._clock = clock
        self._thread = threading.get_ident()
        self._ones = itertools.count()  # whose next() is atomic
        #: Gives the steps before this one, and counts it; ``is_due`` is to be asked with that.
        self.next = self._ones.__next__
        #: Of the two below: a batch ends, and is counted, as one change.
        self._lock = threading.Lock()
        self._many = 0
        self._batches: set[Batch] = set()
        self._told = self._marked = self._earlier = clock()
        self._marked_count = self._earlier_count = self._told_count = 0

    @property
    def count(self) -> int:
        """The steps made so far, also by batches under way."""
        with self._lock:
            many = self._many
            if self._batches:
                many += sum(max(batch.made - 1, 0) for batch in self._batches)
        # Asking the counter itself would count.
        return int(repr(self._ones)[len("count(") : -1]) + many

    @property
    def per_second(self) -> float:
        """The speed over the last second or two; of a loop that stands still, 0 soon."""
        now = self._clock()
        self._mark(now)
        elapsed = now - self._earlier
        return (self.count - self._earlier_count) / elapsed if elapsed else 0.0

    def one(self, task: str) -> bool:
        """Count a step that ``task`` asks for; whether it is time to tell of it.

        Raises:
            StepLimitError: It is one too many.
        """
        return self.is_due(self.next(), task)

    def is_due(self, before: int, task: str) -> bool:
        """Whether it is time to tell of steps, after one that ``task`` asks for.

        Written out where steps are made: ``if not before & LOOK_MASK or steps.limit is not None``.

        Raises:
            StepLimitError: It is one too many.
        """
        if self.limit is not None:
            if self._batches:
                self._check(self.count, task)
                self._keep_within()
            else:
                self._check(before + 1 + self._many, task)
        return not before & LOOK_MASK and self._look(task)

    # -- batches ------------------------------------------------------------------------------

    def allowed(self, calls: int) -> int:
        """How many of ``calls`` a loop may make at once; one at least, which may be one too many.

        Where the run has a limit, each loop under way leaves half of the remaining steps to others.
        """
        if self.limit is None:
            return calls
        free = self.limit - self.count - self._promised()
        if free < 1 and self._batches:
            self._keep_within()
            free = self.limit - self.count - self._promised()
        return max(min(calls, (free + 1) // 2 if self._batches else free), 1)

    def begin(self, batch: Batch) -> None:
        """Know a batch that is about to be made."""
        with self._lock:
            self._batches.add(batch)

    def many(self, count: int, task: str, batch: Batch | None = None) -> bool:
        """Count steps of a loop of ``task``, in the event loop's thread; whether to tell of it.

        Args:
            count: How many.
            task: The loop's.
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

    def _promised(self) -> int:
        """The steps that batches under way may still make."""
        return sum(batch.left + (batch.made > 0) for batch in self._batches)

    def _keep_within(self) -> None:
        """End batches where all that they may make is more than is left."""
        assert self.limit is not None
        if threading.get_ident() != self._thread:
            return
        if self.count + self._promised() >= self.limit:
            for batch in self._batches:
                batch.end()

    # -- looks at the clock -------------------------------------------------------------------

    def tell(self, task: str) -> bool:
        """Whether steps, last of ``task``, were made since they were told of, as is done now."""
        if self.count == self._told_count:
            return False
        self.task = task
        now = self._clock()
        self._mark(now)
        self._tell(now)
        return True

    def next_tell(self) -> float:
        """Seconds until it is time to tell of steps."""
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
        """Remember where it is, once in a while."""
        if now - self._marked >= _WINDOW:
            self._earlier, self._earlier_count = self._marked, self._marked_count
            self._marked, self._marked_count = now, self.count
