"""What other processes do with a cache: forks of the nursery call ``program``."""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cascade as cs
from cascade.adapters.cache import sql_entries
from cascade.adapters.cache.entries import Entries, Entry
from cascade.adapters.cache.opening import open_entries
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import TaskWaiting


def program(what: str, *arguments: str) -> None:
    """One of the functions below."""
    known: dict[str, Callable[..., None]] = {
        "crash": crash,
        "writes": writes,
        "held": runs_held,
        "script": script,
    }
    known[what](*arguments)


def await_file(path: str) -> None:
    """Wait until a test lets this process go on."""
    while not Path(path).exists():
        time.sleep(0.01)


def put(entries: Entries, name: str | int, body: bytes) -> None:
    key = str(name).encode().ljust(16, b".")
    entries.put(Entry(key, "flows:f", "c1", "{}", None, body, 100.0, 0.5, None), str)
    entries.flush()


def crash(url: str, place: str) -> None:
    """Die within a write."""

    def dies(*_args: Any, **_kwargs: Any) -> None:
        os._exit(9)

    entries = open_entries(url)
    if place == "before the file has its name":
        os.replace = dies
    elif place == "before the entry":
        type(entries).write = dies  # type: ignore[attr-defined]
    else:  # in the transaction, after the statement of the entry
        sql_entries._write_uses = dies
    put(entries, "a", b"x" * 100_000)


def writes(url: str, begin: str) -> None:
    """Write, read and evict at the same time as others."""
    entries = open_entries(url)
    await_file(begin)
    for number in range(20):
        body = b"%d" % number * (1 + 80_000 * (number % 2))
        put(entries, number, body)
        found = entries.get(str(number).encode().ljust(16, b"."), 1.0)
        assert found is None or found[0] == body, (number, found)
        if number % 10 == 9:
            entries.evict(500_000)
    entries.close()


@cs.task(pure=True)
def held(n: int) -> list[int]:
    """Its value needs a file."""
    print("computing", flush=True)
    await_file(os.environ["MAY_END"])
    return [n] * 40_000


def runs_held(url: str) -> None:
    bus = MessageBus()
    bus.subscribe(TaskWaiting, lambda event: print("waiting", flush=True))
    value = cs.run(held(7), cache=url, bus=bus)
    print(value == [7] * 40_000, flush=True)


def script(path: str) -> None:
    """Run a script as a process of its own would."""
    sys.dont_write_bytecode = True  # two versions of a file may have equal times
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")
