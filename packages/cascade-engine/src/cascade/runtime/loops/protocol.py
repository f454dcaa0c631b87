"""The common interface of fused and generated loops.

A loop is a function ``loop(steps, state, *arguments)`` that makes a call of a task for each item of
``steps``. It returns a tuple: the value of the last step, or PAUSED if ``steps`` was used up; the
state; and the arguments of that step, or of the next one.

A coroutine function may take long, so it checks at the end of each step whether the next one may
follow, and returns PAUSED if not. For that it takes, after the state, the count of ``cancelling``
of its asyncio task, and that task; its context, the number of the caller's context variables and
their values (see ``contexts``).
"""

from __future__ import annotations

from typing import Any, Final

from cascade.spec.blueprint import Literal
from cascade.spec.containers import ATOMS, LONG, holds_marks, is_container
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject

#: The value of a loop whose steps are used up.
PAUSED: Final = object()


class _Unset:
    def __repr__(self) -> str:
        return "(unset)"


#: Stands for the missing result of a call.
UNSET: Final = _Unset()

#: Arguments of these types are left to the node.
LAZY = (LazyResult, Literal, Inject)


def is_lazy(value: Any) -> bool:
    """Whether an argument is left to the node: a ``LAZY`` one, or a container that holds one.

    Called for each argument that is no atom and differs from the last step's (M2).
    """
    kind = type(value)
    if kind is list or kind is tuple:
        if len(value) < LONG and ATOMS.issuperset(map(type, value)):
            return False
        return holds_marks(value)
    return issubclass(kind, LAZY) or (is_container(kind) and holds_marks(value))
