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
from asyncio import Future
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Generator
from contextvars import Context
from inspect import CO_COROUTINE
from math import inf
from threading import get_ident
from time import perf_counter
from types import FunctionType, coroutine
from typing import Any

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocked_stacks import marking
from cascade.runtime.execution.carried_errors import carried, guarded, in_loop, named
from cascade.runtime.execution.contexts import differs
from cascade.runtime.execution.coroutines import Unwatched
from cascade.runtime.execution.early_calls import EarlyCall, ended, has_plain_tasks, task_body
from cascade.runtime.execution.fairness import BUDGET
from cascade.runtime.execution.placement import Place, wants_resources
from cascade.runtime.execution.time_limits import TimeLimits
from cascade.runtime.graph_path.lanes.fast_lane import GOES_ON, arguments
from cascade.runtime.graph_path.lanes.spares import Spare
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Item, Segment, Work
from cascade.runtime.limits.admission import needs_permit
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.lazy_value import NO_KWARGS, RESOURCES


class Pump(Part):
    """Begins the calls of one run's event loop's lane. Used in the event loop's thread.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self.run, self.end = parts.run, parts.end  # for the spares, too
        self._commits = None if parts.run.journal is None else parts.commits
        self._wrap = None if parts.run.middleware is None else parts.wrapping.operation
        self._thread = get_ident()
        self.limits = TimeLimits(self.run.loop, self.run.context)
        self._monitor: Any = self.run.monitor or Unwatched()

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
                    dispatch.start_task(item)
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
        early.goes_on_as(self._rest(spare, early))

    def _next(self) -> Item | None:
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

    def _begin_calls(self) -> None:
        """Make the first steps of calls; one function, as most take less than a Python call."""
        run, end, dispatch, given = self.run, self.end, self._dispatch, self.run.resources
        pool = dispatch.workers
        node: Any
        loop, monitor, constraints = run.loop, self._monitor, run.constraints
        marks, clock, is_reported = monitor.marks, monitor.clock, self._reports.wanted
        held, variables = run.held, len(run.context)
        until = inf if isinstance(loop, VirtualLoop) else perf_counter() + BUDGET
        outer = marks.current
        spare: Spare | None = None
        context: Context | None = None
        item: Item | None = None
        coro: Any = None
        done = 0  # items that are handled, and not counted yet
        if pool is None or pool.is_asleep:
            self._lock.own()
        try:
            while (item := self._next()) is not None:
                if end.stopping:
                    continue
                if pool is None:
                    pool = dispatch.workers
                # First: a call may block until they have run.
                if pool is not None and pool.ready and pool.is_asleep:
                    dispatch.ended(done)
                    done = 0
                segment, node = item
                if node._plain and end.smooth:
                    self._fill(segment, node)
                    done += 1
                    continue
                is_mere = type(node) is LazyResult and node._policies is None and not is_reported
                special = node._special if is_mere else 0
                if special and given.has_unshared and given.need_attempt(node.args, node.kwargs):
                    dispatch.start_task(item)
                    continue
                if spare is None:
                    spare = Spare(self, monitor)
                    spare.begin(task_body(self._rest(spare)))
                if (
                    is_mere
                    and not constraints.any
                    and end.smooth
                    and node.task.may_block is False
                    and (not special or (special == RESOURCES and given.gives(node)))
                ):
                    spare.segment, spare.node, spare.work = segment, node, None
                    spare.operation = operation = node.task
                    if node._dependencies:
                        spare.args, spare.kwargs = arguments(node, segment.take_any)
                    else:
                        spare.args, spare.kwargs = node.args, node.kwargs
                    if special:
                        spare.args, spare.kwargs = given.to(node, spare.args, spare.kwargs)
                elif self._prepare(spare, item):
                    operation = spare.operation
                else:
                    continue
                if context is None:
                    context = run.context.copy()
                func, returned = operation.func, False
                try:
                    _enter_task(loop, spare.task)
                    try:
                        spare.began = began = clock()
                        marks.current = spare
                        if monitor.quiet:
                            monitor.stir(spare)
                        if not operation.is_async:
                            spare.value = context.run(_inline, spare)
                            returned = True
                        elif type(func) is FunctionType and func.__code__.co_flags & CO_COROUTINE:
                            spare.coro = coro = func(*spare.args, **spare.kwargs)
                            spare.waiting = context.run(coro.send, None)
                            spare.take(context)
                        else:
                            spare.waiting = context.run(_first_step, spare)
                            spare.take(context)
                    except StopIteration as stop:
                        spare.value = stop.value
                        returned = True
                    finally:
                        marks.current = outer
                        if outer is not None:
                            outer.leave_out(clock() - spare.began)
                        _leave_task(loop, spare.task)
                except BaseException as error:
                    if self._raises(spare, context, error):
                        raise
                if returned:
                    if spare.cancelling():
                        spare.take(context, ended(spare.value, None))
                    else:
                        self._settle(spare)
                if spare.is_taken:
                    dispatch.goes_on_in(spare.task)
                    spare = context = None
                else:
                    done += 1
                    spare.args = spare.kwargs = spare.value = None
                    if len(context) != variables or (held and differs(context, held)):
                        context = None
                    if spare.is_known:
                        spare = None
                if began > until:
                    break
        finally:
            del item, coro  # this frame lives as long as an error that passes it
            if spare is not None:
                spare.forget()
            dispatch.ended(done)

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

    def _settle(self, call: Spare) -> None:
        """Settle a node whose call has returned, or send it on its way."""
        value = call.value
        kind = type(value)
        try:
            if call.work is None and (
                kind in ATOMS or not (issubclass(kind, GOES_ON) or goes_on(value))
            ):
                lock = self._lock
                if not lock.shared and lock.owner == self._thread:  # as in the fast lane
                    lock.inside = self._thread
                    try:
                        if not lock.shared:
                            self._nodes.settle(call.segment, call.node, value)
                            return
                    finally:
                        lock.inside = 0
                with lock:
                    self._nodes.settle(call.segment, call.node, value)
                return
        except BaseException as error:
            work = call.begun()
            if self._parts.event_loop_lane.failed(error, work, (work.segment, work)):
                raise
        else:
            self.after(call.begun(), value)

    def after(self, work: Work, value: Any) -> None:
        """Settle a node whose call has returned something, or send it on its way."""
        try:
            going_on = self._parts.after_call.next_work(work, value, on_loop=True)
            if going_on is not None:
                with self._lock:
                    self._dispatch.to_loop((going_on.segment, going_on))
        except BaseException as error:
            if self._parts.event_loop_lane.failed(error, work, (work.segment, work)):
                raise

    def _raises(self, spare: Spare, context: Context, error: BaseException) -> bool:
        """A first step has failed; see ``_fails``."""
        if spare.cancelling() or isinstance(error, asyncio.CancelledError):
            spare.take(context, ended(None, error))
            return False
        if isinstance(error, RuntimeError):
            error = named(error, spare.operation)
        return self._fails(spare, error)

    def _fails(self, call: Spare, error: BaseException) -> bool:
        """Settle a node whose call has failed; whether the error must be raised as well."""
        work = call.begun()
        try:
            if isinstance(error, Exception) and self._parts.after_call.tries_again(work, error):
                return False
        except BaseException as other:
            error = other
        return self._parts.event_loop_lane.failed(error, work, (work.segment, work))

    @coroutine
    def _rest(self, spare: Spare, early: EarlyCall | None = None) -> Generator[Any, Any, None]:
        """The body of a spare task: the rest of the call that has taken it.

        ``early`` is the same call, if it had the task before the run had begun.

        The same as ``watched`` after the first step, and what follows the call, in one frame:
        every wait passes through each frame.
        """
        value: Any = None
        try:
            if early is None:
                yield  # before the task exists, so that an early cancel arrives here
            else:
                value, early.cancel = early.cancel, None
                early = None  # it need not live as long as the call
        except asyncio.CancelledError as error:
            value = error
        if not spare.is_taken:
            return
        coro, waiting, context = spare.coro, spare.waiting, spare.context
        assert coro is not None
        assert context is not None
        monitor = self._monitor
        marks, clock, cancelling = monitor.marks, monitor.clock, spare.cancelling
        resume: Any = coro.send
        before = after = cancelling()
        failure: BaseException | None = None
        try:
            # As Task.cancel does: what the coroutine waits for gets the cancel, if it takes that.
            if value is not None and (waiting is None or not waiting.cancel(*value.args)):
                resume = coro.throw
            elif waiting is not None:
                if spare.blocks:
                    waiting._asyncio_future_blocking = True
                try:
                    value = yield waiting
                except BaseException as error:
                    resume, value = coro.throw, error
                before = cancelling()
            while True:
                outer = marks.current
                try:
                    spare.began = clock()
                    marks.current = spare
                    if monitor.quiet:
                        monitor.stir(spare)
                    waiting = context.run(resume, value)
                except StopIteration as stop:
                    spare.value = stop.value
                    break
                finally:
                    marks.current = outer
                    if outer is not None:
                        outer.leave_out(clock() - spare.began)
                    if (after := cancelling()) != before:
                        spare.changed(after - before)
                    value = None
                before = after
                try:
                    resume, value = coro.send, (yield waiting)
                    if waiting is not None and type(waiting) is not Future:
                        before = cancelling()
                except BaseException as error:
                    before = cancelling()
                    resume, value = coro.throw, error
        except BaseException as error:
            failure = error
        try:
            if failure is not None or after:
                yield from spare.end(failure).__await__()
            if failure is not None:
                raise failure
        except BaseException as error:
            if self._fails(spare, error):
                raise
        else:
            self._settle(spare)
        finally:
            failure = None
            spare.over()
            self._dispatch.left(spare.task)


def _first_step(spare: Spare) -> Any:
    """What the first step of a coroutine yields, of any function that makes one.

    Raises:
        StopIteration: It has returned.
    """
    func = spare.operation.func
    try:
        spare.coro = coro = func(*spare.args, **spare.kwargs)
    except StopIteration as error:
        raise carried(func, error) from error
    return coro.send(None)


def _inline(spare: Spare) -> Any:
    """Call a plain function in the event loop's thread."""
    operation = spare.operation
    return in_loop(operation.name, guarded, operation.func, spare.args, spare.kwargs)


marking.update(
    (Pump._begin_calls.__code__, Pump._rest.__code__, _first_step.__code__, _inline.__code__)
)
