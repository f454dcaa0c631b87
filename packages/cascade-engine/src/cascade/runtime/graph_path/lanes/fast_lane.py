"""The fast lane: a worker's loop over nodes that are plain calls.

The cost of a node is decided here: pop, call, keep, release. So this is one inlined loop, without
any Python call between two calls of tasks. All other work goes the general way of ``slow_lane``,
with the same meaning. A node on the fast lane has nothing to unwrap and no policies, or ones that
have nothing to do (``light_calls``), and no node of the run was skipped or has failed so far.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from types import CoroutineType
from typing import Any

from cascade.graph.wiring import Several
from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.execution.contexts import differs
from cascade.runtime.graph_path.lanes.held_jobs import Errand
from cascade.runtime.graph_path.lanes.light_calls import KEPT, LightCalls, Ready
from cascade.runtime.graph_path.lanes.timed_calls import GIVEN_UP
from cascade.runtime.graph_path.node_rules.caching import Flight
from cascade.runtime.graph_path.queues.ranks import GIVE_WAY, SWITCH
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Segment, Shares, Work
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.runtime.limits.admission import needs_permit
from cascade.runtime.limits.permits import Holding
from cascade.runtime.semantics.recording import Keeper, never
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.policies import PLAIN_CALLS

#: Results of a call that are not the node's value (R4, R5), or must not be.
GOES_ON = (LazyResult, TailCall, CoroutineType)


class FastLane(Part):
    """The loop of one run's workers.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._light = LightCalls(parts)

    def drain(self, pool: WorkerPool) -> None:
        """Work on ready items until there are none. In a worker's thread."""
        self._lock.owner = get_ident()  # matters only if it is the only awake thread
        current = pool.enter()
        while True:
            context = self._run.context.copy()
            if context.run(self._drain_in, context, pool, current):
                return

    def _drain_in(self, context: Context, pool: WorkerPool, current: list[Any]) -> bool:
        """The same, in ``context``; False if a call may have set a variable in it.

        One function, because each Python call between two calls of tasks costs a tenth of a node.

        Tasks must not see each other's context variables (M12), so each call would need its own
        copy of the caller's context. Hardly any task sets one, so calls share a copy until one
        does; the check takes a tenth of the time of a copy.
        """
        lock, settle, activate = self._lock, self._nodes.settle, self._dispatch.activate
        end, parts, light = self._end, self._parts, self._light
        held, variables = self._run.held, len(self._run.context)
        constraints = self._run.constraints
        free: Any = None  # the task that was last found to have no constraint
        known: Any = None  # the rules for which that was found
        watched = self._reports.wanted
        ready = pool.queue()
        popleft, push, push_first = ready.popleft, ready.append, ready.appendleft
        keep: Keeper | None = None if self._run.record is None else never
        if self._run.journal is not None:
            popleft, keep = parts.commits.guarded(popleft), parts.commits.keeper()
        watched_places = self._nodes.watched
        first = self._nodes.first
        assert first is not None
        me, are_plain = get_ident(), ATOMS.issuperset
        light_call: Ready | None = None
        # What the nodes with the keyword arguments ``marked`` are given: see ``Given``.
        marked, given, instance = light.given
        args: Any
        kwargs: Any
        while True:
            try:
                item = popleft()
            except IndexError:
                if ready is not pool.ready:  # it was replaced (M24)
                    return False
                if pool.leave():
                    return True
                continue
            current[0] = item  # a sign of life, and the current item
            if type(item) is tuple:
                segment, lazy = item
            else:
                segment, lazy = first, item
            if not (end.smooth and lazy._plain):
                if lazy is SWITCH:
                    return False
                if lazy is GIVE_WAY:
                    pool.give_way()
                    return True
                if type(lazy) is Errand:
                    if parts.held_jobs.do(lazy):
                        return True
                    continue
                if not end.smooth or type(lazy) is Work:
                    pass
                elif (
                    lazy.kwargs is marked
                    and lazy._policies is None
                    and instance.is_ready
                    and not constraints.any
                ):  # ``light.ready`` would say the same
                    light_call = lazy.args, given, None, bool(lazy._dependencies)
                else:
                    light_call = light.ready(segment, lazy)
                    marked, given, instance = light.given
                if light_call is None:
                    if parts.slow_lane.work_on((segment, lazy)):
                        return True
                    continue
                if light_call is KEPT:
                    light_call = None
                    continue
            elif constraints.any and not (lazy.task is free and constraints.found is known):
                known = constraints.found
                if needs_permit(constraints, lazy.task, PLAIN_CALLS):
                    if parts.slow_lane.work_on((segment, lazy)):
                        return True
                    continue
                free = lazy.task  # the next nodes mostly call the same task
            started = self._reports.begun(lazy, segment) if watched else 0.0
            try:
                # Values that only this call needs live only in its arguments (M21).
                if light_call is not None:
                    args, kwargs, holding, takes = light_call
                    if takes:
                        args, kwargs = light.take(segment, lazy, args, kwargs)
                    if holding is None or type(holding) is Flight:
                        value = lazy.task.func(*args, **kwargs)
                    elif type(holding) is Holding:
                        value = light.call(lazy, args, kwargs, holding)
                    else:
                        value = parts.timed_calls.call_light(
                            (segment, lazy, args, kwargs, started), current
                        )
                        if value is GIVEN_UP:
                            return True
                elif not lazy._dependencies:
                    args, kwargs = lazy.args, lazy.kwargs
                    value = lazy.task.func(*args, **kwargs)
                elif segment.shared and lazy in segment.shared:
                    if lazy._dependencies is not lazy.args:
                        args, kwargs = arguments(lazy, segment.take_any)
                        value = lazy.task.func(*args, **kwargs)
                    elif len(lazy.args) == 1:  # others use it, too
                        kwargs = lazy.kwargs
                        args = (segment.slots[lazy.args[0]].pop(),)
                        value = lazy.task.func(*args)
                    else:
                        args, kwargs, slots = [], lazy.kwargs, segment.slots
                        for source in lazy.args:  # inlined take_any()
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
                if light_call is not None:
                    work = light.begun(segment, lazy, light_call, (args, kwargs), started)
                    parts.slow_lane.fail_attempt(work, error)
                    del work
                elif lazy._index is not None and type(kwargs) is dict:
                    self._failed(error, segment, lazy, started, kwargs)
                else:
                    self._failed(error, segment, lazy, started)
                # This frame lives as long as the error does.
                args = kwargs = light_call = holding = None
                return False  # failures are few: no need to compare
            kind = type(value)
            if not (
                kind in ATOMS
                or ((kind is list or kind is tuple) and are_plain(map(type, value)))
                or not (issubclass(kind, GOES_ON) or (not lazy.task.structural and goes_on(value)))
            ):
                if light_call is not None:
                    work = light.begun(segment, lazy, light_call, (args, kwargs), started)
                else:
                    work = Work.called(segment, lazy, args, kwargs, started)
                work.handed, value, args, kwargs = value, None, None, None
                if self._parts.slow_lane.go_on(work):
                    return True
                del work
            else:
                if watched:
                    self._reports.passed(lazy, started)
                slots = segment.slots
                try:
                    users = None if lazy is segment.target else slots[lazy]
                except KeyError:  # the segment is done
                    users = None
                if not (
                    lock.shared
                    or users is None
                    or segment.foreign
                    or (
                        light_call is not None and (watched_places or type(light_call[2]) is Flight)
                    )
                ):
                    lock.inside = me
                    try:
                        if lock.shared or (keep is not None and not keep(lazy, value, users)):
                            users = None  # not inlined
                        elif type(users) is not Several:  # inlined settle()
                            slots[lazy] = value
                            left = segment.waits.get(users)
                            if left is not None and left > 1:
                                segment.waits[users] = left - 1
                            elif users._plain:
                                if segment is first:
                                    push(users)
                                elif segment.deep:
                                    push_first((segment, users))
                                else:
                                    push((segment, users))
                            else:
                                activate(segment, users)
                        else:  # the same for each of them
                            segment.shared.update(users)
                            slots[lazy] = Shares([value] * (len(users) + (lazy in segment.kept)))
                            waits = segment.waits
                            for user in users:
                                left = waits.get(user)
                                if left is not None and left > 1:
                                    waits[user] = left - 1
                                elif user._plain and not segment.deep:
                                    push(user if segment is first else (segment, user))
                                else:
                                    activate(segment, user)
                    finally:
                        lock.inside = 0
                else:
                    users = None
                if users is None:
                    try:
                        if light_call is not None and type(light_call[2]) is Flight:
                            parts.caches.settle(light_call[2], value)
                        else:
                            with lock:
                                settle(segment, lazy, value)
                    except BaseException as error:  # raised by a recorder of outcomes
                        value = args = kwargs = light_call = holding = None
                        self._failed(error, segment, lazy, 0.0)
                        return False
            # Otherwise they would live until the next call.
            value = args = kwargs = light_call = holding = None
            if len(context) != variables or (held and differs(context, held)):
                return False

    def _failed(
        self,
        error: BaseException,
        segment: Segment,
        lazy: LazyResult[Any],
        started: float,
        kwargs: dict[str, Any] = NO_KWARGS,
    ) -> None:
        work = Work.called(segment, lazy, (), kwargs, started)  # it will not be called
        self._parts.failures.fail(carried(lazy.task.func, error), work)


def arguments(
    lazy: LazyResult[Any], get: Callable[[LazyResult[Any]], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a plain node, with values in place of lazy ones."""
    if lazy.task is GATHER:  # it may have any number of arguments: no Python loop
        return [lazy.args[0], *map(get, lazy._dependencies)], lazy.kwargs
    args = [get(v) if issubclass(type(v), LazyResult) else v for v in lazy.args]
    if not lazy.kwargs:
        return args, lazy.kwargs
    return args, {
        name: get(v) if issubclass(type(v), LazyResult) else v for name, v in lazy.kwargs.items()
    }
