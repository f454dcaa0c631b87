"""Hosted runs: the main function of a host process, which ``hosting`` has started elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pickle
import threading
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from cascade.runtime.elsewhere.host_messages import (
    DONE,
    READY,
    EndThere,
    LimitThere,
    Message,
    RunEnded,
    RunThere,
)
from cascade.runtime.engine import Engine
from cascade.runtime.limits.rules import Constraint
from cascade.spec.errors import RunLeasedError
from cascade.spec.wire import loads
from cascade.spec.wire_errors import dumps_error

#: Seconds between two attempts to claim a run that another process executes.
_AGAIN: Final = 0.5


def main(pipe: Connection, options: bytes) -> None:
    """Execute runs until the driver has no more use for this process.

    Args:
        pipe: To the driver.
        options: Those of the engine, as ``wire`` writes them.
    """
    asyncio.run(_Hosted(pipe).live(options))


class _Hosted:
    """The runs that this process executes."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._engine: Any = None
        self._works: dict[str, asyncio.Task[None]] = {}

    async def live(self, options: bytes) -> None:
        """See ``main``."""
        async with Engine(**loads(options)) as self._engine:
            messages: asyncio.Queue[Any] = asyncio.Queue()
            listener = (asyncio.get_running_loop(), messages)
            threading.Thread(target=self._listen, args=listener, daemon=True).start()
            self._send(READY)
            while (message := await messages.get()) != DONE:
                if isinstance(message, RunThere):
                    work = asyncio.create_task(self._run(*message), name=f"run {message.run_id}")
                    self._works[message.run_id] = work
                    work.add_done_callback(partial(self._ended, message.run_id))
                elif isinstance(message, LimitThere):
                    self._limit(message.constraints)
                elif isinstance(message, EndThere) and (found := self._works.get(message.run_id)):
                    if message.for_good:
                        self._engine._stored("cancel").cancel(message.run_id)
                    found.cancel()
            works = list(self._works.values())
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    def _listen(self, loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Any]) -> None:
        message: Any = None
        while message != DONE:
            try:
                message = pickle.loads(self._pipe.recv_bytes())
            except (EOFError, OSError):  # the driver has ended
                message = DONE
            loop.call_soon_threadsafe(messages.put_nowait, message)

    def _limit(self, constraints: Sequence[Constraint]) -> None:
        before = {info.constraint.key: None for info in self._engine.constraints.active()}
        now = {constraint.key: constraint for constraint in constraints}
        self._engine.constraints.change({**before, **now})

    def _ended(self, run_id: str, work: asyncio.Task[None]) -> None:
        """A run has ended, or was cancelled before it began."""
        self._works.pop(run_id, None)
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        self._send(RunEnded(run_id, None if error is None else dumps_error(error)))

    async def _run(self, run_id: str, modules: Sequence[str]) -> None:
        for module in modules:
            importlib.import_module(module)
        await self._resumed(run_id)

    async def _resumed(self, run_id: str) -> None:
        while True:
            try:
                await self._engine.resume(run_id)
            except RunLeasedError:  # a worker of the store has it; or its owner is about to go
                await asyncio.sleep(_AGAIN)
            else:
                return

    def _send(self, message: Message) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(pickle.dumps(message, 5))
