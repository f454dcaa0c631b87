"""Waits for worker threads: the calls that wait for one, since when, and the holders of threads.

An executor lends its threads to all runs of an engine. A call that finds none free waits, and
``engine.waiting()`` names it together with the calls that hold the threads.

A call on a thread may start another run and block until that ends. If such calls hold all threads,
the runs that they wait for get none, and nothing ever goes on. The engine cannot know whether a
call waits for a run that it has started, so it does not fail the run: it warns, once, and names the
waiting task and the holders.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import Future
from time import monotonic
from typing import Any, NamedTuple, Protocol

from cascade.runtime.events import TaskWaiting
from cascade.runtime.execution.active_runs import runs
from cascade.runtime.execution.scope import RunScope
from cascade.runtime.execution.worker_calls import WorkerCall
from cascade.spec.lazy_value import LazyValue, number_of
from cascade.spec.map_items import Item, item_of
from cascade.spec.protocols import Executor

_log = logging.getLogger("cascade.engine")
#: Seconds after which a wait for a thread is reported: before, a thread may be about to start.
LASTING = 0.1
#: The reasons in reports.
WORKER, RESOURCES = "worker thread", "thread of the resources"
#: Most names of holders in a report.
_NAMED = 5


class ThreadWait(NamedTuple):
    """A call that waits for a thread; the fields of ``run.Waiting``."""

    task: str
    node: int
    reason: str
    holders: tuple[str, ...]
    seconds: float | None
    since: float
    item: Item | None


class PoolReports(Protocol):
    """The nodes of a run on the threads of its pool, and those that are next."""

    def holding(self) -> Iterable[str]:
        """The names of the nodes that hold a thread. From any thread."""

    def short(self, most: int | None) -> tuple[float, Iterable[LazyValue]]:
        """Since when no thread has become free, and the waiting nodes.

        The time is 0 if threads come and go. From any thread.
        """


class RunOnThreads(RunScope, Protocol):
    """A run that may have a pool of threads."""

    @property
    def pool_reports(self) -> PoolReports | None:
        """The nodes on the threads of its pool."""


class _Submitted(NamedTuple):
    """A call that was given to an executor by itself, not through the pool of its run."""

    work: WorkerCall[Any]
    executor: Executor
    name: str
    source: LazyValue | None
    since: float


class ThreadWaits:
    """The calls of one run on threads. Ended in the event loop's thread.

    Args:
        run: The run.
        parent: The same of the run whose call has started this one, or None.
        is_virtual: Whether the time is virtual, so that waits of calls are not timed.
    """

    __slots__ = ("_calls", "_is_virtual", "_parent", "_run", "_warned")

    def __init__(self, run: RunOnThreads, parent: ThreadWaits | None, is_virtual: bool) -> None:
        self._run: RunOnThreads | None = run
        self._parent = parent
        self._is_virtual = is_virtual
        self._calls: dict[Future[Any], _Submitted] = {}
        #: The warnings given so far to the runs that have no parent but this one.
        self._warned: set[tuple[str, str]] = set()

    def end(self) -> None:
        """The run has ended; its abandoned calls have other threads in their place."""
        self._run = self._parent = None

    # -- calls of their own -------------------------------------------------------------------

    def submitted(
        self,
        call: Future[Any],
        work: WorkerCall[Any],
        executor: Executor,
        name: str,
        source: LazyValue | None,
    ) -> asyncio.TimerHandle | None:
        """Note a call of a node until ``ended``.

        Returns:
            A timer that reports a lasting wait, to be cancelled; None if nothing listens.
        """
        run = self._run
        assert run is not None
        self.note(call, work, executor, name, source)
        if self._is_virtual or not (self._parent is not None or run.bus.wants(TaskWaiting)):
            return None
        return run.loop.call_later(LASTING, self._look_at, call)

    def note(
        self,
        call: Future[Any],
        work: WorkerCall[Any],
        executor: Executor,
        name: str,
        source: LazyValue | None = None,
    ) -> None:
        """List a call, of a node or of a provider, until ``ended``."""
        self._calls[call] = _Submitted(work, executor, name, source, monotonic())

    def ended(self, call: Future[Any]) -> None:
        """A call holds no thread any more, or was abandoned (M8). From any thread."""
        self._calls.pop(call, None)

    def _look_at(self, call: Future[Any]) -> None:
        found, run = self._calls.get(call), self._run
        if found is None or run is None or not found.work.waits:
            return
        if run.bus.wants(TaskWaiting):
            reason, holders = _reason(run, found.executor), _holders(found.executor)
            told = (found.name, number_of(found.source), reason, holders)
            run.publish(TaskWaiting, *told, item=item_of(found.source))
        if self._parent is not None:
            self._warn(found.name, found.executor)

    # -- reports ------------------------------------------------------------------------------

    def report(self, node: LazyValue, is_new: bool) -> None:
        """Publish that a node of the pool waits; warn if its run may wait for ever.

        In the event loop's thread.

        Args:
            node: The node.
            is_new: Whether its wait was not published before.
        """
        run = self._run
        if run is None:
            return
        if is_new and run.bus.wants(TaskWaiting):
            told = (node.name, node.number, WORKER, _holders(run.threads))
            run.publish(TaskWaiting, *told, item=item_of(node))
        if self._parent is not None:
            self._warn(node.name, run.threads)

    def waiting(self, most: int | None) -> list[ThreadWait]:
        """The calls that have waited for a while. From any thread.

        Args:
            most: Most nodes of the pool in the list; None for all.
        """
        run, now = self._run, monotonic()
        if run is None:
            return []
        pool_reports = run.pool_reports
        found = [
            ThreadWait(
                call.name,
                number_of(call.source),
                _reason(run, call.executor),
                _holders(call.executor),
                None,
                call.since,
                item_of(call.source),
            )
            for call in list(self._calls.values())
            if call.work.waits and now - call.since >= LASTING
        ]
        since, nodes = (0.0, ()) if pool_reports is None else pool_reports.short(most)
        if since and now - since >= LASTING:
            holders = _holders(run.threads)
            found += [
                ThreadWait(node.name, node.number, WORKER, holders, None, since, item_of(node))
                for node in nodes
            ]
        return found

    def _warn(self, name: str, executor: Executor) -> None:
        """Warn if the callers of the run, and runs that these have started, hold all threads."""
        root = self._root()
        held = [n for w in _of_all_runs() if w._root() is root for n in w.holding(executor)]
        holders = _once(name for caller in self._callers() for name in caller.holding(executor))
        if not holders or len(held) < _size(executor):
            return
        if (name, holders[0]) in root._warned:  # many such runs may be started at the same time
            return
        root._warned.add((name, holders[0]))
        _log.warning(
            "task '%s' waits for a worker thread, and all %s threads are held by tasks that have "
            "led to its run: %s; if these wait for the run, all of them wait for ever\n"
            "    start the run in a coroutine task, which holds no thread:  "
            "async def %s(…): await engine.run(…)\n"
            "    or give the engine more threads than such calls:  Engine(threads=…)",
            name,
            len(held),
            ", ".join(map(repr, holders[:_NAMED])),
            holders[0],
        )

    def _callers(self) -> Iterable[ThreadWaits]:
        waits = self._parent
        while waits is not None:
            yield waits
            waits = waits._parent

    def _root(self) -> ThreadWaits:
        root = self
        for root in self._callers():  # noqa: B007  # the last one
            pass
        return root

    def holding(self, executor: Executor) -> Iterable[str]:
        """The names of the calls of this run that hold a thread of ``executor``."""
        for call in list(self._calls.values()):
            if call.executor is executor and not call.work.waits:
                yield call.name
        run = self._run
        if run is not None and run.pool_reports is not None and run.threads is executor:
            yield from run.pool_reports.holding()


def _reason(run: RunOnThreads, executor: Executor) -> str:
    return WORKER if executor is run.threads else RESOURCES


def _of_all_runs() -> list[ThreadWaits]:
    """Those of all active runs of this process."""
    return [run.thread_waits for run in list(runs)]


def _holders(executor: Executor) -> tuple[str, ...]:
    return _once(name for waits in _of_all_runs() for name in waits.holding(executor))


def _size(executor: Executor) -> int:
    """Its number of threads; 0 if that is unknown."""
    size: int = getattr(executor, "max_workers", getattr(executor, "_max_workers", 0))
    return size


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
