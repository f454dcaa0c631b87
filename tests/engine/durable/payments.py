"""Tasks with transactions and idempotency keys, and a program that runs a target.

CALLS is a file with a line for each call, and each key.
"""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.engine.durable.notes import note

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime.options import Durability
from cascade.spec.run_store import RunStore, StoreTransaction

points = count(1)


def reach(point: str) -> None:
    """End the process, if this is where it is to be killed."""
    if os.environ.get("KILL_AT") == point and next(points) == int(os.environ["KILL_NUMBER"]):
        os.kill(os.getpid(), signal.SIGKILL)


def insert(tx: Any, order: str, key: str) -> None:
    mark = "?" if isinstance(tx, sqlite3.Connection) else "%s"
    tx.execute(f"INSERT INTO payments (name, idempotency) VALUES ({mark}, {mark})", (order, key))


@cs.task
def pay(
    order: str, tx: Any = cs.inject(cs.transaction), key: str = cs.inject(cs.idempotency_key)
) -> str:
    note(f"pay {order}")
    insert(tx, order, key)
    reach("in the call")
    return f"paid {order}"


@cs.task
def ship(paid: str) -> str:
    note(f"ship {paid}")
    return f"shipped, {paid}"


@cs.task
def checkout(order: str) -> object:
    """Continues as the call with the transaction."""
    return pay(order)


@cs.task
async def agent(n: int, last: str = "") -> object:
    """Pays the same order in each step."""
    return last if n == 0 else agent.tail(n - 1, pay("rent"))


@cs.task
def rest(n: int) -> object:
    """A loop of plain functions, of which some calls have keys."""
    return "done" if n == 0 else call_api.tail(n - 1) if n % 5 == 0 else rest.tail(n - 1)


@cs.task
def call_api(n: int, key: str = cs.inject(cs.idempotency_key)) -> object:
    note(f"{n} {key}")
    reach("with a key")
    return rest.tail(n)


@cs.task
async def call_tool(n: int, key: str = cs.inject(cs.idempotency_key)) -> str:
    note(f"{n} {key}")
    reach("with a key")
    return "used"


@cs.task
async def thinker(n: int, last: object = None) -> object:
    """A loop of coroutines that asks a tool in every third step, always with the same argument."""
    if n == 0:
        return "done"
    return thinker.tail(n - 1, call_tool(0)) if n % 3 == 0 else thinker.tail(n - 1)


def one() -> object:
    return ship(pay("book"))


def continued() -> object:
    return ship(checkout("book"))


def steps() -> object:
    return agent(5)


def plain_loop() -> object:
    return rest(60)


def thinking() -> object:
    return thinker(30)


def killable(store: RunStore) -> RunStore:
    """``store``, with points around the commits of tasks at which the process can be killed."""
    begin = store.transaction

    @contextmanager
    def transaction(run: int, epoch: int) -> Iterator[StoreTransaction]:
        with begin(run, epoch) as opened:
            yield opened
            reach("before the commit")
        reach("after the commit")

    store.transaction = transaction  # type: ignore[method-assign]
    return store


def program(url: str, run_id: str, name: str, durability: Durability = "sync") -> None:
    """Run one of the targets, and print its value.

    It kills itself at the point that KILL_AT names, at the call that KILL_NUMBER counts.
    """
    store = killable(open_store(url))
    print(cs.run(globals()[name](), run_id=run_id, store=store, durability=durability))
