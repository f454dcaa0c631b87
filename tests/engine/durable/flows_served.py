"""Tasks of runs that workers execute. As a program, a worker: python flows_served.py STORE."""

import asyncio
import os
import sys
from pathlib import Path

import cascade as cs


def note(text: str) -> None:
    """Append a line to the file of calls; whole, also when the process is killed."""
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(f"{os.getpid()} {text}\n")


@cs.task
def load(n: int) -> int:
    note(f"load {n}")
    return n


@cs.task
async def wait(n: int) -> int:
    """Wait until there is a file to go on."""
    note(f"wait {n}")
    while not os.path.exists(os.environ["GO"]):  # noqa: ASYNC110, ASYNC240  # of another process
        await asyncio.sleep(0.01)
    return n + 1


@cs.task
def fail(n: int) -> int:
    note(f"fail {n}")
    raise ValueError(f"no {n}")


@cs.task
def die(n: int) -> int:
    note(f"die {n}")
    os._exit(9)


async def main(store: str) -> None:
    async with cs.Engine(store=store) as engine:
        note("serves")
        await engine.serve(modules=["flows_served"], max_recoveries=3)
        note("stopped")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
