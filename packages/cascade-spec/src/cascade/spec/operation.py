"""Operations: what the nodes of a program call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Operation:
    """What a node calls: a function, its name, and whether it is a coroutine function.

    Plain operations are the nodes that Cascade itself adds (containers, maps, routes,
    parameters); what users write is the subclass Task. ``structural`` tells them apart, so that
    events and drawings can leave the first kind out.
    """

    __slots__ = ("__weakref__", "func", "is_async", "name", "plain")

    structural = True
    #: How many values a call gives, where it was said; they can be unpacked before a run.
    nout: int | None = None
    #: Where a plain function is called; see ``task``.
    mode = "auto"

    def __init__(self, func: Callable[..., Any], name: str, is_async: bool = False) -> None:
        self.func = func
        self.name = name
        self.is_async = is_async
        #: Whether a call is a call and no more: no coroutine, no thread of its own choice.
        self.plain = not is_async

    @property
    def written(self) -> str:
        """A call of it as messages show it, without its arguments: ``load(…)``."""
        return f"{self.name}(…)"

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


class FacadeOperation(Operation):
    """The operation of a node that users make by a name of ``cs``: ``cs.gather(…)``.

    A subclass, because each node of an operator has an Operation of its own, which is to be small.
    """

    __slots__ = ("written",)

    written: str

    def __init__(self, func: Callable[..., Any], name: str, written: str) -> None:
        super().__init__(func, name)
        self.written = written
