"""``wire``: the edges of a graph as a run needs them, found in one walk.

``build_graph`` numbers and orders nodes, for solvers, drawings and compilers. A run in no
particular order needs neither. It needs the ready nodes, the number of inputs that others wait for,
and the users of each node. This walk therefore visits each lazy value once and hashes it twice; a
node costs a third of its cost in ``build_graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cascade.graph.build import build_graph, inputs_of
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy


class Several(list[LazyResult[Any]]):
    """The users of a node, if it has more than one; in the order in which they were found."""

    __slots__ = ()


#: The users of a node: mostly one, so that a list for each would take half of all memory.
Users: TypeAlias = LazyResult[Any] | Several

_NUMBER = attrgetter("number")
_NONE_DONE: Final[Mapping[LazyResult[Any], Any]] = MappingProxyType({})
_NO_CACHES: Final[Mapping[int, CachePolicy]] = MappingProxyType({})


class Wiring:
    """The nodes below one target, and their users.

    Attributes:
        target: The target; the only node without users.
        ready: Nodes that wait for nothing, in the order of creation.
        waits: Node → number of inputs it waits for, an input used twice counted twice. Only nodes
            that wait for more than one.
        users: Node → the nodes that wait for it; one that waits twice is listed twice.
        outside: Lazy values that are computed elsewhere: they have users and are not entered.
        special: Nodes whose arguments a run must examine before it starts.
        kept: Nodes whose values are kept for the whole run.
        tasks: The tasks that are called.
        ranked: Whether any node has a priority.
        done: Nodes that have their values before the run begins, and need no inputs.
        caches: The caches of nodes, by identity.
        hiding: Maps, routers, fallbacks: they continue as lazy values that are not their inputs.
    """

    __slots__ = (
        "caches",
        "done",
        "hiding",
        "kept",
        "outside",
        "ranked",
        "ready",
        "special",
        "target",
        "tasks",
        "users",
        "waits",
    )

    def __init__(self, target: LazyResult[Any]) -> None:
        self.target = target
        self.ready: list[LazyResult[Any]] = []
        self.waits: dict[LazyResult[Any], int] = {}
        self.users: dict[LazyResult[Any], Users] = {}
        self.outside: list[LazyResult[Any]] = []
        self.special: list[LazyResult[Any]] = []
        self.kept: list[LazyResult[Any]] = []
        self.tasks: set[Operation] = set()
        self.hiding: list[LazyResult[Any]] = []
        self.ranked = False
        self.caches: Mapping[int, CachePolicy] = _NO_CACHES
        self.done: Mapping[LazyResult[Any], Any] = _NONE_DONE

    def nodes(self) -> list[LazyResult[Any]]:
        """All nodes except those outside, in no particular order."""
        if not self.outside:
            return [*self.users, self.target]
        outside = set(self.outside)
        return [*(lazy for lazy in self.users if lazy not in outside), self.target]


def wire(target: LazyResult[Any], known: Callable[[LazyResult[Any]], bool] | None = None) -> Wiring:
    """Find all nodes that ``target`` needs.

    Args:
        target: A lazy value.
        known: Recognises lazy values that are handled elsewhere. They are not entered, and are
            listed in ``outside``.

    Raises:
        CycleError: Nodes wait for each other; ``.cycle`` names them.
    """
    wiring = Wiring(target)
    users, waits, ready = wiring.users, wiring.waits, wiring.ready
    stack = [target]
    ordered = True
    last = None  # the next nodes mostly call the same task
    calls = None  # and have the same policies
    caches: dict[int, CachePolicy] = {}
    while stack:
        lazy = stack.pop()
        sources, task = lazy._dependencies, lazy.task
        if task is not last:
            if not task.structural:
                last = task
                wiring.tasks.add(task)
            elif type(lazy) is not LazyResult:
                wiring.hiding.append(lazy)
        if not lazy._plain:
            if lazy._special:
                wiring.special.append(lazy)
            policies = lazy._policies
            if policies is not None:
                if policies.calls is not calls:
                    calls = policies.calls
                    if calls.cache is not None:
                        caches[id(calls.cache)] = calls.cache
                    if calls.priority:
                        wiring.ranked = True
                if policies.keeps:
                    wiring.kept.append(lazy)
                if policies.conditions or policies.predecessors or policies.amounts:
                    more = inputs_of(lazy)[len(sources) :]
                    sources += more
                    ordered = ordered and all(source.number < lazy.number for source in more)
        if not sources:
            ready.append(lazy)
            continue
        if len(sources) > 1:
            waits[lazy] = len(sources)
        for source in sources:
            found = users.get(source)
            if found is None:
                users[source] = lazy
                if known is None or not known(source):
                    stack.append(source)
                else:
                    wiring.outside.append(source)
            elif isinstance(found, Several):
                found.append(lazy)
            else:
                users[source] = Several((found, lazy))
    if caches:
        wiring.caches = caches
    if not ordered or not (ready or wiring.outside):
        build_graph(target, known=known)  # raises the error if there is a cycle
    ready.sort(key=_NUMBER)
    return wiring


def users_of(users: object) -> list[LazyResult[Any]]:
    """The users as a list; empty if ``users`` is no record of users."""
    if isinstance(users, LazyResult):
        return [users]
    return users if isinstance(users, Several) else []
