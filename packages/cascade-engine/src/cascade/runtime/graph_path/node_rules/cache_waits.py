"""CacheWaits: nodes that wait for the value of an equal call of another run (R10).

That run may belong to this process or to another one. A waiting node holds no thread. When the
call is over, the node takes its value from the cache; if there is none, because the call has failed
or its process has died, one of the waiting nodes makes the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.spec.caching import SharedCache

#: Why such a node does not run, for ``engine.waiting()``.
_REASON: Final = "equal call of another run"


class CacheWaiter:
    """A node that waits.

    Args:
        waits: Those of its run.
        cache: Has told that another run makes the call.
        key: The key of the call.
        take: Takes the value from the cache; whether it was there.
        work: The call that is made otherwise.
        amounts: Those of the call.
    """

    __slots__ = ("amounts", "cache", "key", "take", "timer", "told", "waits", "work")

    def __init__(
        self,
        waits: CacheWaits,
        cache: SharedCache,
        key: Any,
        take: Callable[[], bool],
        work: Work,
        amounts: Mapping[str, Any],
    ) -> None:
        self.waits = waits
        self.cache = cache
        self.key = key
        self.take = take
        self.work = work
        self.amounts = amounts
        self.timer: asyncio.TimerHandle | None = None
        #: Names its wait among those of the run.
        self.told: object | None = None

    def wake(self) -> None:
        """The call may be over. From any thread."""
        self.waits.wake(self)


class CacheWaits(Part):
    """The nodes of one run that wait for calls of other runs.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._waiters: dict[CacheWaiter, None] = {}

    @property
    def any(self) -> bool:
        """Whether a node waits."""
        return bool(self._waiters)

    def finds(self, waiter: CacheWaiter) -> bool:
        """Whether a node has its value, or will get it from another run. From any thread.

        Otherwise it has claimed its call.

        Raises:
            Exception: The cache raised it.
        """
        self._waiters[waiter] = None  # at once: the run must not seem to be idle
        try:
            if not waiter.cache.claim(waiter.key, waiter.wake):
                self._run.call_in_loop(self._wait, waiter)
                return True
            found = waiter.take()  # another run may have made the call since the cache was asked
        except BaseException:
            self._waiters.pop(waiter, None)
            waiter.cache.leave(waiter.key)
            raise
        self._waiters.pop(waiter, None)
        if found:
            waiter.cache.leave(waiter.key)
        return found

    def wake(self, waiter: CacheWaiter) -> None:
        """Look again, soon. From any thread."""
        with suppress(RuntimeError):  # its event loop is closed
            self._run.call_in_loop(self._look_again, waiter)

    def _wait(self, waiter: CacheWaiter) -> None:
        """A node waits. In the event loop's thread, as all that follows."""
        if waiter not in self._waiters or self._end.stopping:
            return
        name, seconds = waiter.work.operation.name, waiter.cache.wait
        waiter.told = self._run.begin_delay(name, waiter.work.source, seconds, _REASON)
        if seconds is not None:
            waiter.timer = self._run.loop.call_later(seconds, self._go_on, waiter)

    def _look_again(self, waiter: CacheWaiter) -> None:
        """Take the value, or make the call, or go on waiting."""
        if waiter not in self._waiters or self._end.stopping:
            return
        try:
            if not waiter.take():
                if not waiter.cache.claim(waiter.key, waiter.wake):
                    return
                if not waiter.take():
                    self._go_on(waiter)
                    return
                waiter.cache.leave(waiter.key)
        except BaseException as error:
            self._parts.failures.fail(error, waiter.work)
        self._drop(waiter)
        self._parts.dispatch.released()

    def _go_on(self, waiter: CacheWaiter) -> None:
        """Make the call of a node."""
        if waiter not in self._waiters or self._end.stopping:
            return
        try:
            work = self._parts.before_call.admitted(waiter.work, waiter.amounts)
            if work is not None:
                with self._parts.lock:
                    self._parts.dispatch.send(work)
        except BaseException as error:
            self._parts.failures.fail(error, waiter.work)
        self._drop(waiter)
        self._parts.dispatch.released()

    def _drop(self, waiter: CacheWaiter) -> None:
        self._waiters.pop(waiter, None)
        if waiter.told is not None:
            self._run.end_delay(waiter.told)
        if waiter.timer is not None:
            waiter.timer.cancel()

    def close(self) -> None:
        """Wait no longer. In the event loop's thread."""
        for waiter in [*self._waiters]:
            self._drop(waiter)
