"""Ranks: the order of ready items in a run in which a node has a priority (M24).

Each waiting item gains 1 a second, so the order of two of them never changes: it is that of
``arrival - priority``. A heap of these numbers needs no later look at the clock.

A run begins with a queue in order of arrival, whose methods its threads hold. Once a node with a
priority is known, the pool moves all items to a queue by rank. It leaves a ``SWITCH`` in the former
queue for each thread, which then comes for the present one; see ``WorkerPool.reorder``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from typing import Any, Final

from cascade.runtime.graph_path.segments import Queued, Work
from cascade.spec.lazy_types import LazyResult, gathered


def _signal() -> LazyResult[Any]:
    lazy = gathered([], sys._getframe().f_code, 0)
    lazy._plain = False  # the fast lane examines only nodes that are not
    return lazy


#: Tells a thread to take items from the present queue of its pool.
SWITCH: Final = _signal()
#: Tells a thread to leave: a call of another run that waits for it is more urgent.
GIVE_WAY: Final = _signal()


def by_rank(
    clock: Callable[[], float], stage: Callable[[Queued], int] | None = None
) -> Callable[[Queued], Any]:
    """The rank of an item that becomes ready now; lower ones are first.

    Args:
        clock: Returns the time, in any thread.
        stage: The stage of an item in the solver's plan, which decides first.
    """
    if stage is None:
        return lambda item: clock() - priority_of(item)
    return lambda item: (stage(item), clock() - priority_of(item))


def priority_of(item: Queued) -> Any:
    """The priority of a node; that of a map, which its items have too, holds for itself."""
    if item is GIVE_WAY:
        return inf
    node = item[1] if isinstance(item, tuple) else item
    if isinstance(node, Work):
        return node.policies.priority
    return 0 if node._policies is None else node._policies.calls.priority
