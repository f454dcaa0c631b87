"""LocalExecutor: a pool of daemon threads in this process."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

from cascade.spec.checks import check_count
from cascade.spec.errors import ExecutorError, RunError

T = TypeVar("T")
#: Future, function and arguments of a call, and the time of its submission.
_Call: TypeAlias = "tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any], float]"


class _Ranked:
    """Stands in the queue for the first call by rank."""


_RANKED: Final = _Ranked()


class LocalExecutor:
    """Threads that are started on demand and live until ``shutdown``.

    Unlike the threads of ``concurrent.futures.ThreadPoolExecutor`` they are daemons: the end of the
    program does not wait for a call that never returns.

    Args:
        max_workers: Most threads at once.
        name: Threads are named ``<name>-<number>``.

    Raises:
        ArgumentError: ``max_workers`` is not an int ≥ 1.
    """

    def __init__(self, max_workers: int = 32, name: str = "cascade") -> None:
        check_count("max_workers", max_workers)
        self.max_workers = max_workers
        self._name = name
        self._numbers = itertools.count()
        self._pool = _Pool(max_workers)
        self._closed = False
        # Threads refer to the pool and not to the executor, so that an executor that is dropped
        # without shutdown() ends its threads too.
        self._finalizer = weakref.finalize(self, _Pool.stop, self._pool)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` on a thread of the pool.

        Waiting calls begin in the order of their submission. A higher ``fn.cascade_priority``, 0 by
        default, counts as a submission that many seconds earlier (M24).

        While the system refuses new threads, calls wait for the existing ones.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
            ExecutorError: The pool has no thread, and the system refuses one (a RuntimeError). The
                call will not be made.
        """
        future: Future[T] = Future()
        pool = self._pool
        with pool.lock:
            if self._closed:
                raise RunError("the executor has been shut down and takes no more calls")
            pool.spare -= 1
            try:
                self._start_if_short()
            except BaseException as error:
                # Before the call is queued: a caller that gets an error may try again.
                if not (pool.threads and isinstance(error, ExecutorError)):
                    pool.spare += 1
                    raise
            pool.put((future, fn, args, kwargs, monotonic()), getattr(fn, "cascade_priority", 0))
        return future

    @property
    def is_short(self) -> bool:
        """Whether some submitted call finds no free thread."""
        return self._pool.spare < 0

    @property
    def most_urgent(self) -> tuple[float, Callable[..., Any]] | None:
        """The first waiting call, and its rank, ``submission - priority``; None if none has any."""
        ranked = self._pool.ranked[:1]  # one step: other threads change it
        return (ranked[0][0], ranked[0][2][1]) if ranked else None

    def replace_thread(self, call: Future[Any]) -> None:
        """Give up the thread of the abandoned ``call``.

        Another thread takes its place; the old one ends when the call does. While the system
        refuses new threads, the old thread goes on with the calls that wait then.
        """
        pool = self._pool
        with pool.lock:
            thread = pool.running.get(call)
            if thread is None or thread not in pool.threads:
                return
            pool.threads.discard(thread)
            pool.replaced.add(thread)
            if not self._closed:
                with contextlib.suppress(ExecutorError):  # the next call tries again
                    self._start_if_short()

    def shutdown(self, wait: bool = True) -> None:
        """End the threads after they have made all submitted calls.

        With ``wait``, return when they have ended, except those of abandoned calls.
        """
        with self._pool.lock:
            self._closed = True
            threads = list(self._pool.threads)
            self._finalizer()
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def _start_if_short(self) -> None:
        """Start a thread if submitted calls lack one and the limit allows it."""
        pool = self._pool
        if pool.spare >= 0 or len(pool.threads) >= self.max_workers:
            return
        wanted = [True]
        thread = threading.Thread(
            target=_work,
            args=(pool, wanted),
            name=f"{self._name}-{next(self._numbers)}",
            daemon=True,
        )
        try:
            thread.start()
        except BaseException as error:
            wanted.clear()  # Ctrl-C may raise here although the thread has started
            if not isinstance(error, RuntimeError):
                raise
            raise ExecutorError(
                f"no thread could be started for a call: {error}; this process has "
                f"{threading.active_count()} threads, and this executor may have "
                f"{self.max_workers}; lower its max_workers, or raise the system's limit "
                "(ulimit -u)"
            ) from error
        pool.threads.add(thread)
        pool.spare += 1


class _Pool:
    """The state that the threads of one executor share."""

    def __init__(self, max_workers: int) -> None:
        self.max_workers = max_workers
        self.lock = threading.RLock()  # reentrant: a finalizer may run anywhere
        self.calls: SimpleQueue[_Call | _Ranked | None] = SimpleQueue()
        #: Calls by rank; each has a ``_RANKED`` in the queue. Empty while none has a priority.
        self.ranked: list[tuple[float, int, _Call]] = []
        self._arrivals = itertools.count()
        #: Idle threads minus waiting calls.
        self.spare = 0
        #: Threads that take calls, except those of abandoned calls.
        self.threads: set[threading.Thread] = set()
        #: Threads of abandoned calls; they end with their call.
        self.replaced: set[threading.Thread] = set()
        #: Call → its thread.
        self.running: dict[Future[Any], threading.Thread] = {}

    def put(self, call: _Call, priority: int) -> None:
        """Add a call to the queue. Under the lock."""
        if priority or self.ranked:
            heapq.heappush(self.ranked, (call[-1] - priority, next(self._arrivals), call))
            self.calls.put(_RANKED)
        else:
            self.calls.put(call)

    def first(self, call: _Call | _Ranked) -> _Call:
        """The first call by rank, in place of the one that a thread has taken from the queue."""
        with self.lock:
            if isinstance(call, _Ranked):
                return heapq.heappop(self.ranked)[2]
            rank = call[-1], next(self._arrivals), call
            return heapq.heappushpop(self.ranked, rank)[2]

    def ended(self, call: Future[Any], thread: threading.Thread) -> bool:
        """Note that ``thread`` is done with ``call``; whether another thread has replaced it."""
        with self.lock:
            self.running.pop(call, None)
            if thread in self.replaced:
                self.replaced.discard(thread)
                if self.spare >= 0 or len(self.threads) >= self.max_workers:
                    return True
                self.threads.add(thread)  # no replacement could be started
            self.spare += 1
            return False

    def stop(self) -> None:
        with self.lock:
            for _ in (*self.threads, *self.replaced):
                self.calls.put(None)
            self.threads.clear()


def _work(pool: _Pool, wanted: list[bool]) -> None:
    thread = threading.current_thread()
    with pool.lock:  # held until it is known whether the thread could be started
        if not wanted:
            return
    while (call := pool.calls.get()) is not None:
        if pool.ranked or isinstance(call, _Ranked):
            call = pool.first(call)
        future, fn, args, kwargs, _ = call
        if future.set_running_or_notify_cancel():
            pool.running[future] = thread
            _make(future, fn, args, kwargs)
        if pool.ended(future, thread):
            return
        del call, future, fn, args, kwargs  # an idle thread keeps nothing alive


def _make(future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:  # also SystemExit: the caller must see it
        future.set_exception(error)
    else:
        future.set_result(value)
