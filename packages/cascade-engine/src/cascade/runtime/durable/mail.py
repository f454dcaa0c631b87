"""Mail: looks for signals that others have sent to the runs of an engine (D11).

It looks only while a run waits for a signal: when the store has news, and when a receipt of the
writer says that there are more signals than are known. One look serves all waiting runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any

from cascade.runtime.execution.worker_calls import hold_until
from cascade.runtime.inbox import Inbox, Letter
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Signal
from cascade.spec.run_store import RunStore, Unsubscribe

#: Looks take at most one part of so many of the time.
_SHARE = 5
#: Seconds for which it listens to the store after the last wait: the next one often comes soon.
_LINGER = 1.0
_Found = Mapping[Inbox, Sequence[Signal]]


class Mail:
    """The postman of the runs of one engine in one event loop. Used in the loop's thread.

    Args:
        store: Keeps the signals.
        submit: Calls a function on a thread that may wait for the store.
    """

    def __init__(
        self, store: RunStore, submit: Callable[[Callable[[], object]], Future[Any]]
    ) -> None:
        self._store = store
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        #: Inboxes in which a node waits → the number of their run in the store.
        self._awaited: dict[Inbox, int] = {}
        self._stop: Unsubscribe | None = None
        #: Inboxes to look for as soon as possible.
        self._wanted: dict[Inbox, None] = {}
        self._looking: Future[_Found] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._end: asyncio.TimerHandle | None = None

    def watch(self, number: int, inbox: Inbox) -> None:
        """Look for signals for a run in whose inbox a node begins to wait."""
        self._awaited[inbox] = number
        if self._stop is None:  # before the first look: what comes after that is news
            with suppress(StoreError):  # receipts tell, too, a few seconds later
                self._stop = self._store.subscribe(self._tell)
        self._want(inbox)

    def expect(self, inbox: Inbox, count: int) -> None:
        """A run has got so many signals in all."""
        if inbox in self._awaited and inbox.seen < count:
            self._want(inbox)

    def _tell(self) -> None:
        """The store has news. In any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._look_everywhere)

    def _look_everywhere(self) -> None:
        for inbox in self._awaited:
            self._wanted[inbox] = None
        self._look()

    def _want(self, inbox: Inbox) -> None:
        self._wanted[inbox] = None
        # Not later than in this turn: a new wait is for a signal that is probably there.
        self._not_before = 0.0
        self._look()

    def _look(self) -> None:
        """Look now, or soon if the last look was just before, or is still under way."""
        self._rest()
        if not self._wanted or self._looking is not None or self._soon is not None:
            return
        pause = self._not_before - monotonic()
        if pause > 0:
            self._soon = self._loop.call_later(pause, self._look_again)
            return
        runs = [(inbox, self._awaited[inbox], inbox.seen) for inbox in self._wanted]
        self._wanted.clear()
        self._looking = look = self._submit(lambda: self._found(runs))
        look.add_done_callback(self._pass_on)
        hold_until(look, self._loop, "a look for signals")

    def _look_again(self) -> None:
        self._soon = None
        self._look()

    def _found(self, runs: Sequence[tuple[Inbox, int, int]]) -> _Found:
        """The new signals of some runs. On a thread."""
        began = monotonic()
        found = {}
        with suppress(StoreError):  # the writer tells of a store that cannot be used
            for inbox, number, seen in runs:
                signals = self._store.signals(number, seen)
                if signals:
                    found[inbox] = signals
        now = monotonic()
        self._not_before = now + (now - began) * (_SHARE - 1)
        return found

    def _pass_on(self, look: Future[_Found]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._deliver, look)

    def _deliver(self, look: Future[_Found]) -> None:
        self._looking = None
        if not look.cancelled():
            for inbox, signals in look.result().items():
                for signal in signals:
                    if signal.number > inbox.seen:
                        inbox.put(Letter(signal.name, signal.body, signal.number))
        self._look()

    def _rest(self) -> None:
        """Forget the runs in which no node waits; without any, listen to the store no longer."""
        for inbox in [inbox for inbox in self._awaited if not inbox.is_awaited]:
            del self._awaited[inbox]
            self._wanted.pop(inbox, None)
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._stop is not None and not self._awaited:
            self._end = self._loop.call_later(_LINGER, self._listen_no_more)

    def _listen_no_more(self) -> None:
        self._end, self._stop, stop = None, None, self._stop
        if stop is not None:
            self._submit(stop)  # it may wait for the thread that listens

    def close(self) -> None:
        """Listen no longer. No run is under way any more."""
        self._awaited.clear()
        for timer in (self._end, self._soon):
            if timer is not None:
                timer.cancel()
        self._listen_no_more()
