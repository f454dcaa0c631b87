"""Tasks that note their calls, and the targets that trials make of them.

Most values are drawn: a call that is made again has another one, so that its users show whether
they were given the value that was committed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cascade as cs
from cascade.runtime.current import Current

_chance = random.SystemRandom()
#: Of the file of notes; -1 where nothing is noted.
_file = -1


def note_in(path: Path) -> None:
    """Append the notes of this process to a file."""
    global _file
    _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(kind: str, *what: Any) -> None:
    """Append a line: whole, and also when this process is killed next."""
    os.write(_file, (json.dumps([kind, os.getpid(), *what]) + "\n").encode())


def called(here: Current, *arguments: Any) -> None:
    """Note a call, with the name that it has in every process."""
    note("call", here.run_id, here.key, here.step, here.epoch, here.task, arguments)


# -- calls -----------------------------------------------------------------------------------------


@cs.task
async def draw(n: int) -> int:
    called(cs.current(), n)
    await asyncio.sleep(_chance.random() * 0.003)
    return _chance.getrandbits(32)


@cs.task(retry=50)
def draw_at_last(n: int) -> int:
    """Fails more often than not."""
    called(cs.current(), n)
    if _chance.random() < 0.6:
        raise ConnectionError(f"no number {n}")
    return _chance.getrandbits(32)


@cs.task
def draw_text(n: int) -> str:
    """A value that is stored apart."""
    called(cs.current(), n)
    return f"{_chance.getrandbits(32)} " + 40_000 * "x"


@cs.task
def number_in(text: str) -> int:
    return int(text.split()[0])


@cs.task
def fail(n: int) -> int:
    called(cs.current(), n)
    raise ValueError(str(_chance.getrandbits(32)))


@cs.task
def spend(n: int, value: int) -> int:
    called(cs.current(), n, value)
    return value


@cs.task
def spend_error(n: int, error: ValueError) -> int:
    called(cs.current(), n, int(str(error)))
    return int(str(error))


@cs.task
def book(n: int, value: int, tx: Any = cs.inject(cs.transaction)) -> int:
    """Write a row in the transaction of the call."""
    here = cs.current()
    called(here, n, value)
    mark = "?" if isinstance(tx, sqlite3.Connection) else "%s"
    tx.execute(f"INSERT INTO bookings VALUES ({mark}, {mark}, {mark})", (here.run_id, n, value))
    return value


@cs.task(capacities={"gpu": 1})
async def hold(n: int, value: int) -> int:
    """Hold one of the shared capacities."""
    called(cs.current(), n, value)
    note("+", 1)
    await asyncio.sleep(_chance.random() * 0.004)
    note("-", 1)
    return value


@cs.task
async def hold_all() -> None:
    """With all there is: nothing was left behind by processes that have ended."""


@cs.task
def add(a: int, b: int) -> int:
    return a + b


@cs.task
def total(values: list[int]) -> int:
    called(cs.current(), *values)
    return sum(values)


@cs.task
def plan(length: int) -> object:
    """Continue as a graph."""
    called(cs.current(), length)
    return fan("", length)


# -- loops -----------------------------------------------------------------------------------------


@cs.task
async def agent(run: str, n: int, sum_: int = 0) -> object:
    """A loop that may be compiled: it does not ask for its place."""
    note("step", run, n, sum_)
    if n == 0:
        return sum_
    return agent.tail(run, n - 1, add(sum_, spend(n, draw(n))))


@cs.task
def plain(run: str, n: int, sum_: int = 0) -> object:
    """The same as a plain function; its steps need other nodes, so they are recorded."""
    note("step", run, n, sum_)
    if n == 0:
        return sum_
    return plain.tail(run, n - 1, add(sum_, spend(n, draw(n))))


@cs.task
async def ping(run: str, n: int, sum_: int = 0) -> object:
    """A loop of two tasks."""
    note("step", run, n, sum_)
    if n == 0:
        return sum_
    return pong.tail(run, n - 1, add(sum_, spend(n, draw(n))))


@cs.task
async def pong(run: str, n: int, sum_: int = 0) -> object:
    note("step", run, n, sum_)
    if n == 0:
        return sum_
    return ping.tail(run, n - 1, add(sum_, spend(n, draw(n))))


@cs.task
def starred(run: str, n: int, sum_: int = 0, *_more: int) -> object:
    """A loop that is not compiled, as it takes any number of arguments."""
    note("step", run, n, sum_)
    if n == 0:
        return sum_
    return starred.tail(run, n - 1, add(sum_, spend(n, draw(n))), n)


@cs.task
async def knowing(n: int, sum_: int = 0) -> object:
    called(cs.current(), n, sum_)
    return sum_ if n == 0 else knowing.tail(n - 1, add(sum_, spend(n, draw_at_last(n))))


@cs.task
def keyed(n: int, sum_: int = 0, key: str = cs.inject(cs.idempotency_key)) -> object:
    """Each step has a key of its own, and is recorded for it."""
    run, node, step = key.split("/")
    note("call", run, node, int(step), None, "keyed", (n, sum_))
    if n == 0:
        return sum_
    return keyed.tail(n - 1, sum_ + _chance.getrandbits(32))


@cs.task
async def buyer(n: int, sum_: int = 0) -> object:
    called(cs.current(), n, sum_)
    return sum_ if n == 0 else buyer.tail(n - 1, add(sum_, book(n, draw(n))))


@cs.task
async def sleeper(n: int, sum_: int = 0) -> object:
    """Sleep in each step: sometimes long enough to leave the worker."""
    called(cs.current(), n, sum_)
    if n == 0:
        return sum_
    value = cs.sleep(0.01 if n % 3 else 0.12, then=spend(n, draw(n)))
    return sleeper.tail(n - 1, add(sum_, value))


@cs.task
async def asker(n: int, sum_: int = 0) -> object:
    """Take a signal in each step."""
    called(cs.current(), n, sum_)
    return sum_ if n == 0 else asker.tail(n - 1, add(sum_, spend(n, cs.wait_for("go"))))


# -- targets ---------------------------------------------------------------------------------------


def fan(run: str, length: int) -> Any:
    return total([spend(n, draw(n)) for n in range(length)])


def mapped(run: str, length: int) -> Any:
    numbers = [*range(length)]
    return total(spend.map(n=numbers, value=draw_at_last.map(n=numbers)))


def caught(run: str, length: int) -> Any:
    errors = fail.map(n=[*range(length)], return_exceptions=True)
    return total(spend_error.map(n=[*range(length)], error=errors))


def texts(run: str, length: int) -> Any:
    return total([spend(n, number_in(draw_text(n))) for n in range(length)])


def deep(run: str, length: int) -> Any:
    value: Any = 0
    for n in range(length):
        value = add(value, spend(n, add(draw(n), 0)))
    return value


def held(run: str, length: int) -> Any:
    return total([hold(n, draw(n)) for n in range(length)])


#: Name → makes a target, given the id of its run and how long it is.
TARGETS: dict[str, Callable[[str, int], Any]] = {
    "fan": fan,
    "mapped": mapped,
    "caught": caught,
    "texts": texts,
    "deep": deep,
    "plan": lambda run, length: plan(length),
    "agent": lambda run, length: agent(run, length),
    "plain": lambda run, length: plain(run, length),
    "ping": lambda run, length: ping(run, length),
    "starred": lambda run, length: starred(run, length),
    "knowing": lambda run, length: knowing(length),
    "keyed": lambda run, length: keyed(length),
    "buyer": lambda run, length: buyer(length),
    "sleeper": lambda run, length: sleeper(length),
    "asker": lambda run, length: asker(length),
    "held": held,
}
#: Those that need limits.
LIMITED = {"held"}
#: Tasks of which each call adds its last argument to the value of the run.
SPENDING = {"spend", "spend_error", "book", "hold"}
#: Makes the table of ``book``.
BOOKINGS = "CREATE TABLE bookings (run text, n int, value bigint)"


def tick() -> Any:
    """The target of a schedule."""
    return fan("", 2)
