"""What happens in a run, as typed events on the bus.

Every event carries the id of its run. Times are seconds; ``at`` is on the clock of
``time.monotonic``, so differences are exact and the zero means nothing.

All handlers of an event are given the same object. Do not change it: checkers refuse to, and at run
time nothing would stop you, because a dataclass that is frozen in earnest takes three times as long
to make (0.8 against 0.3 µs), and a run makes up to two events a node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(
    eq_default=False, frozen_default=True, kw_only_default=False, field_specifiers=(field,)
)
def _event(cls: type[T]) -> type[T]:
    """A dataclass with slots, compared by identity, which checkers take for frozen."""
    return dataclass(slots=True, eq=False)(cls)


@_event
class Event:
    """Base of all events; subscribe to it to see every one."""

    run_id: str
    at: float = field(default_factory=monotonic, kw_only=True)


@_event
class RunStarted(Event):
    #: Name of what the run computes.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str


@_event
class RunFinished(Event):
    #: ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    status: str
    duration: float
    error: BaseException | None = None


@_event
class NodesPlanned(Event):
    """Nodes were added to what the run has to do: at its start, and where maps expand."""

    #: How many of them are calls of tasks, and will give a TaskStarted, TaskCached or TaskSkipped.
    count: int


@_event
class TaskEvent(Event):
    """Base of the events of one node that calls a task.

    A node that loops by tail calls starts and finishes once.
    """

    task: str
    #: ``LazyResult.number`` of the node, unique in the process; 0 where there is none.
    node: int


@_event
class TaskStarted(TaskEvent):
    pass


@_event
class TaskFinished(TaskEvent):
    #: Seconds that its calls took (M19).
    duration: float
    #: Seconds that it waited for limits, and for the next attempt.
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
    #: As those of TaskFinished.
    duration: float
    error: BaseException
    waited: float = 0.0


@_event
class TaskSkipped(TaskEvent):
    #: Name of the condition that was falsy, or of the node that failed.
    condition: str
    #: What that failed with, in a run that goes on after errors.
    error: BaseException | None = None


@_event
class TaskCached(TaskEvent):
    """The value came from a cache: the node has ended, and neither starts nor finishes."""


@_event
class TaskWaiting(TaskEvent):
    """The node has its inputs, and waits for something else before its next call."""

    #: What for: ``"retry delay"``; or the limit: ``"capacity gpu"``, ``"pause global"``,
    #: ``"concurrency task:fetch 4"``, ``"rate_limit global 10/s"``.
    reason: str
    #: Who has what it waits for, by name; empty where it waits for time alone.
    holders: tuple[str, ...] = ()
    #: How long it is going to be; None where nobody knows.
    seconds: float | None = None


@_event
class ConstraintEvent(Event):
    """Base of what happens to the constraints of an engine; ``run_id`` is empty."""

    scope: str
    #: ``"pause"``, ``"concurrency"`` or ``"rate_limit"``.
    kind: str
    #: None for a pause.
    value: int | str | None = None


@_event
class ConstraintSet(ConstraintEvent):
    #: Seconds after which it is forgotten; None for never.
    ttl: float | None = None


@_event
class ConstraintRemoved(ConstraintEvent):
    #: ``"removed"``, or ``"expired"``.
    why: str = "removed"


@_event
class ControlEvent(Event):
    """Base of what happens between an engine and its control plane; ``run_id`` is empty."""


@_event
class ConnectorConnected(ControlEvent):
    """The engine is connected; from now on constraints from outside reach it."""

    #: What the engine is called outside.
    engine: str


@_event
class ConnectorDisconnected(ControlEvent):
    """The engine goes on by the constraints that it knows, and tries to connect again."""

    engine: str
    reason: str
    #: How many constraints stay in force.
    constraints: int


@_event
class ControlMessageRefused(ControlEvent):
    """A message from outside was not as it has to be, and has changed nothing."""

    topic: str
    reason: str


@_event
class InputsAwaited(Event):
    """A node was added to what the run has to do, and cannot start yet."""

    task: str
    #: ``LazyResult.number`` of the node.
    node: int
    #: The names of what it waits for, each once.
    inputs: tuple[str, ...]


@_event
class TaskBlocking(TaskEvent):
    """A coroutine function kept the event loop from its other work."""

    #: For how long so far.
    duration: float
    #: Where it was then, as lines of a traceback.
    stack: str


@_event
class StepsMade(Event):
    """The loops of a run get on: told of now and then, never for each step.

    No more often than every ``Engine(step_interval=…)`` seconds, however fast they are.
    """

    #: The task that made the last step.
    task: str
    #: How many the run has made so far.
    steps: int
    #: Over the last second or two.
    per_second: float


@_event
class CallAbandoned(TaskEvent):
    """Nobody waits any more for a call of a plain function, which cannot be stopped (M8).

    After a timeout, or a second cancel of the run.
    """

    #: How many such calls are running in the process now, this one among them.
    running: int


@_event
class ResourceEvent(Event):
    """Base of the events of one instance of a resource."""

    resource_name: str


@_event
class ResourceAcquired(ResourceEvent):
    pass


@_event
class ResourceReleased(ResourceEvent):
    #: What closing it raised, or that it took too long; None when all went well.
    error: BaseException | None = None
