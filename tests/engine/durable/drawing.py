"""Tasks that draw numbers: a call that is made again has another value, and its notes show it.

A note has the process, the kind of call, the run, a number that counts down in the run, and the
value that the call was given or has drawn.
"""

import asyncio
import os
import random
import signal
import sqlite3
import threading
from typing import Any

from tests.engine.durable.notes import note, obey

import cascade as cs

_chance = random.SystemRandom()


def _note(kind: str, run: str, n: int, value: int) -> None:
    note(f"{os.getpid()} {kind} {run or '-'} {n} {value}")


@cs.task
async def draw(run: str, n: int) -> int:
    value = _chance.getrandbits(32)
    _note("draw", run, n, value)
    await asyncio.sleep(_chance.random() * float(os.environ.get("PAUSE", "0.004")))
    return value


@cs.task
def spend(run: str, n: int, value: int) -> int:
    _note("spend", run, n, value)
    return value


@cs.task
def add(a: int, b: int) -> int:
    return a + b


@cs.task
async def agent(run: str, n: int, total: int = 0) -> object:
    """Draw and spend a number in each step."""
    _note("step", run, n, total)
    if n == 0:
        return total
    return agent.tail(run, n - 1, add(total, spend(run, n, draw(run, n))))


@cs.task
async def sleeper(run: str, n: int, total: int = 0) -> object:
    """Sleep before each step."""
    _note("step", run, n, total)
    if n == 0:
        return total
    value = spend(run, n, draw(run, n))
    return sleeper.tail(run, n - 1, add(total, cs.sleep(0.02, then=value)))


@cs.task
def total(run: str, values: list[int]) -> int:
    _note("step", run, 0, sum(values))
    return sum(values)


@cs.task
def plan(run: str, count: int) -> object:
    """Continue as a graph."""
    return total(run, [spend(run, n, draw(run, n)) for n in range(1, count + 1)])


@cs.task
def book(run: str, n: int, value: int, tx: Any = cs.inject(cs.transaction)) -> int:
    """Write a row in the transaction of the call."""
    mark = "?" if isinstance(tx, sqlite3.Connection) else "%s"
    tx.execute(f"INSERT INTO bookings VALUES ({mark}, {mark}, {mark})", (run, n, value))
    if os.environ.get("STOP_AT") == f"{run} {n}":
        _note("stop", run, n, value)
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, and at once all
    _note("spend", run, n, value)
    return value


@cs.task
async def buyer(run: str, n: int, total: int = 0) -> object:
    """Book a number in each step."""
    _note("step", run, n, total)
    if n == 0:
        return total
    return buyer.tail(run, n - 1, add(total, book(run, n, draw(run, n))))


def asks(run: str, count: int) -> object:
    """Wait for the signal "go" before the end."""
    values = [spend(run, n, draw(run, n)) for n in range(1, count + 1)]
    return total(run, [*values, cs.wait_for("go").after(*values)])


#: Makes the table of ``book``.
BOOKINGS = "CREATE TABLE bookings (run text, n int, value bigint)"
#: Name → a function that makes the target of a run, given its id and how long it is.
TARGETS: dict[str, Any] = {
    "agent": agent,
    "sleeper": sleeper,
    "plan": plan,
    "asks": asks,
    "buyer": buyer,
}


async def _serve(store: str) -> None:
    async with cs.Engine(store=store) as engine:
        _note("serve", "", 0, 0)
        await engine.serve(use_vm="VM" in os.environ)


def program(store: str) -> None:
    """Be a worker."""
    obey()
    asyncio.run(_serve(store))
