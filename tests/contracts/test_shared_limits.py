"""The contract of limits that are shared, for every store: in one process, and in four.

Processes write down in one file when their calls begin and end; the clock is the machine's.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import cascade as cs
from cascade.spec.errors import ArgumentError, CapacityError

thorough = [pytest.mark.thorough, pytest.mark.timeout(0)]


def in_databases(usual, other):
    """Processes are expensive, so the usual tests start them for one database."""
    kinds = [usual, pytest.param(other, marks=thorough)]
    return pytest.mark.parametrize("kind", kinds, indirect=True)


in_sqlite, in_postgres = in_databases("sqlite", "postgres"), in_databases("postgres", "sqlite")


@contextmanager
def engines_of(store, count, totals=None, lease=10.0):
    """Engines that share amounts, each like the only one of its process."""
    engines = [
        cs.Engine(capacities=cs.Capacities(totals, store=store, lease=lease)) for _ in range(count)
    ]
    try:
        yield engines
    finally:
        for engine in engines:
            engine.capacities.end_sharing()


class Use:
    """What is in use at the same time, and the most that ever was."""

    def __init__(self):
        self.now = Counter()
        self.most = Counter()

    @contextmanager
    def of(self, **amounts):
        self.now.update(amounts)
        self.most |= self.now
        try:
            yield
        finally:
            self.now.subtract(amounts)


# -- in one process --------------------------------------------------------------------------------


def test_engines_share_amounts(store):
    use, both = Use(), asyncio.Event()

    @cs.task
    async def train(name):
        with use.of(gpu=1):
            if use.now["gpu"] == 2:
                both.set()
            await both.wait()
            await asyncio.sleep(0)
        return name

    async def main():
        with engines_of(store, 2, {"gpu": 2}) as (one, other):
            names = await asyncio.gather(
                one.run(train.map(name=["a", "b", "c"]).with_capacity(gpu=1)),
                other.run(train.map(name=["d", "e"]).with_capacity(gpu=1)),
            )
            assert names == [["a", "b", "c"], ["d", "e"]]

    asyncio.run(main())
    assert use.most == {"gpu": 2}


def test_a_waiting_call_names_who_holds_what_it_needs(store):
    ready = asyncio.Event()

    @cs.task(capacities={"gpu": 1})
    async def hold(until):
        ready.set()
        await until.wait()

    async def main():
        until = asyncio.Event()
        with engines_of(store, 2, {"gpu": 1}) as (one, other):
            holding = asyncio.ensure_future(one.run(hold(cs.literal(until))))
            await ready.wait()
            waiting = asyncio.ensure_future(other.run(hold(cs.literal(until))))
            for _ in range(20_000):
                if other.waiting() and other.waiting()[0].holders:
                    break
                await asyncio.sleep(0.001)
            (found,) = other.waiting()
            assert (found.task, found.reason) == ("hold", "capacity gpu")
            assert found.holders[0].startswith(f"process {os.getpid()} on ")
            assert other.capacities.available == {"gpu": 0}
            assert other.capacities.holders("gpu") == found.holders
            until.set()
            await asyncio.gather(holding, waiting)

    asyncio.run(main())


def test_fractions_count_as_written(store):
    use = Use()

    @cs.task
    async def part(n):
        with use.of(gpu=1):
            await asyncio.sleep(0)
        return n

    async def main():
        with engines_of(store, 2, {"gpu": 1}) as engines:
            parts = [part.map(n=range(15)).with_capacity(gpu=0.1) for _ in engines]
            await asyncio.gather(*(e.run(p) for e, p in zip(engines, parts, strict=True)))
            assert await engines[0].run(part(7).with_capacity(gpu=1)) == 7

    asyncio.run(main())
    assert 1 <= use.most["gpu"] <= 10


def test_another_total_is_an_error_at_the_start(store):
    with engines_of(store, 1, {"gpu": 2, "cpu": 8}, lease=0.5):
        with pytest.raises(CapacityError, match="'gpu' is 3 here, but 2 in process") as caught:
            cs.Capacities({"gpu": 3}, store=store)
        assert caught.value.capacity == "gpu"
        cs.Capacities({"gpu": 2, "tpu": 1}, store=store).end_sharing()
    with engines_of(store, 1, {"gpu": 3}):  # the others have left
        pass


def test_another_rate_is_an_error_when_it_is_set(store):
    with engines_of(store, 2) as (one, other):
        one.constraints.limit_rate("global", "10/s", shared="api")
        with pytest.raises(ArgumentError, match=r"'api' is 20/s with burst 1 here, but 10/s with"):
            other.constraints.limit_rate("task:f", "20/s", shared="api")
        with pytest.raises(ArgumentError, match=r"'api' is 10/s with burst 5 here"):
            other.constraints.limit_rate("task:f", "10/s", burst=5, shared="api")
        assert other.constraints.active() == []
        other.constraints.limit_rate("task:f", "600/m", shared="other")
        other.constraints.limit_rate("task:f", "10/s", shared="api")
        other.constraints.limit_rate("task:f", "10/s", shared="api")


def test_a_shared_rate_holds_for_all_engines_together(store):
    starts = []

    @cs.task
    async def call(n):
        starts.append(time.monotonic())
        return n

    async def main():
        with engines_of(store, 3) as engines:
            for engine in engines:
                engine.constraints.limit_rate("task:call", "50/s", burst=3, shared="api")
            await asyncio.gather(*(engine.run(call.map(n=range(8))) for engine in engines))

    asyncio.run(main())
    assert len(starts) == 24
    starts.sort()
    # 24 - 3 at 50 a second; the last ones were not late, so this bounds the whole.
    assert starts[-1] - starts[0] >= 21 / 50 - 0.05


def test_a_permit_takes_tokens_and_amounts_together(store):
    use = Use()

    @cs.task
    async def call(n):
        with use.of(gpu=1):
            await asyncio.sleep(0.002)
        return n

    async def main():
        with engines_of(store, 2, {"gpu": 2}) as engines:
            for engine in engines:
                engine.constraints.limit_rate("task:call", "500/s", shared="api")
                engine.constraints.limit_rate("global", "400/s", burst=2, shared="all")
            calls = call.map(n=range(10)).with_capacity(gpu=1)
            await asyncio.gather(*(engine.run(calls) for engine in engines))

    asyncio.run(main())
    assert 1 <= use.most["gpu"] <= 2


def test_a_loop_takes_shared_tokens_for_its_steps(store):
    @cs.task
    def count(n, total=0):
        return count.tail(n - 1, total + 1) if n else total

    async def main(vm):
        with engines_of(store, 1) as (engine,):
            engine.constraints.limit_rate("task:count", "20000/s", burst=1000, shared="steps")
            assert await engine.run(count(3_000), use_vm=vm) == 3_000

    asyncio.run(main(True))
    asyncio.run(main(False))


def test_tokens_come_while_another_call_waits_for_what_is_reserved(store):
    """Nothing is in use then, so no end of a call brings the next grants."""
    order = []

    @cs.task
    async def rated(n):
        order.append(n)

    @cs.task
    async def free():
        order.append("free")

    async def main():
        with engines_of(store, 1, {"gpu": 1}) as (engine,):
            engine.constraints.limit_rate("task:rated", "20/s", burst=1, shared="api")
            calls = [rated(n).with_capacity(gpu=1) for n in range(3)]
            await asyncio.wait_for(engine.run([*calls, free().with_capacity(gpu=1)]), 20)

    asyncio.run(main())
    assert sorted(map(str, order)) == ["0", "1", "2", "free"]


@pytest.mark.parametrize("cases", [6, pytest.param(300, marks=thorough)])
def test_no_schedule_uses_more_than_there_is(store, cases):
    for seed in range(cases):
        asyncio.run(random_schedule(store, random.Random(seed)))


async def random_schedule(store, chance):
    """Some engines with calls of all kinds: they end, fail, take too long or are cancelled."""
    use, totals = Use(), {"gpu": 3, "memory": 8}

    @cs.task
    async def work(amounts, pause, fails):
        with use.of(**amounts):
            assert all(use.now[name] <= total for name, total in totals.items())
            await asyncio.sleep(pause)
            if fails:
                raise OSError
        return 1

    def call():
        amounts = {name: chance.randint(1, total) for name, total in totals.items()}
        if chance.random() < 0.6:
            amounts.pop(chance.choice(list(amounts)))
        fails = chance.random() < 0.2
        made = work(amounts, chance.choice([0, 0, 0.001, 0.003]), fails).with_capacity(**amounts)
        if chance.random() < 0.3:
            made = made.with_priority(chance.randint(-3, 3))
        if chance.random() < 0.2:
            made = made.with_timeout(0.002)
        return made.with_retry(2) if fails else made

    with engines_of(store, chance.randint(2, 4), totals) as engines:
        runs = []
        for engine in engines:
            if chance.random() < 0.5:
                engine.constraints.limit_rate("task:work", "1000/s", burst=2, shared="api")
            calls = [call() for _ in range(chance.randint(1, 12))]
            runs.append(asyncio.ensure_future(engine.run(calls, fail_fast=chance.random() < 0.5)))
        if chance.random() < 0.3:
            await asyncio.sleep(0.003)
            runs[0].cancel()
        results = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), 60)
        assert not any(isinstance(each, AssertionError) for each in results), results
        assert not +use.now
        # Nothing was left behind: an engine gets all there is.
        everything = work({}, 0, False).with_capacity(**totals)
        assert await asyncio.wait_for(engines[-1].run(everything), 20) == 1
    assert all(use.most[name] <= total for name, total in totals.items())


# -- in several processes --------------------------------------------------------------------------

WORKER = """
import asyncio, os, random, sys, time
import cascade as cs

url, log, seed, calls, lease = sys.argv[1:6]
chance = random.Random(int(seed))
told = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

def note(sign, amount):
    os.write(told, f"{time.monotonic()} {sign} {amount} {os.getpid()}\\n".encode())

@cs.task
async def use(n, amount, seconds):
    note("+", amount)
    await asyncio.sleep(seconds)
    note("-", amount)

@cs.task
async def ask(n):
    note("rate", 1)

async def main():
    totals = {"gpu": 3}
    async with cs.Engine(capacities=cs.Capacities(totals, store=url, lease=float(lease))) as engine:
        engine.constraints.limit_rate("task:ask", "60/s", burst=2, shared="api")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        work = []
        for n in range(int(calls)):
            amount = chance.choice([1, 1, 0.5, 2, 3])
            seconds = chance.choice([0, 0, 0.001, 0.004])
            work.append(use(n, amount, seconds).with_capacity(gpu=amount))
            work.append(ask(n))
        await engine.run(work)

asyncio.run(main())
print("done", flush=True)
"""


class Worker:
    """A process with the limits, which waits for a word before it begins."""

    def __init__(self, url, log, seed, calls=15, lease=10.0):
        command = [sys.executable, "-c", WORKER, url, log, *map(str, (seed, calls, lease))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()[1]

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self):
        """Its complaints, when it has ended as it should."""
        output, errors = self.process.communicate(timeout=60)
        assert (output, self.process.returncode) == ("done\n", 0), errors
        return errors

    def kill(self):
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "calls")


def most_in_use(log, dead=()):
    """The most that was in use at the same time, and how many calls began.

    Args:
        dead: Processes whose calls ended by their death; not counted from their last word on.
    """
    lines = [line.split() for line in Path(log).read_text(encoding="utf-8").splitlines()]
    events = [(float(at), sign, float(amount), int(pid)) for at, sign, amount, pid in lines]
    last = {pid: max(at for at, _, _, whose in events if whose == pid) for pid in dead}
    events = [e for e in events if e[1] != "rate"]
    in_use, most = Counter(), 0.0
    for at, sign, amount, pid in sorted(events):
        in_use[pid] += amount if sign == "+" else -amount
        alive = [whose for whose in in_use if at <= last.get(whose, at)]
        most = max(most, sum(in_use[whose] for whose in alive))
    return most, sum(sign == "+" for _, sign, _, _ in events)


def check_rate(log, speed, size, late):
    """In no time more calls began than the rate allows; one may begin ``late`` seconds after its
    token was taken."""
    lines = [line.split() for line in Path(log).read_text(encoding="utf-8").splitlines()]
    starts = sorted(float(at) for at, sign, *_ in lines if sign == "rate")
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= size + (starts[last] - begin + late) * speed + 1e-6
    return len(starts)


@in_postgres
@pytest.mark.parametrize("cases", [1, pytest.param(50, marks=thorough)])
def test_four_processes_use_no_more_than_there_is(url, log, cases):
    for case in range(cases):
        with suppress(FileNotFoundError):
            os.remove(log)
        workers = [Worker(url, log, 10 * case + n) for n in range(4)]
        for worker in workers:
            worker.go()
        assert [worker.end() for worker in workers] == [""] * 4
        most, calls = most_in_use(log)
        assert most <= 3
        assert calls == 4 * 15
        # Four processes that each had a bucket of their own would need a quarter of the time.
        assert check_rate(log, 60, 3, late=0.3) == 4 * 15


@in_sqlite
def test_what_a_killed_process_held_comes_back(url, log):
    killed, other = Worker(url, log, 1, calls=400), Worker(url, log, 2)
    killed.go()
    while not os.path.exists(log) or os.path.getsize(log) < 300:
        time.sleep(0.005)
    killed.kill()
    other.go()
    assert other.end() == ""
    most, _ = most_in_use(log, dead=[killed.process.pid])
    assert most <= 3


HOLDER = """
import asyncio, sys
import cascade as cs

@cs.task(capacities={"gpu": 1})
async def step(n):
    print("step", n, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return n

async def main():
    async with cs.Engine(capacities=cs.Capacities({"gpu": 1}, store=sys.argv[1], lease=0.5)) as e:
        await e.run([step(1), step(2)])

asyncio.run(main())
print("done", flush=True)
"""


@contextmanager
def nothing_written(url):
    """Keep all others from writing to a SQLite file; a server looks after that by itself."""
    if not url.startswith("sqlite:"):
        yield
        return
    path = url.removeprefix("sqlite:///").partition("?")[0]
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


@pytest.mark.posix
@in_sqlite
def test_a_process_that_was_stopped_begins_nothing_on_what_others_have_got(url):
    """Its call under way goes on; the next one waits until the others have returned all."""
    ready = asyncio.Event()

    @cs.task(capacities={"gpu": 1})
    async def work(until):
        ready.set()
        await until.wait()
        return "worked"

    async def main(process):
        until = asyncio.Event()
        with engines_of(url, 1, {"gpu": 1}, lease=30) as (engine,):
            running = asyncio.ensure_future(engine.run(work(cs.literal(until))))
            await asyncio.wait_for(ready.wait(), 20)  # its lease is over, and was taken
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")  # ends its call
            process.stdin.flush()
            told = asyncio.ensure_future(asyncio.to_thread(process.stdout.readline))
            await asyncio.sleep(0.2)
            assert not told.done()  # nothing begins as long as the gpu is here
            until.set()
            assert await running == "worked"
            assert (await told).startswith("step")

    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        assert process.stdout.readline().startswith("step")
        with nothing_written(url):  # one that is stopped while it writes would lock the file
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        asyncio.run(main(process))
        output, errors = process.communicate("\n\n", timeout=20)
    finally:
        process.kill()
    assert (output, process.returncode) == ("done\n", 0), errors
    assert "gave no sign of life for longer than its lease of 0.5 s" in errors
