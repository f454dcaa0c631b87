"""Segments: graphs in execution, and the work on their nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.graph.build import inputs_of
from cascade.graph.model import Graph
from cascade.graph.wiring import Several, Wiring, users_of
from cascade.runtime.diagnostics.error_notes import TOP, Way
from cascade.runtime.semantics.outcomes import RELEASED, Failed
from cascade.spec.blueprint import Blueprint, Literal
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies
from cascade.spec.protocols import ExecutionPlan

if TYPE_CHECKING:
    from cascade.runtime.graph_path.loop_batches import Loop
    from cascade.runtime.limits.permits import Permit
    from cascade.runtime.straightline import Begun

_NUMBER = attrgetter("number")
#: How many nodes share what is remembered of their way to the target.
_STRETCH = 16


class _Pending:
    def __repr__(self) -> str:
        return "(pending)"


PENDING: Final = _Pending()


class Shares(list[Any]):
    """A value that several nodes use: one reference for each that has still to take it.

    Taking one is atomic, and with the last the value is released. One more keeps it.
    """

    __slots__ = ()


class Segment:
    """A graph in execution; all of it is changed under the run's lock only."""

    __slots__ = (
        "continuation",
        "first",
        "foreign",
        "kept",
        "nodes",
        "priority",
        "shared",
        "slots",
        "take",
        "target",
        "waits",
        "ways",
    )

    def __init__(self, wiring: Wiring, continuation: Resume | Address | None, first: bool) -> None:
        #: Whether it is that of the run's target.
        self.first = first
        self.target = wiring.target
        self.waits = wiring.waits
        #: Node → who waits for it (Users), and when it is done, its value (Shares, if several use
        #: it) until its last user takes it (M21). One dict for both: a graph of a million nodes
        #: spends much of its time on reaching for memory. A lazy value is never the value of a node
        #: (R4), and no user value is a Several or a Shares.
        self.slots: dict[LazyResult[Any], Any] = cast("dict[LazyResult[Any], Any]", wiring.users)
        #: The value of an input for its only user, which it is released to.
        self.take = self.slots.pop
        #: Nodes with an input whose value is there and that several use: ``take_any`` is for them.
        self.shared: set[LazyResult[Any]] = set()
        #: Nodes whose values are kept after their last use.
        self.kept: set[LazyResult[Any]] = set()
        #: All nodes; of the first segment none, as ``slots`` and the target tell.
        self.nodes: Sequence[LazyResult[Any]] = ()
        #: What happens with the target's value: nothing more (None: it is the run's), hand it on
        #: to another address, or go on with work that waits for it.
        self.continuation = continuation
        #: Node → addresses in other segments that take over its value.
        self.foreign: dict[LazyResult[Any], list[Address]] = {}
        #: Stage of each node in the solver's plan; empty where any order will do.
        self.priority: dict[LazyResult[Any], int] = {}
        #: Node → the nodes above it, as far as errors have asked for them.
        self.ways: dict[LazyResult[Any], Way] = {}

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

    def take_any(self, node: LazyResult[Any]) -> Any:
        """The value of an input for one of its users, the last of which it is released to."""
        found = self.slots[node]
        return found.pop() if type(found) is Shares else self.slots.pop(node)

    def share(self, node: LazyResult[Any], value: Any, users: Several) -> Shares:
        """What to put into a node's slot, now that it has a value that several use."""
        self.shared.update(users)
        return Shares([value] * (len(users) + (node in self.kept)))

    def keep(self, node: LazyResult[Any]) -> None:
        """Keep the value of a node, which has none yet, after its last use."""
        users = self.slots.get(node)
        if isinstance(users, LazyResult):
            users = self.slots[node] = Several((users,))
        if type(users) is Several:
            self.kept.add(node)

    def let_go_inputs(self, node: LazyResult[Any]) -> None:
        """Count a node as one that has taken its inputs, or is not going to."""
        for source in inputs_of(node):
            self.take_any(source)

    def close(self) -> None:
        """Forget all nodes but the target."""
        self.slots.clear()  # the frames that an error's traceback holds may hold it
        self.waits, self.priority, self.ways = {}, {}, {}
        self.nodes, self.shared, self.kept = (), set(), set()


class Address:
    """Where the value of a node goes; a segment's target hands it on to another one."""

    __slots__ = ("node", "segment", "value")

    def __init__(self, segment: Segment, node: LazyResult[Any]) -> None:
        self.segment: Segment | None = segment
        self.node: LazyResult[Any] | None = node
        #: What is left when the segment is done.
        self.value: Any = PENDING

    @property
    def place(self) -> tuple[Segment, LazyResult[Any]]:
        """Both; of an address that is not settled."""
        assert self.segment is not None
        assert self.node is not None
        return self.segment, self.node

    @property
    def now(self) -> Any:
        """The value that is there; or PENDING, or RELEASED."""
        return self.value if self.segment is None else self.segment.value(self.place[1])

    def settle(self, value: Any) -> None:
        """Hold the value itself, and nothing else."""
        self.segment = self.node = None
        self.value = value


class Work:
    """One node being computed."""

    _plain = False  # in a queue it stands where a node may

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
        "segment",
        "source",
        "start_told",
        "started",
        "stays",
        "tails",
        "permit",
        "waited",
        "waits_since",
    )

    def __init__(self, segment: Segment, node: LazyResult[Any]) -> None:
        self.segment = segment
        self.node = node
        #: Where its value goes, once a continuation has asked for that.
        self.address: Address | None = None
        #: The lazy value whose call this is; the last one, where it continued as others.
        self.source = node
        self.operation: Operation = node.task
        #: The node's, which it keeps whatever tasks it continues as by tail calls (R10).
        self.policies: CallPolicies = node._calls
        #: Number of the attempt that is made, of this step.
        self.attempt = 1
        self.args: Sequence[Any] = node.args
        self.kwargs: dict[str, Any] = node.kwargs
        #: The arguments by name, once a tail call has asked for them.
        self.named: dict[str, Any] | None = None
        #: The blueprint by whose id the operation was entered, if it was.
        self.blueprint: Blueprint | None = None
        #: When its clock started; later by what it has waited since, as that is no work (M19).
        self.started = 0.0
        #: Whether its TaskStarted was published, or has no subscriber.
        self.start_told = True
        #: How long it has waited for limits and for its next attempt, and since when it waits now.
        self.waited = self.waits_since = 0.0
        #: What its call has given already; PENDING if that is to be made.
        self.handed: Any = PENDING
        #: What its call holds of limits, or waits for, while it is made on a worker.
        self.permit: Permit | None = None
        #: How many tail calls in a row it has made, and how many of a task to itself.
        self.tails = self.stays = 0
        #: The loop that it goes on in, with its arguments.
        self.loop: Loop | None = None
        #: How often it has left a loop soon; -1 if it is to enter none.
        self.left = 0

    def take_inputs(self) -> None:
        """Let the arguments be values, which are there, in the place of lazy ones."""
        get = self.segment.value
        self.args = [_resolved(v, get) for v in self.node.args]
        self.kwargs = {n: _resolved(v, get) for n, v in self.node.kwargs.items()}

    @classmethod
    def begun(cls, segment: Segment, begun: Begun) -> Work:
        """The node that straight-line code called last, with its arguments."""
        assert begun.called is not None
        work = cls(segment, begun.called)
        get = dict(zip(begun.lazies, begun.stopped.done, strict=False)).__getitem__
        work.args = [_resolved(v, get) for v in work.args]
        work.kwargs = {name: _resolved(v, get) for name, v in work.kwargs.items()}
        return work

    def amounts(self) -> dict[str, Any]:
        """What nodes have given as the amounts that it takes."""
        get = self.segment.value
        return {name: _resolved(amount, get) for name, amount in self.node._amounts.items()}

    def enter(self, lazy: LazyResult[Any]) -> None:
        """Be that call, which needs no node, from now on; place and policies stay (R5)."""
        self.operation, self.blueprint, self.named = lazy.task, None, None
        self.args = [_resolved(v, self.segment.value) for v in lazy.args]
        self.kwargs = {n: _resolved(v, self.segment.value) for n, v in lazy.kwargs.items()}
        self.tails = self.stays = 0

    def continue_as(self, lazy: LazyResult[Any]) -> None:
        """Be the call of ``lazy`` from now on, which has plain arguments (R4)."""
        self.source, self.operation, self.policies = lazy, lazy.task, lazy._calls
        self.args, self.kwargs, self.named = lazy.args, lazy.kwargs, None
        self.blueprint, self.attempt = None, 1
        self.tails = self.stays = 0


#: A node whose inputs are there, or work that goes on.
Item = tuple[Segment, "LazyResult[Any] | Work"]
#: What the queue holds: of the first segment the nodes alone, which are most of all.
Queued = Item | LazyResult[Any]


class Resume:
    """What to do with the values that a tail call of some work waits for (M2)."""

    __slots__ = ("go_on", "work")

    def __init__(self, work: Work, go_on: Callable[[Any], None]) -> None:
        self.work = work
        self.go_on = go_on


def priorities(plan: ExecutionPlan, graph: Graph) -> dict[LazyResult[Any], int]:
    """The stage of each node.

    Raises:
        ValueError: The plan leaves a node out.
    """
    priority = {
        graph.lazies[node.index]: stage for stage, nodes in enumerate(plan) for node in nodes
    }
    for lazy in graph.lazies:
        if lazy not in priority:
            raise ValueError(f"the solver's plan leaves out the node '{lazy.name}'")
    return priority


def path_to(
    segment: Segment, node: LazyResult[Any], name: str, source: LazyResult[Any]
) -> list[str]:
    """Names from the target down to a node, leaving out what Cascade added.

    Args:
        segment: Where the node is.
        node: The node.
        name: What runs for it now.
        source: The lazy value that it is now; another one than at first if it continued as that.
    """
    own = node is not source and not _is_handed_on(segment, node) and not node.task.structural
    return way_above(segment, node).path(*([node.name] if own else []), name)


def way_above(segment: Segment, node: LazyResult[Any]) -> Way:
    """The nodes that the value of one that has none yet goes through to the target of the run.

    Of several users the one that was made first. Of what was found, one in some nodes is
    remembered, as it stays so until the node has its value.
    """
    trail: list[tuple[Segment, LazyResult[Any], Sequence[LazyResult[Any]]]] = []
    way = segment.ways.get(node)
    while way is None:
        above = _above(segment, node)
        if above is None:
            way = segment.ways[node] = TOP
            break
        trail.append((segment, node, above[2]))
        segment, node, _ = above
        way = segment.ways.get(node)
    names: list[str] = []
    catches = False
    for left in range(len(trail) - 1, -1, -1):
        segment, node, passed = trail[left]
        for lazy in reversed(passed):
            if not lazy.task.structural:
                names.append(lazy.task.name)
                catches = catches or lazy._calls.catches
        if catches or not left % _STRETCH:
            way = segment.ways[node] = Way(names, way, catches)
            names, catches = [], False
    return way


def _above(
    segment: Segment, node: LazyResult[Any]
) -> tuple[Segment, LazyResult[Any], Sequence[LazyResult[Any]]] | None:
    """The next place on the way up, and the nodes that are passed by going there."""
    onward = segment.continuation
    users = users_of(segment.slots.get(node))
    if users:
        user = min(users, key=_NUMBER)
        return segment, user, (user,)
    if isinstance(onward, Address):
        segment, node = onward.place
        return segment, node, (node,)
    if onward is None:
        return None
    segment, node, source = onward.work.segment, onward.work.node, onward.work.source
    if source is node:
        return segment, node, (node,)
    return segment, node, (source,) if _is_handed_on(segment, node) else (source, node)


def _is_handed_on(segment: Segment, node: LazyResult[Any]) -> bool:
    return node is segment.target and isinstance(segment.continuation, Address)


def _resolved(value: Any, get: Callable[[LazyResult[Any]], Any]) -> Any:
    if issubclass(type(value), LazyResult):
        found = get(value)
        return found.error if type(found) is Failed else found  # it is caught, or would be missing
    return value.value if issubclass(type(value), Literal) else value
