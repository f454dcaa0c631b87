"""The pump: begins calls in the event loop's thread, many in one turn of the event loop.

Nodes for the event loop's lane are collected in a queue, which one callback of the loop empties.
It makes the first step of each coroutine, and calls plain functions with ``mode="inline"``, with a
spare asyncio task as the current one (``spares``). A call that ends there has no turn of the loop,
no asyncio task and no context of its own. A coroutine that waits goes on in the task, and so does a
call that has cancelled its own task.

What is more than a call (resources, limits, compiled loops) gets an asyncio task at once, and so
does everything in an event loop whose tasks are made by a factory.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Generator
from inspect import CO_COROUTINE
from math import inf
from sys import getrefcount
from time import perf_counter
from types import FunctionType
from typing import Any, Final
from weakref import getweakrefcount

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocked_stacks import marking
from cascade.runtime.execution.carried_errors import carried, named
from cascade.runtime.execution.contexts import differs, is_written
from cascade.runtime.execution.coroutines import Unwatched
from cascade.runtime.execution.early_calls import EarlyCall, ended, has_plain_tasks
from cascade.runtime.execution.fairness import BUDGET
from cascade.runtime.execution.placement import Place, wants_resources
from cascade.runtime.execution.time_limits import TimeLimits
from cascade.runtime.graph_path.lanes.call_ends import CallEnds
from cascade.runtime.graph_path.lanes.fast_lane import arguments
from cascade.runtime.graph_path.lanes.spares import Returned, Spare, first_steps
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Item, Queued, Segment, Work
from cascade.runtime.limits.admission import needs_permit
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS, RESOURCES
from cascade.spec.operation import Operation

_NO_ITEMS: Final[deque[Queued]] = deque()


class Pump(CallEnds):
    """Begins the calls of one run's event loop's lane. Used in the event loop's thread.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self.run, self.end = parts.run, parts.end  # for the spares, too
        self._commits = None if parts.run.journal is None else parts.commits
        self._wrap = None if parts.run.middleware is None else parts.wrapping.operation
        self.limits = TimeLimits(self.run.loop, self.run.context)
        self._monitor: Any = self.run.monitor or Unwatched()
        #: Whether a call has set a context variable: spare tasks then have contexts of their own.
        self.is_apart = False
        self._spare: Spare | None = None  # for the next call, until the turn is over
        self._starter: Generator[Any, Any, None] | None = None  # makes first steps
        #: Coroutine functions whose last calls have not returned in their first steps.
        self._lasting: set[Operation] = set()
        self._until = self._began = 0.0  # the end of the turn, and the start of its last call
        self._done = 0  # items that are handled, and not counted yet

    def turn(self) -> None:
        """Begin what is in the queue, for at most five milliseconds; the rest in a later turn (M9).

        It may be called in a callback of the event loop, or in an asyncio task.
        """
        loop, dispatch = self.run.loop, self._dispatch
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave_task(loop, outer)
        try:
            if has_plain_tasks(loop):
                self._begin_calls()
            else:
                while (item := self._next()) is not None:
                    dispatch.start_task(self._whole(item))
        finally:
            if outer is not None:
                _enter_task(loop, outer)
            if dispatch.is_pumping:
                dispatch.pump_soon()

    @property
    def mark(self) -> Any:
        """The call that is being made in this thread."""
        return self._monitor.marks.current

    def close(self) -> None:
        """Drop the references to other parts of the run, so that no cycle needs the collector."""
        self.limits.close()

    def go_on(self, work: Work, early: EarlyCall) -> None:
        """Go on with a coroutine whose first step was made before the run had begun."""
        spare = Spare(self, self._monitor)
        spare.adopt(work, early)
        with self._lock:
            self._dispatch.begin_in_place()
        self._dispatch.goes_on_in(spare.task)
        early.goes_on_as(spare.rest(early))

    def _next(self) -> Queued | None:
        """The next item. None if there is none, which ends the pumping."""
        dispatch = self._dispatch
        if self._commits is not None and self._commits.is_overdue:
            return None  # the pumping goes on when the lease is renewed
        try:
            return dispatch.sent.popleft()
        except IndexError:
            dispatch.is_pumping = False
        if not dispatch.sent:
            return None
        dispatch.is_pumping = True  # another thread has just sent one
        return dispatch.sent.popleft()

    def _whole(self, queued: Queued) -> Item:
        """The item, with its segment."""
        if isinstance(queued, tuple):
            return queued
        assert self._nodes.first is not None
        return self._nodes.first, queued

    def _begin_calls(self) -> None:
        """Begin items until there are none, or the time of a turn is over."""
        pool, is_virtual = self._dispatch.workers, isinstance(self.run.loop, VirtualLoop)
        self._until = inf if is_virtual else perf_counter() + BUDGET
        if pool is None or pool.is_asleep:
            self._lock.own()
        try:
            item = self._next()
            while item is not None:
                node: Any = item[1] if type(item) is tuple else item
                if type(node) is LazyResult and node._policies is None and node.task.is_async:
                    item = self._begin_coroutines(item)
                    if item is None:
                        break
                self._begin(item)
                item = self._next() if self._began <= self._until else None
        finally:
            spare, self._spare = self._spare, None
            if spare is not None:
                spare.forget()
            self._count()

    def _count(self) -> None:
        """Count the items that are handled; workers begin what these have made ready."""
        done, self._done = self._done, 0
        self._dispatch.ended(done)

    def _begin_coroutines(self, item: Queued) -> Queued | None:
        """Begin nodes that are calls of coroutine functions, and nothing more.

        One function, as most of these calls take less than a Python call.

        Returns:
            The first item that is something else; None if there is none, or the turn is over.
        """
        if self._reports.wanted:
            return item
        run, end, dispatch, given = self.run, self._end, self._dispatch, self.run.resources
        loop, monitor, constraints, settle = run.loop, self._monitor, run.constraints, self.settle
        marks, clock, until = monitor.marks, monitor.clock, self._until
        held, variables, outer = run.held, len(run.context), marks.current
        first: Any = self._nodes.first
        popleft = (dispatch.sent if self._commits is None else _NO_ITEMS).popleft
        node: Any
        coro: Any
        waiting: Any
        known: Any = None  # the task that was last found to be simple
        lasts = False  # whether its last call has not returned at once
        spare, self._spare = self._spare, None
        starter, self._starter = self._starter, None
        coro = waiting = named = None
        try:
            while True:
                if type(item) is tuple:
                    segment, node = item
                else:
                    segment, node = first, item
                pool = dispatch.workers
                if pool is not None and pool.ready and pool.is_asleep:
                    self._count()  # first: a call may block until they have run
                if type(node) is not LazyResult or node._policies is not None:
                    return item
                if node.task is not known:
                    if not _is_simple(node.task):
                        return item
                    known = node.task
                    lasts = known in self._lasting
                if constraints.any or not end.smooth:
                    return item
                special = node._special
                if special:
                    named = given.given_by_name(node) if special == RESOURCES else None
                    if named is None and not self._gives(node):
                        return item
                if spare is None:
                    spare = Spare(self, monitor).begin()
                if starter is None:
                    starter = first_steps()
                    starter.send(None)
                spare.segment, spare.node, spare.work, spare.operation = segment, node, None, known
                if node._dependencies:
                    spare.args, spare.kwargs = arguments(node, segment.take_any)
                else:
                    spare.args, spare.kwargs = node.args, node.kwargs
                if special and named is not None:
                    spare.kwargs = named
                elif special:
                    spare.args, spare.kwargs = given.to(node, spare.args, spare.kwargs)
                context = spare.context
                _enter_task(loop, spare.task)
                try:
                    try:
                        spare.began = began = clock()
                        marks.current = spare
                        if monitor.quiet:
                            monitor.stir(spare)
                        coro = known.func(*spare.args, **spare.kwargs)
                        if lasts:
                            waiting = context.run(coro.send, None)
                        else:
                            waiting = context.run(starter.send, coro)
                    finally:
                        marks.current = outer
                        if outer is not None:
                            outer.leave_out(clock() - spare.began)
                        _leave_task(loop, spare.task)
                except StopIteration as stop:
                    self._lasting.discard(known)
                    lasts = False
                    if spare.task.cancelling():
                        spare.take(ended(stop.value, None))
                    else:
                        settle(spare, stop.value)
                except BaseException as error:
                    if not lasts:
                        starter = None  # it has ended with this error
                    if self._raises(spare, error):
                        raise
                else:
                    if type(waiting) is not Returned:
                        if not lasts:
                            coro, starter, lasts = starter, None, True
                            self._lasting.add(known)
                        spare.coro, spare.waiting = coro, waiting
                        spare.take()
                    elif spare.task.cancelling():
                        spare.take(ended(waiting.value, None))
                    else:
                        settle(spare, waiting.value)
                        waiting.value = None
                coro = waiting = None
                if spare.is_taken:
                    dispatch.goes_on_in(spare.task)
                    spare = None
                else:
                    self._done += 1
                    spare.args = spare.kwargs = None
                    if len(context) != variables or (held and differs(context, held)):
                        spare = self._without_variables(spare)
                    elif (  # inlined ``is_known``
                        getrefcount(spare.task) != spare.references
                        or getweakrefcount(spare.task) != spare.weak
                        or getattr(spare.task, "_callbacks", None) is not None
                    ):
                        spare = None
                if began > until:
                    return None
                try:
                    item = popleft()
                except IndexError:
                    if (more := self._next()) is None:
                        return None
                    item = more
        finally:
            del item, coro, waiting  # this frame lives as long as an error that passes it
            self._spare, self._starter = spare, starter

    def _gives(self, node: LazyResult[Any]) -> bool:
        """Whether a node needs resources and nothing else, and all of these are open."""
        given = self.run.resources
        if node._special != RESOURCES or not given.gives(node):
            return False
        return not (given.has_unshared and given.need_attempt(node.args, node.kwargs))

    def _begin(self, queued: Queued) -> None:
        """Begin any item."""
        end, dispatch, given = self._end, self._dispatch, self.run.resources
        if end.stopping:
            return
        item = self._whole(queued)
        node: Any
        segment, node = item
        pool = dispatch.workers
        if pool is not None and pool.ready and pool.is_asleep:
            self._count()  # first: a call may block until they have run
        if node._plain and end.smooth:
            self._fill(segment, node)
            self._done += 1
            return
        is_mere = type(node) is LazyResult and node._policies is None and not self._reports.wanted
        is_unshared = is_mere and node._special and given.has_unshared
        if is_unshared and given.need_attempt(node.args, node.kwargs):
            dispatch.start_task(item)
            return
        spare, self._spare = self._spare or Spare(self, self._monitor).begin(), None
        if not self._prepare(spare, item):
            self._spare = spare
            return
        self._step(spare)
        if spare.is_taken:
            dispatch.goes_on_in(spare.task)
            return
        self._done += 1
        spare.args = spare.kwargs = None
        if is_written(spare.context, len(self.run.context), self.run.held):
            self._spare = self._without_variables(spare)
        elif not spare.is_known:
            self._spare = spare

    def _step(self, spare: Spare) -> None:
        """Make the first step of a call."""
        loop, marks, clock = self.run.loop, self._monitor.marks, self._monitor.clock
        outer = marks.current
        _enter_task(loop, spare.task)
        try:
            try:
                spare.began = self._began = clock()
                marks.current = spare
                if self._monitor.quiet:
                    self._monitor.stir(spare)
                if spare.operation.is_async:
                    spare.waiting = spare.context.run(spare.begin_coroutine)
                    spare.take()
                    return
                value = spare.context.run(spare.call)
            except StopIteration as stop:
                value = stop.value
            finally:
                marks.current = outer
                if outer is not None:
                    outer.leave_out(clock() - spare.began)
                _leave_task(loop, spare.task)
        except BaseException as error:
            if self._raises(spare, error):
                raise
        else:
            if spare.task.cancelling():
                spare.take(ended(value, None))
            else:
                self.settle(spare, value)

    def _without_variables(self, spare: Spare) -> Spare | None:
        """A spare for the next call, after one that has set a context variable (M12)."""
        if spare.is_apart:
            spare.context = self.run.context.copy()
            return None if spare.is_known else spare
        self.is_apart = True
        spare.forget()
        return None

    def _fill(self, segment: Segment, node: LazyResult[Any]) -> None:
        """Fill a container with its values; the dispatch sends no other plain nodes here."""
        try:
            args, kwargs = arguments(node, segment.take_any)
            value = node.task.func(*args, **kwargs)
            with self._lock:
                self._nodes.settle(segment, node, value)
        except BaseException as error:
            work = Work.called(segment, node, (), NO_KWARGS)
            if self._parts.event_loop_lane.failed(
                carried(node.task.func, error), work, (segment, work)
            ):
                raise

    def _prepare(self, spare: Spare, item: Item) -> bool:
        """Begin a node, or go on with work; whether it is a call for the spare."""
        try:
            work = self._parts.before_call.begin(item)
        except BaseException as error:
            if self._parts.event_loop_lane.failed(error, None, item):
                raise
            work = None
        if work is not None and work.operation.is_wait and not self.run.replaces(work):
            self._parts.waits.begin(work)
            work = None
        if work is None:
            self._dispatch.ended(1)
            return False
        is_mere_call = self._is_mere_call(work)
        given: Any = work.args, work.kwargs
        if is_mere_call and wants_resources(*given):
            given = self.run.resources.filled(*given)
        if given is None or not is_mere_call:
            self._dispatch.start_task((work.segment, work))
            return False
        if self._reports.wanted:
            self._reports.goes_on(work)
        if work.policies.timeout is not None:
            spare.started = self.run.loop.time()
        self._monitor.allowed(work.operation.may_block)
        spare.segment, spare.node, spare.work = work.segment, work.node, work
        spare.operation = work.operation if self._wrap is None else self._wrap(work)
        spare.args, spare.kwargs = given
        return True

    def _is_mere_call(self, work: Work) -> bool:
        """Whether ``work`` goes on with a call in this thread, without limits."""
        operation, policies = work.operation, work.policies
        if work.loop is not None:
            return False
        if needs_permit(self.run.constraints, operation, policies):
            return False
        place = self.run.placement.place(operation, timeout=policies.timeout)
        return place is Place.LOOP or place is Place.INLINE

    def _raises(self, spare: Spare, error: BaseException) -> bool:
        """A first step has failed; see ``fails``."""
        if spare.task.cancelling() or isinstance(error, asyncio.CancelledError):
            spare.take(ended(None, error))
            return False
        if isinstance(error, RuntimeError):
            error = named(error, spare.operation)
        return self.fails(spare, error)


def _is_simple(task: Operation) -> bool:
    """Whether a task is a coroutine function that does not block."""
    if not task.is_async or task.may_block is not False:
        return False
    func = task.func
    return type(func) is FunctionType and bool(func.__code__.co_flags & CO_COROUTINE)


marking.add(Pump._begin_coroutines.__code__)
