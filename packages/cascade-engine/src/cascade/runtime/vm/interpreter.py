"""The interpreter: the readable definition of what a blueprint does.

One frame is a blueprint in execution; ``pc`` is the instruction that it is at, the last one is its
root. With ``v`` the result of that instruction's call, one step is:

====================  ==========================  ================================================
``v`` is              at the root                 before the root
====================  ==========================  ================================================
a plain value         the frame's value (R1)      kept in the output register; next instruction
a TailCall (R5)       inputs are changed, back    a new frame for that node, which loops there
                      to ``entry``; or another    alone (M3); its value goes to the register
                      blueprint in this frame
a LazyResult (R4)     its blueprint in this       a new frame; its value goes to the register
                      frame
====================  ==========================  ================================================

Frames are linked to their parents, so no program, however nested, takes Python's stack (M4). Calls
of coroutine functions before the root are started and awaited at first use (M5); while any is under
way, plain functions are called on a worker, else inline until they are known to be slow (M6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from types import CoroutineType
from typing import Any

from cascade.graph.build import build_graph
from cascade.graph.compiler import BlueprintBuilder, template_of
from cascade.runtime.events import (
    InputsAwaited,
    NodesPlanned,
    TaskCached,
    TaskSkipped,
)
from cascade.runtime.notes import annotate
from cascade.runtime.outcomes import Failed, Missing, Skipped, caught, refuse_coroutine, worst
from cascade.runtime.placement import Place
from cascade.runtime.processor import NodeCall, NodeProcessor
from cascade.runtime.run import Run, carried
from cascade.runtime.tailcall import fault, is_baked, lazies_of, misfit, with_values
from cascade.runtime.ticker import Ticker, Turn
from cascade.runtime.tracebacks import leave_out_machinery
from cascade.runtime.vm.frame import UNSET, Cell, Frame
from cascade.runtime.vm.group import Group
from cascade.runtime.vm.loops import PAUSED
from cascade.runtime.vm.operands import (
    arguments_of,
    inputs_for,
    is_async_call,
    literals,
    load,
    name_of,
    node_of,
    overlaps,
    source_at,
    takes_time,
    written,
)
from cascade.runtime.vm.paths import is_caught, path_to
from cascade.runtime.vm.registry import BlueprintRegistry
from cascade.runtime.vm.reports import Reports
from cascade.runtime.vm.sharing import Shared
from cascade.runtime.vm.spinner import NOT_ENTERED, Loop, Spinner
from cascade.runtime.vm.straight import Handover, Straight, Walk, straight_for, walk
from cascade.runtime.vm.tiers import Tier
from cascade.spec.blueprint import Blueprint, Call, TailCall
from cascade.spec.caching import CachePolicy
from cascade.spec.errors import ArgumentError, InternalError
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.operation import Operation
from cascade.spec.params import Source
from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.resource import Inject
from cascade.spec.task import Task


class Interpreter:
    """Executes one blueprint and all that it leads to.

    Args:
        run: What it is part of.
        registry: Where tail calls find blueprints.
        nested: What it computes is a node of a graph, which sees to its failure.
        tier: What it may use besides itself.
    """

    def __init__(
        self,
        run: Run,
        registry: BlueprintRegistry,
        nested: bool = False,
        tier: Tier = "auto",
    ) -> None:
        self._run = run
        self._limits = run.gate.constraints
        self._registry = registry
        self._is_nested = nested
        self._processor = NodeProcessor(run, self._is_cancelled, self._cancel_rest)
        self._shared = Shared()
        #: Asyncio tasks that were started and have not ended.
        self._under_way = 0
        #: Whether any node was skipped or has failed so far; until then nobody needs to look.
        self._gaps = False
        #: Cached nodes that are under way; equal calls are made once.
        self._flights: dict[tuple[CachePolicy, Any], Cell] = {}
        self._error: BaseException | None = None
        self._reports = Reports(run)
        self._spinner = None
        if tier != "interpreted":
            self._spinner = Spinner(run, tier, self._is_cancelled, self._cancel_rest)

    async def execute(self, frame: Frame, handover: Handover | None = None) -> Any:
        """The value of ``frame``; a Skipped where it has none.

        With ``handover``, go on where straight-line code for the same blueprint has stopped.
        The first error wins; when this returns or raises nothing of the execution is running.
        """
        source = frame.origin = frame.source
        if source is not None:
            frame.cell = Cell(source.name)
            self._shared.know(source, frame.cell)
            self._reports.newly_planned(frame.blueprint, source)  # its strategy has told of these
        if handover is not None:
            self._resume(frame, handover)
        try:
            return await self._execute(frame, source)
        finally:
            self._shared.clear()  # what belongs to an execution refers to each other
            self._flights.clear()
            self._error = None

    async def _execute(self, frame: Frame, source: LazyResult[Any] | None) -> Any:
        async with Group(self._run) as self._group:
            with self._spinner or nullcontext():
                value = await self._drive(frame)
            if source is not None and source is not frame.source:  # it continued as another
                self._reports.keep(source, value)
            if type(value) is Failed:
                self._count(value)
            return value
        # Raised outside of the handler, so that the user's __cause__ and __context__ stay.
        error = self._error
        assert error is not None
        try:
            raise error
        finally:
            del error  # or this frame, which its traceback holds, would hold it in turn

    # -- the loop -----------------------------------------------------------------------------

    async def _drive(self, frame: Frame, base: Frame | None = None) -> Any:
        """Execute ``frame`` and the frames that it leads to, until ``base`` has its value.

        Args:
            frame: Where to begin.
            base: ``frame`` if left out, or one that waits for it.
        """
        base = base or frame
        ticker = base.ticker = Ticker()
        ended = False
        try:
            while not (ended and frame is base):
                try:
                    if ended:
                        assert frame.parent is not None
                        value, frame = frame.value, frame.parent
                        following = self._take_over(frame, value)
                    elif (loop := self._loop_under_way(frame, base)) is not None:
                        # A short cut to what _step would do: every wait of the loop's coroutine
                        # goes through all that await each other here.
                        call = frame.blueprint.instructions[-1]
                        result = await self._spin(frame, loop, call, base)
                        following = (
                            await self._step(frame, base)
                            if result is NOT_ENTERED
                            else self._after_root(frame, call, result, base)
                        )
                        result = None  # it may hold the arguments of the next step
                    else:
                        following = await self._step(frame, base)
                except Exception as error:
                    following = self._without_value(error, frame)
                ended = following is None
                frame = following or frame
                if ticker.step():
                    await ticker.pause()
            return frame.value
        except BaseException as error:
            if not isinstance(error, Exception):
                self._note_failure(error, frame)
            raise

    async def _step(self, frame: Frame, base: Frame) -> Frame | None:
        """One step of ``frame``; the frame to go on with, or None if it has its value."""
        call = frame.advance()
        if call is None or (frame is not base and takes_time(frame, call)):
            aside = self._set_aside(frame, base)
            if aside is not None:
                return aside
        if call is None:
            assert frame.waits is not None
            await frame.waits.change()
            return frame
        if frame.at_root:
            return await self._at_root(frame, call, base)
        return await self._before_root(frame, call, base)

    async def _at_root(self, frame: Frame, call: Call, base: Frame) -> Frame | None:
        """One step of a frame's root; the frame to go on with, or None if it has its value."""
        if frame.joins is not None:
            cell, frame.joins = frame.joins, None
            self._finish(frame, await self._shared.waiter(frame, cell))
            return None
        if frame.policies.cache is not None and frame.uncalled:
            frame.uncalled = False
            if (found := self._look_up(frame, call, frame.policies.cache, frame.cell)) is not UNSET:
                return self._continue_with(frame, found)
        return self._after_root(frame, call, await self._result(frame, call, base), base)

    def _after_root(self, frame: Frame, call: Call, result: Any, base: Frame) -> Frame | None:
        """What follows what the call of a frame's root has given."""
        if issubclass(type(result), TailCall):
            return self._tail(frame, result)
        if result is PAUSED:
            return frame
        if type(result) is CoroutineType:
            refuse_coroutine(result, call.name)
        if self._reports.watched and not issubclass(type(result), Missing):
            self._reports.end(frame, call)
        if issubclass(type(result), LazyResult):
            known = self._shared.find(result)
            if known is None:
                return self._become(frame, result, base)
            result = known if known.value is UNSET else known.value
        return self._continue_with(frame, result)

    def _continue_with(self, frame: Frame, value: Any) -> Frame | None:
        """End ``frame`` with ``value``, or with that of the Cell that another computes."""
        if issubclass(type(value), Cell):
            frame.joins = value
            return frame
        self._finish(frame, value)
        return None

    def _finish(self, frame: Frame, value: Any) -> None:
        if frame.cell is not None and frame.cell.kept:
            self._keep_cached(frame.cell, value)
        frame.finish(value)
        if frame.source is not None:
            self._reports.keep(frame.source, value)

    def _take_over(self, frame: Frame, value: Any) -> Frame | None:
        """Give ``frame`` what it waits for; the frame to go on with, None if it has its value."""
        tail = frame.tail
        if tail is None:
            self._store(frame, frame.blueprint.instructions[frame.pc], value)
            return frame
        # The list of what the tail call's lazy arguments gave (M2).
        frame.tail = None
        if issubclass(type(value), Missing):
            self._finish(frame, self._skip(frame, frame.blueprint.instructions[frame.pc], value))
            return None
        return self._tail(frame, with_values(tail, value))

    async def _before_root(self, frame: Frame, call: Call, base: Frame) -> Frame:
        """One step of an inner node; the frame to go on with."""
        cell = None
        if call.source is not None:
            known = self._shared.find(call.source)
            if known is not None:
                self._take(frame, call, known, None)
                return frame
            cell = Cell(call.source.name)
            self._shared.know(call.source, cell)
        if call.policies.cache is not None:
            cell = cell or Cell(call.name)
            found = self._look_up(frame, call, call.policies.cache, cell)
            if issubclass(type(found), Cell):
                self._take(frame, call, found, cell)
                return frame
            if found is not UNSET:
                self._store(frame, call, found, cell)
                return frame
        if overlaps(call):
            self._start(frame, call, cell)
            return frame
        result = await self._result(frame, call, base)
        if issubclass(type(result), (TailCall, LazyResult)):
            return self._nested(frame, call, cell, result)
        if type(result) is CoroutineType:
            refuse_coroutine(result, call.name)
        if self._reports.watched and not issubclass(type(result), Missing):
            self._reports.end(frame, call)
        self._store(frame, call, result, cell)
        return frame

    def _store(self, frame: Frame, call: Call, value: Any, cell: Cell | None = None) -> None:
        if cell is not None:
            if cell.kept:
                self._keep_cached(cell, value)
            cell.set(value)
        if call.policies.catches:
            value = caught(value)
        frame.registers[call.output.index] = value
        if self._reports.watched:
            frame.started = None
        if frame.waits is not None:
            frame.waits.arrived(call.output.index)
        if call.source is not None:
            self._reports.keep(call.source, value)

    def _without_value(self, error: Exception, frame: Frame) -> Frame | None:
        """Go on after an error, where the run does; the frame to go on with, as after a step.

        Raises:
            Exception: ``error``, which ends the execution.
        """
        self._note_failure(error, frame)
        call = frame.blueprint.instructions[frame.pc]
        failed = Failed(call.name, error)
        if not (failed.can_be_value and is_caught(frame)):
            if self._run.fail_fast:
                if self._error is None:
                    self._error = error
                raise error
            self._count(failed)
        else:
            leave_out_machinery(error)  # the value of an item: the user's frames only (R9)
        self._gaps = True
        if frame.at_root:
            self._finish(frame, failed)
            return None
        cell = None if call.source is None else self._shared.find(call.source)
        self._store(frame, call, failed, cell)
        return frame

    def _count(self, failed: Failed) -> None:
        if not (self._run.fail_fast or self._is_nested):
            failed.count(self._run.failures)

    # -- caches (R10) -------------------------------------------------------------------------

    def _look_up(self, frame: Frame, call: Call, cache: CachePolicy, cell: Cell | None) -> Any:
        """Where the value of a node comes from, before its first call.

        UNSET: from that call; what it gives will be kept. A Cell: from an equal call under way.
        Else this is the value, or what stands in its place.
        """
        assert isinstance(call.task, Task)
        args, kwargs = arguments_of(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            return skipped
        parameters = call.task.parameters
        arguments = parameters.complete(parameters.bind(args, kwargs))
        try:
            key = cache.key(call.task, arguments)
            under_way = self._flights.get((cache, key))
            found, value = (True, under_way) if under_way else cache.load(key, arguments)
        except BaseException:
            if self._reports.watched:
                self._reports.start(frame, call)  # and its failure will be, too
            raise
        if under_way is not None:
            report = partial(self._reports.taken_over, *node_of(frame, call))
            under_way.waiter.add_done_callback(report)
        elif found:
            self._run.publish(TaskCached, *node_of(frame, call))
        if found:
            return value
        if cell is None:
            cell = frame.cell = Cell(call.name)
        cell.kept.append((cache, key, arguments))
        self._flights[cache, key] = cell
        return UNSET

    def _keep_cached(self, cell: Cell, value: Any) -> None:
        kept, cell.kept = cell.kept, []
        for cache, key, _ in kept:
            del self._flights[cache, key]
        if not issubclass(type(value), Missing):
            for cache, key, arguments in reversed(kept):
                cache.save(key, arguments, value)

    # -- one call -----------------------------------------------------------------------------

    async def _result(self, frame: Frame, call: Call, base: Frame) -> Any:
        """What the call gives; a Missing if it is not made (R6)."""
        if frame.handed is UNSET:
            result = await self._outcome(frame, call, base)
        else:
            result, frame.handed = frame.handed, UNSET
            if type(result) is Handover:
                raise _error_of(result, call)
        return result

    async def _outcome(self, frame: Frame, call: Call, base: Frame) -> Any:
        args, kwargs = arguments_of(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            return skipped
        if self._reports.watched and frame.started is None:
            self._reports.start(frame, call)
        is_async = is_async_call(call)
        mode = "auto" if call.task is None else call.task.mode
        policies = self._policies(frame, call)
        called = call.task or call.func
        limited = bool(policies.capacities) or (
            self._limits.any and call.task is not None and self._limits.governs(call.name)
        )
        if not limited:
            frame.goes_on()
        if frame.at_root and not policies.needs_attempts:
            value = await self._spun(frame, call, base)
            if value is not NOT_ENTERED:
                return value
        if (
            is_async
            or mode != "auto"
            or policies is not PLAIN_CALLS
            or limited
            or Inject in map(type, args)
            or Inject in map(type, kwargs.values())
            or self._run.placement.place(called, short=True, alone=self._is_alone(base))
            is not Place.INLINE
        ):
            node_call = NodeCall(
                call.task or Operation(call.func, call.name, is_async),
                args,
                kwargs,
                policies,
                node_of(frame, call)[1],
                lambda: self._is_alone(base),
            )
            node_call.waits, node_call.goes_on = frame.stands_still, frame.goes_on
            retrying = partial(self._reports.retry, frame, call)
            return await self._processor.call(node_call, retrying)
        return self._run.call_here(called, call.func, args, kwargs)

    def _policies(self, frame: Frame, call: Call) -> CallPolicies:
        """How a call is made, with what nodes have given as the amounts that it takes (R10)."""
        if not frame.at_root:
            return self._taking(frame, call, call.policies)
        if not frame.has_amounts:  # of the node as a whole, whatever blueprint it goes on as
            frame.policies = self._taking(frame, call, frame.policies)
            frame.has_amounts = True
        return frame.policies

    def _taking(self, frame: Frame, call: Call, policies: CallPolicies) -> CallPolicies:
        if not call.amounts:
            return policies
        amounts = {name: load(frame.registers, operand) for name, operand in call.amounts.items()}
        return self._run.gate.taking(policies, amounts, call.name)

    async def _spun(self, frame: Frame, call: Call, base: Frame) -> Any:
        """What the loop of the root gives, if it has one."""
        loop = None if self._spinner is None else self._spinner.loop(frame)
        if loop is None or self._spinner is None or base.ticker is None:
            return NOT_ENTERED
        return await self._spin(frame, loop, call, base)

    def _spin(self, frame: Frame, loop: Loop, call: Call, base: Frame) -> Awaitable[Any]:
        assert self._spinner is not None
        assert base.ticker is not None
        return self._spinner.spin(
            frame,
            loop,
            base.ticker,
            node_of(frame, call)[1],
            lambda: self._is_alone(base),
        )

    def _loop_under_way(self, frame: Frame, base: Frame) -> Loop | None:
        """The loop of coroutines that ``frame`` has begun, if all it does is to go on."""
        loop = frame.loop
        if not isinstance(loop, Loop) or not loop.code.is_async or self._spinner is None:
            return None
        goes_on = frame is base and frame.looped and frame.at_root and frame.joins is None
        return self._spinner.loop(frame) if goes_on and frame.handed is UNSET else None

    def _is_alone(self, base: Frame) -> bool:
        """Whether nothing else is under way that a plain function would hold up (M6)."""
        return self._under_way == base.on_its_own

    def _why_skipped(
        self, frame: Frame, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Missing | None:
        if not (self._gaps or call.conditions):
            return None
        # Conditions are for the node as a whole (R10).
        conditions = () if frame.looped and frame.at_root else call.conditions
        lacks: list[Missing] = []
        if self._gaps:
            after = (frame.registers[register.index] for register in call.after)
            lacks += (v for v in (*args, *kwargs.values()) if issubclass(type(v), Missing))
            lacks += (v for v in after if type(v) is Failed)
            amounts = (load(frame.registers, operand) for operand in call.amounts.values())
            lacks += (v for v in amounts if issubclass(type(v), Missing))
        for operand in conditions:
            value = load(frame.registers, operand)
            if issubclass(type(value), Missing):
                lacks.append(value)
            elif not value:
                lacks.append(Skipped(call.name, name_of(frame.blueprint, operand)))
        missing = worst(lacks)
        return None if missing is None else self._skip(frame, call, missing)

    def _skip(self, frame: Frame, call: Call, missing: Missing) -> Missing:
        self._gaps = True
        if type(missing) is Failed and not (missing.can_be_value and is_caught(frame)):
            if self._run.fail_fast:
                raise missing.error  # it was caught, but this node is not part of what caught it
            self._count(missing)
        if call.task is None or not call.task.structural:
            self._run.publish(TaskSkipped, *node_of(frame, call), *missing.reason)
        return missing

    # -- coroutine calls (M5) -----------------------------------------------------------------

    def _start(self, frame: Frame, call: Call, cell: Cell | None) -> None:
        """Start a coroutine call; whoever uses its value is put off until that is there."""
        args, kwargs = arguments_of(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            self._store(frame, call, skipped, cell)
            return
        told = bool(call.amounts) and self._reports.watched
        if told:
            self._reports.start(frame, call)  # what was given may be no amounts, which fails it
        node = self._node(frame, call, args, kwargs, cell)
        if told:
            node.started, frame.started = frame.started, None
            node.start, frame.start = frame.start, None
        self._launch(frame, call, node, node)

    def _set_aside(self, frame: Frame, base: Frame) -> Frame | None:
        """Let a frame that has to wait go on on its own; its parent, to go on with meanwhile.

        None if ``base`` itself has to wait for it.
        """
        inner = frame
        while inner is not base and inner.parent is not None and inner.parent.tail is not None:
            inner = inner.parent
        parent = inner.parent
        if inner is base or parent is None:
            return None
        self._launch(parent, parent.blueprint.instructions[parent.pc], frame, inner)
        return parent

    def _launch(self, frame: Frame, call: Call, inner: Frame, base: Frame) -> None:
        """Start an asyncio task that drives ``inner`` until ``base`` has a value for ``call``."""
        base.on_its_own = 1
        task = self._group.create_task(
            self._alone(inner, base, call), context=self._run.context.copy()
        )
        self._under_way += 1
        task.add_done_callback(self._one_less)
        frame.expect(call, task)

    def _cancel_rest(self) -> None:
        """A plain call was cancelled, and is waited for; nothing else goes on meanwhile (R9)."""
        self._group.cancel_rest()

    def _is_cancelled(self, outside: int) -> bool:
        return self._group.is_cancelled(outside)

    def _one_less(self, _task: object) -> None:
        self._under_way -= 1

    async def _alone(self, frame: Frame, base: Frame, call: Call) -> Any:
        """The body of an asyncio task: a node that loops alone (M3), or what is left of one."""
        try:
            value = await self._drive(frame, base)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as error:
            # As it is, the group would not end for the first and the event loop would for the rest.
            if self._error is error:
                raise InternalError("a task ended its asyncio task") from error
            raise
        if call.source is not None:
            self._reports.keep(call.source, caught(value) if call.policies.catches else value)
        return value

    # -- tail calls (R5) ----------------------------------------------------------------------

    def _tail(self, frame: Frame, tail: TailCall) -> Frame:
        """Continue ``frame`` as ``tail`` says; the frame to go on with."""
        lazies = lazies_of(tail)
        if lazies:
            frame.tail = tail
            code, lasti = written(frame)
            together = gathered(lazies, code, lasti)
            blueprint = BlueprintBuilder().build(together)
            self._reports.plan(blueprint, together)
            return Frame(blueprint, (), {}, parent=frame)
        self._run.step(frame.blueprint.name)
        blueprint = frame.blueprint
        current = blueprint.name
        target = self._target(frame, tail)
        again = target is blueprint
        if again and isinstance(blueprint.task, Task) and is_baked(blueprint, blueprint.task):
            args, kwargs = literals(*arguments_of(frame.registers, blueprint.instructions[-1]))
            target = template_of(blueprint.task)
            frame.enter(target, args, kwargs)
        try:
            if again:
                frame.again(tail.args, tail.kwargs)
            else:
                frame.enter(target, tail.args, tail.kwargs)
                self._reports.plan(target, dead=frame.dead)
        except ArgumentError as error:
            frame.leave(blueprint)  # the fault is the caller's, and the note is to say so
            raise misfit(current, target.name, fault(target, again, tail) or error) from None
        return frame

    def _target(self, frame: Frame, tail: TailCall) -> Blueprint:
        blueprint = frame.blueprint
        if tail.target_blueprint_id is not None:
            return self._registry.get(tail.target_blueprint_id, blueprint.name)
        if tail.target is None or tail.target is blueprint.task:
            return blueprint
        return template_of(tail.target)

    # -- frames -------------------------------------------------------------------------------

    def _node(
        self,
        frame: Frame,
        call: Call,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        cell: Cell | None,
    ) -> Frame:
        """A frame for the inner node ``call`` alone."""
        task = call.task if isinstance(call.task, Task) else Task(call.func)
        # What the node was called with are values, also where they are lazy ones or literals.
        args, kwargs = literals(args, kwargs)
        node = Frame(template_of(task), args, kwargs, frame, call.output.index)
        node.cell = cell
        node.source = call.source
        node.policies = self._taking(frame, call, call.policies)
        node.uncalled = False  # the cache was asked before
        return node

    def _nested(
        self, frame: Frame, call: Call, cell: Cell | None, result: TailCall | LazyResult[Any]
    ) -> Frame:
        """An inner node goes on as something else: in a frame of its own."""
        if isinstance(result, TailCall):
            given, named = arguments_of(frame.registers, call)
            node = self._node(frame, call, given, named, cell)
            node.started = frame.started
            following = self._tail(node, result)
            frame.started = None
            return following
        if self._reports.watched:
            self._reports.end(frame, call)
        known = self._shared.find(result)
        if known is not None:
            self._take(frame, call, known, cell)
            return frame
        self._run.step(call.name)
        args, kwargs = inputs_for(result)
        node = Frame(self._compile(result), args, kwargs, frame, call.output.index)
        node.source = result
        node.cell = cell or Cell(result.name)
        self._shared.know(result, node.cell)
        return node

    def _become(self, frame: Frame, lazy: LazyResult[Any], base: Frame) -> Frame | None:
        """Continue ``frame`` as ``lazy`` (R4): a loop of such takes no memory."""
        self._run.step(frame.blueprint.name)
        found = walk(lazy) if lazy._dependencies and self._may_go_straight(base) else None
        if found is not None and found.lazies[0].number <= self._shared.newest:
            found = None  # it may have been computed before, or be under way
        straight = None if found is None else straight_for(found)
        if straight is not None and found is not None:
            may = self._run.placement.may_be_inline(straight.tasks)
            if not may or straight.held_elsewhere(found.lazies):
                straight = None
        blueprint = self._compile(lazy) if straight is None else frame.blueprint
        if frame.cell is None:
            frame.cell = Cell(lazy.name)
        self._shared.know(lazy, frame.cell)
        frame.source = lazy
        if straight is not None and found is not None:
            return self._go_straight(frame, straight, found, base)
        args, kwargs = inputs_for(lazy)
        frame.enter(blueprint, args, kwargs)
        frame.policies, frame.has_amounts = blueprint.instructions[-1].policies, False
        frame.uncalled = True
        return frame

    # -- straight-line code -------------------------------------------------------------------

    def _may_go_straight(self, base: Frame) -> bool:
        """Whether nobody wants to know what happens in between, and nothing overlaps."""
        wants = self._run.bus.wants
        return (
            self._spinner is not None
            and not (self._gaps or self._reports.watched)
            and self._run.state is None
            and self._is_alone(base)
            and not (wants(NodesPlanned) or wants(InputsAwaited))
            and not self._limits.any
        )

    def _go_straight(
        self, frame: Frame, straight: Straight, found: Walk, base: Frame
    ) -> Frame | None:
        """Let code that was written for the graph's shape compute the frame's value."""
        run = self._run
        outcome = straight.enter_here(run.placement, Turn(), run.context, run.held, found.values)
        if type(outcome) is not Handover:
            self._finish(frame, outcome)
            return None
        frame.policies, frame.uncalled = PLAIN_CALLS, False
        if outcome.paused and base.ticker is not None:
            base.ticker.left = 1
        if issubclass(type(outcome.result), LazyResult) and len(outcome.done) + 1 == len(
            found.lazies
        ):
            # The target goes on as another lazy value: nobody needs the frame of this one.
            task = found.lazies[-1].task
            assert isinstance(task, Task)
            frame.leave(template_of(task))
            frame.handed = outcome.result
            return frame
        lazy = found.lazies[-1]
        args, kwargs = inputs_for(lazy)
        frame.enter(BlueprintBuilder().build(lazy), args, kwargs)
        self._resume(frame, outcome)
        return frame

    def _resume(self, frame: Frame, handover: Handover) -> None:
        """Let ``frame``, just entered, be where straight-line code has stopped."""
        instructions = frame.blueprint.instructions
        for call, value in zip(instructions, handover.done, strict=False):
            frame.registers[call.output.index] = value
            if call.source is not None:
                cell = Cell(call.source.name)
                cell.set(value)
                self._shared.know(call.source, cell)
        frame.next = len(handover.done)
        handover.done = []
        frame.handed = handover.result if handover.error is None else handover

    def _compile(self, lazy: LazyResult[Any]) -> Blueprint:
        """A blueprint for ``lazy``; the task's own where the call is all there is to it."""
        alone = not lazy._dependencies and lazy._policies is None
        if alone and isinstance(lazy.task, Task):
            blueprint = template_of(lazy.task)
        else:
            blueprint = BlueprintBuilder().build(lazy)
        sources = (lazy, *(call.source for call in blueprint.instructions))
        if any(_is_to_be_checked(source, alone) for source in sources):
            self._run.check(build_graph(lazy).lazies)  # what was not there when the run began
        self._reports.plan(blueprint, lazy)
        return blueprint

    # -- values computed elsewhere (M14) ------------------------------------------------------

    def _take(self, frame: Frame, call: Call, known: Cell, own: Cell | None) -> None:
        """Let the value of ``known`` be that of ``call``, now or later.

        Raises:
            CycleError: It waits for this frame.
        """
        if known.value is not UNSET:
            self._store(frame, call, known.value, own)
            return
        waiter = self._shared.waiter(frame, known, own)
        if own is not None:
            waiter.add_done_callback(own.take)
        frame.expect(call, waiter)

    # -- errors -------------------------------------------------------------------------------

    def _note_failure(self, error: BaseException, frame: Frame) -> None:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            return
        if self._error is None and not isinstance(error, Exception) and not self._group.ending:
            self._error = error  # else it is Ctrl-C again, and for the event loop
        call = frame.blueprint.instructions[frame.pc]
        annotate(error, call.name, source_at(frame, call), path_to(frame))
        self._reports.failed(frame, call, error)


def _error_of(handover: Handover, call: Call) -> BaseException:
    """The error that has stopped straight-line code, as this call's."""
    error, handover.error = handover.error, None  # whoever has the handover is in its traceback
    assert error is not None
    return carried(call.func, error)


def _is_to_be_checked(source: LazyResult[Any] | None, alone: bool) -> bool:
    if source is None:
        return False
    return source._special or (isinstance(source, Source) and not alone)


def _is_cancelled() -> bool:
    """Whether a CancelledError comes from outside, and not from the user's task."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
