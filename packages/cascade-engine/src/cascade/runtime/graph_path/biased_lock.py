"""BiasedLock: a lock that costs almost nothing while only one thread uses it.

The thread that finishes a node does its bookkeeping: mostly one worker thread, sometimes several,
or the event loop's thread. Taking and releasing a lock for each node would cost a tenth of a node.
So while only one worker is awake, that worker *owns* this lock (biased locking: Kawachiya, Koseki,
Onodera 2002). Its critical section is two stores, of its thread's id to ``inside`` and of 0. Any
other thread that enters first ends the ownership by setting ``shared``, and waits until the owner
is outside; from then on all threads take the lock.

Why this is safe: the owner stores ``inside`` before it reads ``shared``; others store ``shared``
before they read ``inside``; and the interpreter's lock puts these steps into one order.
Free-threaded builds have no interpreter's lock: there, no thread ever owns a biased lock.
"""

from __future__ import annotations

import sys
import threading
import time
from threading import get_ident

_ONE_AT_A_TIME = getattr(sys, "_is_gil_enabled", lambda: True)()


class BiasedLock:
    """A reentrant lock with an owner. Used in a ``with`` statement; by its owner also inline::

    if not lock.shared:
        lock.inside = own_thread_id
        try:
            if not lock.shared: ...    # the critical section
        finally:
            lock.inside = 0
    """

    __slots__ = ("_depth", "_lock", "inside", "owner", "shared")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        #: Id of the thread that may enter without the lock; meaningless while ``shared``.
        self.owner = 0
        #: That thread's id while it is inside, otherwise 0.
        self.inside = 0
        #: Whether all threads take the lock.
        self.shared = True

    def give(self) -> None:
        """Let the thread that sets ``owner`` next own it, after the present holder has left.

        Not to be called while an owner may be inside.
        """
        with self._lock:
            self.owner = 0
            self.shared = not _ONE_AT_A_TIME

    def own(self) -> None:
        """Let the calling thread own it, while no other thread is awake that uses it often."""
        with self._lock:
            self.owner = get_ident()
            self.shared = not _ONE_AT_A_TIME

    def share(self) -> None:
        """End the ownership; the owner is outside when this returns."""
        self.shared = True
        while self.inside not in (0, get_ident()):
            time.sleep(0)  # takes microseconds, once the owner has the interpreter

    def __enter__(self) -> None:
        me = get_ident()
        if self.inside == me:
            self._depth += 1
            return
        if not self.shared:
            if self.owner == me:
                self.inside = me
                if not self.shared:
                    return
                self.inside = 0
        elif not self.inside:  # as below, but with no owner to wait for
            self._lock.acquire()
            if self.shared:
                return
            self._lock.release()
        while True:
            self.share()
            self._lock.acquire()
            if self.shared:
                return
            self._lock.release()  # it was given away in between

    def __exit__(self, *_error: object) -> None:
        if self.inside != get_ident():
            self._lock.release()
        elif self._depth:
            self._depth -= 1
        else:
            self.inside = 0
