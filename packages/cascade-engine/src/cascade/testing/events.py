"""EventRecorder: the events of runs, with checks whose errors list the events."""

from __future__ import annotations

from typing import TypeVar

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.wording import in_words, subject_of

E = TypeVar("E", bound=Event)
#: Most events that a message lists: the last ones.
_LISTED = 40


class EventRecorder(Subscriber):
    """Keeps the events of an engine, until it is closed or its block ends.

    The events of a run are complete when the run has ended. They hold errors, and with these the
    variables of tasks: a recorder is for tests, ``cs.History`` for programs.

    Args:
        bus: ``engine.bus``.

    Attributes:
        events: All events, in their order.

    >>> import asyncio, cascade as cs
    >>> @cs.task
    ... def double(n):
    ...     return 2 * n
    >>> async def main():
    ...     async with cs.Engine() as engine:
    ...         with EventRecorder(engine.bus) as events:
    ...             await engine.run(double(double(10)))
    ...     return events
    >>> events = asyncio.run(main())
    >>> events.assert_ran("double", times=2)
    >>> events.assert_ran("halve")
    Traceback (most recent call last):
      ...
    AssertionError: 'halve' ran 0 times, not at least once; the events:
        ...
    """

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self.events: list[Event] = []
        self._listen(Event, self.events.append)

    def of(self, kind: type[E], task: str | None = None) -> list[E]:
        """The events of a class, or of its subclasses, of all tasks or of one."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (task is None or getattr(event, "task", None) == task)
        ]

    def clear(self) -> None:
        """Forget the events so far."""
        self.events.clear()

    def assert_ran(self, task: str, *, times: int | None = None) -> None:
        """Check that nodes of a task were called: ``times`` of them, or at least one.

        A node counts once, with all its attempts and steps; one from a cache does not count.

        Raises:
            AssertionError: It was otherwise; the message lists the events.
        """
        self._check(f"'{task}' ran", len(self.of(TaskStarted, task)), times)

    def assert_not_ran(self, task: str) -> None:
        """Check that no node of a task was called."""
        self.assert_ran(task, times=0)

    def assert_finished(self, task: str, *, times: int | None = None) -> None:
        """Check that nodes of a task have ended with a value."""
        self._check(f"'{task}' finished", len(self.of(TaskFinished, task)), times)

    def assert_cached(self, task: str, *, times: int | None = None) -> None:
        """Check that nodes of a task had their value from a cache."""
        self._check(f"'{task}' was found in a cache", len(self.of(TaskCached, task)), times)

    def assert_skipped(self, task: str, *, times: int | None = None) -> None:
        """Check that nodes of a task were skipped."""
        self._check(f"'{task}' was skipped", len(self.of(TaskSkipped, task)), times)

    def assert_retried(self, task: str, *, times: int | None = None) -> None:
        """Check that attempts of a task failed and were followed by another."""
        self._check(f"'{task}' was tried again", len(self.of(TaskRetrying, task)), times)

    def assert_failed(
        self, task: str, error: type[BaseException] = BaseException, *, times: int | None = None
    ) -> None:
        """Check that nodes of a task have failed, with an error of a class."""
        found = [event for event in self.of(TaskFailed, task) if isinstance(event.error, error)]
        kind = "" if error is BaseException else f" with {error.__name__}"
        self._check(f"'{task}' failed{kind}", len(found), times)

    def assert_order(self, *tasks: str) -> None:
        """Check that these tasks began in this order: for each its first node counts.

        Raises:
            AssertionError: One of them did not run, or they began in another order.
        """
        began: list[str] = []
        for event in self.of(TaskStarted):
            if event.task in tasks and event.task not in began:
                began.append(event.task)
        if began != list(tasks):
            shown = ", ".join(began) or "none of them"
            raise self._error(f"expected to begin: {', '.join(tasks)}; but began: {shown}")

    @property
    def lines(self) -> list[str]:
        """The events in words, one line each, without times: for comparisons and for people."""
        return [f"{subject_of(event)} {_in_words(event)}".strip() for event in self.events]

    def _check(self, claim: str, count: int, times: int | None) -> None:
        if count == 0 if times is None else count != times:
            wanted = "at least once" if times is None else str(times)
            raise self._error(f"{claim} {count} times, not {wanted}")

    def _error(self, message: str) -> AssertionError:
        lines = self.lines
        more = [f"… {len(lines) - _LISTED} before these"] if len(lines) > _LISTED else []
        listed = "".join(f"\n    {line}" for line in [*more, *lines[-_LISTED:]])
        return AssertionError(f"{message}; the events:{listed or ' none'}")

    def __repr__(self) -> str:
        return f"<event recorder, {len(self.events)} events>"


def _in_words(event: Event) -> str:
    """``"finished"`` for ``"finished after 3 ms"``: durations differ from run to run."""
    words = in_words(event)
    if isinstance(event, TaskEvent) and isinstance(event, (TaskFinished, TaskFailed)):
        state, _, rest = words.partition(" after ")
        reason = rest.partition(": ")[2]
        return f"{state}: {reason}" if reason else state
    return words
