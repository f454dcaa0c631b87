"""Tasks of durable runs, which write a line for each call, and a program that runs a target."""

import asyncio
import os

from tests.engine.durable.notes import note, obey

import cascade as cs


@cs.task
def add(a: int, b: int) -> int:
    note(f"add {a} {b}")
    return a + b


@cs.task
async def double(x: int) -> int:
    note(f"double {x}")
    await asyncio.sleep(0.001)
    return 2 * x


@cs.task
def plan(n: int) -> object:
    note(f"plan {n}")
    return add(double(n), double(n + 1))


@cs.task
async def agent(n: int, total: int = 0) -> object:
    """Ask a tool in each step."""
    note(f"agent {n} {total}")
    if n == 0:
        return total
    return agent.tail(n - 1, add(total, n))


@cs.task
def count(n: int, total: int = 0) -> object:
    return total if n == 0 else count.tail(n - 1, total + 1)


def wide() -> object:
    return [plan(n) for n in range(6)]


def long() -> object:
    return agent(30)


def deep() -> object:
    value = add(0, 0)
    for n in range(20):
        value = add(value, double(n))
    return value


def asks() -> object:
    doubled = double(1)
    return add(doubled, cs.wait_for("go", timeout=3600).after(doubled))


def counting() -> object:
    return count(int(os.environ.get("STEPS", "20000000")))


def program(store: str, run_id: str, name: str) -> None:
    """Run one of the targets, and print its value."""
    obey()
    print(cs.run(globals()[name](), run_id=run_id, store=store, use_vm="VM" in os.environ))
