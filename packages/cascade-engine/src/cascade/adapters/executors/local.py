"""LocalExecutor: a pool of daemon threads in this process."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Call: TypeAlias = "tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]"


class LocalExecutor:
    """Threads that are started as they are needed and live until ``shutdown``.

    Other than those of ``concurrent.futures.ThreadPoolExecutor`` they are daemons: the end of the
    program does not wait for a call that will not return.

    Args:
        max_workers: Most threads at once.
        name: Threads are called ``<name>-<number>``.
    """

    def __init__(self, max_workers: int = 32, name: str = "cascade") -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, but is {max_workers}")
        self.max_workers = max_workers
        self._name = name
        self._numbers = itertools.count()
        self._pool = _Pool()
        self._closed = False
        # Threads hold the pool and not the executor, so that one that is dropped without
        # shutdown() ends its threads too.
        self._finalizer = weakref.finalize(self, _Pool.stop, self._pool)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` on a thread of the pool.

        Raises:
            RuntimeError: After ``shutdown``.
        """
        future: Future[T] = Future()
        pool = self._pool
        with pool.lock:
            if self._closed:
                raise RuntimeError("the executor has been shut down and takes no more calls")
            pool.calls.put((future, fn, args, kwargs))
            if not pool.idle.acquire(blocking=False) and len(pool.threads) < self.max_workers:
                self._start_thread()
        return future

    def replace_thread(self, call: Future[Any]) -> None:
        """Do without the thread of ``call``, which nobody waits for any more.

        Another one takes its place; it ends itself when the call does.
        """
        pool = self._pool
        with pool.lock:
            thread = pool.running.get(call)
            if thread is None or thread not in pool.threads:
                return
            pool.threads.discard(thread)
            pool.replaced.add(thread)
            if pool.calls.qsize() and not self._closed:
                self._start_thread()

    def shutdown(self, wait: bool = True) -> None:
        """End the threads once they have made the calls that were submitted.

        With ``wait``, return when they have ended; not those of abandoned calls.
        """
        with self._pool.lock:
            self._closed = True
            threads = list(self._pool.threads)
            self._finalizer()
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_work,
            args=(self._pool,),
            name=f"{self._name}-{next(self._numbers)}",
            daemon=True,
        )
        self._pool.threads.add(thread)
        thread.start()


class _Pool:
    """What the threads of one executor share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # reentrant: a finalizer may run anywhere
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.idle = threading.Semaphore(0)
        #: Threads that take calls; not those whose call was abandoned.
        self.threads: set[threading.Thread] = set()
        #: Those whose call was; they end with it.
        self.replaced: set[threading.Thread] = set()
        #: Call → the thread that makes it.
        self.running: dict[Future[Any], threading.Thread] = {}

    def ended(self, call: Future[Any], thread: threading.Thread) -> bool:
        """Note that ``thread`` has made ``call``; whether another one has taken its place."""
        with self.lock:
            del self.running[call]
            if thread not in self.replaced:
                return False
            self.replaced.discard(thread)
            return True

    def stop(self) -> None:
        with self.lock:
            for _ in self.threads:
                self.calls.put(None)
            self.threads.clear()


def _work(pool: _Pool) -> None:
    thread = threading.current_thread()
    while (call := pool.calls.get()) is not None:
        future, fn, args, kwargs = call
        if future.set_running_or_notify_cancel():
            pool.running[future] = thread
            _make(future, fn, args, kwargs)
            if pool.ended(future, thread):
                return
        del call, future, fn, args, kwargs  # an idle thread keeps nothing alive
        pool.idle.release()


def _make(future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # also SystemExit: the caller is to see it
        future.set_exception(error)
