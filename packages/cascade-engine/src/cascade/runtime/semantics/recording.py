"""Recording: the one place that the outcome of each node of a run passes through.

``Nodes.settle`` calls ``record(node, outcome)`` once for each node, before the nodes that use the
value can begin; ``Failures`` calls it with a failure that ends the run. ``recorder`` combines the
listeners once per run. Without listeners ``record`` is None, and a node costs one comparison. A
recorded run takes no shortcut that leaves out nodes: no straight-line code, no chains, no register
machine.

The outcome of a node is its value, or the error that becomes its value (R9), or a Skipped or a
Failed if it has no value. Values from a cache or from an equal call are outcomes as well. A node
that continues as another call without inputs (a tail call, a step of a compiled loop, a returned
call) is recorded once, with the last value. A returned graph has nodes of its own: they are
recorded, and so is the node that returned it. A node that was cancelled, or that the end of the run
left unreached, has no outcome.

Events describe calls instead: when one begins, fails or is tried again, and how long it took.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from cascade.runtime.semantics.outcomes import Missing, Skipped, is_error
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import StateBackend
from cascade.spec.wording import short

#: Takes a node and its outcome. Called from any thread, under the run's lock: one call at a time,
#: and each should be short. An error that it raises is the node's error, or ends the run.
Record: TypeAlias = Callable[[LazyResult[Any], Any], None]
#: Takes a node, its value and its user before the fast lane hands the value on; False if the
#: listeners have not been told, and ``Nodes.settle`` has to do both. Called under the run's lock.
Keeper: TypeAlias = Callable[[LazyResult[Any], Any, object], bool]


def never(_node: LazyResult[Any], _value: Any, _user: object) -> bool:
    """The keeper of a run whose listeners have to be told of each node."""
    return False


def recorder(state: StateBackend | None, hook: Record | None) -> Record | None:
    """The callable that takes each outcome of a run; None without listeners.

    Args:
        state: Keeps the outcomes, to be read after the run.
        hook: Called with each outcome.
    """
    if state is None:
        return hook
    return together(partial(_keep, state), hook)


def together(first: Record | None, then: Record | None) -> Record | None:
    """The callable that tells both."""
    if first is None or then is None:
        return first or then

    def record(node: LazyResult[Any], outcome: Any) -> None:
        first(node, outcome)
        then(node, outcome)

    return record


def _keep(state: StateBackend, node: LazyResult[Any], outcome: Any) -> None:
    if issubclass(type(outcome), Skipped):
        state.put_skip_reason(node.id, short(outcome))
    elif is_error(outcome, node):
        state.put_result(node.id, outcome.error)
    elif not issubclass(type(outcome), Missing):
        state.put_result(node.id, outcome)
