"""One process of a trial: what it is to do, and at which point it is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.engine.durable.kill_points import FUNCTIONS, kill_at
from tests.engine.durable.lives import programs
from tests.engine.durable.lives.programs import TARGETS, hold_all, note, note_in, tick

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime.durable import handles, schedules, serving
from cascade.runtime.durable.runs import DurableRuns
from cascade.runtime.loops import tiers
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.loops.verified_source import Unfit
from cascade.runtime.options import Durability
from cascade.spec.errors import (
    LeaseLostError,
    RunCancelledError,
    RunConflictError,
    RunLeasedError,
    StoreError,
)
from cascade.spec.run_store import CommitsAtOnce, RunStore, StoreTransaction

T = TypeVar("T")
#: Methods of a store before and after which a process may be killed.
_METHODS = ("create", "claim", "claim_run", "load", "commit", "commit_at_once", "fire", "signals")
_IN_TRANSACTION = ("before the end of a transaction", "after a transaction")
#: Points of the engine; those of a store; and before a statement of its database.
POINTS = (
    *FUNCTIONS,
    *(f"{name} after" for name in FUNCTIONS),
    *(f"store.{name}" for name in _METHODS),
    *(f"store.{name} after" for name in _METHODS),
    *_IN_TRANSACTION,
    "statement",
    "statement of psycopg",
)
#: Points of a process that only sends a signal.
SENDING = (
    *("call of the store", "call of the store after", "store.send", "store.send after"),
    *("statement",) * 4,
    *("statement of psycopg",) * 2,
)


@dataclass(frozen=True)
class Wanted:
    """A run of a trial."""

    run_id: str
    kind: str
    length: int
    priority: int = 0
    #: Seconds until a worker may claim it.
    later: float = 0.0

    def target(self) -> Any:
        return TARGETS[self.kind](self.run_id, self.length)


@dataclass(frozen=True)
class Orders:
    """What a process is to do.

    Attributes:
        url: The store.
        notes: The file of notes.
        wanted: The runs.
        serves: Whether it is a worker, which executes what is due; else it runs each by its id.
        lease: Seconds.
        kill_at: The point at which it is killed, and how often it passes that before.
        limits: Whether it shares capacities with others.
        minute: Seconds that a minute of schedules takes; 0 without schedules.
        slow: Seconds that a commit takes longer at most: time for kills right before and after it.
        is_last: Whether it has to bring everything to an end.
    """

    url: str
    notes: Path
    wanted: tuple[Wanted, ...]
    serves: bool = False
    use_vm: bool = False
    tier: Tier = "auto"
    durability: Durability = "sync"
    lease: float = 30.0
    kill_at: tuple[str, int] | None = None
    limits: bool = False
    minute: float = 0.0
    slow: float = 0.0
    is_last: bool = False


def live(orders: Orders) -> None:
    """Be the process."""
    note_in(orders.notes)
    _hurry(orders)
    if orders.kill_at is not None:
        _kill_in_engine(*orders.kill_at)
    with closing(_patient(lambda: open_store(orders.url))) as store:
        asyncio.run(_lived(orders, _killable(_slow(store, orders.slow), orders.kill_at)))


def send(orders: Orders, run_id: str, value: int) -> None:
    """Be a process that sends a signal to a run, and is killed meanwhile."""
    if orders.kill_at is not None:
        _kill_in_engine(*orders.kill_at)
    with closing(_patient(lambda: open_store(orders.url))) as store:
        asyncio.run(_sent(_killable(store, orders.kill_at), run_id, value))


async def _sent(store: RunStore, run_id: str, value: int) -> None:
    async with cs.Engine(store=store) as engine:
        with suppress(RunConflictError):  # it has ended: it was cancelled
            await engine.signal(run_id, "go", value)


def _patient(call: Callable[[], T]) -> T:
    """The result of a call that may find the store away."""
    while True:
        try:
            return call()
        except StoreError as error:
            if not error.transient:
                raise
        time.sleep(0.02)


def _hurry(orders: Orders) -> None:
    """Look for news and for dead owners more often, and let runs leave a worker sooner."""
    assert DurableRuns.__init__.__kwdefaults__ is not None
    DurableRuns.__init__.__kwdefaults__["seconds"] = orders.lease
    for module, name, seconds in (
        (serving, "POLL", 0.05),
        (serving, "_LOOK", 0.05),
        (serving, "_UNLOAD", 0.05),
        (handles, "POLL", 0.05),
    ):
        assert hasattr(module, name)
        setattr(module, name, seconds)


async def _lived(orders: Orders, store: RunStore) -> None:
    tier = orders.tier
    if tier == "generated":  # where a loop has one; by that name, it would be demanded of all tasks
        tier = "auto"
        setattr(tiers, "fuse", lambda _: Unfit("it is to be generated"))  # noqa: B010
    options: dict[str, Any] = {"tier": tier, "durability": orders.durability}
    if orders.limits:
        options["capacities"] = _patient(partial(_capacities, orders))
    async with cs.Engine(store=store, **options) as engine:
        if orders.serves:
            await _serve(engine, store, orders)
        else:
            await asyncio.gather(*(_own(engine, orders, wanted) for wanted in orders.wanted))
        if orders.limits and orders.is_last:
            async with asyncio.timeout(30):
                await engine.run(hold_all().with_capacity(gpu=2))
    if orders.limits:
        options["capacities"].end_sharing()


async def _own(engine: cs.Engine, orders: Orders, wanted: Wanted) -> None:
    """Run one by its id: here, or after another process has let go of it."""
    while True:
        try:
            value = await engine.run(wanted.target(), run_id=wanted.run_id, use_vm=orders.use_vm)
            break
        except (RunLeasedError, LeaseLostError):
            pass
        except RunCancelledError:
            return
        except StoreError as error:
            if not error.transient:
                raise
        await asyncio.sleep(0.02)
    note("value", wanted.run_id, value)


async def _serve(engine: cs.Engine, store: RunStore, orders: Orders) -> None:
    """Be a worker until all runs have ended."""
    if orders.minute:
        _schedule(orders.minute)
    stop = asyncio.Event()
    worker = asyncio.create_task(engine.serve(stop=stop, use_vm=orders.use_vm))
    for handle in await asyncio.to_thread(_patient, partial(_enqueued, store, orders.wanted)):
        result = asyncio.ensure_future(handle.result())
        await asyncio.wait([result, worker], return_when=asyncio.FIRST_COMPLETED)
        if worker.done():  # only after an error
            await worker
        with suppress(RunCancelledError):
            note("value", handle.run_id, await result)
    stop.set()
    await worker


def _enqueued(store: RunStore, wanted: Iterable[Wanted]) -> list[handles.StoredRun[Any]]:
    """The runs, which are enqueued if they are new, and those that a schedule has enqueued."""
    named = [
        cs.enqueue(
            store,
            each.target(),
            run_id=each.run_id,
            priority=each.priority,
            at=time.time() + each.later if each.later else None,
        )
        for each in wanted
    ]
    others = {run.run_id for run in store.runs()} - {run.run_id for run in named}
    codec = named[0]._codec
    return [*named, *(handles.StoredRun(store, codec, each, "") for each in sorted(others))]


def _capacities(orders: Orders) -> cs.Capacities:
    return cs.Capacities({"gpu": 2}, store=orders.url, lease=max(orders.lease, 0.5))


def _schedule(minute: float) -> None:
    """Enqueue ``tick`` in each minute of a fast clock, which all processes share."""
    fire = schedules.Timetable.fire

    def hurried(timetable: Any, store: RunStore) -> float:
        timetable._now = lambda: time.time() % 1e6 * 60 / minute
        return fire(timetable, store) * minute / 60

    schedules.Timetable.fire = hurried  # type: ignore[assignment,method-assign]
    cs.schedule("* * * * *", name="tick")(tick)


def _slow(store: RunStore, seconds: float) -> RunStore:
    """``store``, whose commits begin and end later."""
    commit, chance = store.commit, random.SystemRandom()

    def committed(batch: Any, **options: Any) -> Any:
        time.sleep(chance.random() * seconds / 2)
        receipts = commit(batch, **options)
        time.sleep(chance.random() * seconds / 2)
        return receipts

    if seconds:
        store.commit = committed  # type: ignore[method-assign]
        if isinstance(store, CommitsAtOnce):
            store.commit_at_once = lambda *_, **__: None  # type: ignore[method-assign]
    return store


# -- kills -----------------------------------------------------------------------------------------


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_in_engine(point: str, count: int) -> None:
    if point == "statement of psycopg":
        import psycopg

        psycopg.Cursor.execute = _dying(psycopg.Cursor.execute, count, False)  # type: ignore[method-assign]
    elif not point.startswith("store.") and point not in _IN_TRANSACTION:
        kill_at(point, count)


def _killable(store: RunStore, at: tuple[str, int] | None) -> RunStore:
    """``store``, with the point at which this process is killed, if that is one of the store."""
    point, count = at or ("", 0)
    if point in _IN_TRANSACTION:
        _kill_in_transaction(store, point, count)
    name, _, after = point.removeprefix("store.").partition(" ")
    if point.startswith("store.") and hasattr(store, name):
        setattr(store, name, _dying(getattr(store, name), count, bool(after)))
    return store


def _dying(function: Callable[..., Any], count: int, after: bool) -> Callable[..., Any]:
    left = iter(range(count, -1, -1))

    def call(*args: Any, **kwargs: Any) -> Any:
        if not after and not next(left, 0):
            _end()
        result = function(*args, **kwargs)
        if after and not next(left, 0):
            _end()
        return result

    return call


def _kill_in_transaction(store: RunStore, point: str, count: int) -> None:
    begin, left = store.transaction, iter(range(count, -1, -1))

    @contextmanager
    def transaction(run: int, epoch: int) -> Iterator[StoreTransaction]:
        with begin(run, epoch) as opened:
            yield opened
            if point == _IN_TRANSACTION[0] and not next(left, 0):
                _end()
        if point == _IN_TRANSACTION[1] and not next(left, 0):
            _end()

    store.transaction = transaction  # type: ignore[method-assign]


__all__ = ["POINTS", "SENDING", "Orders", "Wanted", "live", "programs", "send"]
