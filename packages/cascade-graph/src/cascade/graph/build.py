"""``build_graph``: the graph of a lazy value and all its inputs.

A node can be called only after its inputs exist, so the creation numbers of lazy values are already
a topological order of the data edges. Planning is a walk over the nodes below the target and one
sort by number. Only ``run_if`` and ``after`` can add an edge to a younger node; then the general
algorithm is needed (Kahn 1962), and only then can there be a cycle.

Nothing is recursive: a chain of 100 000 nodes is an ordinary input. O(n + m) plus the sort, which
is nearly linear because most numbers come in ascending runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Any

from cascade.graph.model import Graph
from cascade.spec.errors import CycleError, DefinitionError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.wording import short

_NUMBER = attrgetter("number")
_SHOWN_OF_A_CYCLE = 12


def build_graph(
    target: LazyResult[Any],
    *,
    routes: bool = False,
    known: Callable[[LazyResult[Any]], bool] | None = None,
) -> Graph:
    """Collect the nodes that ``target`` needs, shared ones once.

    Args:
        target: A lazy value.
        routes: Include the routes of routers, and fallbacks. Drawings need them. A run does not,
            because only the chosen route runs (R7), and the choice is made late.
        known: Recognises lazy values that are handled elsewhere. They are not entered, and the
            graph lists them in ``outside``.

    Raises:
        CycleError: Nodes wait for each other; ``.cycle`` names them.
        DefinitionError: ``target`` is not a lazy value.
    """
    lazies = in_order(target, routes=routes, known=known)
    return _wire(lazies, inputs_and_routes if routes else inputs_of, known, routes)


def in_order(
    target: LazyResult[Any],
    *,
    routes: bool = False,
    known: Callable[[LazyResult[Any]], bool] | None = None,
) -> list[LazyResult[Any]]:
    """The nodes of the graph alone, inputs before users and ``target`` last.

    Arguments and errors are those of ``build_graph``.
    """
    if not isinstance(target, LazyResult):
        raise DefinitionError(_not_lazy(target))
    inputs = inputs_and_routes if routes else inputs_of
    reached, ordered = _reach(target, inputs, known)
    lazies = sorted(reached, key=_NUMBER)
    if not ordered or (routes and lazies[-1] is not target):
        lazies = _order(lazies, inputs)
    return lazies


def inputs_of(lazy: LazyResult[Any]) -> tuple[LazyResult[Any], ...]:
    """The nodes that must end before ``lazy`` may start, in a run."""
    policies = lazy._policies
    if policies is None:
        return lazy._dependencies
    more = policies.conditions + policies.predecessors
    if policies.amounts and not lazy.task.structural:
        more += tuple(policies.amounts.values())
    return lazy._dependencies + more


def inputs_and_routes(lazy: LazyResult[Any]) -> Sequence[LazyResult[Any]]:
    """The inputs of a node, and the targets of its routes, one of which it continues as."""
    if type(lazy) is LazyResult:  # the most common class, and one without choices
        return inputs_of(lazy)
    return (*inputs_of(lazy), *(other for _, other in lazy._choices))


def _reach(
    target: LazyResult[Any],
    inputs: Callable[[LazyResult[Any]], Sequence[LazyResult[Any]]],
    known: Callable[[LazyResult[Any]], bool] | None,
) -> tuple[set[LazyResult[Any]], bool]:
    """The nodes below ``target``, and whether ascending numbers order them."""
    # ``type`` and ``_policies`` tell of most nodes that ``inputs`` gives nothing but dependencies.
    reached = {target}
    reach = reached.add
    ordered = True
    stack = [target]
    push = stack.append
    while stack:
        lazy = stack.pop()
        number = lazy.number
        is_plain = type(lazy) is LazyResult and lazy._policies is None
        for source in lazy._dependencies if is_plain else inputs(lazy):
            if source.number >= number:
                ordered = False
            if source not in reached and (known is None or not known(source)):
                reach(source)
                if (
                    source._dependencies
                    or source._policies is not None
                    or type(source) is not LazyResult
                ):
                    push(source)
    return reached, ordered


def _wire(
    lazies: list[LazyResult[Any]],
    inputs: Callable[[LazyResult[Any]], Sequence[LazyResult[Any]]],
    known: Callable[[LazyResult[Any]], bool] | None,
    routes: bool,
) -> Graph:
    index = dict(zip(lazies, range(len(lazies)), strict=True))
    waits = [0] * len(lazies)
    successors: list[list[int]] = [[] for _ in lazies]
    outside = []
    for i, lazy in enumerate(lazies):
        sources = inputs(lazy)
        if not sources:
            continue
        waits[i] = len(sources)
        for source in sources:
            if known is not None and source not in index:
                outside.append((i, source))
            else:
                successors[index[source]].append(i)
    return Graph(lazies, waits, successors, index, outside, routes)


def _order(
    lazies: list[LazyResult[Any]],
    inputs: Callable[[LazyResult[Any]], Sequence[LazyResult[Any]]],
) -> list[LazyResult[Any]]:
    """A topological order near the order of creation, if the numbers alone give none."""
    place = {lazy: i for i, lazy in enumerate(lazies)}
    sources = [[place[s] for s in inputs(lazy) if s in place] for lazy in lazies]
    waits = list(map(len, sources))
    users: list[list[int]] = [[] for _ in lazies]
    for i, found in enumerate(sources):
        for source in found:
            users[source].append(i)
    ready = [i for i, count in enumerate(waits) if not count]
    heapify(ready)
    order: list[LazyResult[Any]] = []
    while ready:
        i = heappop(ready)
        order.append(lazies[i])
        for user in users[i]:
            waits[user] -= 1
            if not waits[user]:
                heappush(ready, user)
    if len(order) < len(lazies):
        stuck = {i for i, count in enumerate(waits) if count}
        raise _cycle([lazies[i] for i in _find_cycle(sources, stuck)])
    return order


def _find_cycle(sources: list[list[int]], stuck: set[int]) -> list[int]:
    """A cycle among ``stuck``, in which each node waits for another one of the set."""
    place = min(stuck)
    path: dict[int, None] = {}
    while place not in path:
        path[place] = None
        place = next(s for s in sources[place] if s in stuck)
    nodes = list(path)
    return [*nodes[nodes.index(place) :], place]


def _cycle(lazies: Sequence[LazyResult[Any]]) -> CycleError:
    def described(some: Sequence[LazyResult[Any]]) -> list[str]:
        return [f"{lazy.name} ({lazy.callsite})" for lazy in some]

    if len(lazies) > _SHOWN_OF_A_CYCLE:
        half = _SHOWN_OF_A_CYCLE // 2
        left_out = f"… {len(lazies) - 2 * half} more …"
        shown = [*described(lazies[:half]), left_out, *described(lazies[-half:])]
    else:
        shown = described(lazies)
    return CycleError(
        "these nodes wait for each other, so none can start: " + " ← ".join(shown),
        [lazy.name for lazy in lazies],
    )


def _not_lazy(target: object) -> str:
    if isinstance(target, Operation):
        return f"task '{target.name}' is not a lazy value; call it: {target.name}(…)"
    return f"expected a lazy value, as calling a task gives, but got {short(target)}"
