"""The parts of a RayExecutor that are in the cluster: in its workers, and in actors."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import ray

from cascade.adapters.executors.begun import Begun
from cascade.adapters.executors.cluster_worker import (
    Answer,
    BegunElsewhereError,
    ClusterWorker,
    HostPipe,
)
from cascade.spec.wording import error_text

_lock = threading.Lock()
_made: list[ClusterWorker] = []
#: Name → the registry of an executor. A handle that is kept needs no look-up in the cluster, as one
#: among the arguments of each turn would.
_registries: dict[str, Any] = {}
#: Most of them: executors that have ended are not told of.
_MOST_REGISTRIES: Final = 8


class Registry:
    """An async actor with the turns of one executor that have begun."""

    def __init__(self) -> None:
        self._begun = Begun()
        self._waiting: dict[int, asyncio.Event] = {}

    async def begin(self, turn: int, worker: str) -> str | None:
        """See ``Begun``."""
        before = self._begun.begin("", turn, worker)
        if before is None and turn in self._waiting:
            self._waiting[turn].set()
        return before

    async def withdraw(self, turns: list[int]) -> list[int]:
        """See ``Begun``."""
        found = self._begun.withdraw("", turns)
        for turn in found:
            if turn in self._waiting:
                self._waiting[turn].set()
        return found

    async def forget(self, turns: list[int]) -> None:
        """See ``Begun``."""
        self._begun.forget("", turns)

    async def wait_for(self, turn: int) -> bool:
        """Return when a turn has begun; False if it was withdrawn."""
        event = self._waiting.setdefault(turn, asyncio.Event())
        turns = self._begun.turns.get("", {})
        if turn not in turns:
            await event.wait()
        self._waiting.pop(turn, None)
        return bool(self._begun.turns[""].get(turn))


class HostActor:
    """An async actor that executes runs of an executor, in a thread of its own."""

    def __init__(self) -> None:
        self._pipe: Any = None
        #: Messages for the driver, which asks for them.
        self._told: list[bytes] = []
        self._news = asyncio.Event()
        #: Why it has ended; None until then.
        self._end: str | None = None

    async def begin(self, entry: str, options: bytes) -> str:
        """Begin to execute runs; returns where.

        Args:
            entry: The module with what it does.
            options: For this.
        """
        loop = asyncio.get_running_loop()
        self._pipe = HostPipe(lambda data: loop.call_soon_threadsafe(self._tell, data))
        given = entry, options, loop
        threading.Thread(target=self._live, args=given, name="cascade host", daemon=True).start()
        return _name()

    async def post(self, messages: Sequence[bytes]) -> None:
        """Take messages of the driver."""
        self._pipe.put(messages)

    async def poll(self) -> tuple[list[bytes], str | None]:
        """The next messages for the driver, and after the last ones why the host has ended."""
        await self._news.wait()
        self._news.clear()
        messages, self._told = self._told, []
        return messages, self._end

    def _live(self, entry: str, options: bytes, loop: asyncio.AbstractEventLoop) -> None:
        end = "it has ended"
        try:
            importlib.import_module(entry).main(self._pipe, options)
        except BaseException as problem:
            end = error_text(problem)
        loop.call_soon_threadsafe(self._finish, end)

    def _tell(self, message: bytes) -> None:
        self._told.append(message)
        self._news.set()

    def _finish(self, end: str) -> None:
        self._end = end
        self._news.set()


#: The place of a result that is the only one of its turn: it stays there itself, not in a list. Ray
#: shares bytes and arrays by themselves, and copies them twice more inside of a list.
ALONE: Final = -1


def picked(results: Any, place: int) -> Any:
    """The result at ``place`` among those of a turn."""
    return results if place == ALONE else results[place]


def make_turn(
    registry: str, packed: bytes, places: Sequence[tuple[int, int]], *values: Any
) -> tuple[Any, Any]:
    """Make a turn: the ends of its calls, and the results that stay.

    Args:
        registry: The name of the actor.
        packed: The turn.
        places: For each input, which of ``values`` has it, and its place there.
        values: The results of other turns.
    """
    with _lock:
        if not _made:
            _made.append(ClusterWorker())
    given = [picked(values[of], place) for of, place in places]
    answer: Answer = _made[0].make(packed, given, partial(_begin, registry), _nothing)
    if len(answer.results) != 1:
        return answer.ends, answer.results
    ends = [(*end[:4], None if end[4] is None else ALONE, end[5]) for end in answer.ends]
    return ends, answer.results[0]


def _begin(registry: str, turn: int) -> None:
    actor = _registries.get(registry)
    if actor is None:
        if len(_registries) >= _MOST_REGISTRIES:
            _registries.clear()
        actor = _registries[registry] = ray.get_actor(registry)
    before = ray.get(actor.begin.remote(turn, _name()))
    if before is not None:
        raise BegunElsewhereError("", turn, before)


def _name() -> str:
    """Where this process is, for messages."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def _nothing(_turn: int) -> None:
    """The registry tells that a turn has begun."""
