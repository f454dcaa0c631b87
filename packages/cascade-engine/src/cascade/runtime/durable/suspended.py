"""Suspended: ends a durable run in this process that only waits for a time or a signal (D10)."""

from __future__ import annotations


class Suspended(BaseException):
    """The run has left this process; it is claimed again when it is due or gets a signal.

    No error of the run: no task can catch it, and ``engine.run`` never raises it by itself, because
    such a run waits in the process unless ``Request.unload`` says otherwise.

    Attributes:
        due: When the first of its times is over (UTC, seconds); None if it waits only for signals.
        inbox: The number of the last signal that this process knows of.
    """

    def __init__(self, due: float | None, inbox: int) -> None:
        super().__init__("the run only waits, and has left this process")
        self.due = due
        self.inbox = inbox
