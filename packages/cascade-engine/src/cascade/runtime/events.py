"""The events of a run, as typed objects on the bus.

Every event carries the id of its run. Times are in seconds; ``at`` is on the clock of
``time.monotonic``, so differences are exact and the zero has no meaning.

All handlers of an event get the same object. Do not change it: type checkers refuse that, but
Python does not. A really frozen dataclass takes three times as long to make (0.8 instead of 0.3
µs), and a run makes up to two events per node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar, dataclass_transform

from cascade.spec.map_items import Item as Item

T = TypeVar("T")


@dataclass_transform(
    eq_default=False, frozen_default=True, kw_only_default=False, field_specifiers=(field,)
)
def _event(cls: type[T]) -> type[T]:
    """A dataclass with slots, compared by identity, which type checkers regard as frozen."""
    return dataclass(slots=True, eq=False)(cls)


@_event
class Notice:
    """Base class of the objects that a bus delivers: events, and sums of events."""

    run_id: str
    at: float = field(default_factory=monotonic, kw_only=True)


@_event
class TasksFinished(Notice):
    """Some tasks have finished: the sum of several ``TaskFinished``, for displays.

    It comes at most once a turn of the event loop and is complete when the run ends. A subscription
    costs a tenth of one to ``TaskFinished``, for which each node makes an event. It is no event:
    a subscriber to all events would get each task twice.
    """

    #: Tasks that have finished since the last one.
    count: int


@_event
class Event(Notice):
    """Base of all events; a subscription to it gets all of them."""


@_event
class RunStarted(Event):
    #: Name of the run's target.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str


@_event
class CodeChanged(Event):
    """A durable run goes on with code that is not the code it began with (D9)."""

    #: Task, as ``module:name`` → what has changed: ``"flows:rate changed, used by flows:pay"``.
    changes: Mapping[str, Sequence[str]]


@_event
class RunFinished(Event):
    #: ``"succeeded"``, ``"failed"`` or ``"cancelled"``; ``"suspended"`` if it only waits, and has
    #: left this process (D10).
    status: str
    duration: float
    error: BaseException | None = None
    #: Tail calls and returned lazy values that it has made (M20).
    steps: int = 0


@_event
class NodesPlanned(Event):
    """The run has found new nodes: at its start, and when maps expand."""

    #: Number of these that call tasks; each will give a TaskStarted, TaskCached or TaskSkipped.
    count: int


@_event
class TaskEvent(Event):
    """Base of the events of one node that calls a task.

    A node that loops by tail calls starts and finishes once.
    """

    task: str
    #: ``LazyResult.number`` of the node, unique in the process; 0 if there is none.
    node: int
    #: Its place in a map, if it is an item of one. ``TaskFinished`` leaves out the arguments.
    item: Item | None = field(default=None, kw_only=True)


@_event
class TaskStarted(TaskEvent):
    """The first call of the node begins now.

    A task in the event loop's thread begins after the handlers. One on a worker does not wait for
    them, but for those that are subscribed with ``at_once=True``.
    """


@_event
class TaskFinished(TaskEvent):
    #: Duration of its calls in seconds (M19).
    duration: float
    #: Seconds that it waited for limits and for further attempts.
    waited: float = 0.0


@_event
class TaskRetrying(TaskEvent):
    """An attempt failed, and there will be another."""

    #: Number of the attempt that failed, from 1.
    attempt: int
    #: Seconds until the next one.
    pause: float
    error: BaseException


@_event
class TaskFailed(TaskEvent):
    #: As in TaskFinished.
    duration: float
    error: BaseException
    waited: float = 0.0


@_event
class TaskSkipped(TaskEvent):
    #: Name of the falsy condition, or of the node that failed.
    condition: str
    #: The error of that node, in a run that goes on after errors.
    error: BaseException | None = None


@_event
class TaskCached(TaskEvent):
    """The value came from a cache: the node has ended, and neither starts nor finishes."""


@_event
class ResultNotStored(TaskEvent):
    """The value of the node has no stored form (D7): if its durable run is resumed in another
    process, and something unfinished needs the value, the node is called again.
    """

    error: BaseException


@_event
class TaskWaiting(TaskEvent):
    """The node has its inputs, and waits for another reason before its next call.

    A wait for a thread is reported after a tenth of a second. Of nodes that are ready for any
    worker thread, only the next one is reported, and ``engine.waiting()`` lists them all. Nodes
    with resources of their own are reported one by one.
    """

    #: ``"retry delay"``, ``"worker thread"``, ``"thread of the resources"``, ``"signal approval"``,
    #: ``"sleep until 2026-11-30 12:30:00 UTC"``, ``"equal call of another run"``,
    #: or the limit: ``"capacity gpu"``, ``"pause global"``, ``"concurrency task:fetch 4"``,
    #: ``"rate_limit global 10/s"``.
    reason: str
    #: Names of the tasks that hold the limit or the threads; empty if only time is missing.
    holders: tuple[str, ...] = ()
    #: Expected duration of the wait; None if unknown.
    seconds: float | None = None


@_event
class ConstraintEvent(Event):
    """Base of the events about an engine's constraints; ``run_id`` is empty."""

    scope: str
    #: ``"pause"``, ``"concurrency"`` or ``"rate_limit"``.
    kind: str
    #: None for a pause.
    value: int | str | None = None


@_event
class ConstraintSet(ConstraintEvent):
    #: Seconds after which it expires; None for never.
    ttl: float | None = None


@_event
class ConstraintRemoved(ConstraintEvent):
    #: ``"removed"``, or ``"expired"``.
    why: str = "removed"


@_event
class ControlEvent(Event):
    """Base of the events about an engine's control plane; ``run_id`` is empty."""


@_event
class ConnectorConnected(ControlEvent):
    """The engine is connected; from now on constraints from outside reach it."""

    #: The name of the engine for other processes.
    engine: str


@_event
class ConnectorDisconnected(ControlEvent):
    """The engine keeps its present constraints, and tries to connect again."""

    engine: str
    reason: str
    #: Number of constraints that stay in force.
    constraints: int


@_event
class ControlMessageRefused(ControlEvent):
    """A message from outside was malformed, and has changed nothing."""

    topic: str
    reason: str


@_event
class InputsAwaited(Event):
    """A node was added to the run, and cannot start yet."""

    task: str
    #: ``LazyResult.number`` of the node.
    node: int
    #: Names of the nodes that it waits for, each once.
    inputs: tuple[str, ...]
    #: Its place in a map, if it is an item of one.
    item: Item | None = field(default=None, kw_only=True)


@_event
class TaskBlocking(TaskEvent):
    """A coroutine function kept the event loop from its other work."""

    #: How long so far, in seconds.
    duration: float
    #: The stack at that moment, as lines of a traceback.
    stack: str


@_event
class StepsMade(Event):
    """Progress of the loops of a run, published at intervals and not for each step.

    At most once every ``Engine(step_interval=…)`` seconds, however fast the loops are.
    """

    #: The task that made the last step.
    task: str
    #: Number of steps that the run has made so far.
    steps: int
    #: Average over the last second or two.
    per_second: float


@_event
class CallAbandoned(TaskEvent):
    """A call of a plain function was abandoned, because it cannot be stopped (M8).

    This happens after a timeout, or a second cancel of the run.
    """

    #: Number of abandoned calls that run in the process now, including this one.
    running: int


@_event
class ResourceEvent(Event):
    """Base of the events of one instance of a resource.

    A resource of scope ``engine`` belongs to no run: ``run_id`` is empty.
    """

    resource_name: str


@_event
class ResourceAcquired(ResourceEvent):
    pass


@_event
class ResourceReleased(ResourceEvent):
    #: The error of closing it, including a timeout; None if there was none.
    error: BaseException | None = None
