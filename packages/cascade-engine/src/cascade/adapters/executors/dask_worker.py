"""The parts of a DaskExecutor that are in the cluster: in its workers, and in its scheduler."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from distributed import get_worker, secede
from distributed.diagnostics.plugin import SchedulerPlugin

from cascade.adapters.executors.begun import Begun
from cascade.adapters.executors.cluster_worker import (
    BegunElsewhereError,
    ClusterWorker,
    Forwarding,
    HostPipe,
)
from cascade.spec.errors import CascadeError
from cascade.spec.pickled_errors import keep_own_pickling

keep_own_pickling(CascadeError)  # which the import of distributed has changed

#: The name of the plugin. Another number for another protocol.
PLUGIN: Final = "cascade-2"
#: The topic of an executor's messages is this and its name. Dask's own events, one for each
#: submitted turn, have the name alone, and would all be sent to the driver.
TOPIC: Final = "cascade-"
#: The name of the request that closes the resources of an executor.
CLOSE: Final = "cascade_close"
#: The kinds of messages to the driver.
BEGUN, ENDED, LOST, LOGGED, HOST = "begun", "ended", "lost", "logged", "host"


class _Here(threading.local):
    """The executor whose turn this thread makes."""

    owner: str | None = None


_lock = threading.Lock()
_here = _Here()
#: Executor → the part of it that is in this process.
_made: dict[str, ClusterWorker] = {}
#: Executor and number of a host → its pipe.
_hosts: dict[tuple[str, int], HostPipe] = {}


def make_turn(owner: str, packed: bytes, places: Sequence[tuple[int, int]], *values: Any) -> Any:
    """Make a turn of an executor; its results stay here.

    Args:
        owner: The executor.
        packed: The turn.
        places: For each input, which of ``values`` has it, and its place there.
        values: The results of other turns.
    """
    worker: Any = get_worker()
    given = [values[of][place] for of, place in places]
    _here.owner = owner
    try:
        answer = _cluster_worker(worker, owner).make(
            packed, given, partial(_begin, worker, owner), partial(_tell, worker, owner, BEGUN)
        )
    finally:
        _here.owner = None
    _tell(worker, owner, ENDED, answer.number, answer.ends)
    return answer.results


def host_runs(owner: str, number: int, entry: str, options: bytes) -> None:
    """Execute runs of an executor until it needs this host no more.

    Args:
        owner: The executor.
        number: The number of the host.
        entry: The module with what it does.
        options: For this.
    """
    worker: Any = get_worker()
    _cluster_worker(worker, owner)  # it ends hosts whose driver has gone
    _begin(worker, owner, number)

    def send(data: bytes) -> None:
        _tell(worker, owner, HOST, number, {"data": data, "worker": worker.address})

    pipe = _hosts[owner, number] = HostPipe(send)
    secede()  # type: ignore[no-untyped-call]
    try:
        importlib.import_module(entry).main(pipe, options)
    finally:
        del _hosts[owner, number]


def post(owner: str, number: int, messages: Sequence[bytes]) -> None:
    """Give messages to a host of this worker, if it is still there."""
    pipe = _hosts.get((owner, number))
    if pipe is not None:
        pipe.put(messages)


def _cluster_worker(worker: Any, owner: str) -> ClusterWorker:
    """The part of an executor that is in this process, made at its first turn."""
    with _lock:
        if CLOSE not in worker.handlers:
            logging.getLogger().addHandler(Forwarding(partial(_forward, worker)))
            worker.handlers[CLOSE] = leave
        if owner not in _made:
            _made[owner] = ClusterWorker()
        return _made[owner]


async def leave(owner: str) -> None:
    """Close the resources of an executor that has ended. In the event loop of a worker."""
    with _lock:
        found = _made.pop(owner, None)
    for (of, _), pipe in list(_hosts.items()):
        if of == owner:
            pipe.end()
    if found is not None:
        await asyncio.to_thread(found.close)


def _begin(worker: Any, owner: str, turn: int) -> None:
    """Ask for the permission to begin a turn.

    Raises:
        BegunElsewhereError: It was begun before.
    """

    async def ask() -> str | None:
        found: str | None = await worker.scheduler.cascade_begin(
            owner=owner, turn=turn, worker=worker.address
        )
        return found

    asked = asyncio.run_coroutine_threadsafe(ask(), worker.loop.asyncio_loop)
    before = asked.result()
    if before is not None:
        raise BegunElsewhereError(owner, turn, before)


def _tell(worker: Any, owner: str, kind: str, turn: int, content: Any = None) -> None:
    worker.log_event(TOPIC + owner, {"cascade": kind, "turn": turn, "content": content})


def _forward(worker: Any, record: dict[str, Any]) -> None:
    if _here.owner is not None:
        _tell(worker, _here.owner, LOGGED, 0, {**record, "worker": worker.address})


def plugin() -> SchedulerPlugin:
    """What a scheduler needs. It goes there by value."""
    registry, close, topic = Begun(), CLOSE, TOPIC

    class CascadePlugin(SchedulerPlugin):
        name = PLUGIN
        idempotent = True

        async def start(self, scheduler: Any) -> None:
            scheduler.handlers["cascade_begin"] = self.begin
            scheduler.handlers["cascade_withdraw"] = self.withdraw
            scheduler.handlers["cascade_forget"] = self.forget

        def begin(self, owner: str, turn: int, worker: str) -> Any:
            return registry.begin(owner, turn, worker)

        def withdraw(self, owner: str, turns: list[int]) -> Any:
            return registry.withdraw(owner, turns)

        def forget(self, owner: str, turns: list[int]) -> None:
            registry.forget(owner, turns)

        def remove_worker(self, scheduler: Any, worker: str, **_more: Any) -> None:
            for owner, turn in registry.begun_by(worker):
                lost = {"cascade": LOST, "turn": turn, "content": worker}
                scheduler.log_event(topic + owner, lost)

        def remove_client(self, scheduler: Any, client: str) -> None:
            if client in registry.turns:
                registry.forget_owner(client)
                message = {"op": close, "owner": client}
                scheduler.loop.add_callback(scheduler.broadcast, msg=message, on_error="ignore")

    return CascadePlugin()
