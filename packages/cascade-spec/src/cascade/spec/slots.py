"""Slots: the nodes that a windowed map continues as (M29).

The map continues as n *slots* and a node that waits for all of them. A slot is a loop by rule R4:
it reads the next item, continues as the call of that item, and, when this has its value, hands it
over and reads the next. So memory depends on the window and not on the number of items. All of it
is written as nodes. A run only needs to know which coroutines wait for other nodes (``turns``).

With ``fold=``, a slot that has a value waits until those of all earlier items have been folded. It
waits in a coroutine, which holds no thread. Everything else of a slot runs where its items do: in
the event loop's thread, or on workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from threading import Lock
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError, TaskStopIterationError
from cascade.spec.fallbacks import NOT_GIVEN, Fallback
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS, TOLD, LazyValue
from cascade.spec.mapping import (
    MapPlan,
    check_column,
    check_lengths,
    common_arguments,
    is_async_column,
    item_calls,
)
from cascade.spec.operation import FallbackOperation, Operation
from cascade.spec.turns import Turn
from cascade.spec.windowing import Resting
from cascade.spec.wording import short

#: Seconds that reading an item may take in the event loop's thread; later reads use a worker.
_SLOW: Final = 0.005
_END: Final = object()


class Window:
    """The columns and the values of one map that is being computed. From any thread.

    Args:
        plan: The plan of the map.
        columns: The columns.
        first: The value that a fold begins with; NOT_GIVEN for that of the first item.

    Attributes:
        reading: Held by the slot that reads the next item, if it may have to wait for that.
        run: Set by the run, before it makes calls of the nodes.

    Raises:
        ArgumentError: A column is no iterable, or an iterator that another run has read.
    """

    def __init__(self, plan: MapPlan, columns: Iterable[Any], first: Any) -> None:
        assert plan.window is not None
        self.plan, self.how = plan, plan.window
        self._common = common_arguments(plan)
        was_spent = self.how.is_spent  # a map may have several columns that are iterators
        self._sources = [
            (name, *self._begun(name, column, was_spent))
            for name, column in zip(plan.names, columns, strict=True)
        ]
        self._is_async = any(is_async for _, _, is_async in self._sources)
        #: Whether reading an item has taken long, so that the next ones are read on a worker.
        self._is_slow = False
        on_loop = plan.task.is_async or plan.task.mode == "inline" or plan.taker is not None
        self._operations = _ON_LOOP if on_loop or self._is_async else _ON_WORKERS
        self.reading = asyncio.Lock()
        #: Guards what follows, and the iterators.
        self._lock = Lock()
        self._is_over = self._is_broken = False
        self.run: Resting | None = None
        #: Ends the wait of ``close_later``.
        self._closing: Turn | None = None
        self._count = 0
        self._values: list[Any] = []
        self.so_far = first
        self._folded = 0
        self._turns: dict[int, Turn] = {}

    def _begun(self, name: str, column: Any, was_spent: bool) -> tuple[Any, bool]:
        """An iterator over a column, and whether it is an async one.

        ``was_spent`` tells whether another run has read the iterators among the columns.
        """
        is_async = is_async_column(column)
        if not is_async:
            check_column(self.plan.task.name, name, column)
        iterator = aiter(column) if is_async else iter(column)
        if iterator is column:
            if was_spent:
                raise ArgumentError(
                    f"{self.plan.task.name}.map() was run before, and has read its iterator "
                    f"'{name}' then\n    make the map anew for each run, or give it a list"
                )
            self.how.is_spent = True
        return iterator, is_async

    # -- reading ------------------------------------------------------------------------------

    def next_item(self) -> LazyResult[Any] | None:
        """The node that a slot continues as: the call of the next item; None if there is none."""
        if self._is_async or self._is_slow:
            return self._node(_WAITING, self)
        with self._lock:
            if self._is_over:
                return None
            began = perf_counter()
            row = self._read()
            self._is_slow = perf_counter() - began > _SLOW
            return self._called(row)

    async def next_item_later(self) -> LazyResult[Any] | None:
        """The same where reading may take long."""
        is_handed_on = False
        await self.reading.acquire()
        try:
            if self._is_over:
                return None
            if self._is_async:
                return self._called(await self._read_async())
            is_handed_on = True  # the node that gets the row releases it
            return self._node(_BEGUN, self, self._node(_READ, self))
        except BaseException:
            self.stop()
            raise
        finally:
            if not is_handed_on:
                self.reading.release()

    def read_on_worker(self) -> Any:
        """The arguments of the next item, or the error of reading it."""
        try:
            with self._lock:
                return self._read()
        except BaseException as error:
            return _ReadError(error)

    def begun(self, row: Any) -> LazyResult[Any] | None:
        """The node for an item that a worker has read."""
        try:
            if type(row) is _ReadError:
                raise row.error
            return self._called(row)
        finally:
            self.reading.release()

    def _called(self, row: dict[str, Any] | None) -> LazyResult[Any] | None:
        """The node for an item with the arguments ``row``; None at the end of the columns."""
        if row is None:
            self.stop(broken=False)
            return None
        index = self._count
        self._count += 1
        if self.how.reducer is None and self.plan.taker is None:
            self._values.append(None)
        (call,) = item_calls(self.plan, [(index, {**row, **self._common})])
        return self._node(self._operations[1], _Watch(self, index), call)

    def _read(self) -> dict[str, Any] | None:
        try:
            return self._row([next(iterator, _END) for _, iterator, _ in self._sources])
        except BaseException:
            self.stop()
            raise

    async def _read_async(self) -> dict[str, Any] | None:
        found = []
        for _, iterator, is_async in self._sources:
            found.append(await anext(iterator, _END) if is_async else next(iterator, _END))
        return self._row(found)

    def _row(self, found: list[Any]) -> dict[str, Any] | None:
        names = self.plan.names
        if not any(value is _END for value in found):
            return dict(zip(names, found, strict=True))
        more = {n for n, value in zip(names, found, strict=True) if value is not _END}
        if more:
            check_lengths(self.plan.task.name, dict.fromkeys(names, self._count), more)
        return None

    # -- values -------------------------------------------------------------------------------

    def take(self, index: int, value: Any) -> LazyResult[Any] | None:
        """Take the value of an item; the node that its slot continues as."""
        if self.plan.taker is not None:
            return self._node(_HANDED, self, index, value)
        if self.how.reducer is None:
            self._values[index] = value
        elif index != self._folded:  # only the slot whose turn it is may change that
            return self._node(_TURN, self, index, value)
        elif not isinstance(self.how.reducer, Operation):
            self.folded(value if self.so_far is NOT_GIVEN else self._fold_here(value))
        elif self.so_far is not NOT_GIVEN:
            return self._fold(value)
        else:
            self.folded(value)
        return self.next_item()

    async def hand_over(self, index: int, value: Any) -> LazyResult[Any] | None:
        """Take the value of an item of a stream."""
        assert self.plan.taker is not None
        await self.plan.taker.take(index, value, self.run)
        return self.next_item()

    async def take_in_turn(self, index: int, value: Any) -> LazyResult[Any] | None:
        """Take the value of an item when all earlier ones have been folded."""
        turn = None
        with self._lock:
            if self._folded != index:
                turn = self._turns[index] = Turn(self.run)
        if turn is not None:
            if self._is_broken:  # ``stop``, on another thread, may have looked before
                turn.end()
            await turn.come()
        return None if self._is_broken else self.take(index, value)

    def _fold_here(self, value: Any) -> Any:
        """The value of a fold by a function that is no task.

        Raises:
            ArgumentError: It gives a lazy value.
            TaskStopIterationError: It raises a StopIteration.
        """
        try:
            so_far = self.how.reducer(self.so_far, value)
        except StopIteration as error:
            raise TaskStopIterationError.of(self.how.reducer) from error
        if issubclass(type(so_far), (LazyValue, TailCall)):
            raise ArgumentError(
                f"the fold {short(self.how.reducer)} has returned {short(so_far)}, and only a "
                "task can: decorate it with @cs.task"
            )
        return so_far

    def _fold(self, value: Any) -> LazyResult[Any]:
        given = tuple(v if type(v) in ATOMS else Literal(v) for v in (self.so_far, value))
        call = self.how.reducer.make(given, {}, self.plan.code, self.plan.lasti)
        return self._node(self._operations[2], _Watch(self, 0), call)

    def folded(self, value: Any) -> None:
        """The value of the next item was folded, which gave ``value``."""
        self.so_far = value
        with self._lock:
            self._folded += 1
            turn = self._turns.pop(self._folded, None)
        if turn is not None:
            turn.end()

    def result(self) -> Any:
        """The value of the map, after all slots have ended.

        Raises:
            ArgumentError: There is nothing to fold, and no value to begin with.
        """
        if self.how.reducer is None:
            return None if self.plan.taker is not None else self._values
        if self.so_far is NOT_GIVEN:
            raise ArgumentError(
                f"{self.plan.task.name}.map() has no items, and nothing to begin its fold with\n"
                f"    right:  {self.plan.task.name}.map(…, fold=…, initial=0)"
            )
        return self.so_far

    # -- the end ------------------------------------------------------------------------------

    def stop(self, broken: bool = True) -> None:
        """Read no more.

        Args:
            broken: An item, or a fold, has no value, so that the map has none.
        """
        self._is_broken = self._is_broken or broken
        self._is_over = True
        if self._closing is not None:
            self._closing.end()
        if self._is_broken:
            for turn in list(self._turns.values()):
                turn.end()

    async def close_later(self) -> None:
        """Wait for the end of the columns or of the run, and close those that are generators."""
        self._closing = Turn(self.run)
        try:
            if self._is_over:  # it may have ended before
                self._closing.end()
            await self._closing.come()
        finally:
            for _, iterator, _ in self._sources:
                if isinstance(iterator, AsyncGeneratorType):
                    async with self.reading:
                        await iterator.aclose()
                elif isinstance(iterator, GeneratorType) and not iterator.gi_running:
                    iterator.close()

    # -- nodes --------------------------------------------------------------------------------

    def nodes(self, size: int) -> LazyResult[Any]:
        """The node that the map continues as, with ``size`` slots."""
        slots = [
            self._node(self._operations[3], _Watch(self, 0), self._node(self._operations[0], self))
            for _ in range(size)
        ]
        closing = self._node(_CLOSING, self)
        closing._special = TOLD
        return self._node(_RESULT, self, *slots, closing)

    def _node(self, operation: Operation, *args: Any) -> LazyResult[Any]:
        inputs = tuple(value for value in args if isinstance(value, LazyResult))
        at = self.plan.code, self.plan.lasti
        return LazyResult(operation, args, NO_KWARGS, inputs, 0, *at)


class _ReadError:
    """The error of reading an item on a worker."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Watch(Fallback):
    """Covers nothing, but lets the window know that an item, a fold or a slot has no value."""

    __slots__ = ("index", "window")

    def __init__(self, window: Window, index: int) -> None:
        super().__init__(None)
        self.window, self.index = window, index

    def covers(self, error: Exception | None) -> bool:
        self.window.stop()
        return False


def _take(watch: _Watch, value: Any) -> Any:
    return watch.window.take(watch.index, value)


def _fold(watch: _Watch, value: Any) -> Any:
    watch.window.folded(value)
    return watch.window.next_item()


async def _slot_on_loop(window: Window) -> Any:
    return window.next_item()


async def _take_on_loop(watch: _Watch, value: Any) -> Any:
    return _take(watch, value)


async def _fold_on_loop(watch: _Watch, value: Any) -> Any:
    return _fold(watch, value)


def _ended(_watch: _Watch, _none: None) -> None:
    pass


async def _ended_on_loop(_watch: _Watch, _none: None) -> None:
    pass


async def _begin(window: Window, row: Any) -> Any:
    return window.begun(row)


def _watched(func: Any, is_async: bool) -> FallbackOperation:
    """An operation with a _Watch and an input, of which it tells the window if that is missing."""
    operation = FallbackOperation(func, "window of a map", "task.map(…)")
    operation.is_async = is_async
    return operation


#: The operations of a slot: its beginning, one for values of items, one for values of folds, and
#: its end. The end watches the slot itself, which may fail by a plain fold or by a limit of
#: steps; the other slots then stop waiting for their turns.
_ON_WORKERS: Final = (
    Operation(Window.next_item, "window of a map"),
    _watched(_take, False),
    _watched(_fold, False),
    _watched(_ended, False),
)
_ON_LOOP: Final = (
    Operation(_slot_on_loop, "window of a map", is_async=True),
    _watched(_take_on_loop, True),
    _watched(_fold_on_loop, True),
    _watched(_ended_on_loop, True),
)
_WAITING: Final = Operation(Window.next_item_later, "window of a map", is_async=True)
_READ: Final = Operation(Window.read_on_worker, "items of a map")
_BEGUN: Final = Operation(_begin, "window of a map", is_async=True)
_TURN: Final = Operation(Window.take_in_turn, "window of a map", is_async=True)
_HANDED: Final = Operation(Window.hand_over, "window of a map", is_async=True)
_CLOSING: Final = Operation(Window.close_later, "columns of a map", is_async=True)
_RESULT: Final = Operation(lambda window, *_ended: window.result(), "map")
