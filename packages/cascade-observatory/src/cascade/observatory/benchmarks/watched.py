"""The cost of a process that watches an engine, as the web view does.

Two engines with control planes run in processes of their own, and do the same work by turns. One of
them is watched: asked for its runs, the nodes of the run under way, and its log. Their CPU times
make a pair. Half of the pairs watch the one, half the other, so that what makes one process slower
than the other, such as the places of its objects, does not count.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from math import exp, log
from statistics import fmean
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, Final, NamedTuple

from cascade.adapters.connectors import LocalConnector
from cascade.runtime.control.looks import Look, asked_topic, shown_topic, write_look
from cascade.runtime.control.plane import ControlPlane
from cascade.runtime.engine import Engine
from cascade.spec.task import task

#: The id of the run whose nodes are watched.
RUN: Final = "watched"
_PREFIX: Final = "cascade"
#: Seconds between two asks, and for which an engine shows something after one: as the web view.
_ASK, _SHOWN = 2.0, 7.0
#: Seconds after which an engine has surely begun, or ended, to show something.
_BEGINS = 1.0
#: Samples of the pairs, from which the interval comes.
_RESAMPLES: Final = 4000


@task
def step(n: int) -> int:
    """A plain call of a graph."""
    return n + 1


@task
async def wait(n: int) -> int:
    """A coroutine of a graph, which waits once."""
    await asyncio.sleep(0)
    return n + 1


@task
async def agent(n: int) -> Any:
    """A step of a loop, which waits once."""
    await asyncio.sleep(0)
    return agent.tail(n - 1) if n else n


async def _graph(engine: Engine, size: int) -> None:
    """Graphs of 2,000 nodes, one after the other."""
    for _ in range(size):
        nodes = [wait(step(n)) for n in range(1000)]
        await engine.run(nodes, run_id=RUN)


async def _agents(engine: Engine, size: int) -> None:
    """A hundred agents at the same time, each with many steps."""
    handles = [engine.start(agent(40 * size), run_id=f"{RUN}-{n}") for n in range(99)]
    await engine.run(agent(40 * size), run_id=RUN)
    for handle in handles:
        await handle.result()


WORKS: Final[Mapping[str, Callable[[Engine, int], Any]]] = {"graph": _graph, "agents": _agents}


class Cost(NamedTuple):
    """CPU time of a watched engine over that of an unwatched one, with its 95 % interval."""

    ratio: float
    least: float
    most: float
    #: How many messages the watched engines have sent.
    shown: int

    def __str__(self) -> str:
        low, high = (f"{(value - 1) * 100:+.1f}" for value in (self.least, self.most))
        return f"{(self.ratio - 1) * 100:+.1f} % of CPU time, 95 % interval {low} to {high} %"


class _Worker:
    """An engine in a process of its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name, self._process = name, process

    async def seconds(self, work: str, size: int) -> float:
        """The CPU time of its process for some work."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{work} {size}\n".encode())
        return float(await self.line())

    async def line(self) -> str:
        assert self._process.stdout is not None
        said = await self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"the process of {self.name} has ended")
        return said.decode().strip()


@asynccontextmanager
async def _worker(name: str) -> AsyncIterator[_Worker]:
    command = f"from {__name__} import serve; serve({name!r})"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    try:
        worker = _Worker(name, process)
        await worker.line()
        yield worker
    finally:
        if process.stdin is not None:
            process.stdin.close()  # it ends
        await process.wait()


def serve(name: str) -> None:
    """The program of a worker: does the work that each line of its standard input names."""
    asyncio.run(_serve(name))


async def _serve(name: str) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Engine() as engine, ControlPlane(engine, LocalConnector(), name=name):
        print("ready", flush=True)
        while line := await lines.readline():
            work, size = line.decode().split()
            began = process_time()
            await WORKS[work](engine, int(size))
            print(process_time() - began, flush=True)


class _Watcher:
    """A view of one engine at a time, without pages."""

    def __init__(self, connector: LocalConnector) -> None:
        self._connector = connector
        self._numbers = count(1)
        self.shown = 0

    async def open(self) -> None:
        await self._connector.connect()
        await self._connector.subscribe(shown_topic(_PREFIX, "+", "+"), self._hear)

    def _hear(self, _topic: str, _payload: bytes) -> None:
        self.shown += 1

    @asynccontextmanager
    async def watching(self, engine: str) -> AsyncIterator[None]:
        """Watch an engine until the end of the block, and some seconds more."""
        asking = asyncio.create_task(self._ask(engine))
        await asyncio.sleep(_BEGINS)
        try:
            yield
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        await asyncio.sleep(_SHOWN + _BEGINS)

    async def _ask(self, engine: str) -> None:
        view = f"view-{next(self._numbers)}"
        while True:
            look = Look(view, _SHOWN, runs=True, run=(RUN,), logs=True)
            self._connector.publish(asked_topic(_PREFIX, engine), write_look(look))
            await asyncio.sleep(_ASK)

    async def close(self) -> None:
        await self._connector.disconnect()


async def costs(pairs: int, size: int, tell: Callable[[str], object] = print) -> Mapping[str, Cost]:
    """The cost of being watched, by kind of work.

    Args:
        pairs: How many pairs of each kind; an even number.
        size: How much work is in each half of a pair; 80 take one or two seconds.
        tell: Called with a line for each pair.
    """
    with TemporaryDirectory(prefix="cs-") as folder:
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = folder  # these engines, and no others of this user
        try:
            async with _worker("one") as one, _worker("two") as two:
                return await _measured((one, two), pairs, size, tell)
        finally:
            if before is None:
                del os.environ["XDG_RUNTIME_DIR"]
            else:
                os.environ["XDG_RUNTIME_DIR"] = before


async def _measured(
    workers: tuple[_Worker, _Worker], pairs: int, size: int, tell: Callable[[str], object]
) -> Mapping[str, Cost]:
    watcher = _Watcher(LocalConnector())
    await watcher.open()
    ratios: dict[str, list[float]] = {work: [] for work in WORKS}
    try:
        for worker in workers:
            for work in WORKS:
                await worker.seconds(work, max(1, size // 4))
        for watched, other in (workers, workers[::-1]):
            async with watcher.watching(watched.name):
                for number in range(pairs // 2):
                    for work, found in ratios.items():
                        order = (watched, other) if number % 2 else (other, watched)
                        spent = {w.name: await w.seconds(work, size) for w in order}
                        found.append(spent[watched.name] / spent[other.name])
                        tell(f"{work}: {spent[other.name]:.2f} s, watched {found[-1]:.3f} × that")
    finally:
        await watcher.close()
    return {work: cost_of(found, watcher.shown) for work, found in ratios.items()}


def cost_of(ratios: Sequence[float], shown: int) -> Cost:
    """The geometric mean of some ratios, and its interval by resampling."""
    logs = [log(ratio) for ratio in ratios]
    chance = random.Random(0)
    means = sorted(fmean(chance.choices(logs, k=len(logs))) for _ in range(_RESAMPLES))
    least, most = (exp(means[round(_RESAMPLES * part)]) for part in (0.025, 0.975))
    return Cost(exp(fmean(logs)), least, most, shown)
