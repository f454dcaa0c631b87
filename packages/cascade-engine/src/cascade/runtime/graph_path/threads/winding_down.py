"""Winding down: the end of what a graph run that is over still has under way (M8)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from cascade.runtime.graph_path.segments import node_of
from cascade.runtime.graph_path.threads.worker_pool import WorkerPool
from cascade.runtime.run import Run


async def wind_down(
    run: Run, tasks: Collection[asyncio.Task[Any]], pool: WorkerPool | None
) -> None:
    """Cancel ``tasks``, and wait until they and the calls on threads have ended.

    A second cancel of the run, or its deadline, abandons calls on threads.

    Args:
        run: The run.
        tasks: Its asyncio tasks; others may be added meanwhile.
        pool: Its workers, which were stopped; None if it has none.

    Raises:
        CancelledError: This was cancelled.
    """
    again = await _end_tasks(run, tasks)
    while not (pool is None or run.abandons):
        try:
            await pool.quiet()
            break
        except asyncio.CancelledError as request:
            again = request
    if run.abandons:
        _abandon(run, pool)
    if again is not None:
        raise again


async def _end_tasks(
    run: Run, tasks: Collection[asyncio.Task[Any]]
) -> asyncio.CancelledError | None:
    """Cancel ``tasks`` and wait for them; returns a cancel of this, if one came meanwhile."""
    again: asyncio.CancelledError | None = None
    passed_on = 0
    while pending := [task for task in tasks if not task.done()]:
        # As often as the run, and once for its end: nested runs also count their cancels.
        cancels = max(run.cancels.count, 2 if run.abandons else 1)
        for task in pending:
            for _ in range(cancels - passed_on):
                task.cancel()
        passed_on = max(passed_on, cancels)
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as request:
            again = request
        for task in pending:
            if task.done() and not task.cancelled():
                task.exception()  # retrieved: an interrupt that the event loop has raised
    return again


def _abandon(run: Run, pool: WorkerPool | None) -> None:
    """Wait no longer for the calls on threads."""
    run.gate.abandon()
    resources = run.__dict__.get("resources")
    for call, item, thread in () if pool is None else pool.working():
        node = node_of(item)
        if resources is not None:
            resources.leave_in_use(call, thread, node)
        name = "plain tasks" if node is None else node.name
        run.abandon(call, name, node)
