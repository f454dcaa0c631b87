"""The listeners for news of a store, and the thread that looks for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from cascade.spec.run_store import Unsubscribe

_logger = logging.getLogger("cascade.stores")

#: Looks for news of other processes, on a thread of its own, until the event is set. It yields
#: whenever there is some.
Watch: TypeAlias = Callable[[threading.Event], Iterator[object]]


class Listeners:
    """Functions to call when there is news.

    Args:
        watch: Called when the first listener comes; told to end when the last one has gone.
        wake: Called after the event of ``watch`` was set, if setting it is not enough.
    """

    def __init__(
        self, watch: Watch | None = None, wake: Callable[[], object] = lambda: None
    ) -> None:
        self._watch = watch
        self._wake = wake
        self._lock = threading.Lock()
        self._listeners: dict[object, Callable[[], None]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, listener: Callable[[], None]) -> Unsubscribe:
        """Call ``listener`` at news from now on; the returned function ends that."""
        mark = object()  # the same function may be added twice

        def remove() -> None:
            with self._lock:
                known = self._listeners.pop(mark, None) is not None
                last = known and not self._listeners
            if last:
                self._stop()

        with self._lock:
            self._listeners[mark] = listener
            if self._watch is not None and (self._thread is None or self._stopping.is_set()):
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=self._look, args=(self._watch, self._stopping), daemon=True
                )
                self._thread.name = "cascade-store-news"
                self._thread.start()
        return remove

    def tell(self) -> None:
        """Call each listener. One that raises is logged, and the others are called all the same."""
        for listener in list(self._listeners.values()):
            try:
                listener()
            except Exception:
                _logger.exception("a listener to news of a store failed")

    def close(self) -> None:
        """Forget all listeners."""
        with self._lock:
            self._listeners.clear()
        self._stop()

    def _stop(self) -> None:
        with self._lock:
            if self._listeners:
                return  # a listener came in between
            # Kept: a second caller, which may close what the thread uses, has to wait for it, too.
            thread = self._thread
            self._stopping.set()
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _look(self, watch: Watch, stopping: threading.Event) -> None:
        for _news in watch(stopping):
            if not stopping.is_set():
                self.tell()
