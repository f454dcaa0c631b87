"""Runs that miss the same value at the same time: one computes it, the others wait for it (R10)."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import TaskCached, TaskWaiting
from cascade.testing import run_virtually

REASON = "equal call of another run"
#: Seconds within which everything happens on the slowest machine.
WITHIN = 20


class Calls:
    """Calls of tasks, each of which lasts until the test lets it end.

    It has no content, so that it is no part of a key.
    """

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.made = 0
        self.fails = False

    def __call__(self, n):
        self.made += 1
        self.begun.release()
        assert self.may_end.acquire(timeout=WITHIN)
        if self.fails:
            self.fails = False
            raise ValueError(n)
        return n * 2

    def has_begun(self):
        assert self.begun.acquire(timeout=WITHIN)


calls = Calls()


@pytest.fixture(autouse=True)
def no_calls():
    calls.__init__()


@cs.task(pure=True)
def held(n):
    return calls(n)


@cs.task(pure=True, retry=2)
def held_with_policies(n):
    return calls(n)


@cs.task(pure=True)
def not_storable(n):
    calls(n)
    return threading.Lock()


class Turns:
    """The same for coroutines."""

    def __init__(self):
        self.made = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, n):
        self.made += 1
        self.begun.set()
        await self.may_end.wait()
        return n


turns = Turns()


@pytest.fixture
def turn():
    turns.__init__()
    return turns


@cs.task(pure=True)
async def held_turn(n):
    return await turns(n)


@pytest.fixture(params=["memory", "sqlite"])
def cache(request, tmp_path):
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/cache.db"
    cache = cs.ByCode(url)
    yield cache
    cache.close()


class Runs:
    """Runs of one target, each in a thread and with an engine of its own."""

    def __init__(self):
        self.threads = []
        self.found = []
        self.events = []
        self.waits = threading.Semaphore(0)

    def begin(self, target, **options):
        bus = MessageBus()
        bus.subscribe(TaskWaiting, lambda event: event.reason == REASON and self.waits.release())
        bus.subscribe(TaskCached, self.events.append)

        def work():
            try:
                self.found.append(cs.run(target, bus=bus, **options))
            except Exception as error:
                self.found.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append(thread)

    def has_one_waiting(self):
        assert self.waits.acquire(timeout=WITHIN)

    def ended(self):
        for thread in self.threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        return self.found


@pytest.mark.parametrize("task", [held, held_with_policies])
def test_of_several_runs_one_makes_the_call_and_the_others_wait(cache, task):
    runs = Runs()
    runs.begin(task(1), cache=cache)
    calls.has_begun()
    for _ in range(3):
        runs.begin([task(1), task(1)], cache=cache)
        runs.has_one_waiting()
    calls.may_end.release()

    assert sorted(runs.ended(), key=str) == [2, [2, 2], [2, 2], [2, 2]]
    assert calls.made == 1
    assert [event.task for event in runs.events] == [task.name] * 6


def test_other_calls_do_not_wait(cache):
    runs = Runs()
    runs.begin(held(1), cache=cache)
    calls.has_begun()
    runs.begin([held(2), held(1)], cache=cache)
    calls.has_begun()
    runs.has_one_waiting()
    for _ in range(2):
        calls.may_end.release()

    assert sorted(runs.ended(), key=str) == [2, [4, 2]]


def test_if_the_call_fails_one_of_the_others_makes_it(cache):
    calls.fails = True
    runs = Runs()
    runs.begin(held(1), cache=cache)
    calls.has_begun()
    runs.begin(held(1), cache=cache)
    runs.has_one_waiting()
    calls.may_end.release()
    calls.has_begun()
    calls.may_end.release()

    assert sorted(map(repr, runs.ended())) == ["2", "ValueError(1)"]
    assert calls.made == 2


def test_a_value_that_cannot_be_stored_is_computed_by_each(cache):
    runs = Runs()
    for _ in range(2):
        runs.begin(not_storable(1), cache=cache)
    for _ in range(2):
        calls.has_begun()
        calls.may_end.release()

    assert [type(value) for value in runs.ended()] == [type(threading.Lock())] * 2


async def one_waits(*engines):
    """The first of these engines that has a node which waits for another run."""
    while True:
        for engine in engines:
            if any(wait.reason == REASON for wait in engine.waiting()):
                return engine
        await asyncio.sleep(0)


def test_a_run_that_is_cancelled_leaves_the_call_to_others(cache, turn):
    async def main():
        async with cs.Engine(cache=cache) as engine, cs.Engine(cache=cache) as other:
            first = asyncio.create_task(engine.run(held_turn(1)))
            await turn.begun.wait()
            second = asyncio.create_task(other.run(held_turn(1)))
            await one_waits(other)
            first.cancel()
            turn.may_end.set()
            return await second

    assert asyncio.run(main()) == 1
    assert turn.made == 2


def test_a_waiting_run_can_be_cancelled(cache, turn):
    async def main():
        async with cs.Engine(cache=cache) as engine, cs.Engine(cache=cache) as other:
            first = asyncio.create_task(engine.run(held_turn(1)))
            await turn.begun.wait()
            second = asyncio.create_task(other.run(held_turn(1)))
            await one_waits(other)
            second.cancel()
            turn.may_end.set()
            return await asyncio.gather(first, second, return_exceptions=True)

    value, error = asyncio.run(main())
    assert (value, type(error), turn.made) == (1, asyncio.CancelledError, 1)


@pytest.mark.parametrize("wait", [0, 0.01])
def test_a_run_may_wait_for_a_limited_time(tmp_path, wait):
    cache = cs.ByCode(f"sqlite:///{tmp_path}/cache.db", wait=wait)
    runs = Runs()
    for _ in range(2):
        runs.begin(held(1), cache=cache)
        calls.has_begun()
    for _ in range(2):
        calls.may_end.release()

    assert runs.ended() == [2, 2]
    cache.close()


@cs.task
async def begins_a_run(cache):
    async with cs.Engine(cache=cache) as engine:
        return await engine.run(held(1))


def test_a_run_inside_of_a_call_does_not_wait(cache):
    """The call may hold what the other run needs."""
    runs = Runs()
    runs.begin(held(1), cache=cache)
    calls.has_begun()
    runs.begin(begins_a_run(cs.literal(cache)))
    calls.has_begun()
    for _ in range(2):
        calls.may_end.release()

    assert runs.ended() == [2, 2]


def test_in_virtual_time_each_run_computes(turn):
    cache = cs.ByCode("memory:")
    turn.may_end.set()

    async def main():
        async with cs.Engine(cache=cache) as engine, cs.Engine(cache=cache) as other:
            return await asyncio.gather(engine.run(slow(1)), other.run(slow(1)))

    assert run_virtually(main()) == [1, 1]
    assert turn.made == 2


@cs.task(pure=True)
async def slow(n):
    await asyncio.sleep(5)
    return await turns(n)


# -- processes -------------------------------------------------------------------------------------


def says(child, *words):
    """The words that a process has printed, which begin with these."""
    for _ in range(100 * WITHIN):
        if child.output().split()[: len(words)] == [*words]:
            return True
        time.sleep(0.01)
    raise AssertionError((child.output(), child.errors()))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_wait_for_the_one_that_computes_also_if_it_is_killed(
    kind, store_url, tmp_path, nursery
):
    may_end = tmp_path / "may end"

    def start():
        env = {"MAY_END": str(may_end)}
        return nursery.start("tests.cache_processes", "held", store_url(kind), env=env)

    first = start()
    says(first, "computing")
    others = [start() for _ in range(2)]
    for other in others:
        says(other, "waiting")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    may_end.touch()
    for other in others:
        assert other.wait() == 0, other.errors()

    # One of them has taken over.
    said = [other.output().split() for other in others]
    assert sorted(said) == [["waiting", "True"], ["waiting", "computing", "True"]]
