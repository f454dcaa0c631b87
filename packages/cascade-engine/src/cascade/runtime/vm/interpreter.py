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
way, plain functions are called on a worker, else inline (M6).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from cascade.graph.build import build_graph
from cascade.graph.compiler import BlueprintBuilder, template_of
from cascade.runtime.events import (
    NodesPlanned,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.notes import annotate
from cascade.runtime.processor import NodeProcessor
from cascade.runtime.run import Run, stop_iteration
from cascade.runtime.skipping import Skipped
from cascade.runtime.tailcall import fault, is_baked, lazies_of, misfit, with_values
from cascade.runtime.ticker import Ticker
from cascade.runtime.vm.frame import UNSET, Cell, Frame
from cascade.runtime.vm.registry import BlueprintRegistry
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register, TailCall
from cascade.spec.containers import gathered
from cascade.spec.errors import ArgumentError, CycleError, InternalError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Source
from cascade.spec.resource import Inject
from cascade.spec.task import Task


class Interpreter:
    """Executes one blueprint and all that it leads to."""

    def __init__(self, run: Run, registry: BlueprintRegistry) -> None:
        self._run = run
        self._registry = registry
        self._processor = NodeProcessor(run)
        self._cells: WeakKeyDictionary[LazyResult[Any], Cell] = WeakKeyDictionary()
        #: Asyncio tasks that were started and have not ended.
        self._under_way = 0
        #: Whether any node was skipped so far; until then nobody needs to look.
        self._skips = False
        self._error: BaseException | None = None
        self._watched = run.watches_tasks

    async def execute(self, frame: Frame) -> Any:
        """The value of ``frame``; a Skipped where it has none.

        The first error wins; when this returns or raises nothing of the execution is running.
        """
        source = frame.origin = frame.source
        if source is not None:
            frame.cell = self._cells[source] = Cell(source.name)
        try:
            async with asyncio.TaskGroup() as self._group:
                value = await self._drive(frame)
                if source is not None and source is not frame.source:  # it continued as another
                    self._keep(source, value)
                return value
        except BaseExceptionGroup:
            pass
        # Raised outside of the handler, so that the user's __cause__ and __context__ stay.
        assert self._error is not None
        raise self._error

    # -- the loop -----------------------------------------------------------------------------

    async def _drive(self, frame: Frame, base: Frame | None = None) -> Any:
        """Execute ``frame`` and the frames that it leads to, until ``base`` has its value.

        Args:
            frame: Where to begin.
            base: ``frame`` if left out, or one that waits for it.
        """
        base = base or frame
        ticker = Ticker()
        try:
            while True:
                call = frame.advance()
                if call is None or (frame is not base and _takes_time(frame, call)):
                    aside = self._set_aside(frame, base)
                    if aside is not None:
                        frame = aside
                        continue
                if call is None:
                    assert frame.waits is not None
                    await frame.waits.change()
                elif frame.at_root:
                    following = await self._at_root(frame, call, base)
                    while following is None:  # the frame has its value
                        if frame is base:
                            return frame.value
                        assert frame.parent is not None
                        value, frame = frame.value, frame.parent
                        following = self._take_over(frame, value)
                    frame = following
                else:
                    frame = await self._before_root(frame, call, base)
                if ticker.step():
                    await ticker.pause()
        except BaseException as error:
            self._failed(error, frame)
            raise

    async def _at_root(self, frame: Frame, call: Call, base: Frame) -> Frame | None:
        """One step of a frame's root; the frame to go on with, or None if it has its value."""
        if frame.joins is not None:
            cell, frame.joins = frame.joins, None
            self._finish(frame, await self._waiter(frame, cell))
            return None
        result = await self._result(frame, call, base)
        if isinstance(result, TailCall):
            return self._tail(frame, result)
        if self._watched and not isinstance(result, Skipped):
            self._report_end(frame, call)
        if isinstance(result, LazyResult):
            known = self._cells.get(result)
            if known is None:
                return self._become(frame, result)
            if known.value is UNSET:
                frame.joins = known
                return frame
            result = known.value
        self._finish(frame, result)
        return None

    def _finish(self, frame: Frame, value: Any) -> None:
        frame.finish(value)
        if frame.source is not None:
            self._keep(frame.source, value)

    def _take_over(self, frame: Frame, value: Any) -> Frame | None:
        """Give ``frame`` what it waits for; the frame to go on with, None if it has its value."""
        tail = frame.tail
        if tail is None:
            self._store(frame, frame.blueprint.instructions[frame.pc], value)
            return frame
        # The list of what the tail call's lazy arguments gave (M2).
        frame.tail = None
        if isinstance(value, Skipped):
            self._finish(frame, value)
            return None
        return self._tail(frame, with_values(tail, value))

    async def _before_root(self, frame: Frame, call: Call, base: Frame) -> Frame:
        """One step of an inner node; the frame to go on with."""
        cell = None
        if call.source is not None:
            known = self._cells.get(call.source)
            if known is not None:
                self._take(frame, call, known, None)
                return frame
            cell = self._cells[call.source] = Cell(call.source.name)
        if _is_async(call):
            self._start(frame, call, cell)
            return frame
        result = await self._result(frame, call, base)
        if isinstance(result, (TailCall, LazyResult)):
            return self._nested(frame, call, cell, result)
        if self._watched and not isinstance(result, Skipped):
            self._report_end(frame, call)
        self._store(frame, call, result, cell)
        return frame

    def _store(self, frame: Frame, call: Call, value: Any, cell: Cell | None = None) -> None:
        frame.registers[call.output.index] = value
        frame.started = None
        if frame.waits is not None:
            frame.waits.arrived(call.output.index)
        if cell is not None:
            cell.set(value)
        if call.source is not None:
            self._keep(call.source, value)

    # -- one call -----------------------------------------------------------------------------

    async def _result(self, frame: Frame, call: Call, base: Frame) -> Any:
        """What the call gives; a Skipped if it is not made (R6)."""
        args, kwargs = _arguments(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            return skipped
        if self._watched and frame.started is None:
            self._report_start(frame, call)
        is_async = _is_async(call)
        retry = frame.retry if frame.at_root else call.retry
        if (
            is_async
            or retry is not None
            or Inject in map(type, args)
            or Inject in map(type, kwargs.values())
        ):
            return await self._processor.call(
                call.func,
                is_async,
                args,
                kwargs,
                inline=self._under_way == base.on_its_own,
                retry=retry,
                failed=partial(self._report_retry, frame, call),
            )
        if self._under_way != base.on_its_own:
            return await self._run.in_worker(call.func, args, kwargs)
        try:
            return self._run.context.copy().run(call.func, *args, **kwargs)
        except StopIteration as error:
            raise stop_iteration(call.func) from error

    def _why_skipped(
        self, frame: Frame, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Skipped | None:
        if self._skips:
            for value in (*args, *kwargs.values()):
                if type(value) is Skipped:
                    return self._skip(call, _number(frame, call), value)
        if frame.looped and frame.at_root:
            return None  # conditions are for the node as a whole (R10)
        for operand in call.conditions:
            value = _load(frame.registers, operand)
            if not value or type(value) is Skipped:
                condition = _name_of(frame.blueprint, operand)
                reason = value if type(value) is Skipped else Skipped(call.name, condition)
                return self._skip(call, _number(frame, call), reason)
        return None

    def _skip(self, call: Call, number: int, skipped: Skipped) -> Skipped:
        self._skips = True
        if call.task is None or not call.task.structural:
            self._run.publish(TaskSkipped, call.name, number, skipped.condition)
        return skipped

    # -- coroutine calls (M5) -----------------------------------------------------------------

    def _start(self, frame: Frame, call: Call, cell: Cell | None) -> None:
        """Start a coroutine call; whoever uses its value is put off until that is there."""
        args, kwargs = _arguments(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            self._store(frame, call, skipped, cell)
            return
        node = self._node(frame, call, args, kwargs, cell)
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
        frame.expect(call.output.index, task)

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
            self._keep(call.source, value)
        return value

    # -- tail calls (R5) ----------------------------------------------------------------------

    def _tail(self, frame: Frame, tail: TailCall) -> Frame:
        """Continue ``frame`` as ``tail`` says; the frame to go on with."""
        lazies = lazies_of(tail)
        if lazies:
            frame.tail = tail
            code, lasti = _written(frame)
            together = gathered(lazies, code, lasti)
            blueprint = BlueprintBuilder().build(together)
            self._report_plan(blueprint)
            return Frame(blueprint, (), {}, parent=frame)
        blueprint = frame.blueprint
        current = blueprint.name
        target = self._target(frame, tail)
        again = target is blueprint
        if again and isinstance(blueprint.task, Task) and is_baked(blueprint, blueprint.task):
            args, kwargs = _literals(*_arguments(frame.registers, blueprint.instructions[-1]))
            target = template_of(blueprint.task)
            frame.enter(target, args, kwargs)
        try:
            if again:
                frame.again(tail.args, tail.kwargs)
            else:
                frame.enter(target, tail.args, tail.kwargs)
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
        args, kwargs = _literals(args, kwargs)
        node = Frame(template_of(task), args, kwargs, frame, call.output.index)
        node.cell = cell
        node.source = call.source
        node.retry = call.retry
        return node

    def _nested(
        self, frame: Frame, call: Call, cell: Cell | None, result: TailCall | LazyResult[Any]
    ) -> Frame:
        """An inner node goes on as something else: in a frame of its own."""
        if isinstance(result, TailCall):
            given, named = _arguments(frame.registers, call)
            node = self._node(frame, call, given, named, cell)
            node.started = frame.started
            return self._tail(node, result)
        if self._watched:
            self._report_end(frame, call)
        known = self._cells.get(result)
        if known is not None:
            self._take(frame, call, known, cell)
            return frame
        args, kwargs = _inputs(result)
        node = Frame(self._compile(result), args, kwargs, frame, call.output.index)
        node.source = result
        node.cell = self._cells[result] = cell or Cell(result.name)
        return node

    def _become(self, frame: Frame, lazy: LazyResult[Any]) -> Frame:
        """Continue ``frame`` as ``lazy`` (R4): a loop of such takes no memory."""
        blueprint = self._compile(lazy)
        if frame.cell is None:
            frame.cell = Cell(lazy.name)
        self._cells[lazy] = frame.cell
        frame.source = lazy
        frame.started = None
        args, kwargs = _inputs(lazy)
        frame.enter(blueprint, args, kwargs)
        frame.retry = blueprint.instructions[-1].retry
        return frame

    def _compile(self, lazy: LazyResult[Any]) -> Blueprint:
        """A blueprint for ``lazy``; the task's own where the call is all there is to it."""
        alone = not lazy.dependencies and lazy.policies is None
        if alone and isinstance(lazy.task, Task):
            blueprint = template_of(lazy.task)
        else:
            blueprint = BlueprintBuilder().build(lazy)
        sources = (lazy, *(call.source for call in blueprint.instructions))
        if any(_is_to_be_checked(source, alone) for source in sources):
            self._run.check(build_graph(lazy))  # what was not there when the run began
        self._report_plan(blueprint)
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
        waiter = self._waiter(frame, known, own)
        if own is not None:
            waiter.add_done_callback(own.take)
        frame.expect(call.output.index, waiter)

    def _waiter(self, frame: Frame, cell: Cell, own: Cell | None = None) -> asyncio.Future[Any]:
        """What gives the value of ``cell``, which another asyncio task computes.

        Raises:
            CycleError: It waits for this frame.
        """
        waiting = set(_cells_of(frame))
        if own is not None:
            waiting.add(own)
        _refuse_cycle(cell, waiting)
        if cell.waiter is None:
            cell.waiter = self._run.loop.create_future()
        for waiter in waiting:
            waiter.blocked_on.add(cell)

        def released(_done: object) -> None:
            for waiter in waiting:
                waiter.blocked_on.discard(cell)

        cell.waiter.add_done_callback(released)
        return cell.waiter

    # -- reports ------------------------------------------------------------------------------

    def _keep(self, lazy: LazyResult[Any], value: Any) -> None:
        state = self._run.state
        if state is None:
            return
        if isinstance(value, Skipped):
            state.put_skip_reason(lazy.id, repr(value))
        else:
            state.put_result(lazy.id, value)

    def _report_plan(self, blueprint: Blueprint) -> None:
        """Tell how many tasks ``blueprint`` adds to what the run has to do."""
        if self._run.bus.wants(NodesPlanned):
            known = self._cells
            added = [c for c in blueprint.instructions if c.source is None or c.source not in known]
            tasks = sum(call.task is None or not call.task.structural for call in added)
            self._run.publish(NodesPlanned, tasks)

    def _report_start(self, frame: Frame, call: Call) -> None:
        frame.started = perf_counter()
        if call.task is None or not call.task.structural:
            self._run.publish(TaskStarted, call.name, _number(frame, call))

    def _report_end(self, frame: Frame, call: Call) -> None:
        if call.task is None or not call.task.structural:
            taken = perf_counter() - (frame.started or perf_counter())
            self._run.publish(TaskFinished, call.name, _number(frame, call), taken)

    def _report_retry(
        self, frame: Frame, call: Call, attempt: int, pause: float, error: BaseException
    ) -> None:
        number = _number(frame, call)
        self._run.publish(TaskRetrying, call.name, number, attempt, pause, error)

    def _failed(self, error: BaseException, frame: Frame) -> None:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            return
        if self._error is None:
            self._error = error
        call = frame.blueprint.instructions[frame.pc]
        annotate(error, call.name, _source(frame, call), _path(frame))
        if self._watched and frame.started is not None:
            taken = perf_counter() - frame.started
            self._run.publish(TaskFailed, call.name, _number(frame, call), taken, error)


def _load(registers: Sequence[Any], operand: Operand) -> Any:
    return registers[operand.index] if isinstance(operand, Register) else operand.value


def _arguments(registers: Sequence[Any], call: Call) -> tuple[list[Any], dict[str, Any]]:
    args = [_load(registers, operand) for operand in call.args]
    kwargs = {name: _load(registers, operand) for name, operand in call.kwargs.items()}
    for surplus in (call.var_args, call.var_kwargs):
        if surplus is None:
            continue
        values = _load(registers, surplus)
        if type(values) is Skipped:  # all of them are, so it takes the place of one
            args.append(values)
        elif surplus is call.var_args:
            args += values
        else:
            kwargs |= values
    return args, kwargs


def _is_to_be_checked(source: LazyResult[Any] | None, alone: bool) -> bool:
    if source is None:
        return False
    return source.special or (isinstance(source, Source) and not alone)


def _takes_time(frame: Frame, call: Call) -> bool:
    """Whether the parents of ``frame`` can go on with something else meanwhile."""
    return frame.at_root and (_is_async(call) or frame.joins is not None)


def _is_cancelled() -> bool:
    """Whether a CancelledError comes from outside, and not from the user's task."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


def _literals(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Literal[Any]], dict[str, Literal[Any]]]:
    return [Literal(v) for v in args], {name: Literal(v) for name, v in kwargs.items()}


def _is_async(call: Call) -> bool:
    return inspect.iscoroutinefunction(call.func) if call.task is None else call.task.is_async


def _inputs(lazy: LazyResult[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """What the blueprint of ``lazy`` is entered with: a structural root has its inputs baked in."""
    return ((), {}) if lazy.task.structural else (lazy.args, lazy.kwargs)


def _source(frame: Frame, call: Call) -> LazyResult[Any] | None:
    return frame.source if call.source is None else call.source


def _number(frame: Frame, call: Call) -> int:
    source = _source(frame, call)
    return source.number if source is not None else 0


def _written(frame: Frame) -> tuple[Any, int]:
    """Where what a frame computes was written; here, for a blueprint without lazy values."""
    if frame.source is not None:
        return frame.source._code, frame.source._lasti
    return _written.__code__, 0


def _name_of(blueprint: Blueprint, operand: Operand) -> str:
    for call in blueprint.instructions:
        if call.output == operand:
            return call.name
    return repr(operand.value) if isinstance(operand, Literal) else f"r{operand.index}"


def _cells_of(frame: Frame | None) -> Iterator[Cell]:
    while frame is not None:
        if frame.cell is not None:
            yield frame.cell
        frame = frame.parent


def _refuse_cycle(cell: Cell, waiting: set[Cell]) -> None:
    seen: set[Cell] = set()
    todo = [cell]
    while todo:
        reached = todo.pop()
        if reached in waiting:
            raise CycleError(
                f"'{cell.name}' is asked for by what it waits for itself, so neither can end",
                [cell.name, reached.name, cell.name],
            )
        if reached not in seen:
            seen.add(reached)
            todo.extend(reached.blocked_on)


def _path(frame: Frame) -> list[str]:
    """Names from the target down to the call that ``frame`` is at."""
    names = [frame.blueprint.instructions[frame.pc].name]
    place, at = frame.pc, frame
    while True:
        names += _users(at.blueprint, place)
        if at.parent is None:
            origin = at.origin
            if origin is not None and at.source is not origin and not origin.task.structural:
                names.append(origin.name)
            return names[::-1]
        outputs = [call.output.index for call in at.parent.blueprint.instructions]
        place = outputs.index(at.output) if at.output in outputs else at.parent.pc
        call = at.parent.blueprint.instructions[place]
        itself = call.source is not None and call.source is at.source
        at = at.parent
        if not itself and (call.task is None or not call.task.structural):
            names.append(call.name)


def _users(blueprint: Blueprint, place: int) -> Iterator[str]:
    """Names of the calls that the value of the one at ``place`` goes through to the root."""
    while (following := _user(blueprint, place)) is not None:
        place = following
        call = blueprint.instructions[place]
        if call.task is None or not call.task.structural:
            yield call.name


def _user(blueprint: Blueprint, place: int) -> int | None:
    """The next instruction that reads what the one at ``place`` computes."""
    output = blueprint.instructions[place].output
    sources = blueprint.input_sources
    for later in range(place + 1, len(blueprint.instructions)):
        call = blueprint.instructions[later]
        reads = set(call.reads())
        if later == len(blueprint.instructions) - 1:
            reads |= {sources[i] for i in reads if i in sources}
        if output.index in reads:
            return later
    return None
