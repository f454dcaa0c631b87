"""Turns: waits of coroutines of a map with a window, which other nodes of their run end.

A run stands still when nothing runs and nothing is ready. A coroutine that awaits something is busy
for all that the run knows. One that waits for other nodes is not: if these wait for each other, it
would wait forever, and the run with it. So it tells the run that it rests.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import get_ident

from cascade.spec.windowing import Resting


class Turn:
    """The wait of one coroutine. Made in the thread of its event loop.

    Args:
        run: The run that the coroutine belongs to.
        rests: Whether only other nodes of that run will end the wait. Otherwise ``rest`` tells
            when this is so.
    """

    __slots__ = ("_debts", "_future", "_loop", "_rests", "_run", "_thread")

    def __init__(self, run: Resting | None, rests: bool = True) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._run = run
        self._rests = rests and run is not None
        #: The run, until it is told that the coroutine goes on. From the beginning: another thread
        #: may end the wait before it has begun.
        self._debts: list[Resting] = [run] if rests and run is not None else []

    async def come(self) -> None:
        """Wait for ``end``."""
        if self._rests:
            assert self._run is not None
            self._run.rest()
        try:
            await self._future
        finally:
            self._goes_on()  # after a cancel

    def rest(self) -> None:
        """From now on only other nodes of the run can end the wait. In its thread."""
        if self._run is not None and not self._future.done():
            self._debts.append(self._run)
            self._run.rest()

    def go_on(self) -> None:
        """From now on something else can end the wait, so that the run is busy. In its thread."""
        self._goes_on()

    def end(self) -> None:
        """End the wait; the run is busy from now on. From any thread, and as often as you like."""
        self._goes_on()
        if get_ident() == self._thread:
            if not self._future.done():
                self._future.set_result(None)
            return
        with suppress(RuntimeError):  # the run was abandoned, and its loop is closed
            self._loop.call_soon_threadsafe(self._set)

    def _goes_on(self) -> None:
        if self._debts:
            with suppress(IndexError):  # two threads may do this, and one of them tells the run
                self._debts.pop().go_on()

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)
