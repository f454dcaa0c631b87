"""Context variables that a call has set in a context shared with other calls (ruling M12).

Calls share a copy of the caller's context until one of them sets a variable. Two contexts are
compared by the identity of their values, without a call of user code: ``==`` would call ``__eq__``
of the values, which may raise, take long, or mistake a new value for the old one.

The check is inlined at each call, because it costs less than a function call::

    if len(context) != count or (held and differs(context, held)): ...

``count`` is the number of variables in the caller's context, ``held`` is the result of ``held_in``
for it. A variable can only be added, or removed after it was added. An equal count and identical
values therefore mean that nothing has changed. Most callers have set no variables, so that
comparing the counts is enough.
"""

from __future__ import annotations

from collections.abc import Collection
from contextvars import Context, ContextVar
from typing import Any, Final, TypeAlias

Held: TypeAlias = tuple[tuple[ContextVar[Any], Any], ...]

_UNSET: Final = object()


def held_in(context: Context, own: Collection[ContextVar[Any]] = ()) -> Held:
    """The variables of ``context`` that a call may set, with their values.

    Args:
        context: The caller's.
        own: Variables of Cascade that are set for a whole run, and by no task.
    """
    if len(context) == len(own):
        return ()
    return tuple([item for item in context.items() if item[0] not in own])


def differs(context: Context, held: Held) -> bool:
    """Whether one of the variables has another value in ``context``, even an equal one."""
    for variable, value in held:  # noqa: SIM110  # any() would make a generator for each call
        if context.get(variable, _UNSET) is not value:
            return True
    return False


def is_written(context: Context, count: int, held: Held) -> bool:
    """Whether a call has set a variable in ``context``; the complete check."""
    return len(context) != count or differs(context, held)
