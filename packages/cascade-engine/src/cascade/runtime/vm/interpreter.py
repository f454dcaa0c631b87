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
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from cascade.graph.compiler import BlueprintBuilder, template_of
from cascade.runtime.events import TaskFailed, TaskFinished, TaskSkipped, TaskStarted
from cascade.runtime.notes import annotate
from cascade.runtime.processor import NodeProcessor
from cascade.runtime.run import Run, stop_iteration
from cascade.runtime.skipping import Skipped
from cascade.runtime.tailcall import lazies_of, misfit, with_values
from cascade.runtime.ticker import Ticker
from cascade.runtime.vm.frame import UNSET, Cell, Frame
from cascade.runtime.vm.registry import BlueprintRegistry
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register, TailCall
from cascade.spec.containers import gathered
from cascade.spec.errors import ArgumentError, CycleError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject
from cascade.spec.task import Task


class _Started:
    """A coroutine call under way, in the place of its value."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task


class Interpreter:
    """Executes one blueprint and all that it leads to."""

    def __init__(self, run: Run, registry: BlueprintRegistry) -> None:
        self._run = run
        self._registry = registry
        self._processor = NodeProcessor(run)
        self._cells: WeakKeyDictionary[LazyResult[Any], Cell] = WeakKeyDictionary()
        #: Coroutine calls that were started and have not ended.
        self._under_way = 0
        #: Whether any node was skipped so far; until then nobody needs to look.
        self._skips = False
        self._error: BaseException | None = None
        self._watched = run.watches_tasks

    async def execute(self, frame: Frame) -> Any:
        """The value of ``frame``; a Skipped where it has none.

        The first error wins; when this returns or raises nothing of the execution is running.
        """
        if frame.source is not None:
            frame.cell = self._cells[frame.source] = Cell(frame.source.name)
        try:
            async with asyncio.TaskGroup() as self._group:
                return await self._drive(frame)
        except BaseExceptionGroup:
            pass
        # Raised outside of the handler, so that the user's __cause__ and __context__ stay.
        assert self._error is not None
        raise self._error

    # -- the loop -----------------------------------------------------------------------------

    async def _drive(self, frame: Frame) -> Any:
        """Execute ``frame`` and the frames that it leads to, until it has a value."""
        base = frame
        ticker = Ticker()
        try:
            while True:
                blueprint = frame.blueprint
                if frame.pc == blueprint.entry and frame.fresh:
                    frame.move_inputs()
                call = blueprint.instructions[frame.pc]
                if frame.at_root:
                    following = await self._at_root(frame, call)
                    while following is None:  # the frame has its value
                        if frame is base:
                            return frame.value
                        frame, following = await self._hand_over(frame)
                    frame = following
                elif frame.pc in frame.dead:
                    frame.pc += 1
                else:
                    frame = await self._before_root(frame, call)
                if ticker.step():
                    await ticker.pause()
        except BaseException as error:
            self._failed(error, frame)
            raise

    async def _at_root(self, frame: Frame, call: Call) -> Frame | None:
        """One step of a frame's root; the frame to go on with, or None if it has its value."""
        result = await self._result(frame, call)
        if isinstance(result, TailCall):
            return self._tail(frame, result)
        if self._watched and not isinstance(result, Skipped):
            self._report_end(frame, call)
        if isinstance(result, LazyResult):
            known = self._cells.get(result)
            if known is None:
                return self._become(frame, result)
            result = await self._outcome(frame, known)
        await self._finish(frame, result)
        return None

    async def _finish(self, frame: Frame, value: Any) -> None:
        await self._settle_frame(frame)
        frame.finish(value)
        if frame.source is not None:
            self._keep(frame.source, value)

    async def _hand_over(self, frame: Frame) -> tuple[Frame, Frame | None]:
        """Give a finished frame's value to its parent; also what to go on with, None if nothing."""
        parent = frame.parent
        assert parent is not None
        tail = parent.tail
        if tail is None:
            self._store(parent, parent.blueprint.instructions[parent.pc], frame.value)
            return parent, parent
        # The value is the list of what a tail call's lazy arguments gave (M2).
        parent.tail = None
        if isinstance(frame.value, Skipped):
            await self._finish(parent, frame.value)
            return parent, None
        return parent, self._tail(parent, with_values(tail, frame.value))

    async def _before_root(self, frame: Frame, call: Call) -> Frame:
        """One step of an inner node; the frame to go on with."""
        cell = None
        if call.source is not None:
            known = self._cells.get(call.source)
            if known is not None:
                self._store(frame, call, await self._outcome(frame, known))
                return frame
            cell = self._cells[call.source] = Cell(call.source.name)
        if _is_async(call):
            return await self._start(frame, call, cell)
        result = await self._result(frame, call)
        if isinstance(result, (TailCall, LazyResult)):
            return await self._nested(frame, call, cell, result)
        if self._watched and not isinstance(result, Skipped):
            self._report_end(frame, call)
        self._store(frame, call, result, cell)
        return frame

    def _store(self, frame: Frame, call: Call, value: Any, cell: Cell | None = None) -> None:
        frame.registers[call.output.index] = value
        frame.pc += 1
        frame.started = None
        if cell is not None:
            cell.set(value)
        if call.source is not None:
            self._keep(call.source, value)

    # -- one call -----------------------------------------------------------------------------

    async def _result(self, frame: Frame, call: Call) -> Any:
        """What the call gives; a Skipped if it is not made (R6)."""
        if self._under_way:
            await self._settle_operands(frame, call)
        args, kwargs = _arguments(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            return skipped
        if self._watched and frame.started is None:
            self._report_start(frame, call)
        is_async = _is_async(call)
        if is_async or Inject in map(type, args) or Inject in map(type, kwargs.values()):
            inline = not self._under_way
            return await self._processor.call(call.func, is_async, args, kwargs, inline=inline)
        if self._under_way:
            return await self._run.in_worker(call.func, args, kwargs)
        try:
            return call.func(*args, **kwargs)
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

    async def _start(self, frame: Frame, call: Call, cell: Cell | None) -> Frame:
        """Start a coroutine call; its value is awaited at first use."""
        if self._under_way:
            await self._settle_operands(frame, call)
        args, kwargs = _arguments(frame.registers, call)
        skipped = self._why_skipped(frame, call, args, kwargs)
        if skipped is not None:
            self._store(frame, call, skipped, cell)
            return frame
        task = self._group.create_task(
            self._under_its_own(self._node(frame, call, args, kwargs, cell), call),
            context=self._run.context.copy(),
        )
        self._under_way += 1
        task.add_done_callback(self._one_less)
        frame.registers[call.output.index] = _Started(task)
        frame.pc += 1
        return frame

    def _one_less(self, _task: object) -> None:
        self._under_way -= 1

    async def _under_its_own(self, node: Frame, call: Call) -> Any:
        """The body of a started call: the node loops alone (M3), in an asyncio task of its own."""
        value = await self._drive(node)
        if call.source is not None:
            self._keep(call.source, value)
        return value

    async def _settle_operands(self, frame: Frame, call: Call) -> None:
        """Await the started calls that ``call`` uses or comes after."""
        for operand in _operands(call):
            await self._settle(frame, operand.index)

    async def _settle_frame(self, frame: Frame) -> None:
        """Await what nobody used, because its user was skipped: it still runs (M16)."""
        if self._under_way:
            for register, value in enumerate(frame.registers):
                if type(value) is _Started:
                    await self._settle(frame, register)

    async def _settle(self, frame: Frame, register: int) -> None:
        value = frame.registers[register]
        if type(value) is _Started:
            frame.registers[register] = await value.task

    # -- tail calls (R5) ----------------------------------------------------------------------

    def _tail(self, frame: Frame, tail: TailCall) -> Frame:
        """Continue ``frame`` as ``tail`` says; the frame to go on with."""
        lazies = lazies_of(tail)
        if lazies:
            frame.tail = tail
            code, lasti = _written(frame)
            together = gathered(lazies, code, lasti)
            return Frame(BlueprintBuilder().build(together), (), {}, parent=frame)
        blueprint = frame.blueprint
        current = blueprint.name
        target = self._target(frame, tail)
        try:
            if target is blueprint:
                frame.again(tail.args, tail.kwargs)
            else:
                frame.enter(target, tail.args, tail.kwargs)
        except ArgumentError as error:
            raise misfit(current, target.name, error) from None
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
        node = Frame(template_of(task), args, kwargs, frame, call.output.index)
        node.cell = cell
        node.source = call.source
        return node

    async def _nested(
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
            self._store(frame, call, await self._outcome(frame, known, cell), cell)
            return frame
        args, kwargs = _inputs(result)
        node = Frame(self._compile(result), args, kwargs, frame, call.output.index)
        node.source = result
        node.cell = self._cells[result] = cell or Cell(result.name)
        return node

    def _become(self, frame: Frame, lazy: LazyResult[Any]) -> Frame:
        """Continue ``frame`` as ``lazy`` (R4): a loop of such takes no memory."""
        if frame.cell is None:
            frame.cell = Cell(lazy.name)
        self._cells[lazy] = frame.cell
        frame.source = lazy
        frame.started = None
        args, kwargs = _inputs(lazy)
        frame.enter(self._compile(lazy), args, kwargs)
        return frame

    def _compile(self, lazy: LazyResult[Any]) -> Blueprint:
        """A blueprint for ``lazy``; the task's own where the call is all there is to it."""
        alone = not (lazy.dependencies or lazy.conditions or lazy.predecessors)
        if alone and isinstance(lazy.task, Task):
            return template_of(lazy.task)
        return BlueprintBuilder().build(lazy)

    # -- values computed elsewhere (M14) ------------------------------------------------------

    async def _outcome(self, frame: Frame, cell: Cell, own: Cell | None = None) -> Any:
        """The value of ``cell``, waiting for it if another asyncio task computes it.

        Raises:
            CycleError: It waits for this frame.
        """
        if cell.value is not UNSET:
            return cell.value
        waiting = set(_cells_of(frame))
        if own is not None:
            waiting.add(own)
        _refuse_cycle(cell, waiting)
        if cell.waiter is None:
            cell.waiter = self._run.loop.create_future()
        for waiter in waiting:
            waiter.blocked_on.add(cell)
        try:
            await asyncio.shield(cell.waiter)
        finally:
            for waiter in waiting:
                waiter.blocked_on.discard(cell)
        return cell.value

    # -- reports ------------------------------------------------------------------------------

    def _keep(self, lazy: LazyResult[Any], value: Any) -> None:
        state = self._run.state
        if state is None:
            return
        if isinstance(value, Skipped):
            state.put_skip_reason(lazy.id, repr(value))
        else:
            state.put_result(lazy.id, value)

    def _report_start(self, frame: Frame, call: Call) -> None:
        frame.started = perf_counter()
        if call.task is None or not call.task.structural:
            self._run.publish(TaskStarted, call.name, _number(frame, call))

    def _report_end(self, frame: Frame, call: Call) -> None:
        if call.task is None or not call.task.structural:
            taken = perf_counter() - (frame.started or perf_counter())
            self._run.publish(TaskFinished, call.name, _number(frame, call), taken)

    def _failed(self, error: BaseException, frame: Frame) -> None:
        if isinstance(error, asyncio.CancelledError):
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
    if call.var_args is not None:
        args += _load(registers, call.var_args)
    if call.var_kwargs is not None:
        kwargs |= _load(registers, call.var_kwargs)
    return args, kwargs


def _operands(call: Call) -> Iterator[Register]:
    """The registers that a call reads or comes after."""
    for operand in (*call.args, *call.kwargs.values(), *call.conditions, *call.after):
        if isinstance(operand, Register):
            yield operand
    for surplus in (call.var_args, call.var_kwargs):
        if surplus is not None:
            yield surplus


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
            return names[::-1]
        outputs = [call.output.index for call in at.parent.blueprint.instructions]
        place = outputs.index(at.output) if at.output in outputs else at.parent.pc
        at = at.parent
        call = at.blueprint.instructions[place]
        if call.task is None or not call.task.structural:
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
        reads = {operand.index for operand in _operands(call)}
        if later == len(blueprint.instructions) - 1:
            reads |= {sources[i] for i in reads if i in sources}
        if output.index in reads:
            return later
    return None
