"""The seams of the engine: what can be put in place of the parts that it comes with.

Each protocol's docstring is all that an implementer needs; ``tests/contracts`` holds one suite for
each, which every implementation passes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

T = TypeVar("T")


class GraphNode(Protocol):
    """A node as solvers see it."""

    @property
    def index(self) -> int:
        """Position in ``GraphView.nodes``."""

    @property
    def name(self) -> str:
        """The task's name."""


class GraphView(Protocol):
    """A graph as solvers see it: nodes in topological order, and who waits for whom."""

    @property
    def nodes(self) -> Sequence[GraphNode]:
        """Inputs before their users."""

    @property
    def successors(self) -> Sequence[Sequence[int]]:
        """For each node the indices of the nodes that wait for it."""


#: Stages of nodes. A stage is a priority, not a barrier: a node starts when its inputs are there;
#: among those that could start, an earlier stage's go first.
ExecutionPlan: TypeAlias = Sequence[Sequence[GraphNode]]


@runtime_checkable
class Solver(Protocol):
    """Orders a graph's nodes before they run.

    One that has ``in_order = True`` says that any order will do, and is not asked: nodes then go
    in the order in which they become ready, which costs least.
    """

    def resolve(self, graph: Any) -> ExecutionPlan:
        """Put every node of ``graph`` (a GraphView) into exactly one stage, after its inputs."""


@runtime_checkable
class Executor(Protocol):
    """Lends threads for the sync functions of tasks.

    The shape is that of ``concurrent.futures.Executor``, whose thread pools fit as they are. Two
    things more are used where they are there: the attribute ``max_workers``, how many calls it can
    make at once (32 are assumed), and the method ``replace_thread(call)``, told of the future of a
    call that nobody waits for any more, so that its thread is not missed (M8).

    Calls share locks, contexts and open resources with the engine: executors that make them in
    other processes or interpreters are refused. A call whose future ends although no thread has
    begun it fails its run.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` on another thread, soon, once. If this raises, it is not to be called.

        One that calls it at once and returns a future that is done makes a run sequential, in the
        event loop's thread; that is right for debugging and in virtual time only.
        """

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls; with ``wait``, return only when none is running."""


@runtime_checkable
class StateBackend(Protocol):
    """Keeps what nodes gave, by ``LazyResult.id``, so that it can be read after a run.

    Called from the event loop's thread and from workers: implementations are thread-safe.
    """

    def put_result(self, node_id: str, result: Any) -> None:
        """Keep the value of a node, in place of what was kept for it before."""

    def get_result(self, node_id: str) -> Any:
        """The value kept; KeyError where there is none."""

    def has_result(self, node_id: str) -> bool:
        """Whether a value is kept."""

    def put_skip_reason(self, node_id: str, reason: str) -> None:
        """Keep that a node was skipped, and why, in place of what was kept before."""

    def get_skip_reason(self, node_id: str) -> str | None:
        """Why the node was skipped; None if it was not."""

    def clear(self) -> None:
        """Forget everything."""


@runtime_checkable
class CacheBackend(Protocol):
    """Keeps values by key for a while. ``get`` and ``put`` may be called from any thread."""

    def get(self, key: Hashable) -> tuple[bool, Any]:
        """(True, the value), or (False, None) where the key is unknown or its time is over."""

    def put(self, key: Hashable, value: Any, ttl: float | None = None) -> None:
        """Keep ``value`` for ``ttl`` seconds, None for as long as there is room."""


class ConnectionState(NamedTuple):
    """Whether a connector can reach its broker now."""

    connected: bool
    #: Why not, for people to read, without a secret in it; empty while connected.
    reason: str = ""


@runtime_checkable
class Connector(Protocol):
    """A message bus between engines and the outside, with the topics of MQTT.

    *Messages* are bytes, given to a topic and delivered to all whose pattern matches it; ``+`` and
    ``#`` mean what they mean in MQTT 3.1.1. A retained message is kept by the broker, the latest
    one of each topic, and also given to those who subscribe later, and again to those who connect
    again; an empty one makes the broker forget. A connector gets its own messages too.

    *Handlers* are plain functions, called in the thread of the event loop that connected, one
    message at a time. That is simpler than an iterator: what is to be done is done when the
    message is there, nothing waits in a queue that somebody has to bound, and there is no task per
    subscription that somebody has to end. They must be quick, for the loop waits for them; one
    that raises is logged, and stops neither the others nor the connection.

    *Guarantees*: messages from one publisher to one topic arrive in the order of publishing.
    While the connection holds, each arrives at least once; it may come again after a connection
    was lost, and where patterns of one connector overlap, so handlers bear repeats. What others
    publish while a connector is not connected it does not get, unless it is retained.

    *A lost connection* is no error of those who publish. Connectors connect again by themselves
    and subscribe again. What is published in the meantime is queued, up to a limit beyond which
    the oldest gives way, the newest retained message of a topic last, and counted by ``dropped``.
    While there is a connection nothing is dropped, unless it would take too much memory.

    *Threads*: ``publish``, ``state`` and ``dropped`` are for any thread; all else is for the
    thread of the event loop that connects.
    """

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected, and if not, why."""

    @property
    def dropped(self) -> int:
        """How many messages were given up instead of sent, since it was made."""

    async def connect(self, *, wait: bool = True) -> None:
        """Open the connection, and from then on keep it open; a no-op when that is so.

        Args:
            wait: Whether to return only when connected. Without it, errors of the broker or the
                network are told by ``state``, and the connector goes on trying.

        Raises:
            ConnectorError: It cannot be opened; nothing goes on trying.
        """

    async def disconnect(self) -> None:
        """Send what is queued, if there is a connection, and close it; a no-op when it is closed.

        When it returns, no handler is called any more and nothing runs. Subscriptions are kept for
        the next ``connect``; what could not be sent is dropped.
        """

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand over a message to be sent soon: it never waits, whatever the network does.

        A plain function, so that handlers of events and tasks on threads can publish. Before the
        first ``connect`` it queues.

        Raises:
            ArgumentError: The topic or the payload can never be sent.
        """

    async def subscribe(
        self, pattern: str, handler: Callable[[str, bytes], object]
    ) -> Callable[[], None]:
        """Have ``handler(topic, payload)`` called for each message from now on.

        When it returns and there is a connection, the broker has the subscription. Without one, it
        is made with the next.

        Returns:
            A function that ends the subscription: the handler is not called after it. Calling it
            again does nothing.

        Raises:
            ArgumentError: There can be no such pattern, or the handler is no plain function.
            ConnectorError: The broker refuses it.
        """

    def on_state(self, handler: Callable[[ConnectionState], object]) -> Callable[[], None]:
        """Have ``handler(state)`` called at each change of ``state``, in the loop's thread.

        Returns:
            A function that ends that.
        """


@runtime_checkable
class ExecutionStrategy(Protocol):
    """One way to run a program. What it means is the same for all (rules R1–R10)."""

    @property
    def name(self) -> str:
        """What events call it."""

    async def execute(self, target: Any, run: Any) -> Any:
        """The value of ``target``, a LazyResult.

        Args:
            target: What to compute.
            run: The ``cascade.runtime.run.Run`` it belongs to: its params, resources and events.
        """
