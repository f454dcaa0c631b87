"""Recording: the one seam through which the outcome of each node of a run goes.

``Nodes.settle`` calls ``record(node, outcome)`` once for each node, before the nodes that use the
value can begin; a failure that ends the run goes there from ``GraphRun``. What listens is composed
here, once per run, by ``recorder``; where nothing does, ``record`` is None and a node costs one
comparison. A run that is recorded takes no shortcut that leaves nodes out: no straight-line code,
no chains, no register machine.

The outcome of a node is its value; or the error that it failed with, where that is to be its value
(R9); or, without a value, a Skipped or a Failed. Values that come from a cache or from an equal
call are outcomes as well. What a node continues as is no node of its own as long as it needs
nothing (a tail call, a step of a compiled loop, a returned call without inputs): the node is
recorded once, with the last value. A returned graph has nodes of its own, which are recorded, and
so is the node that has returned it. No outcome: a node that was cancelled, or never began.

Events tell of calls instead: when one begins, fails, is tried again, and how long it took.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from cascade.runtime.semantics.outcomes import Missing, Skipped, is_error
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import StateBackend
from cascade.spec.wording import short

#: Takes a node and its outcome. Called from any thread, under the run's lock, so one call at a time
#: and each to be short. An error that it raises is the node's error, or ends the run.
Record: TypeAlias = Callable[[LazyResult[Any], Any], None]


def recorder(state: StateBackend | None, hook: Record | None) -> Record | None:
    """What is called with each outcome of a run; None where nothing listens.

    Args:
        state: Keeps outcomes for reading after the run.
        hook: Is called with each.
    """
    if state is None:
        return hook
    keep = partial(_keep, state)
    if hook is None:
        return keep

    def record(node: LazyResult[Any], outcome: Any) -> None:
        keep(node, outcome)
        hook(node, outcome)

    return record


def _keep(state: StateBackend, node: LazyResult[Any], outcome: Any) -> None:
    if issubclass(type(outcome), Skipped):
        state.put_skip_reason(node.id, short(outcome))
    elif is_error(outcome, node):
        state.put_result(node.id, outcome.error)
    elif not issubclass(type(outcome), Missing):
        state.put_result(node.id, outcome)
