"""Leases: each is renewed from the claim on, and no call begins while one may be over (D6)."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores.memory import MemoryStore
from cascade.runtime.durable import claiming, desk, writer
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.runs import DurableRuns
from cascade.runtime.durable.tenure import Tenure
from cascade.spec.errors import LeaseLostError, RunCancelledError
from cascade.spec.run_rows import Lease, RunRecord, RunStatus

calls: list[int] = []
began, go_on = threading.Event(), threading.Event()


class Away(MemoryStore):
    """A store whose commits wait while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.there = threading.Event()
        self.there.set()

    def commit(self, batch: Any, *, seconds: float) -> Any:
        self.there.wait()
        return super().commit(batch, seconds=seconds)

    def commit_at_once(self, batch: Any, *, seconds: float) -> Any:
        return super().commit(batch, seconds=seconds) if self.there.is_set() else None


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    calls.clear()
    began.clear()
    go_on.clear()
    yield
    go_on.set()


def _call(n: int, last: int) -> None:
    calls.append(n)
    if n == last:
        began.set()
        go_on.wait()


@cs.task
def plain(n: int, last: int) -> int:
    _call(n, last)
    return n


@cs.task
async def coroutine(n: int, last: int) -> int:
    _call(n, last)
    return n


@cs.task
def computation(n: int, last: int, end: int) -> Any:
    _call(n, last)
    return n if n == end else computation.tail(n + 1, last, end)


@cs.task
async def agent(n: int, last: int, end: int) -> Any:
    _call(n, last)
    return n if n == end else agent.tail(n + 1, last, end)


@cs.task
def total(values: list[int]) -> int:
    return len(values)


#: Steps of loops that are compiled. A batch has at most 1024.
LONG = 5000
TARGETS: dict[str, Callable[[], Any]] = {
    "plain": lambda: total([plain(n, 0) for n in range(5)]),
    "coroutines": lambda: total([coroutine(n, 0) for n in range(5)]),
    "computation": lambda: computation(0, 3, 60),
    "long computation": lambda: computation(0, 40, LONG),
    "agent": lambda: agent(0, 3, 60),
    "long agent": lambda: agent(0, 40, LONG),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("is_away", [True, False])
def test_no_call_begins_while_the_lease_is_overdue(
    name: str, is_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that depends on no commit; and the run goes on when the store is back."""
    late, asked = [0.0], threading.Event()
    clock, hurry = desk.now, Desk.hurry
    store = Away()

    def hurried(of: Desk) -> None:
        if late[0]:
            asked.set()
        hurry(of)

    for module in (desk, writer):
        monkeypatch.setattr(module, "now", lambda: clock() + late[0])
    monkeypatch.setattr(Desk, "hurry", hurried)

    async def main() -> Any:
        async with cs.Engine(store=store, durability="async", threads=1) as engine:
            return await engine.run(TARGETS[name](), run_id="run")

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(main())))
    thread.start()
    try:
        assert began.wait(20)
        if is_away:
            store.there.clear()
        late[0] = 3600.0  # as after a pause of the machine
        before = len(calls)
        go_on.set()
        if is_away:
            assert asked.wait(20)
            # A batch of a compiled loop that is under way ends first.
            at_most = before + 1024 if name.startswith("long") else before
            assert before <= len(calls) <= at_most
    finally:
        store.there.set()
        thread.join(20)
    ends = {"plain": 5, "coroutines": 5, "computation": 60, "agent": 60}
    assert results == [ends.get(name, LONG)]
    assert calls == list(range(len(calls)))


# -- from the claim to the first call --------------------------------------------------------------


class Reading(MemoryStore):
    """A store in which something happens while a run is read that was just claimed."""

    def __init__(self, meanwhile: Callable[["Reading"], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self.commits = 0

    @property
    def run(self) -> RunRecord:
        run = self.find("run")
        assert run is not None
        return run

    def load(self, run: int) -> Any:
        if self.run.status is RunStatus.RUNNING:
            self._meanwhile(self)
        return super().load(run)

    def commit(self, batch: Any, *, seconds: float) -> Any:
        self.commits += 1
        return super().commit(batch, seconds=seconds)


async def _worked(store: Reading) -> None:
    """Let a worker execute a run."""
    handle = cs.enqueue(store, plain(1, -1), run_id="run")
    stop = asyncio.Event()
    async with cs.Engine(store=store) as engine:
        worker = asyncio.create_task(engine.serve(stop=stop))
        try:
            await handle.result()
        finally:
            stop.set()
            await worker


def _short_leases(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setitem(DurableRuns.__init__.__kwdefaults__ or {}, "seconds", seconds)


def _wait(until: Callable[[], bool]) -> None:
    event, left = threading.Event(), 4000
    while not until():
        assert (left := left - 1), "it did not happen within 20 seconds"
        event.wait(0.005)


async def test_the_lease_of_a_run_is_renewed_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that claims many runs reads one after the other."""
    _short_leases(monkeypatch, 0.5)

    def meanwhile(store: Reading) -> None:
        before = store.run.lease_until
        _wait(lambda: store.run.lease_until > before)

    await _worked(Reading(meanwhile))
    assert calls == [1]


async def test_a_lease_counts_from_before_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not from when the claim was known here, or the run was read."""
    late, clock = [0.0], desk.now
    for module in (desk, writer, claiming):
        monkeypatch.setattr(module, "now", lambda: clock() + late[0])

    class Slow(Reading):
        def claim(self, *args: Any, **kwargs: Any) -> Any:
            runs = super().claim(*args, **kwargs)
            late[0] += 3600.0 * bool(runs)
            return runs

    def renewed(n: int, last: int) -> None:
        made.append(store.commits)

    made: list[int] = []
    store = Slow(lambda _: None)
    monkeypatch.setitem(globals(), "_call", renewed)
    await _worked(store)
    assert made == [1]  # a commit that has renewed it


@pytest.mark.parametrize("fate", ["cancelled", "lost"])
async def test_no_call_begins_in_a_run_that_has_ended_while_it_was_read(
    fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _short_leases(monkeypatch, 0.5)
    told, stop = threading.Event(), Tenure._stop
    errors: list[BaseException] = []

    def stopped(of: Tenure, error: BaseException) -> None:
        errors.append(error)
        stop(of, error)  # type: ignore[arg-type]
        told.set()

    def meanwhile(store: Reading) -> None:
        if told.is_set():
            return  # the other owner reads it
        if fate == "cancelled":
            store.cancel("run")
        else:
            store.claim_run("run", Lease("another", 0.5), dead=store.owners())
        assert told.wait(20)

    monkeypatch.setattr(Tenure, "_stop", stopped)
    store = Reading(meanwhile)
    if fate == "cancelled":
        with pytest.raises(RunCancelledError):
            await _worked(store)
        assert calls == []
    else:
        await _worked(store)
        assert calls == [1]  # when the other one has died
    assert store.run.epoch == (1 if fate == "cancelled" else 3)
    assert store.run.status is (RunStatus.CANCELLED if fate == "cancelled" else RunStatus.SUCCEEDED)
    assert isinstance(errors[0], RunCancelledError if fate == "cancelled" else LeaseLostError)
