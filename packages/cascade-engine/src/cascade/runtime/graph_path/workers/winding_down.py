"""Winding down: when a graph run ends, cancels its tasks and waits for its calls (M8)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from cascade.runtime.graph_path.segments import node_of
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.runtime.run import Run


class Held(Protocol):
    """What threads do with resources; see ``HeldCalls``."""

    def is_active(self, thread: int) -> bool:
        """Whether a thread opens or closes a resource."""

    async def quiet(self) -> None:
        """Wait until nothing opens or closes, despite cancels."""


class Remote(Protocol):
    """The calls of a run in other processes."""

    async def quiet(self) -> None:
        """Wait until none is under way."""

    def abandon(self) -> None:
        """Wait for none any longer."""


async def wind_down(
    run: Run,
    tasks: Collection[asyncio.Task[Any]],
    pool: WorkerPool | None,
    held: Held | None = None,
    remote: Remote | None = None,
) -> None:
    """Cancel ``tasks``, and wait until they and the calls on threads have ended.

    A second cancel of the run, or its deadline, abandons calls on threads.

    Args:
        run: The run.
        tasks: Its asyncio tasks; others may be added meanwhile.
        pool: Its workers, which were stopped; None if it has none.
        held: Opens and closes resources on their threads; nothing else abandons that.
        remote: Its calls in other processes; None if it has had none.

    Raises:
        CancelledError: This was cancelled.
    """
    again = await _end_tasks(run, tasks)
    while not (pool is None or run.abandons):
        try:
            if remote is not None:
                await remote.quiet()
            await pool.quiet()
            break
        except asyncio.CancelledError as request:
            again = request
    if run.abandons:
        _abandon(run, pool, held)
        if remote is not None:
            remote.abandon()
    if held is not None:
        await held.quiet()
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


def _abandon(run: Run, pool: WorkerPool | None, held: Held | None) -> None:
    """Wait no longer for the calls on threads."""
    run.gate.abandon()
    resources = run.__dict__.get("resources")
    for call, item, thread in () if pool is None else pool.working():
        if held is not None and held.is_active(thread):
            continue
        node = node_of(item)
        if resources is not None:
            resources.leave_in_use(call, thread, node)
        name = "plain tasks" if node is None else node.name
        run.abandon(call, name, node)
