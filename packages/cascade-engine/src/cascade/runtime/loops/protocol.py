"""What fused and generated loops have in common: how they are entered, and what they give.

A loop is a function ``loop(steps, state, *arguments)`` that makes a call of a task for each item
of ``steps``. It gives a tuple: the value of the last step, or PAUSED if ``steps`` was used up; the
state; and the arguments of that step, or of the next one.

A coroutine function may take long, so it looks at the end of each step whether the next may follow,
and gives PAUSED if not. For that it takes, after the state, what ``cancelling`` gave and that
method of its asyncio task; its context, the number of the caller's context variables and what they
were (see ``contexts``).
"""

from __future__ import annotations

from typing import Final

from cascade.spec.blueprint import Literal
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject

#: What a loop gives as its value when its steps are used up.
PAUSED: Final = object()


class _Unset:
    def __repr__(self) -> str:
        return "(unset)"


#: Stands for what a call has not given so far.
UNSET: Final = _Unset()

#: What a node sees to where it is an argument.
LAZY = (LazyResult, Literal, Inject)
