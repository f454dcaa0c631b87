"""Reports of the nodes that hold the worker threads of a graph run, or wait for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any

from cascade.runtime.execution.thread_waits import LASTING
from cascade.runtime.graph_path.segments import node_of
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.runtime.run import Run
from cascade.spec.lazy_types import LazyResult


class ThreadWaitReports:
    """The ``PoolReports`` of one run; see ``execution.thread_waits``.

    Args:
        run: The run.
        pool: Its workers.
    """

    def __init__(self, run: Run, pool: WorkerPool) -> None:
        self._run, self._pool = run, pool
        #: The last node that was reported to wait for a thread, and the time of that look.
        self._reported: tuple[LazyResult[Any] | None, float] = (None, 0.0)

    def holding(self) -> list[str]:
        """The names of the nodes on threads. From any thread."""
        return [node.name for node in _called(self._pool.worked_on())]

    def short(self, most: int | None) -> tuple[float, Iterable[LazyResult[Any]]]:
        """The nodes that wait for a thread, and since when. From any thread."""
        since = self._pool.short_since
        nodes = _called(self._pool.next_items()) if since else ()
        return since, islice(nodes, most)

    def report(self) -> None:
        """Report the next node while no thread becomes free, each once. In the loop's thread."""
        now = monotonic()
        told, looked = self._reported
        if now - self._pool.short_since < LASTING or now - looked < LASTING:
            return
        with suppress(IndexError):  # a thread has taken it
            node = next(_called([self._pool.ready[0]]), None)
            self._reported = node, now
            if node is not None:
                self._run.thread_waits.report(node, node is not told)


def _called(items: Iterable[Any]) -> Iterator[LazyResult[Any]]:
    """The nodes of a pool's items that call tasks."""
    nodes = map(node_of, items)
    return (node for node in nodes if node is not None and not node.task.structural)
