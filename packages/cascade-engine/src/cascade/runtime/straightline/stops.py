"""The points where straight-line code stops, for a graph run to continue from there."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from contextvars import Context
from typing import Any, NamedTuple, Protocol, TypeAlias

from cascade.runtime.execution.contexts import Held, is_written
from cascade.runtime.loops.protocol import UNSET
from cascade.spec.lazy_types import LazyResult


class Limited(Protocol):
    """The time until which straight-line code may make calls; tested after each."""

    @property
    def until(self) -> float:
        """By ``perf_counter``."""

    began: float


class Entry(NamedTuple):
    """The arguments of straight-line code, besides its plain values.

    Attributes:
        context: A copy of the caller's context; a call that writes to it is the last (M12).
        variables: The number of its variables.
        held: The result of ``held_in`` for it.
        turn: The time until which there may be more calls.
    """

    context: Context
    variables: int
    held: Held
    turn: Limited


class Bailout:
    """The point where straight-line code has stopped, for a graph run to continue from.

    Attributes:
        done: Results of the nodes before; RELEASED after their last use.
        result: Result of the next node; UNSET if it was not called.
        error: Its error instead, or None.
    """

    __slots__ = ("done", "error", "result")

    def __init__(
        self, done: list[Any], result: Any = UNSET, error: BaseException | None = None
    ) -> None:
        self.done = done
        self.result = result
        self.error = error

    @property
    def place(self) -> int:
        """The number of nodes that have a value."""
        return len(self.done)

    @property
    def paused(self) -> bool:
        """Whether it stopped between two calls, because its turn was over."""
        return self.result is UNSET and self.error is None


#: Makes the calls of a graph; yields the number of those made if its turn is over.
Steps: TypeAlias = Generator[int, None, Any]


class Pause(Bailout):
    """A point between two calls of a graph of many, from which its code can go on as well.

    Args:
        place: The number of nodes that have a value.
        steps: The code, which has just yielded.
        entry: What it was entered with.
        taken: Takes the results so far out of the code.
    """

    __slots__ = ("_done", "_place", "_taken", "entry", "steps")

    def __init__(
        self,
        place: int,
        steps: Steps,
        entry: Entry,
        taken: Callable[[Pause], list[Any]],
    ) -> None:
        self._place = place
        self.steps: Steps = steps
        self.entry = entry
        self.result, self.error = UNSET, None
        self._taken = taken
        self._done: list[Any] | None = None

    @property
    def done(self) -> list[Any]:
        """Results of the nodes before; taken when they are first needed."""
        if self._done is None:
            self._done = self._taken(self)
        return self._done

    @done.setter
    def done(self, done: list[Any]) -> None:
        self._done = done
        self.steps.close()

    @property
    def place(self) -> int:
        return self._place

    @property
    def is_clean(self) -> bool:
        """Whether the last call has set no context variable, which others would see (M12)."""
        return not is_written(self.entry.context, self.entry.variables, self.entry.held)


#: Types of the stops of straight-line code; all other results are values.
STOPS = (Bailout, Pause)


class Stop(NamedTuple):
    """A node whose call has returned something other than a value, has failed, or lasts."""

    lazy: LazyResult[Any]
    result: Any
    error: BaseException | None


class Begun(NamedTuple):
    """A graph that straight-line code, or a short run, has begun to compute.

    Attributes:
        lazies: Its nodes, in the order in which the code calls them.
        stopped: The point where it has stopped.
        kept: Nodes whose values were kept after their last use.
        others: Further nodes that were called, and have no value.
    """

    lazies: Sequence[LazyResult[Any]]
    stopped: Bailout
    kept: Container[LazyResult[Any]] = ()
    others: list[Stop] = []  # noqa: RUF012  # never changed while empty

    @property
    def called(self) -> LazyResult[Any] | None:
        """The node whose call has returned something other than a value, or an error."""
        return None if self.stopped.paused else self.lazies[self.stopped.place]

    def stops(self) -> list[Stop]:
        """All nodes that were called, and have no value."""
        called, stopped = self.called, self.stopped
        first = () if called is None else (Stop(called, stopped.result, stopped.error),)
        return [*first, *self.others]

    def forget(self) -> None:
        """Drop the values, which have been taken over."""
        self.stopped.done, self.stopped.result, self.stopped.error = [], UNSET, None
        self.others.clear()
