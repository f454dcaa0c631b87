"""Hundreds of small runs leave nothing behind: no thread, no file, no memory."""

import asyncio
import gc
import os
import random
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.sample_tasks import add

import cascade as cs
from cascade.runtime.diagnostics.gc_pauses import Counted, Pause

AT_ONCE, WARM_UP = 8, 50


@pytest.fixture(params=[75, pytest.param(1_000, marks=pytest.mark.thorough)], ids=str)
def runs(request):
    return request.param


class SeededSolver:
    """Stages in which independent nodes stand in an order of chance, the same for one seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def resolve(self, graph):
        depth = [0] * len(graph.nodes)
        for node in graph.nodes:
            for user in graph.successors[node.index]:
                depth[user] = max(depth[user], depth[node.index] + 1)
        # Several stages for one depth: which node goes first is up to chance.
        places = [(depth[n.index], self._random.random(), n) for n in graph.nodes]
        return [[node] for *_, node in sorted(places, key=lambda place: place[:2])]


@cs.resource
def tool():
    yield "tool"


@cs.resource(scope="task")
async def part():
    yield "part"


@cs.task
async def hop(n):
    await asyncio.sleep(0)
    return n


@cs.task
def use(n, tool=cs.inject(tool), part=cs.inject(part)):
    return n if (tool, part) == ("tool", "part") else None


@cs.task
def count(n):
    return count.tail(n - 1) if n else 0


@cs.task
def grow(n):
    return add(grow(n - 1), 1) if n else add(0, 0)


@cs.task
def fail(n):
    if n % 2:
        raise ValueError(n)
    return n


def program(seed):
    """A small program of every kind of node, and its value."""
    n = seed % 7
    items = fail.map(n=hop(list(range(n))), return_exceptions=True)
    retried = add(use(n), hop(1)).with_retry(2)
    parts = [retried, grow(n), count(n), items, hop(n).run_if(cs.eq(1, 1))]
    return parts, [n + 1, n, 0, n, n]


async def one(engine, seed, use_vm):
    """A run, of which one in four fails and one in eight is cancelled."""
    parts, (*values, kept) = program(seed)
    if seed % 8 == 3:
        running = asyncio.ensure_future(engine.run(parts, use_vm=use_vm))
        for _ in range(seed % 5):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    elif seed % 4 == 1:
        with pytest.raises((ValueError, ExceptionGroup)):
            await engine.run([*parts, fail(1)], use_vm=use_vm, fail_fast=seed % 3 == 0)
    else:
        first, grown, counted, items, last = await engine.run(parts, use_vm=use_vm)
        assert [first, grown, counted, len(items), last] == [*values, kept]


async def soak(seeds, use_vm):
    for start in range(0, len(seeds), AT_ONCE * 10):
        async with cs.Engine(solver=SeededSolver(start)) as engine:
            batch = seeds[start : start + AT_ONCE * 10]
            for begin in range(0, len(batch), AT_ONCE):
                some = batch[begin : begin + AT_ONCE]
                await asyncio.gather(*(one(engine, seed, use_vm) for seed in some))


def open_files():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


#: The process keeps the latest pauses of the collector: at most 64, and more as time passes.
PAUSES = (Pause, Counted)


def is_others(thing):
    """Whether it belongs to an open event loop: a cluster of other tests has one."""
    return isinstance(thing, asyncio.Handle) and not thing._loop.is_closed()


def objects():
    """How many objects of each kind of ours there are, pauses of the collector aside."""
    for _ in range(3):
        gc.collect()
    kinds = Counter(type(thing) for thing in gc.get_objects() if not is_others(thing))
    ours = [kind for kind in kinds if str(kind.__module__).startswith(("cascade", "asyncio"))]
    return Counter({kind: kinds[kind] for kind in ours if kind not in PAUSES})


def gone(threads):
    """Wait for cancelled work; returns the rest."""
    fresh = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in fresh:
        thread.join(10)
    return [thread for thread in fresh if thread.is_alive()]


@pytest.fixture
def tiny_turns():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("tiny_turns")
def test_runs_leave_nothing_behind(use_vm, runs):
    threads = threading.enumerate()
    asyncio.run(soak(range(WARM_UP), use_vm))
    files, kept, blocks = open_files(), objects(), sys.getallocatedblocks()
    asyncio.run(soak(range(WARM_UP, WARM_UP + runs), use_vm))

    assert gone(threads) == []
    # A cluster that other tests of this process use opens connections on its own.
    assert open_files() < files + runs / 10
    grown = objects() - kept
    assert not {kind: n for kind, n in grown.items() if n > runs / 10}, os.linesep.join(
        map(str, grown)
    )
    assert sys.getallocatedblocks() < blocks * 1.05
