"""``cs.checkpoint``: a step of a loop that is committed before the next begins (D4)."""

from __future__ import annotations

from typing import Any, TypeVar

from cascade.spec.blueprint import TailCall
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

R = TypeVar("R")


class CheckpointTail(TailCall):
    """A tail call that a durable run commits before it makes the call."""

    __slots__ = ()


def checkpoint(tail: R) -> R:
    """Commit this step of a durable run before the next one begins, whatever ``durability`` says.

    >>> import cascade as cs
    >>> @cs.task
    ... def order(item, paid=False):
    ...     if not paid:
    ...         return cs.checkpoint(order.tail(item, paid=True))
    ...     return f"{item} is paid"
    >>> cs.run(order("a book"))
    'a book is paid'

    In a run without a store it is the tail call itself.

    Args:
        tail: What ``task.tail(…)`` gives.

    Raises:
        ArgumentError: ``tail`` is no tail call.
    """
    found: Any = tail
    if not isinstance(found, TailCall):
        raise ArgumentError(
            f"checkpoint() takes a tail call, but got {short(found)}\n"
            "    right:  return cs.checkpoint(agent.tail(x))"
        )
    made: Any = CheckpointTail(found.args, found.kwargs, found.target_blueprint_id, found.target)
    return made  # type: ignore[no-any-return]
