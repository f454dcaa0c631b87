"""What tests of runs in other processes ask: the store, and the lines of agents_elsewhere."""

import asyncio

from tests import remote_tasks as tasks

from cascade.adapters.stores import open_store


def status(url, run_id):
    """The status of a run in a store."""
    store = open_store(url)
    try:
        return store.find(run_id).status
    finally:
        store.close()


def pids(path):
    """The process of each step that the agent ``counts`` has made."""
    return [int(line.split()[0]) for line in tasks.lines(path)]


async def until(condition, seconds=30):
    """Wait for a condition, in a thread."""
    await asyncio.to_thread(tasks.wait_until, condition, seconds)
