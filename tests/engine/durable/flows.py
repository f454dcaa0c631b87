"""Tasks of durable runs. As a program, runs one of its targets, and writes a line for each call.

python flows.py STORE RUN_ID TARGET CALLS
"""

import asyncio
import os
import sys
from pathlib import Path

import cascade as cs
from cascade.runtime.durable.runs import DurableRuns


def note(text: str) -> None:
    """Append a line to the file of calls; whole, also when the process is killed."""
    path = os.environ.get("CALLS")
    if path:
        with Path(path).open("a") as file:
            file.write(text + "\n")


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


def _prepare() -> None:
    """Follow the orders of a test: a short lease, and where to be killed."""
    if "LEASE" in os.environ:
        assert DurableRuns.__init__.__kwdefaults__ is not None
        DurableRuns.__init__.__kwdefaults__["seconds"] = float(os.environ["LEASE"])
    if "KILL_AT" in os.environ:
        import kill_points  # type: ignore[import-not-found]  # beside this program

        point, _, number = os.environ["KILL_AT"].rpartition(":")
        kill_points.kill_at(point, int(number))


if __name__ == "__main__":
    _prepare()
    store, run_id, name = sys.argv[1:4]
    print(cs.run(globals()[name](), run_id=run_id, store=store, use_vm="VM" in os.environ))
