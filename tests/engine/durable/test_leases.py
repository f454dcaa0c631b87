"""An owner whose lease may be over begins no call until it is renewed (D6)."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores.memory import MemoryStore
from cascade.runtime.durable import desk, writer
from cascade.runtime.durable.desk import Desk

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
