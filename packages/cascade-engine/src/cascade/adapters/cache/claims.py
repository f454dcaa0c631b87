"""Claims: which calls are being made, so that equal ones of other runs wait for their values.

A process that computes a value holds a claim on its key. Equal calls of its other runs wait for
this claim in memory, those of other processes for the *lock* behind it: a range of a file
(``lock_file``) or a row with a lease (``claim_rows``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol, TypeAlias

from cascade.spec.errors import StoreError

#: Seconds between two looks at the locks of other processes: the first, and the longest.
_FIRST, _LONGEST = 0.002, 0.05
#: Looking may take this part of the time.
_SHARE: Final = 0.1

#: Called, from any thread, once a value may be there.
Wake: TypeAlias = Callable[[], object]


class Locks(Protocol):
    """Locks of keys, of which one process holds each. Thread-safe."""

    @property
    def lease(self) -> float | None:
        """Seconds for which a lock is held unless it is renewed; None for as long as its process
        lives."""

    def take(self, key: bytes) -> bool:
        """Whether this process has the lock now."""

    def give_back(self, keys: Iterable[bytes]) -> None:
        """Let others have these locks, as far as this process has them."""

    def renew(self) -> None:
        """Hold all locks of this process for another lease."""


class Claims:
    """The calls that are being made, here and in other processes. Thread-safe.

    Args:
        locks: Those that other processes see; None for a cache of this process alone.
    """

    def __init__(self, locks: Locks | None = None) -> None:
        self._locks = locks
        self._news = threading.Condition()
        #: Key of a call that is made in this process → its waiters.
        self._here: dict[bytes, list[Wake]] = {}
        #: Key of a call that is made in another process → its waiters here.
        self._elsewhere: dict[bytes, list[Wake]] = {}
        self._watcher: threading.Thread | None = None

    def take(self, key: bytes, wake: Wake) -> bool:
        """Whether the caller is to make a call, and then to call ``leave``.

        Otherwise the call is being made, and ``wake`` is called once that may be over.

        Raises:
            StoreError: The locks cannot be used.
        """
        with self._news:
            waiting = self._here.get(key)
            if waiting is not None:
                waiting.append(wake)
                return False
            self._here[key] = []
        if self._is_taken(key):
            return True
        with self._news:
            self._elsewhere.setdefault(key, []).extend([wake, *self._here.pop(key)])
            self._watch()
        return False

    def leave(self, key: bytes, unlock: bool = True) -> None:
        """A call is over, and its waiters look for its value.

        Args:
            key: The key of the call.
            unlock: Whether other processes do so too. Otherwise ``unlock`` is called later.
        """
        with self._news:
            waiting = self._here.pop(key, [])
        if unlock:
            self.unlock([key])
        for wake in waiting:
            wake()

    def unlock(self, keys: Iterable[bytes]) -> None:
        """Let other processes look for the values of calls that are over.

        A lock that cannot be given back ends with its lease.
        """
        if self._locks is None:
            return
        with self._news:  # another run of this process may have begun such a call again
            over = [key for key in keys if key not in self._here]
        with suppress(StoreError):
            self._locks.give_back(over)

    def _is_taken(self, key: bytes) -> bool:
        """Whether this process now has the lock of a key that it has reserved."""
        if self._locks is None:
            return True
        try:
            taken = self._locks.take(key)
        except BaseException:
            self.leave(key, unlock=False)
            raise
        if taken and self._locks.lease is not None:
            with self._news:
                self._watch()
        return taken

    # -- the watcher --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the other processes watched, and leases renewed. Under the lock of the news."""
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._look_around, name="cascade-cache-claims", daemon=True
            )
            self._watcher.start()
        self._news.notify_all()

    def _look_around(self) -> None:
        assert self._locks is not None
        lease, pause = self._locks.lease, _FIRST
        renewed = monotonic()
        while True:
            with self._news:
                known = len(self._elsewhere)
                if not (known or (lease is not None and self._here)):
                    self._watcher = None
                    return
                self._news.wait(pause if known else lease and lease / 3)
                if len(self._elsewhere) > known:
                    pause = _FIRST  # a new one may be short
                keys = [*self._elsewhere]
            began = monotonic()
            if lease is not None and began - renewed > lease / 3:
                renewed = began
                with suppress(StoreError):  # tried again soon, within the lease
                    self._locks.renew()
            for key in keys:
                self._look_for(key)
            pause = min(pause * 1.5, max(_LONGEST, (monotonic() - began) / _SHARE))

    def _look_for(self, key: bytes) -> None:
        """Wake the waiters for a call in another process, if that is over."""
        assert self._locks is not None
        with self._news:
            if key in self._here:  # this process was quicker than this thread
                self._here[key] += self._elsewhere.pop(key, [])
                return
            self._here[key] = []
        is_over = False
        try:
            is_over = self._locks.take(key)
            if is_over:
                self._locks.give_back([key])
        except StoreError:
            is_over = True  # they meet the error themselves
        finally:
            with self._news:
                waiting = self._here.pop(key, [])
                if is_over:
                    waiting += self._elsewhere.pop(key, [])
                elif waiting:
                    self._elsewhere.setdefault(key, []).extend(waiting)
        if is_over:
            for wake in waiting:
                wake()
