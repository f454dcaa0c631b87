"""Operations: the callables of a program's nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Operation:
    """The callable of a node: a function, its name, and whether it is a coroutine function.

    Plain operations belong to the nodes that Cascade itself adds (containers, maps, routes,
    parameters); users write the subclass Task. ``structural`` tells them apart, so that events and
    drawings can leave out the first kind.
    """

    __slots__ = ("__weakref__", "func", "is_async", "name", "plain")

    structural = True
    #: Number of values that a call gives, if declared; they can be unpacked before a run.
    nout: int | None = None
    #: Where a plain function is called; see ``task``.
    mode = "auto"
    #: Whether a coroutine function may block the event loop, or for how many seconds; see ``task``.
    may_block: bool | float = False
    #: Whether a worker's fast lane may call it although its nodes have policies or resources.
    is_light = False
    #: Whether its nodes wait for a time or a signal, and call no function; see ``waits``.
    is_wait = False
    #: The methods that set policies without a meaning for its nodes.
    refuses: frozenset[str] = frozenset()

    def __init__(self, func: Callable[..., Any], name: str, is_async: bool = False) -> None:
        self.func = func
        self.name = name
        self.is_async = is_async
        #: Whether it is a plain call: no coroutine, no thread of its own choice.
        self.plain = not is_async

    @property
    def written(self) -> str:
        """A call of it in messages, without its arguments: ``load(…)``."""
        return f"{self.name}(…)"

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


class FacadeOperation(Operation):
    """The operation of a node that users make by a name of ``cs``: ``cs.gather(…)``.

    A subclass, because each node of an operator has its own Operation, which must stay small.
    """

    __slots__ = ("written",)

    written: str

    def __init__(self, func: Callable[..., Any], name: str, written: str) -> None:
        super().__init__(func, name)
        self.written = written


class FallbackOperation(FacadeOperation):
    """The operation of a node that may have a value although its input has none (M26).

    Not plain: a run decides at each of these nodes whether it goes on.
    """

    __slots__ = ()

    def __init__(self, func: Callable[..., Any], name: str, written: str) -> None:
        super().__init__(func, name, written)
        self.plain = False
