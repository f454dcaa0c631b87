"""LocalExecutor: a pool of daemon threads in this process."""

from __future__ import annotations

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
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._closed = False
        # Threads hold the queue and not the executor, so that one that is dropped without
        # shutdown() ends its threads too.
        self._finalizer = weakref.finalize(self, _stop, self._calls, self._threads)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` on a thread of the pool.

        Raises:
            RuntimeError: After ``shutdown``.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor has been shut down and takes no more calls")
            self._calls.put((future, fn, args, kwargs))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self.max_workers:
                self._start_thread()
        return future

    def shutdown(self, wait: bool = True) -> None:
        """End the threads once they have made the calls that were submitted."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            self._finalizer()
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_work,
            args=(self._calls, self._idle),
            name=f"{self._name}-{len(self._threads)}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()


def _work(calls: SimpleQueue[_Call | None], idle: threading.Semaphore) -> None:
    while (call := calls.get()) is not None:
        future, fn, args, kwargs = call
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # also SystemExit: the caller is to see it
                future.set_exception(error)
        del call, future, fn, args, kwargs  # an idle thread keeps nothing alive
        idle.release()


def _stop(calls: SimpleQueue[_Call | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        calls.put(None)
    threads.clear()
