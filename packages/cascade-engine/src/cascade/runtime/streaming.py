"""``engine.stream``: the values of a map or list as they come, and those that tasks emit."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, Generic, Literal, Self, TypeVar, Unpack, overload

from cascade.runtime.emitting import Emitted, Sink, StreamItem, current_sink
from cascade.runtime.engine_base import EngineBase
from cascade.runtime.handle import RunHandle
from cascade.runtime.options import RunOptions, RunSettings, takes
from cascade.spec.callsite import users_frame
from cascade.spec.checks import check_flag
from cascade.spec.errors import RunError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, as_lazy, gathered
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.mapping import MapPlan
from cascade.spec.operation import Operation
from cascade.spec.turns import Turn

R = TypeVar("R")
T = TypeVar("T")

_GIVE: Final = Operation(Sink.put, "stream")


class RunStream(Generic[T]):
    """What a run gives while it is under way; an async iterator, and an async context manager.

    The run begins with the first item that is asked for, or with ``async with``, which ends it at
    the end of its block, whatever happens there. So does ``aclose()``, and dropping the stream.

    Attributes:
        handle: The handle of the run; None before it has begun.
    """

    def __init__(self, begin: Callable[[Sink], RunHandle[Any]], ordered: bool, emitted: bool):
        self._begin = begin
        self._ordered, self._emitted = ordered, emitted
        self.handle: RunHandle[Any] | None = None
        self._sink: Sink | None = None
        self._is_closed = self._is_asked = False
        #: In an ordered stream: position → a value that came early, and the turn it waits for.
        self._early: dict[int, tuple[Any, Turn | None]] = {}
        self._next = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next part.

        Raises:
            StopAsyncIteration: The run has ended, or the stream is closed.
            RunError: Another asyncio task waits for the next part.
            Exception: The error of the run, after all that came before it.
        """
        if self._is_asked:
            raise RunError("another asyncio task waits for the next part of this stream already")
        if self._is_closed:
            raise StopAsyncIteration
        handle, sink = self._started()
        self._is_asked = True
        try:
            while (part := self._ready(sink)) is None:
                if handle.status != "running":
                    self._is_closed = True
                    await handle.result()  # raises its error
                    raise StopAsyncIteration
                await sink.more()
        finally:
            self._is_asked = False
        return part if self._emitted else part.value  # type: ignore[no-any-return]

    def _started(self) -> tuple[RunHandle[Any], Sink]:
        if self.handle is None or self._sink is None:
            self._sink = sink = Sink(asyncio.get_running_loop(), self._emitted)
            self.handle = self._begin(sink)
            self.handle.at_end(sink.wake)
        return self.handle, self._sink

    def _ready(self, sink: Sink) -> Any:
        """The next part, if it has come."""
        if self._ordered and self._next in self._early:
            return self._given(*self._early.pop(self._next))
        while sink.parts:
            part, given = sink.parts.popleft()
            if self._ordered and type(part) is StreamItem and part.index != self._next:
                self._early[part.index] = part, given
                if given is not None:
                    given.rest()  # until the run has values for the items before it
            else:
                return self._given(part, given)
        return None

    def _given(self, part: Any, given: Turn | None) -> Any:
        if given is not None:
            given.end()
        if type(part) is StreamItem:
            self._next += 1
            _, waits = self._early.get(self._next, (None, None))
            if waits is not None:
                waits.go_on()  # for the stream only, however long that takes
        return part

    async def aclose(self) -> None:
        """End the run, and wait for its end: nothing of it is left. May be repeated.

        What was not asked for, and the error of the run, is dropped. Plain functions are waited
        for (M8); cancelling this abandons them.
        """
        self._is_closed = True
        if self.handle is None:
            return
        if self._sink is not None:
            self._sink.wake()
        self.handle.cancel()
        try:
            await self.handle.ended()
        except asyncio.CancelledError:
            self.handle.cancel()
            await self.handle.ended()
            raise

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The figures of its run so far, for notebooks."""
        text = {"text/plain": repr(self)}
        return text if self.handle is None else {**self.handle._repr_mimebundle_(), **text}

    def __repr__(self) -> str:
        if self.handle is None:
            return "<RunStream, closed>" if self._is_closed else "<RunStream, not begun>"
        return f"<RunStream of run {self.handle.run_id}, {self.handle.status}>"

    def __del__(self) -> None:
        if self.handle is not None:
            with suppress(RuntimeError):  # the loop is closed
                self.handle.cancel()


class StreamMethods(EngineBase):
    """Inherited by Engine."""

    @overload
    def stream(
        self,
        target: MappedLazyResult[R] | Sequence[LazyResult[R]],
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: Literal[False] = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[R]: ...
    @overload
    def stream(
        self,
        target: MappedLazyResult[R] | Sequence[LazyResult[R]],
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: Literal[True],
        **options: Unpack[RunOptions],
    ) -> RunStream[StreamItem[R] | Emitted]: ...
    @overload
    def stream(
        self,
        target: LazyResult[R],
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: Literal[False] = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[R]: ...
    @overload
    def stream(
        self,
        target: LazyResult[R],
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: Literal[True],
        **options: Unpack[RunOptions],
    ) -> RunStream[StreamItem[R] | Emitted]: ...
    @overload
    def stream(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[Any]: ...
    @takes(RunOptions, RunSettings)
    def stream(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
        emitted: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[Any]:
        """Run ``target``, and give the values of its items while it runs.

        ``async for value in engine.stream(task.map(…))``: the items of a map, or of a list or tuple
        of lazy values, as they come. Any other target has one item, its value. ``async with
        engine.stream(…) as values:`` ends the run when the block is left early.

        >>> import cascade as cs
        >>> @cs.task
        ... def double(n):
        ...     return 2 * n
        >>> async def main():
        ...     async with cs.Engine() as engine:
        ...         async for value in engine.stream(double.map(n=[1, 2, 3]), ordered=True):
        ...             print(value)
        >>> asyncio.run(main())
        2
        4
        6

        Args:
            target: As for ``run``.
            params: Values for the target's ``Param`` nodes; other names are refused (M22).
            ordered: Give the items in their order; what comes early is kept until then.
            emitted: Give parts: a ``StreamItem`` for each item, and an ``Emitted`` for each value
                that a task has given to ``cs.emit``.

        Raises:
            RunError: The engine is closed; or the run would be durable, whose items have been
                given before if it is resumed.
            CascadeError: An argument is at fault. The stream raises the errors of the run.
        """
        check_flag("ordered", ordered)
        check_flag("emitted", emitted)
        how = self._how("stream", options)
        if self._durable is not None and how.run_id is not None:
            raise RunError(
                "engine.stream() with a run_id in an engine with a store: a durable run gives no "
                "items, because it may go on where another process has given some of them\n"
                "    right:  engine.start(target, run_id=…), and await handle.result()\n"
                "    or:     engine.stream(target), which is not stored"
            )
        frame = users_frame(sys._getframe(1))
        code, lasti = frame.f_code, frame.f_lasti

        def begin(sink: Sink) -> RunHandle[Any]:
            context = copy_context()
            context.run(current_sink.set, sink)
            given = _streamed(target, sink, code, lasti)
            return context.run(self._start_stream, given, params, options)

        return RunStream(begin, ordered, emitted)


def _streamed(target: Any, sink: Sink, code: Any, lasti: int) -> Any:
    """A target that hands the values of the items of ``target`` to ``sink``."""

    def given(index: int, value: Any) -> LazyResult[Any]:
        value = as_lazy(value, code, lasti)
        inputs = (value,) if isinstance(value, LazyResult) else ()
        return LazyResult(_GIVE, (sink, index, value), NO_KWARGS, inputs, 0, code, lasti)

    if isinstance(target, MappedLazyResult) and _gives_items(target.args[0]):
        plan = copy.copy(target.args[0])
        plan.taker = sink
        lazy: MappedLazyResult[Any] = MappedLazyResult(
            target.task,
            (plan, *target.args[1:]),
            target.kwargs,
            target._dependencies,
            target._special,
            target._code,
            target._lasti,
        )
        lazy.factory, lazy.mapping_kwargs = target.factory, target.mapping_kwargs
        lazy._policies = target._policies
        return lazy
    if type(target) in (list, tuple):
        nodes = [given(index, value) for index, value in enumerate(target)]
        return gathered(nodes, code, lasti)
    return given(0, target)


def _gives_items(plan: MapPlan) -> bool:
    return plan.window is None or plan.window.reducer is None
