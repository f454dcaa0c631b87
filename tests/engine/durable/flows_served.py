"""Tasks of runs that workers execute, and such a worker."""

import asyncio
import os

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


def program(store: str) -> None:
    """Be a worker."""
    asyncio.run(_serve(store))


async def _serve(store: str) -> None:
    async with cs.Engine(store=store) as engine:
        _note("serves")
        await engine.serve(modules=["tests.engine.durable.flows_served"], max_recoveries=3)
        _note("stopped")
