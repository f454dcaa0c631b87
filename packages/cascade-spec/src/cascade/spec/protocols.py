"""The protocols of the engine's replaceable parts.

Each docstring is all that an implementer needs. ``tests/contracts`` has one suite per protocol,
which every implementation passes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

if TYPE_CHECKING:
    from cascade.spec.remote_calls import RemoteCall, RemoteValue

T = TypeVar("T")


class GraphNode(Protocol):
    """A node in the view of solvers."""

    @property
    def index(self) -> int:
        """Position in ``GraphView.nodes``."""

    @property
    def name(self) -> str:
        """The task's name."""


class GraphView(Protocol):
    """A graph in the view of solvers: nodes in topological order, and their successors."""

    @property
    def nodes(self) -> Sequence[GraphNode]:
        """Every node, inputs before their users."""

    @property
    def successors(self) -> Sequence[Sequence[int]]:
        """For each node, the indices of the nodes that wait for it."""


#: Stages of nodes. A stage is a priority, not a barrier: a node starts when its inputs are ready;
#: among ready nodes, those of an earlier stage go first.
ExecutionPlan: TypeAlias = Sequence[Sequence[GraphNode]]


@runtime_checkable
class Solver(Protocol):
    """Orders a graph's nodes before they run.

    A solver with ``in_order = True`` accepts any order and is not called: nodes then start in the
    order in which they become ready, at the lowest cost.
    """

    def resolve(self, graph: Any) -> ExecutionPlan:
        """Put every node of ``graph`` (a GraphView) into exactly one stage, after its inputs."""


@runtime_checkable
class Executor(Protocol):
    """Lends threads for the sync functions of tasks.

    It has the shape of ``concurrent.futures.Executor``, whose thread pools fit as they are. Two
    optional members are used if they exist. The attribute ``max_workers`` is the number of calls
    that it can make at once (assumed: 32). The method ``replace_thread(call)`` gets the future of
    an abandoned call, so that the executor can replace the lost thread (M8).

    Calls share locks, contexts and open resources with the engine, so executors that run them in
    other processes or interpreters are refused. A call whose future ends before a thread has
    started it fails its run.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` once on another thread, soon. If this method raises, the call is dropped.

        An executor that calls at once and returns a finished future makes a run sequential, in the
        event loop's thread. Use it only for debugging and in virtual time.
        """

    def shutdown(self, wait: bool = True) -> None:
        """Accept no more calls; with ``wait``, return only when no call is running."""


class Capabilities(NamedTuple):
    """What a TaskExecutor can do besides making calls."""

    #: ``cancel_call(call, stop=True)`` ends a call that has begun. Otherwise such a call goes on
    #: without its run, and keeps its worker busy (M8).
    stops: bool
    #: It never makes a call twice, whatever happens to its workers.
    once: bool
    #: Values can stay with its workers: it is a KeepingExecutor.
    stays: bool = False
    #: How plans mark the calls that it makes.
    mark: str = "process"
    #: It takes large buffers beside the bytes of arguments (``RemoteCall.beside``), and gives them
    #: so.
    shares: bool = False


@runtime_checkable
class TaskExecutor(Protocol):
    """Makes calls of tasks in other processes or on other machines.

    Nothing is shared with the driver, the process of the engine: a call takes its arguments along
    as bytes (``wire``), and its outcome comes back as bytes. The driver decides everything else:
    conditions, caches, limits, retries, timeouts, the journal. A KeepingExecutor can keep values
    with its workers.

    *At most once.* An executor begins a call once. It may give a call that has not begun to another
    worker. A worker that ends during a call is the end of that call, with a WorkerLostError; the
    driver makes another attempt if the node has a retry.

    All methods may be called from any thread, and return soon.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def max_workers(self) -> int:
        """The number of calls that it makes at the same time; it may change."""

    def submit_call(self, call: RemoteCall) -> None:
        """Make a call, not before the next ``flush``.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
        """

    def flush(self) -> None:
        """Begin what was submitted; calls of one flush may go to a worker together."""

    def cancel_call(self, call: RemoteCall, *, stop: bool = False) -> bool:
        """Withdraw a call that has not begun; with ``stop``, end one that has, if possible.

        Returns:
            Whether the call will never begin; then ``on_end`` is not called. For a call that is
            ended, it is called some time later.
        """

    def waits(self, call: RemoteCall) -> bool:
        """Whether a call waits for a worker, as far as that is known; for ``engine.waiting``."""

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls, and end the workers after the calls that have begun.

        Calls that have not begun fail. With ``wait``, return when no worker is left.
        """


class Host(Protocol):
    """A process that executes durable runs for an engine."""

    @property
    def runs(self) -> set[str]:
        """The ids of the runs that it was asked to execute and has not ended."""

    @property
    def exit_code(self) -> int | None:
        """The exit code of a process that has ended; None if it is not known."""

    def send(self, message: Any) -> None:
        """Send it a message; does nothing if it has ended. From any thread."""

    def close(self) -> None:
        """Have it hand over its runs and end, and wait for that."""


@runtime_checkable
class HostingExecutor(Protocol):
    """An executor that can start processes for whole runs, such as agents."""

    @property
    def max_workers(self) -> int:
        """Most such processes of one engine."""

    def start_host(self, entry: str, options: bytes, told: Callable[[Host, Any], None]) -> Host:
        """Start a process with an engine; returns when that is there.

        Args:
            entry: A module with ``main(pipe, options)``, which the process calls.
            options: Those of the engine, as ``wire`` writes them.
            told: Called with each message of the process, and with None when it has ended. In any
                thread.

        Raises:
            ExecutorError: It cannot be started.
        """


@runtime_checkable
class KeepingExecutor(TaskExecutor, Protocol):
    """A TaskExecutor with ``stays``: values that only other calls there need may stay there.

    A call with ``keeps`` may end with the kind ``kept`` and a RemoteValue, which later calls have
    among their ``inputs``. A worker that ends takes its values along: calls that need one fail with
    a ValueLostError, and the value is not computed again.
    """

    @property
    def places(self) -> Mapping[str, float]:
        """What it allocates to calls itself (``RemoteCall.needs``), by name, and how much."""

    def expects(self, token: bytes) -> float | None:
        """The seconds that a call of the task with this token takes; None if that is not known."""

    def fetch(self, value: RemoteValue) -> Future[Any]:
        """A value that stays there. Its error is a ValueLostError if it is lost."""


@runtime_checkable
class StateBackend(Protocol):
    """Keeps the values of nodes by ``LazyResult.id``, so that they can be read after a run.

    Its methods are called from the event loop's thread and from workers: they must be thread-safe.
    """

    def put_result(self, node_id: str, result: Any) -> None:
        """Keep the value of a node; replaces an earlier one."""

    def get_result(self, node_id: str) -> Any:
        """The value that was kept.

        Raises:
            KeyError: No value is kept.
        """

    def has_result(self, node_id: str) -> bool:
        """Whether a value is kept."""

    def put_skip_reason(self, node_id: str, reason: str) -> None:
        """Keep the reason why a node was skipped; replaces an earlier one."""

    def get_skip_reason(self, node_id: str) -> str | None:
        """The reason why the node was skipped; None if it was not."""

    def clear(self) -> None:
        """Forget everything."""


@runtime_checkable
class CacheBackend(Protocol):
    """Keeps values by key for a time. ``get`` and ``put`` may be called from any thread."""

    def get(self, key: Hashable) -> tuple[bool, Any]:
        """(True, the value), or (False, None) if the key is unknown or expired."""

    def put(self, key: Hashable, value: Any, ttl: float | None = None) -> None:
        """Keep ``value`` for ``ttl`` seconds; None for as long as there is room."""


class ConnectionState(NamedTuple):
    """Whether a connector can reach its broker now."""

    connected: bool
    #: Why not, in a form for people and without secrets; empty while connected.
    reason: str = ""


@runtime_checkable
class Connector(Protocol):
    """A message bus between engines and the outside, with the topics of MQTT.

    *Messages* are bytes, published on a topic and delivered to every subscription whose pattern
    matches it. ``+`` and ``#`` have their meaning of MQTT 3.1.1. The broker keeps the latest
    retained message of each topic. It delivers that message also to later subscribers, and again
    after a reconnect; an empty retained message makes it forget. A connector receives its own
    messages too.

    *Handlers* are plain functions, called in the thread of the event loop that connected, one
    message at a time. They are simpler than an iterator: no queue needs a bound, and no task per
    subscription needs an end. They must be quick, because the loop waits for them. A handler that
    raises is logged; the other handlers and the connection go on.

    *Guarantees*: messages from one publisher on one topic arrive in the order of publishing. While
    the connection holds, each arrives at least once. A message may arrive again after a connection
    was lost, and if several patterns of one connector match it, so handlers must tolerate
    duplicates. A connector misses the messages that others publish while it is disconnected, except
    retained ones.

    *A lost connection* raises nothing in publishing code. Connectors reconnect and resubscribe by
    themselves. Messages published in the meantime are queued. Beyond a limit the oldest is dropped,
    the newest retained message of a topic last, and ``dropped`` counts it. While connected, a
    connector drops messages only if they would take too much memory.

    *Threads*: ``publish``, ``state`` and ``dropped`` may be used from any thread; all else belongs
    to the thread of the event loop that connects.
    """

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected; if not, the reason."""

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped instead of sent, since it was made."""

    async def connect(self, *, wait: bool = True) -> None:
        """Open the connection and keep it open from then on; a no-op if it is open.

        Args:
            wait: Return only when connected. With False, ``state`` reports errors of the broker or
                the network, and the connector goes on trying.

        Raises:
            ConnectorError: It cannot be opened; the connector stops trying.
        """

    async def disconnect(self) -> None:
        """Send queued messages, if connected, and close the connection; a no-op if it is closed.

        After it returns, no handler is called and nothing runs in the background. Subscriptions are
        kept for the next ``connect``; messages that could not be sent are dropped.
        """

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue a message for sending. Never waits, whatever the network does.

        It is a plain function, so that event handlers and tasks on threads can publish. It works
        before the first ``connect`` too.

        Raises:
            ArgumentError: The topic or the payload can never be sent.
        """

    async def subscribe(
        self, pattern: str, handler: Callable[[str, bytes], object]
    ) -> Callable[[], None]:
        """Call ``handler(topic, payload)`` for each message from now on.

        If connected, the broker has the subscription when this returns; otherwise it is made with
        the next connection.

        Returns:
            A function that ends the subscription: the handler is not called after it. Calling it
            again does nothing.

        Raises:
            ArgumentError: The pattern is invalid, or the handler is not a plain function.
            ConnectorError: The broker refuses it.
        """

    def on_state(self, handler: Callable[[ConnectionState], object]) -> Callable[[], None]:
        """Call ``handler(state)`` at each change of ``state``, in the loop's thread.

        Returns:
            A function that ends these calls.
        """


@runtime_checkable
class ExecutionStrategy(Protocol):
    """One way to run a program. All ways give it the same meaning (rules R1–R10)."""

    @property
    def name(self) -> str:
        """Its name in events."""

    def execute(self, target: Any, run: Any) -> Awaitable[Any]:
        """The value of ``target``, a LazyResult; mostly a coroutine function.

        Args:
            target: What to compute.
            run: The ``cascade.runtime.run.Run`` of the target: its params, resources and events.
        """
