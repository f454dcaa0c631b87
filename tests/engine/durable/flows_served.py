"""Tasks of runs that workers execute. As a program, a worker::

python -m tests.engine.durable.flows_served STORE
"""

import asyncio
import os
import sys

from tests.engine.durable.notes import note

import cascade as cs


def _note(text: str) -> None:
    note(f"{os.getpid()} {text}")


@cs.task
def load(n: int) -> int:
    _note(f"load {n}")
    return n


@cs.task
async def wait(n: int) -> int:
    """Wait until there is a file to go on."""
    _note(f"wait {n}")
    while not os.path.exists(os.environ["GO"]):  # noqa: ASYNC110, ASYNC240  # of another process
        await asyncio.sleep(0.01)
    return n + 1


@cs.task
def fail(n: int) -> int:
    _note(f"fail {n}")
    raise ValueError(f"no {n}")


@cs.task
def die(n: int) -> int:
    _note(f"die {n}")
    os._exit(9)


async def main(store: str) -> None:
    async with cs.Engine(store=store) as engine:
        _note("serves")
        await engine.serve(modules=["tests.engine.durable.flows_served"], max_recoveries=3)
        _note("stopped")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
