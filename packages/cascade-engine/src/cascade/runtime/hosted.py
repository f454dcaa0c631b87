"""Hosted runs: the main function of a host process, which ``hosting`` has started elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pickle
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from cascade.runtime.bus import MessageBus
from cascade.runtime.elsewhere.host_events import dumps_events, kind_of
from cascade.runtime.elsewhere.host_messages import (
    DONE,
    READY,
    EndThere,
    LimitThere,
    Message,
    NotReady,
    RunEnded,
    RunThere,
    SharedAmounts,
    TellThere,
    Told,
)
from cascade.runtime.engine import Engine
from cascade.runtime.events import Notice
from cascade.runtime.host_reports import Reports
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.rules import Constraint
from cascade.spec.errors import RunLeasedError, SendError
from cascade.spec.wire import loads
from cascade.spec.wire_errors import dumps_error
from cascade.spec.wording import error_text

#: Seconds until events are sent on, which come in many.
_TOGETHER: Final = 0.02
#: Seconds between two reports of progress.
_PROGRESS: Final = 0.5
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
        self._telling = _Telling(self._send)
        #: Whether the driver, or its executor, has no more use for this.
        self._is_over = False

    async def live(self, options: bytes) -> None:
        """See ``main``."""
        engine = self._made(options)
        if engine is None:
            return
        async with engine as self._engine:
            messages: asyncio.Queue[Any] = asyncio.Queue()
            listener = (asyncio.get_running_loop(), messages)
            threading.Thread(target=self._listen, args=listener, daemon=True).start()
            self._send(READY)
            progress = asyncio.create_task(self._tell_progress(), name="progress of runs")
            while (message := await messages.get()) != DONE:
                if isinstance(message, RunThere):
                    work = asyncio.create_task(self._run(*message), name=f"run {message.run_id}")
                    self._works[message.run_id] = work
                    work.add_done_callback(partial(self._ended, message.run_id))
                elif isinstance(message, LimitThere):
                    self._limit(message.constraints)
                elif isinstance(message, TellThere):
                    self._telling.want(self._engine.bus, message.kinds)
                elif isinstance(message, EndThere) and (found := self._works.get(message.run_id)):
                    if message.for_good:
                        self._engine._stored("cancel").cancel(message.run_id)
                    found.cancel()
            self._is_over = True
            works = list(self._works.values())
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            progress.cancel()
        engine.capacities.end_sharing()

    def _made(self, options: bytes) -> Any:
        """The engine; None if it cannot be made, of which the driver was told."""
        try:
            given = loads(options)
            shared = given["capacities"]
            if isinstance(shared, SharedAmounts):
                given["capacities"] = Capacities(
                    shared.total, store=shared.store, lease=shared.lease
                )
            return Engine(**given)
        except Exception as problem:
            self._send(NotReady(error_text(problem)))
            return None

    async def _tell_progress(self) -> None:
        """Tell the driver how far the runs are and what they wait for, once in a while."""
        telling = Reports(self._engine)
        while True:
            await asyncio.sleep(_PROGRESS)
            told = telling.next()
            if told is not None:
                self._send(told)

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
        self._telling.flush()
        if self._is_over and work.cancelled():  # it has not ended, and another host may go on
            return
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        self._send(RunEnded(run_id, None if error is None else dumps_error(error)))

    async def _run(self, run_id: str, modules: Sequence[str]) -> None:
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as problem:
                raise _not_imported(run_id, module, problem) from problem
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


def _not_imported(run_id: str, module: str, problem: Exception) -> SendError:
    return SendError(
        f"the process for run {run_id!r} cannot import module '{module}', which has tasks of it: "
        f"{error_text(problem)}\n"
        "    right:  install the module, or add its folder to PYTHONPATH; such a process has the "
        "driver's sys.path, as it was at its start",
        f"module '{module}'",
    )


class _Telling:
    """Sends the events on that the driver wants.

    Args:
        send: Sends a message.
    """

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._unsubscribe: list[Callable[[], None]] = []
        self._events: list[Notice] = []

    def want(self, bus: MessageBus, kinds: Sequence[str]) -> None:
        """Send these events, and no others."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = [bus.subscribe(kind_of(kind), self._take) for kind in kinds]

    def _take(self, event: Notice) -> None:
        if not self._events:
            asyncio.get_running_loop().call_later(_TOGETHER, self.flush)
        self._events.append(event)

    def flush(self) -> None:
        """Send what is not sent yet."""
        events, self._events = self._events, []
        if events:
            self._send(Told(dumps_events(events)))
