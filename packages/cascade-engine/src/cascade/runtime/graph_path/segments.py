"""Segments: running graphs, and the work on their nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.build import inputs_of
from cascade.graph.wiring import Several, Wiring, users_of
from cascade.runtime.diagnostics.error_notes import PathToTarget
from cascade.runtime.semantics.outcomes import RELEASED, Failed
from cascade.spec.blueprint import Blueprint, Literal
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.mapping import stand_in, takes_over
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies
from cascade.spec.task import Task

if TYPE_CHECKING:
    from cascade.runtime.graph_path.compiled_loops.loop_batches import Loop
    from cascade.runtime.limits.permits import Permit


class _Pending:
    def __repr__(self) -> str:
        return "(pending)"


PENDING: Final = _Pending()


class Shares(list[Any]):
    """A value with several users: one reference for each user that has yet to take it.

    Taking one is atomic, and taking the last releases the value. An additional one keeps it.
    """

    __slots__ = ()


#: A map in the segment that runs it, as one that takes over the items of another.
Taker = tuple["Segment", "LazyResult[Any]"]
NONE_TAKEN: Final[Mapping[LazyResult[Any], Sequence[Taker]]] = MappingProxyType({})
# Most segments are small and need none of these, and each new container costs the collector time.
NONE_FOREIGN: Final[Mapping[LazyResult[Any], list[Address]]] = MappingProxyType({})
_NO_NODES: Final[Mapping[LazyResult[Any], Address]] = MappingProxyType({})
_NONE_KEPT: Final[Set[LazyResult[Any]]] = frozenset()
_NO_PRIORITY: Final[Mapping[LazyResult[Any], int]] = MappingProxyType({})
_NO_PATHS: Final[Mapping[LazyResult[Any], PathToTarget]] = MappingProxyType({})


class Segment:
    """A running graph; all of it is changed only under the run's lock."""

    __slots__ = (
        "continuation",
        "deep",
        "first",
        "foreign",
        "kept",
        "nodes",
        "outside",
        "paths",
        "priority",
        "shared",
        "slots",
        "take",
        "taken",
        "target",
        "waits",
    )

    def __init__(self, wiring: Wiring, continuation: Continuation, first: bool) -> None:
        #: Whether it is the segment of the run's target.
        self.first = first
        self.target = wiring.target
        self.waits = wiring.waits
        #: Node → its users (Users), and when it is done, its value (Shares, if it has several
        #: users) until its last user takes it (M21). One dict for both: a graph of a million nodes
        #: spends much of its time on memory access. A lazy value is never the value of a node (R4),
        #: and no user value is a Several or a Shares.
        self.slots: dict[LazyResult[Any], Any] = wiring.users
        #: Takes the value of an input for its only user, which releases it.
        self.take = self.slots.pop
        #: Nodes with an input that has a value and several users: they need ``take_any``.
        self.shared: set[LazyResult[Any]] = set()
        #: Nodes whose values are kept after their last use.
        self.kept: Set[LazyResult[Any]] = _NONE_KEPT
        #: All nodes, and their addresses; empty for the first segment, where ``slots`` and the
        #: target contain them.
        self.nodes: Mapping[LazyResult[Any], Address] = _NO_NODES
        #: Nodes that another segment computes, and records.
        self.outside: Collection[LazyResult[Any]] = ()
        #: Use of the target's value: none (None: it is the run's result), pass it on to another
        #: address, resume work that waits for it, or none because other maps take its items.
        self.continuation = continuation
        #: Whether nodes come before others that were ready earlier: the items of maps, so that few
        #: of them are under way at the same time.
        self.deep = False
        #: Map → the maps that take over its items, once these are known.
        self.taken: Mapping[LazyResult[Any], Sequence[Taker]] = NONE_TAKEN
        #: Node → addresses in other segments that take over its value.
        self.foreign: Mapping[LazyResult[Any], list[Address]] = NONE_FOREIGN
        #: Stage of each node in the solver's plan; empty if any order will do.
        self.priority: Mapping[LazyResult[Any], int] = _NO_PRIORITY
        #: Node → the nodes above it, as far as errors have needed them.
        self.paths: Mapping[LazyResult[Any], PathToTarget] = _NO_PATHS

    def value(self, node: LazyResult[Any]) -> Any:
        """The value of a node; or PENDING, or RELEASED."""
        found = self.slots.get(node, RELEASED)
        if type(found) is Shares:
            try:
                return found[0]
            except IndexError:  # the last user has just taken it
                return RELEASED
        if found is RELEASED:
            return PENDING if node is self.target else RELEASED
        return PENDING if issubclass(type(found), (LazyResult, Several)) else found

    def values_of(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the lazy ones among the arguments of a node that has its inputs."""
        return {n: self.value(v) for n, v in arguments.items() if issubclass(type(v), LazyResult)}

    def take_any(self, node: LazyResult[Any]) -> Any:
        """The value of an input for one of its users; released with the last."""
        found = self.slots[node]
        return found.pop() if type(found) is Shares else self.slots.pop(node)

    def share(self, node: LazyResult[Any], value: Any, users: Several) -> Shares:
        """The content of a node's slot, now that it has a value with several users."""
        self.shared.update(users)
        return Shares([value] * (len(users) + (node in self.kept)))

    def keep(self, node: LazyResult[Any]) -> None:
        """Keep the value of a node after its last use. The node has none yet."""
        users = self.slots.get(node)
        if isinstance(users, LazyResult):
            users = self.slots[node] = Several((users,))
        if type(users) is Several:
            if not isinstance(self.kept, set):
                self.kept = set()
            self.kept.add(node)

    def pass_on(self, node: LazyResult[Any], address: Address) -> None:
        """Pass the value of a node on to ``address``, once there is one."""
        if not isinstance(self.foreign, dict):
            self.foreign = {}
        self.foreign.setdefault(node, []).append(address)

    def take_foreign(self, node: LazyResult[Any]) -> list[Address]:
        """The addresses to which the value of a node is passed on; it forgets them."""
        return self.foreign.pop(node, []) if isinstance(self.foreign, dict) else []

    def remember_path(self, node: LazyResult[Any], path: PathToTarget) -> None:
        """Remember the nodes above a node."""
        if not isinstance(self.paths, dict):
            self.paths = {}
        self.paths[node] = path

    def let_go_inputs(self, node: LazyResult[Any]) -> None:
        """Count a node as one that has taken its inputs, or never will."""
        for source in inputs_of(node):
            self.take_any(source)

    def awaits(self, node: LazyResult[Any]) -> bool:
        """Whether the list of a map will be kept, although only its items have been used so far."""
        return node in self.taken and node in self.kept and self.value(node) is PENDING

    def close(self) -> None:
        """Forget all nodes but the target, and lists of maps that are still to come."""
        kept = {node for node in self.taken if self.awaits(node)} if self.taken else _NONE_KEPT
        self.slots.clear()  # the frames of an error's traceback may hold it
        self.kept = kept
        for node in kept:
            self.slots[node] = Several()
        self.waits, self.priority, self.paths = {}, _NO_PRIORITY, _NO_PATHS
        self.nodes, self.outside, self.shared = _NO_NODES, (), set()
        self.taken = NONE_TAKEN


class Address:
    """Where the value of a node goes; a segment's target passes it on to another one."""

    __slots__ = ("node", "rounds", "segment", "value")

    def __init__(self, segment: Segment, node: LazyResult[Any]) -> None:
        self.segment: Segment | None = segment
        self.node: LazyResult[Any] | None = node
        #: The rounds that the node has made, if the run limits them; see ``rounds``.
        self.rounds = 0
        #: The value, after the segment is done.
        self.value: Any = PENDING

    @property
    def place(self) -> tuple[Segment, LazyResult[Any]]:
        """Segment and node, of an address that is not settled."""
        assert self.segment is not None
        assert self.node is not None
        return self.segment, self.node

    @property
    def now(self) -> Any:
        """The present value; or PENDING, or RELEASED."""
        return self.value if self.segment is None else self.segment.value(self.place[1])

    def settle(self, value: Any) -> None:
        """Hold only the value itself from now on."""
        self.segment = self.node = None
        self.value = value


class Raised:
    """The error of a call that another process has made, as ``Work.handed``."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Work:
    """The computation of one node."""

    _plain = False  # it may stand in the queue in place of a node

    __slots__ = (
        "address",
        "args",
        "attempt",
        "blueprint",
        "handed",
        "kwargs",
        "left",
        "loop",
        "named",
        "node",
        "operation",
        "policies",
        "rounds",
        "segment",
        "source",
        "start_told",
        "started",
        "stays",
        "steps",
        "tails",
        "permit",
        "waited",
        "waits_since",
    )

    def __init__(self, segment: Segment | None, node: LazyResult[Any]) -> None:
        #: Missing only while the run is a lone loop; see ``lone_loops``.
        self.segment: Segment = segment  # type: ignore[assignment]
        self.node = node
        #: The address of its value, once a continuation has needed it.
        self.address: Address | None = None
        #: The lazy value of this call; the last one, if it continued as others.
        self.source = node
        self.operation: Operation = node.task
        #: The node's policies, which stay the same across tail calls (R10).
        self.policies: CallPolicies = node._calls
        #: Number of the present attempt, of this step.
        self.attempt = 1
        self.args: Sequence[Any] = node.args
        self.kwargs: dict[str, Any] = node.kwargs
        #: The arguments by name, once a tail call has needed them.
        self.named: dict[str, Any] | None = None
        #: The blueprint by whose id the operation was entered, if any.
        self.blueprint: Blueprint | None = None
        #: Start of its clock, plus the time that it has waited since, which is no work (M19).
        self.started = 0.0
        #: Whether its TaskStarted was published, or has no subscriber.
        self.start_told = True
        #: Time waited for limits and for the next attempt, and the start of the present wait.
        self.waited = self.waits_since = 0.0
        #: The result of its call, if that exists already; otherwise PENDING.
        self.handed: Any = PENDING
        #: The permit of its call, held or requested, while that is made on a worker.
        self.permit: Permit | None = None
        #: The rounds of the node; None if they are at its address, or not counted.
        self.rounds: int | None = None
        #: Number of tail calls in a row, and of those from a task to itself.
        self.tails = self.stays = 0
        #: The loop that it continues in, with its arguments.
        self.loop: Loop | None = None
        #: How often it has continued (M20).
        self.steps = 0
        #: Times that it has left a loop soon; more of these if its steps set context variables.
        self.left = 0

    def take_inputs(self, items: Mapping[LazyResult[Any], Sequence[Any]] | None = None) -> None:
        """Replace lazy arguments by their values, which must exist; or by those of ``items``."""
        get = self.segment.value
        if items is not None:
            get = partial(_item_or_value, items, get)
        self.args = [_resolved(v, get) for v in self.node.args]
        if {*map(type, self.kwargs.values())} != {Inject}:  # otherwise other nodes share them
            self.kwargs = {n: _resolved(v, get) for n, v in self.node.kwargs.items()}

    @classmethod
    def called(
        cls,
        segment: Segment,
        node: LazyResult[Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        started: float = 0.0,
    ) -> Work:
        """A node that was called without a Work object, with these arguments."""
        work = cls(segment, node)
        work.args, work.kwargs, work.started = args, kwargs, started
        return work

    @classmethod
    def begun(
        cls, segment: Segment, lazy: LazyResult[Any], values: Mapping[LazyResult[Any], Any]
    ) -> Work:
        """A node that was called before the graph has begun, with its arguments."""
        work = cls(segment, lazy)
        get = values.__getitem__
        work.args = [_resolved(v, get) for v in work.args]
        work.kwargs = {name: _resolved(v, get) for name, v in work.kwargs.items()}
        return work

    @property
    def given(self) -> Mapping[str, Any]:
        """The values of the node's named arguments, as far as they are known."""
        if self.named is None and self.operation is self.node.task and self.source is self.node:
            return self.kwargs
        return NO_KWARGS

    def amounts(self) -> dict[str, Any]:
        """The values of the nodes that give its amounts."""
        get = self.segment.value
        return {name: _resolved(amount, get) for name, amount in self.node._amounts.items()}

    def enter(self, lazy: LazyResult[Any]) -> None:
        """Become the call of ``lazy``, which needs no node; address and policies stay (R5)."""
        self.operation, self.blueprint, self.named = lazy.task, None, None
        self.args = [_resolved(v, self.segment.value) for v in lazy.args]
        self.kwargs = {n: _resolved(v, self.segment.value) for n, v in lazy.kwargs.items()}
        self.tails = self.stays = 0

    def continue_as(self, lazy: LazyResult[Any]) -> None:
        """Become the call of ``lazy``, which has plain arguments (R4)."""
        self.source, self.operation, self.policies = lazy, lazy.task, lazy._calls
        self.args, self.kwargs, self.named = lazy.args, lazy.kwargs, None
        self.blueprint, self.attempt = None, 1
        self.tails = self.stays = 0


def node_of(item: Any) -> LazyResult[Any] | None:
    """The node of a worker's item; None if the thread has taken none yet."""
    node = item[1] if type(item) is tuple else item
    return node.source if isinstance(node, Work) else node


def arguments_by_name(work: Work) -> dict[str, Any]:
    """The arguments of a task's call by parameter, complete."""
    assert isinstance(work.operation, Task)
    return work.operation.parameters.named(work.args, work.kwargs)


#: A node that has its inputs, or work to resume.
Item = tuple[Segment, "LazyResult[Any] | Work"]
#: An item of the queue; nodes of the first segment, the most frequent ones, stand alone.
Queued = Item | LazyResult[Any]


class Resume:
    """The handler of the values that a tail call of some work waits for (M2)."""

    __slots__ = ("go_on", "work")

    def __init__(self, work: Work, go_on: Callable[[Any], None]) -> None:
        self.work = work
        self.go_on = go_on


class Handed:
    """The continuation of the items of a map that only other maps take, one by one (R8).

    Args:
        takers: These maps.
        go_on: Called with the list of all items, or with what replaces it; None if none needs it.
    """

    __slots__ = ("_takers", "go_on")

    def __init__(
        self,
        takers: Sequence[Taker],
        go_on: Callable[[Any], None] | None = None,
    ) -> None:
        self._takers = takers
        self.go_on = go_on

    @property
    def segment(self) -> Segment:
        """The segment of these maps."""
        return self._takers[0][0]

    def above(self, index: int) -> tuple[Segment, LazyResult[Any], list[LazyResult[Any]]]:
        """The map that takes an item, and stand-ins for the items that will need this one."""
        takers: Sequence[Taker] = self._takers
        passed: list[LazyResult[Any]] = []
        while takers:
            segment, taker = min(takers, key=lambda found: found[1].number)
            passed += stand_in(taker.args[0], index)
            takers = segment.taken.get(taker, ())
            if not takers:
                users = users_of(segment.slots.get(taker))
                takers = [(segment, u) for u in users if takes_over(u, taker)]
        return segment, taker, passed


#: The use of the value of a segment's target.
Continuation = Resume | Address | Handed | None


def _item_or_value(
    items: Mapping[LazyResult[Any], Any], get: Callable[[LazyResult[Any]], Any], lazy: Any
) -> Any:
    return items[lazy] if lazy in items else get(lazy)


def _resolved(value: Any, get: Callable[[LazyResult[Any]], Any]) -> Any:
    if issubclass(type(value), LazyResult):
        found = get(value)
        # It is caught, otherwise it would be missing.
        return found.error if type(found) is Failed else found
    return value.value if issubclass(type(value), Literal) else value
