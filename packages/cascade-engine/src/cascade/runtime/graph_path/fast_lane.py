"""The fast lane: a worker's loop over nodes that are plain calls.

What a node costs is decided here: pop, call, keep, release. So it is one loop, written out, with no
call of Python's between two calls of tasks; the general way, for all that is not plain, is
``GraphRun``'s and means the same. A node that takes the fast lane has no policies and nothing to
unwrap, and nothing of the run was skipped or failed so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from threading import get_ident
from types import CoroutineType
from typing import Any

from cascade.graph.wiring import Several
from cascade.runtime.execution.contexts import differs
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.node_table import Nodes
from cascade.runtime.graph_path.segments import Item, Segment, Shares, Work
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.graph_path.worker_pool import WorkerPool
from cascade.runtime.limits.constraints import FREE
from cascade.runtime.run import Run, carried
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.lazy_types import LazyResult, goes_on

#: What a call may give that is not the node's value (R4, R5), or should not be.
_GOES_ON = (LazyResult, TailCall, CoroutineType)


class FastLane:
    """The loop of one run's workers.

    Args:
        run: Whose context the calls see.
        lock: Guards ``nodes``.
        nodes: Where values go.
        reports: Told of starts and ends.
        activate: Sends a node that is not plain to its lane; under the lock.
        work_on: Does what the fast lane leaves out: work that goes on, nodes with policies.
        go_on: Follows what a call gave (``Work.handed``) if that is no value, and goes on.
        fail: Told of a call's error.

    Attributes:
        on: Whether nodes may take it; if not, all is for ``work_on``.
    """

    def __init__(
        self,
        run: Run,
        lock: BiasedLock,
        nodes: Nodes,
        reports: Reports,
        activate: Callable[[Segment, LazyResult[Any]], None],
        work_on: Callable[[Item], None],
        go_on: Callable[[Work], None],
        fail: Callable[[BaseException, Work | None, Item | None], None],
    ) -> None:
        self._run = run
        self._lock = lock
        self._nodes = nodes
        self._reports = reports
        self._activate = activate
        self._work_on = work_on
        self._go_on = go_on
        self._fail = fail
        self.on = True

    def drain(self, pool: WorkerPool) -> None:
        """Work on what is ready until nothing is. In a worker's thread."""
        self._lock.owner = get_ident()  # means something only where it is the only one awake
        current = pool.enter()
        while True:
            context = self._run.context.copy()
            if context.run(self._drain_in, context, pool, current):
                return

    def _drain_in(self, context: Context, pool: WorkerPool, current: list[Any]) -> bool:
        """The same, in ``context``; False if a call may have left that other than it was.

        What a task writes into context variables, others do not see (M12), so each call would need
        a copy of the caller's context. As hardly any task writes, calls share one until one does;
        to look for that takes a tenth of the time of a copy.
        """
        lock, settle, activate = self._lock, self._nodes.settle, self._activate
        held, variables = self._run.held, len(self._run.context)
        constraints = self._run.gate.constraints
        free: Any = None  # the task that was last found to be under no constraint
        known: Any = None  # by these
        watched = self._reports.wanted
        popleft, push = pool.ready.popleft, pool.ready.append
        recorded = self._run.record is not None
        first = self._nodes.first
        assert first is not None
        me = get_ident()
        while True:
            try:
                item = popleft()
            except IndexError:
                if pool.leave():
                    return True
                continue
            current[0] = item  # a sign of life, and what runs
            if type(item) is tuple:
                segment, lazy = item
            else:
                segment, lazy = first, item
            if not (self.on and lazy._plain):
                self._work_on((segment, lazy))
                continue
            if constraints.any and not (lazy.task is free and constraints.found is known):
                known = constraints.found
                if known.get(lazy.task.name) is not FREE:
                    self._work_on((segment, lazy))
                    continue
                free = lazy.task  # most nodes after it call the same
            started = self._reports.begun(lazy) if watched else 0.0
            try:
                # Inputs are taken: values that only this call needs live only here (M21).
                if not lazy._dependencies:
                    args, kwargs = lazy.args, lazy.kwargs
                    value = lazy.task.func(*args, **kwargs)
                elif segment.shared and lazy in segment.shared:
                    if lazy._dependencies is not lazy.args:
                        args, kwargs = arguments(lazy, segment.take_any)
                        value = lazy.task.func(*args, **kwargs)
                    elif len(lazy.args) == 1:  # which is the one that others use, too
                        kwargs = lazy.kwargs
                        args = (segment.slots[lazy.args[0]].pop(),)
                        value = lazy.task.func(*args)
                    else:
                        args, kwargs, slots = [], lazy.kwargs, segment.slots
                        for source in lazy.args:  # what take_any() would do
                            if type(slots[source]) is Shares:
                                args.append(slots[source].pop())
                            else:
                                args.append(slots.pop(source))
                        value = lazy.task.func(*args)
                elif lazy._dependencies is lazy.args:
                    kwargs = lazy.kwargs
                    args = tuple(map(segment.take, lazy.args))
                    value = lazy.task.func(*args)
                else:
                    args, kwargs = arguments(lazy, segment.take)
                    value = lazy.task.func(*args, **kwargs)
            except BaseException as error:
                args = kwargs = None  # this frame lives as long as the error does
                self._failed(error, segment, lazy, started)
                return False  # failures are few: no need to compare
            if type(value) not in ATOMS and (
                issubclass(type(value), _GOES_ON) or (not lazy.task.structural and goes_on(value))
            ):
                work = _begun(segment, lazy, started, args, kwargs)
                work.handed, value, args, kwargs = value, None, None, None
                self._go_on(work)
                del work
            else:
                if watched:
                    self._reports.passed(lazy, started)
                slots = segment.slots
                try:
                    users = slots[lazy]
                except KeyError:  # it is the segment's target
                    users = None
                if recorded or lock.shared or users is None or segment.foreign:
                    try:
                        with lock:
                            settle(segment, lazy, value)
                    except BaseException as error:  # of what records outcomes
                        value = args = kwargs = None
                        self._failed(error, segment, lazy, 0.0)
                        return False
                else:
                    lock.inside = me
                    try:
                        if lock.shared:
                            lock.inside = 0
                            with lock:
                                settle(segment, lazy, value)
                        elif type(users) is not Several:  # what settle() would do
                            slots[lazy] = value
                            left = segment.waits.get(users)
                            if left is not None and left > 1:
                                segment.waits[users] = left - 1
                            elif users._plain:
                                push(users if segment is first else (segment, users))
                            else:
                                activate(segment, users)
                        else:  # likewise, for each of them
                            segment.shared.update(users)
                            slots[lazy] = Shares([value] * (len(users) + (lazy in segment.kept)))
                            waits = segment.waits
                            for user in users:
                                left = waits.get(user)
                                if left is not None and left > 1:
                                    waits[user] = left - 1
                                elif user._plain:
                                    push(user if segment is first else (segment, user))
                                else:
                                    activate(segment, user)
                    finally:
                        lock.inside = 0
            value = args = kwargs = None  # or they would live until the next call's are there
            if len(context) != variables or (held and differs(context, held)):
                return False

    def _failed(
        self, error: BaseException, segment: Segment, lazy: LazyResult[Any], started: float
    ) -> None:
        work = _begun(segment, lazy, started, (), lazy.kwargs)  # it is not going to be called
        self._fail(carried(lazy.task.func, error), work, None)


def _begun(
    segment: Segment,
    lazy: LazyResult[Any],
    started: float,
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Work:
    """The work that the fast lane has begun without making an object for it."""
    work = Work(segment, lazy)
    work.started, work.args, work.kwargs = started, args, kwargs
    return work


def arguments(
    lazy: LazyResult[Any], get: Callable[[LazyResult[Any]], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a plain node, with values in the place of lazy ones."""
    if lazy.task is GATHER:  # it may have any number: no loop of ours
        return [lazy.args[0], *map(get, lazy._dependencies)], lazy.kwargs
    args = [get(v) if issubclass(type(v), LazyResult) else v for v in lazy.args]
    if not lazy.kwargs:
        return args, lazy.kwargs
    return args, {
        name: get(v) if issubclass(type(v), LazyResult) else v for name, v in lazy.kwargs.items()
    }
