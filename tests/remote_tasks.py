"""Tasks that worker processes import, for tests of executors. Effects are lines in files."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cascade as cs

#: The signal that ends a process at once; on Windows each one but Ctrl-C does.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def note(path: str, text: object = "x") -> int:
    """Write a line into a file, which several processes may do; the number of lines now."""
    with open(path, "a") as file:
        file.write(f"{text}\n")
    return len(Path(path).read_text().splitlines())


def lines(path: str) -> list[str]:
    """The lines that were written."""
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return when ``condition()`` holds; fails if it takes longer than any machine does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class OddError(Exception):
    """Cannot be pickled: ``__init__`` wants more than ``args`` has."""

    def __init__(self, url: str, code: int) -> None:
        super().__init__(f"{url}: {code}")
        self.url = url
        self.code = code


class Client:
    """Cannot be pickled either, for a reason that is two levels down."""

    def __init__(self) -> None:
        self.pool = {"main": threading.Lock()}


@cs.task
def where() -> int:
    return os.getpid()


@cs.task
def add(a: Any, b: Any = 1) -> Any:
    return a + b


@cs.task
def same(x: Any) -> Any:
    return x


@cs.task
def effect(path: str, text: object = "x") -> object:
    note(path, text)
    return text


@cs.task
def fails(x: object) -> None:
    inner(x)


def inner(x: object) -> None:
    raise ValueError(f"no {x}")  # FAILS HERE


@cs.task
def fails_from(x: object) -> None:
    try:
        inner(x)
    except ValueError as error:
        raise OddError("http://x", 404) from error


@cs.task
def fails_in_group() -> None:
    raise ExceptionGroup("both", [OddError("a", 1), KeyError("b")])


@cs.task
def stops() -> None:
    raise StopIteration(1)


@cs.task
def cancels() -> None:
    raise asyncio.CancelledError


@cs.task
def reciprocal(x: int) -> float:
    return 1 / x


@cs.task
def flaky(path: str, fails: int) -> int:
    count = note(path)
    if count <= fails:
        raise ConnectionError(f"attempt {count}")
    return count


@cs.task
def naps(seconds: float, path: str = "") -> str:
    if path:
        note(path, "begun")
    time.sleep(seconds)
    if path:
        note(path, "ended")
    return "rested"


@cs.task
def holds(path: str) -> None:
    """Keeps its worker until the file has the line "go"."""
    note(path, "begun")
    wait_until(lambda: "go" in lines(path))


@cs.task
def collatz(n: int, steps: int = 0) -> Any:
    if n == 1:
        return steps
    return collatz.tail(n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1)


@cs.task
def counts_down(n: int, path: str, dies_at: int = -1) -> Any:
    note(path, n)
    if n == dies_at:
        os.kill(os.getpid(), KILL)
    return n if n <= 0 else counts_down.tail(n=n - 1)


@cs.task
def ping(n: int) -> Any:
    return n if n <= 0 else pong.tail(n - 1)


@cs.task
def pong(n: int, by: int = 1) -> Any:
    return -n if n <= 0 else ping.tail(n - by)


def bad_tail(n: int) -> Any:
    return ping.func(n) if n < 0 else cs.TailCall((), {"nope": 1}, None, ping)


@cs.task
def adds_lazily(n: int) -> Any:
    return n if n <= 0 else pong.tail(add(n, -1))


@cs.task
def goes_on(x: int) -> Any:
    return add(add(x), same(x))


@cs.task
def gives_list(x: int) -> Any:
    return [add(x), {"twice": add(x, x)}]


@cs.task
def gives_map(n: int) -> Any:
    return add.map(a=list(range(n)))


@cs.task
def dies(path: str = "", code: int = 3) -> None:
    if path:
        note(path)
    os._exit(code)


@cs.task
def dies_once(path: str) -> int:
    count = note(path)
    if count == 1:
        os.kill(os.getpid(), KILL)
    return count


@cs.task
def dies_at(n: int, at: int, path: str) -> int:
    note(path, n)
    if n == at:
        os.kill(os.getpid(), KILL)
    return n


@cs.task
def gives_lock() -> Any:
    return {"a": [threading.Lock()]}


@cs.task
def runs_inside() -> Any:
    return cs.run(add(1))


@cs.task
def async_inside() -> Any:
    return asyncio.run(cs.run_async(add(1)))


@cs.task
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@cs.task(mode="process")
def elsewhere(x: Any = None) -> Any:
    return os.getpid(), x


@cs.task(mode="process")
def elsewhere_once(path: str, n: int) -> int:
    note(path, n)
    return n


@cs.task(mode="process")
def long_loop(n: int, path: str = "") -> Any:
    if path and n % 1000 == 0:
        note(path, n)
    return n if n <= 0 else long_loop.tail(n - 1)


# -- tasks of random programs: each call writes its label first -----------------------------------


@cs.task
def step(path: str, label: str, *given: Any) -> Any:
    note(path, label)
    return [label, *given]


@cs.task(mode="process")
def step_elsewhere(path: str, label: str, *given: Any) -> Any:
    note(path, label)
    return [label, *given]


@cs.task
async def step_async(path: str, label: str, *given: Any) -> Any:
    await asyncio.sleep(0)
    note(path, label)
    return [label, *given]


@cs.task
def bad(path: str, label: str, *given: Any) -> Any:
    note(path, label)
    raise OddError(label, len(given))


@cs.task
def tries(path: str, label: str, fails: int, *given: Any) -> Any:
    note(path, label)
    if lines(path).count(label) <= fails:
        raise ConnectionError(label)
    return [label, *given]


@cs.task
def loop(path: str, label: str, n: int, given: Any) -> Any:
    note(path, f"{label}.{n}")
    if n == 0:
        return [label, given]
    if n % 5 == 4:  # lazy arguments are computed first
        return loop.tail(path, label, n - 1, step(path, f"{label}.{n}.lazy", n))
    return loop.tail(n=n - 1)


@cs.task
def swaps(path: str, label: str, n: int, given: Any) -> Any:
    note(path, f"{label}.{n}")
    return given if n == 0 else swaps_back.tail(path, label, n - 1, [n, given])


@cs.task(mode="process")
def swaps_back(path: str, label: str, n: int, given: Any) -> Any:
    note(path, f"{label}.{n}")
    return given if n == 0 else swaps.tail(path, label, n - 1, given)


@cs.task
def grows(path: str, label: str, n: int, given: Any) -> Any:
    """Returns a graph; one of its nodes is shared."""
    note(path, label)
    shared = step(path, f"{label}.shared", given)
    return [step(path, f"{label}.{i}", shared) for i in range(n)]


@cs.task
def truthy(path: str, label: str, *given: Any) -> bool:
    note(path, label)
    return len(str(given)) % 3 > 0


class Parcel:
    """A large value that notes each process that it comes to."""

    def __init__(self, path: str, size: int = 1 << 17) -> None:
        note(path, os.getpid())
        self.path = path
        self.nbytes = size

    def __reduce__(self) -> Any:
        return Parcel, (self.path, self.nbytes)


class Grid:
    """Numbers whose bytes may go beside their pickle, like an array of numpy."""

    def __init__(self, content: Any) -> None:
        self.content = memoryview(content)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Grid, (pickle.PickleBuffer(self.content),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.content == other.content

    __hash__ = None  # type: ignore[assignment]


@cs.task
def doubled(grid: Grid, path: str = "") -> Grid:
    """Changes its argument in place; the first call with a path ends its process."""
    if path and note(path) == 1:
        os.kill(os.getpid(), KILL)
    for place in range(0, len(grid.content), 1 << 18):
        grid.content[place] *= 2
    return grid


@cs.task
def packs(path: str) -> Parcel:
    return Parcel(path)


@cs.task
def passes_on(parcel: Parcel, *others: object) -> Parcel:
    return parcel


@cs.task
def size_of(parcel: Any, *others: object) -> Any:
    if isinstance(parcel, (list, tuple)):
        return [size_of.func(one) for one in parcel]
    return parcel.nbytes


@cs.task
def repacks(parcel: Parcel, other: int = 0) -> Any:
    """Its tail call keeps an argument."""
    return size_here.tail(parcel=parcel) if other else repacks.tail(other=1)


@cs.task
async def size_here(parcel: Parcel) -> int:
    return parcel.nbytes


@cs.task
def logs(text: str) -> None:
    logging.getLogger("tests.remote").warning("a word: %s", text)
