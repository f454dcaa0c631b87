"""Frame: the state of one blueprint in execution."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.notes import Way
from cascade.runtime.outcomes import caught
from cascade.spec.blueprint import Blueprint, Call, Literal, Register, TailCall
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult

if TYPE_CHECKING:
    from cascade.runtime.ticker import Ticker
    from cascade.runtime.vm.spinner import Loop
    from cascade.spec.caching import CachePolicy


class _Unset:
    def __repr__(self) -> str:
        return "(unset)"


UNSET: Final = _Unset()


class Cell:
    """The outcome of a lazy value in this run, shared by all who mention it (M14)."""

    __slots__ = ("_waiter", "blocked_on", "kept", "name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        #: By what caches are to keep the value: policy, key and arguments; the last one first.
        self.kept: list[tuple[CachePolicy, Any, Mapping[str, Any]]] = []
        self.value: Any = UNSET
        self._waiter: asyncio.Future[Any] | None = None
        #: What this cell's computation waits for now, where that is computed elsewhere.
        self.blocked_on: set[Cell] = set()

    @property
    def waiter(self) -> asyncio.Future[Any]:
        """Resolved with ``value``; made when somebody waits."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def set(self, value: Any) -> None:
        self.value = value
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(value)

    def take(self, other: asyncio.Future[Any]) -> None:
        """Set the value that ``other``, which is done, gave."""
        if not other.cancelled():
            self.set(other.result())


class Waits:
    """What a frame waits for: registers whose values are under way, and who needs them (M5)."""

    __slots__ = ("lacking", "pending", "ready", "users", "wakeup")

    def __init__(self) -> None:
        #: Registers whose values are not there yet.
        self.pending: set[int] = set()
        #: Register → the instructions that were put off until it is there.
        self.users: dict[int, list[int]] = {}
        #: Instruction that was put off → how many of its registers are not there.
        self.lacking: dict[int, int] = {}
        #: Instructions that were put off and can be executed now, lowest first.
        self.ready: list[int] = []
        #: Resolved when something has arrived; made when nothing else is left to do.
        self.wakeup: asyncio.Future[None] | None = None

    def put_off(self, place: int, output: int, lacks: set[int]) -> None:
        """Leave out the instruction at ``place`` until the registers ``lacks`` are there."""
        self.pending.add(output)
        self.lacking[place] = len(lacks)
        for register in lacks:
            self.users.setdefault(register, []).append(place)

    def arrived(self, register: int) -> None:
        """Note that the value of ``register`` is there."""
        self.pending.discard(register)
        for place in self.users.pop(register, ()):
            self.lacking[place] -= 1
            if not self.lacking[place]:
                del self.lacking[place]
                heapq.heappush(self.ready, place)
        if self.wakeup is not None and not self.wakeup.done():
            self.wakeup.set_result(None)

    async def change(self) -> None:
        """Wait until something arrives."""
        self.wakeup = asyncio.get_running_loop().create_future()
        await self.wakeup


class Ways:
    """Where the values of a frame's instructions go, for the notes of errors."""

    __slots__ = ("above", "readers", "writers")

    def __init__(self) -> None:
        #: Instruction → the one that reads what it gives; of several that was made first.
        self.readers: dict[int, int] = {}
        #: Register → the first instruction that writes to it.
        self.writers: dict[int, int] = {}
        #: Instruction → the nodes above it, as far as errors have asked for them.
        self.above: dict[int, Way] = {}


class Frame:
    """Registers and place of one blueprint in execution.

    The frame is kept through tail calls: to the same blueprint its registers are reused, to
    another one they are replaced.
    """

    __slots__ = (
        "_began",
        "_inner_began",
        "blueprint",
        "cell",
        "dead",
        "fresh",
        "given",
        "handed",
        "has_amounts",
        "joins",
        "left",
        "loop",
        "looped",
        "next",
        "on_its_own",
        "origin",
        "output",
        "parent",
        "pc",
        "policies",
        "registers",
        "source",
        "start",
        "tail",
        "ticker",
        "uncalled",
        "waited",
        "waits",
        "waits_since",
        "ways",
    )

    def __init__(
        self,
        blueprint: Blueprint,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        parent: Frame | None = None,
        output: int = -1,
    ) -> None:
        #: Where the value goes: this register of the parent; -1 if its ``tail`` waits for it.
        self.parent = parent
        self.output = output
        self.cell: Cell | None = None
        #: The lazy value that this frame computes, or the last one that it continued as.
        self.source: LazyResult[Any] | None = None
        #: The first one of these, of a frame without a parent.
        self.origin: LazyResult[Any] | None = None
        #: A tail call that waits for its lazy arguments.
        self.tail: TailCall | None = None
        self._began: float | None = None
        #: How long the node that it is at has waited for limits and for its next attempt, and since
        #: when it waits now.
        self.waited = self.waits_since = 0.0
        #: Publishes the start of the call that it is at; None once that was done.
        self.start: Callable[[], None] | None = None
        self._inner_began: float | None = None
        #: What the root gave, where that is computed elsewhere.
        self.joins: Cell | None = None
        #: 1 if an asyncio task was started to execute this frame.
        self.on_its_own = 0
        #: Whether nothing has been called for the node yet, so that a cache is to be asked.
        self.uncalled = True
        #: How often in a row a loop was entered only to be left by a tail call to another task.
        self.left = 0
        #: Counts the steps of the loop that drives it.
        self.ticker: Ticker | None = None
        self.enter(blueprint, args, kwargs)
        #: The node's, which it keeps whatever tasks it continues as by tail calls (R10).
        self.policies = blueprint.instructions[-1].policies
        #: Whether the amounts that nodes have given for it are part of these.
        self.has_amounts = False

    def enter(self, blueprint: Blueprint, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Start ``blueprint`` from its first instruction, with fresh registers.

        Raises:
            ArgumentError: The arguments do not fit its inputs, or one is missing.
        """
        self.blueprint = blueprint
        self.registers: list[Any] = [UNSET] * blueprint.register_count
        for register, value in blueprint.input_defaults.items():
            self.registers[register] = value
        #: The instruction that is executed.
        self.pc = 0
        #: The first one that was neither executed nor put off.
        self.next = 0
        self.waits: Waits | None = None
        #: Made for the first error.
        self.ways: Ways | None = None
        #: Whether the prologue's values have still to be moved into the inputs.
        self.fresh = True
        #: What the instruction that is next has given already; UNSET if it is to be executed.
        self.handed: Any = UNSET
        #: The loop of its root; None if nobody has looked for one, False if there is none.
        self.loop: Loop | bool | None = None
        #: Whether the entry was reached again; conditions are asked on the first time only.
        self.looped = False
        #: Inputs that the caller gave; the prologue does not fill these.
        self.given = self.load(args, kwargs)
        for register, name in blueprint.input_names().items():
            if self.registers[register] is UNSET and register not in blueprint.input_sources:
                raise ArgumentError(f"'{blueprint.name}' is missing its input '{name}'")
        self.dead = _dead_prologue(blueprint, self.given)

    def leave(self, blueprint: Blueprint) -> None:
        """Be at the root of ``blueprint``, without arguments: to fail there, or be handed more."""
        if blueprint is not self.blueprint:
            self.blueprint = blueprint
            self.registers = [UNSET] * blueprint.register_count
        self.pc = self.next = len(blueprint.instructions) - 1
        self.waits = self.ways = None
        self.fresh = False

    def again(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Continue at the entry with new inputs; those that are not named keep their value."""
        self.load(args, kwargs)
        self.pc = self.next = self.blueprint.entry
        self.looped = True

    def advance(self) -> Call | None:
        """The call to make now; None if all that are left wait for values under way."""
        instructions, waits = self.blueprint.instructions, self.waits
        root = len(instructions) - 1
        if waits is not None and waits.ready:
            self.pc = heapq.heappop(waits.ready)
            return instructions[self.pc]
        while self.next < root:
            if self.fresh and self.next == self.blueprint.entry:
                if waits is not None and waits.pending:
                    return None  # inputs are moved when all of the prologue is there
                self.move_inputs()
            call = instructions[self.next]
            if waits is not None and (lacks := waits.pending.intersection(call.reads())):
                if call.source is None:  # made by hand: it may use a register for two things
                    return None
                if self.next not in self.dead:
                    waits.put_off(self.next, call.output.index, lacks)
            elif self.next not in self.dead:
                self.pc = self.next
                self.next += 1
                return call
            self.next += 1
        if waits is not None and waits.pending:
            return None
        self.pc = root
        if self.fresh:
            self.move_inputs()
        return instructions[root]

    def expect(self, call: Call, future: asyncio.Future[Any]) -> None:
        """Let the register of ``call`` have what ``future`` gives; its failure ends the run."""
        if self.waits is None:
            self.waits = Waits()
        waits, registers, register = self.waits, self.registers, call.output.index
        waits.pending.add(register)
        registers[register] = future

        def arrive(_future: asyncio.Future[Any]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            if registers[register] is future:  # not overwritten since
                outcome = future.result()
                registers[register] = caught(outcome) if call.policies.catches else outcome
                waits.arrived(register)

        future.add_done_callback(arrive)

    @property
    def started(self) -> float | None:
        """When the node that it is at was told of; None before, and when its end was."""
        return self._began if self.at_root else self._inner_began

    @started.setter
    def started(self, time: float | None) -> None:
        if self.at_root:
            self._began = time
        else:
            self._inner_began = time

    def stands_still(self) -> None:
        """Stop the clock of the node that it is at, where one runs: a call has to wait (M19)."""
        if self.started is not None:
            self.waits_since = perf_counter()

    def goes_on(self) -> None:
        """Restart the clock when a call begins; before the first, publish the start."""
        if self.waits_since and self.started is not None:
            waited, self.waits_since = perf_counter() - self.waits_since, 0.0
            self.waited += waited
            self.started += waited
        self.tell_start()

    def tell_start(self) -> None:
        """Publish the start of the call that it is at, unless that was done."""
        start, self.start = self.start, None
        if start is not None:
            start()

    @property
    def at_root(self) -> bool:
        return self.pc == len(self.blueprint.instructions) - 1

    @property
    def value(self) -> Any:
        """What the root gave; of a finished frame."""
        return self.registers[self.blueprint.instructions[-1].output.index]

    def finish(self, value: Any) -> None:
        """Keep the frame's value for whoever takes it over."""
        self.registers[self.blueprint.instructions[-1].output.index] = value
        if self.cell is not None:
            self.cell.set(value)

    def move_inputs(self) -> None:
        """Fill the inputs that the prologue has computed."""
        self.fresh = False
        for register, source in self.blueprint.input_sources.items():
            if register not in self.given:
                self.registers[register] = self.registers[source]

    def load(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> set[int]:
        """Put arguments into input registers; returns which.

        A lazy value stands for what the prologue computes there.
        """
        blueprint = self.blueprint
        given: set[int] = set()
        for register, value in zip(blueprint.input_args, args, strict=False):
            self._put(register, value, given)
        surplus = tuple(args[len(blueprint.input_args) :])
        if surplus:
            self._put_surplus(surplus, given)
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            named = blueprint.input_kwargs.get(name)
            if named is None:
                extra[name] = value
            elif named in given:
                raise ArgumentError(f"'{blueprint.name}' got its input '{name}' twice")
            else:
                self._put(named, value, given)
        if extra:
            self._put_extra(extra, given)
        return given

    def _put(self, register: int, value: Any, given: set[int]) -> None:
        if issubclass(type(value), LazyResult):
            if register in self.blueprint.input_sources:
                return
            name = self.blueprint.input_names()[register]
            raise ArgumentError(
                f"the input '{name}' of '{self.blueprint.name}' was given the lazy value "
                f"{value!r}, but the blueprint was compiled for a plain one"
            )
        self.registers[register] = value.value if issubclass(type(value), Literal) else value
        given.add(register)

    def _put_surplus(self, values: tuple[Any, ...], given: set[int]) -> None:
        blueprint = self.blueprint
        register = blueprint.input_var_args
        if register is None:
            takes = len(blueprint.input_args)
            raise ArgumentError(
                f"'{blueprint.name}' takes {takes} positional input{'s' * (takes != 1)}, "
                f"but got {takes + len(values)}"
            )
        if not _any_lazy(values):
            self.registers[register] = _plain(values)
            given.add(register)

    def _put_extra(self, values: dict[str, Any], given: set[int]) -> None:
        blueprint = self.blueprint
        register = blueprint.input_var_kwargs
        if register is None:
            known = ", ".join(map(repr, blueprint.input_kwargs)) or "none"
            raise ArgumentError(
                f"'{blueprint.name}' has no input {', '.join(map(repr, values))}; "
                f"its named inputs are {known}"
            )
        if not _any_lazy(values.values()):
            plain = dict(zip(values, _plain(values.values()), strict=True))
            self.registers[register] = {**self.registers[register], **plain}
            given.add(register)


def _any_lazy(values: Iterable[Any]) -> bool:
    return any(issubclass(type(v), LazyResult) for v in values)


def _plain(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([v.value if issubclass(type(v), Literal) else v for v in values])


_NOTHING: frozenset[int] = frozenset()


def _dead_prologue(blueprint: Blueprint, given: set[int]) -> frozenset[int]:
    """Instructions of the prologue that only compute what the caller has given instead (M3)."""
    overridden = given & blueprint.input_sources.keys()
    if not overridden:
        return _NOTHING
    root = blueprint.instructions[-1]
    live = {s for i, s in blueprint.input_sources.items() if i not in overridden}
    needed = (*root.conditions, *root.after, *root.amounts.values())
    live.update(o.index for o in needed if isinstance(o, Register))
    dead = set()
    for place in reversed(range(blueprint.entry)):
        call = blueprint.instructions[place]
        if call.output.index in live:
            live.update(o.index for o in call.operands() if isinstance(o, Register))
        else:
            dead.add(place)
    return frozenset(dead)
