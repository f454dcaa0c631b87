"""The seams of the engine: what can be put in place of the parts that it comes with.

Each protocol's docstring is all that an implementer needs; ``tests/contracts`` holds one suite for
each, which every implementation passes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

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
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` on another thread, soon.

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


@runtime_checkable
class Connector(Protocol):
    """A message bus between engines and the outside."""

    async def connect(self) -> None:
        """Open the connection; a no-op when it is open."""

    async def disconnect(self) -> None:
        """Close it; a no-op when it is closed."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send; a retained message is also given to those who subscribe later."""

    async def subscribe(self, topic: str, handler: Callable[[str, bytes], Any]) -> None:
        """Have ``handler(topic, payload)`` called for each message; ``+`` and ``#`` as in MQTT."""


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
