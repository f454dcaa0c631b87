"""Steps: how far the loops of a run are, and how far they may go.

A step is a call that a node continues with: by a tail call (R5) or a returned lazy value (R4). It
is counted where it is made, by itself or in a batch, for next to nothing.
"""

from __future__ import annotations

import itertools
from time import monotonic

from cascade.spec.errors import StepLimitError

#: What the number of a step has in common with none of these is when to look at the clock.
LOOK_MASK = 1023
#: Seconds over which the speed of a run is measured, at least.
_WINDOW = 1.0


class Steps:
    """The steps of one run. Counted from any thread.

    Args:
        limit: Most steps that the run may make; None for any number.
        every: Seconds between two times that it is to be told of, at least.

    Attributes:
        task: Name of the task that made the last step that was looked at; None before.
    """

    def __init__(self, limit: int | None, every: float) -> None:
        self.limit = limit
        self.task: str | None = None
        self._every = every
        self._ones = itertools.count()  # whose next() is atomic
        #: Gives the steps before this one, and counts it; ``is_due`` is to be asked with that.
        self.next = self._ones.__next__
        self._many = 0
        self._told = self._marked = self._earlier = monotonic()
        self._marked_count = self._earlier_count = 0

    @property
    def count(self) -> int:
        """The steps made so far."""
        # Asking the counter itself would count.
        return int(repr(self._ones)[len("count(") : -1]) + self._many

    @property
    def left(self) -> int | None:
        """How many more may be made; None for any number."""
        return None if self.limit is None else max(self.limit - self.count, 0)

    @property
    def per_second(self) -> float:
        """The speed over the last second or two; of a loop that stands still, 0 soon."""
        now = monotonic()
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
            self._check(before + 1 + self._many, task)
        return not before & LOOK_MASK and self._look(task)

    def many(self, count: int, task: str) -> bool:
        """Count steps of a loop of ``task``, in the event loop's thread; whether to tell of it.

        Raises:
            StepLimitError: They are too many.
        """
        self._many += count
        if self.limit is not None:
            self._check(self.count, task)
        return self._look(task)

    def _check(self, count: int, task: str) -> None:
        if self.limit is not None and count > self.limit:
            raise StepLimitError(
                f"task '{task}' asks for another step, but the run has made its "
                f"max_steps={self.limit}",
                self.limit,
            )

    def _look(self, task: str) -> bool:
        self.task = task
        now = monotonic()
        self._mark(now)
        if now - self._told < self._every:
            return False
        self._told = now
        return True

    def _mark(self, now: float) -> None:
        """Remember where it is, once in a while."""
        if now - self._marked >= _WINDOW:
            self._earlier, self._earlier_count = self._marked, self._marked_count
            self._marked, self._marked_count = now, self.count
