"""Slots: the nodes that a windowed map continues as (M29).

The map continues as n *slots* and a node that waits for all of them. A slot is a loop by rule R4:
it reads the next item, continues as the call of that item, and, when this has its value, hands it
over and reads the next. So memory depends on the window and not on the number of items. All of it
is written as nodes, so a run needs to know nothing of windows.

With ``fold=``, a slot that has a value waits until those of all earlier items have been folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from cascade.spec.blueprint import Literal
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.fallbacks import NOT_GIVEN, Fallback
from cascade.spec.lazy_types import LazyResult, with_fallback
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.mapping import (
    MapPlan,
    check_column,
    check_lengths,
    common_arguments,
    is_async_column,
    item_calls,
)
from cascade.spec.operation import FallbackOperation, Operation

#: Seconds that reading an item may take in the event loop's thread; later reads use a worker.
_SLOW: Final = 0.005
_END: Final = object()


class Window:
    """The columns and the values of one map that is being computed.

    All but ``stop`` and ``read`` are used in the event loop's thread alone.

    Args:
        plan: The plan of the map.
        columns: The columns.
        first: The value that a fold begins with; NOT_GIVEN for that of the first item.

    Attributes:
        reading: Held by the slot that reads the next item.
        is_over: Whether no further item is read.

    Raises:
        ArgumentError: A column is no iterable, or an iterator that another run has read.
    """

    def __init__(self, plan: MapPlan, columns: Iterable[Any], first: Any) -> None:
        assert plan.window is not None
        self.plan, self.how = plan, plan.window
        self._common = common_arguments(plan)
        self._sources = [
            (name, *self._begun(name, column))
            for name, column in zip(plan.names, columns, strict=True)
        ]
        #: Whether a column is an async iterator; and whether reads use a worker, as one was slow.
        self._is_async = any(is_async for _, _, is_async in self._sources)
        self._is_slow = False
        self.reading = asyncio.Lock()
        self.is_over = self._is_broken = False
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._values: list[Any] = []
        self.so_far = first
        self._folded = 0
        self._turns: dict[int, asyncio.Future[None]] = {}

    def _begun(self, name: str, column: Any) -> tuple[Any, bool]:
        """An iterator over a column, and whether it is an async one."""
        is_async = is_async_column(column)
        if not is_async:
            check_column(self.plan.task.name, name, column)
        iterator = aiter(column) if is_async else iter(column)
        if iterator is column:
            if self.how.is_spent:
                raise ArgumentError(
                    f"{self.plan.task.name}.map() was run before, and has read its iterator "
                    f"'{name}' then\n    make the map anew for each run, or give it a list"
                )
            self.how.is_spent = True
        return iterator, is_async

    # -- reading ------------------------------------------------------------------------------

    async def next_slot(self) -> LazyResult[Any] | None:
        """The node that a slot continues as: the call of the next item; None if there is none."""
        await self.reading.acquire()
        is_handed_on = False
        try:
            if self.is_over:
                return None
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            if self._is_async:
                row: Any = await self._read_async()
            elif self._is_slow:
                is_handed_on = True  # the node that gets the row gives it back
                return self._node(_BEGUN, self, self._node(_READ, self))
            else:
                began = perf_counter()
                row = self._read()
                self._is_slow = perf_counter() - began > _SLOW
            return self.begun(row)
        except BaseException:
            self.stop()
            raise
        finally:
            if not is_handed_on:
                self.reading.release()

    def begun(self, row: dict[str, Any] | None) -> LazyResult[Any] | None:
        """The node for an item with the arguments ``row``; None at the end of the columns."""
        if row is None:
            self.stop(broken=False)
            return None
        index = self._count
        self._count += 1
        if self.how.reducer is None and self.plan.taker is None:
            self._values.append(None)
        (call,) = item_calls(self.plan, [(index, {**row, **self._common})])
        return self._node(_TAKEN, self, index, self._watched(call))

    def read(self) -> Any:
        """The arguments of the next item, or the error of reading it, on a worker."""
        try:
            return self._read()
        except BaseException as error:
            return _ReadError(error)

    def _read(self) -> dict[str, Any] | None:
        return self._row([next(iterator, _END) for _, iterator, _ in self._sources])

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

    async def take(self, index: int, value: Any) -> LazyResult[Any] | None:
        """Take the value of an item; the node that its slot continues as."""
        how = self.how
        if self.plan.taker is not None:
            await self.plan.taker.take(index, value)
        elif how.reducer is None:
            self._values[index] = value
        else:
            while self._folded != index and not self._is_broken:
                turn = self._turns[index] = asyncio.get_running_loop().create_future()
                await turn
            if self._is_broken:
                return None
            if self.so_far is not NOT_GIVEN:
                return self._fold(how.reducer, index, value)
            self.folded(value)
        return await self.next_slot()

    def _fold(self, reducer: Any, index: int, value: Any) -> LazyResult[Any]:
        given = tuple(v if type(v) in ATOMS else Literal(v) for v in (self.so_far, value))
        call = reducer.make(given, {}, self.plan.code, self.plan.lasti)
        return self._node(_FOLDED, self, self._watched(call))

    def folded(self, value: Any) -> None:
        """The value of the next item was folded, which gave ``value``."""
        self.so_far = value
        self._folded += 1
        turn = self._turns.pop(self._folded, None)
        if turn is not None and not turn.done():
            turn.set_result(None)

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
        """Read no more. From any thread.

        Args:
            broken: An item, or a fold, has no value, so that the map has none.
        """
        self.is_over = True
        self._is_broken = self._is_broken or broken
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._ended.set()
        if self._is_broken:
            for turn in self._turns.values():
                if not turn.done():
                    turn.set_result(None)

    async def close_later(self) -> None:
        """Wait for the end of the columns or of the run, and close those that are generators."""
        try:
            await self._ended.wait()
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
        slots = [self._node(_SLOT, self) for _ in range(size)]
        return self._node(_RESULT, self, self._node(_CLOSING, self), *slots)

    def _watched(self, call: LazyResult[Any]) -> LazyResult[Any]:
        return with_fallback(call, _WATCH, _Watch(self), self.plan.code, self.plan.lasti)

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
    """Covers nothing, but lets the window know that an item, or a fold, has no value."""

    __slots__ = ("_window",)

    def __init__(self, window: Window) -> None:
        super().__init__(None)
        self._window = window

    def covers(self, error: Exception | None) -> bool:
        self._window.stop()
        return False


async def _slot(window: Window) -> Any:
    return await window.next_slot()


def _read(window: Window) -> Any:
    return window.read()


async def _begin(window: Window, row: Any) -> Any:
    """Go on with a row that a worker has read."""
    try:
        if type(row) is _ReadError:
            window.stop()
            raise row.error
        return window.begun(row)
    finally:
        window.reading.release()


async def _take(window: Window, index: int, value: Any) -> Any:
    return await window.take(index, value)


async def _fold(window: Window, value: Any) -> Any:
    window.folded(value)
    return await window.next_slot()


async def _close(window: Window) -> None:
    await window.close_later()


def _result(window: Window, *_ended: Any) -> Any:
    return window.result()


def _given(_watch: _Watch, value: Any) -> Any:
    return value


_SLOT: Final = Operation(_slot, "slot of a map", is_async=True)
_READ: Final = Operation(_read, "reading of a map")
_BEGUN: Final = Operation(_begin, "slot of a map", is_async=True)
_TAKEN: Final = Operation(_take, "slot of a map", is_async=True)
_FOLDED: Final = Operation(_fold, "slot of a map", is_async=True)
_CLOSING: Final = Operation(_close, "columns of a map", is_async=True)
_RESULT: Final = Operation(_result, "map")
_WATCH: Final = FallbackOperation(_given, "item of a map", "task.map(…)")
