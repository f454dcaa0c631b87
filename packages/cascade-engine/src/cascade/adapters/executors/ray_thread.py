"""The thread of a RayExecutor that calls Ray, and gets its answers.

Ray's client calls back in the thread that receives all answers: there nothing may wait for one. And
the event loop's thread should not wait for a round trip.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

_log: Final = logging.getLogger("cascade.executors")


class RayThread:
    """Makes calls one after the other, in the order in which they come.

    Args:
        is_over: Whether there will be no more of them. Asked after each call.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._jobs: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        threading.Thread(target=self._work, name="cascade-ray", daemon=True).start()

    def do(self, job: Callable[[], Any]) -> None:
        """Make a call, for its effect."""
        self._jobs.put(job)

    def ask(self, call: Callable[[], Any], answered: Callable[[Future[Any]], Any]) -> None:
        """Make a call that returns a reference; ``answered`` gets its value or error, here."""

        def came(done: Future[Any]) -> None:
            self._jobs.put(partial(answered, done))

        def ask() -> None:
            try:
                asked = call().future()
            except Exception as problem:  # Ray was shut down meanwhile
                asked = Future()
                asked.set_exception(problem)
            asked.add_done_callback(came)

        self._jobs.put(ask)

    def wake(self) -> None:
        """Have it see that it is over."""
        self._jobs.put(_nothing)

    def _work(self) -> None:
        while not (self._is_over() and self._jobs.empty()):
            job = self._jobs.get()
            try:
                job()
            except Exception:
                _log.exception("the executor on Ray goes on after an error of its own")
            del job  # the thread holds no value while it waits


def _nothing() -> None:
    """A job."""
