"""What happens in a run, as typed events on the bus.

Every event carries the id of its run. Times are seconds; ``at`` is on the clock of
``time.monotonic``, so differences are exact and the zero means nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Base of all events; subscribe to it to see every one."""

    run_id: str
    at: float = field(default_factory=time.monotonic, kw_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class RunStarted(Event):
    #: Name of what the run computes.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str


@dataclass(frozen=True, slots=True, eq=False)
class RunFinished(Event):
    #: ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    status: str
    duration: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NodesPlanned(Event):
    """Nodes were added to what the run has to do: at its start, and where maps expand."""

    #: How many of them are calls of tasks, and will give a TaskStarted or TaskSkipped.
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class TaskEvent(Event):
    """Base of the events of one node that calls a task.

    A node that loops by tail calls starts and finishes once.
    """

    task: str
    #: ``LazyResult.number`` of the node, unique in the process; 0 where there is none.
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class TaskStarted(TaskEvent):
    pass


@dataclass(frozen=True, slots=True, eq=False)
class TaskFinished(TaskEvent):
    duration: float


@dataclass(frozen=True, slots=True, eq=False)
class TaskRetrying(TaskEvent):
    """An attempt failed, and there will be another."""

    #: Number of the attempt that failed, from 1.
    attempt: int
    #: Seconds until the next one.
    pause: float
    error: BaseException


@dataclass(frozen=True, slots=True, eq=False)
class TaskFailed(TaskEvent):
    duration: float
    error: BaseException


@dataclass(frozen=True, slots=True, eq=False)
class TaskSkipped(TaskEvent):
    #: Name of the condition that was falsy.
    condition: str


@dataclass(frozen=True, slots=True, eq=False)
class ResourceEvent(Event):
    """Base of the events of one instance of a resource."""

    resource_name: str


@dataclass(frozen=True, slots=True, eq=False)
class ResourceAcquired(ResourceEvent):
    pass


@dataclass(frozen=True, slots=True, eq=False)
class ResourceReleased(ResourceEvent):
    #: What closing it raised; None when all went well.
    error: BaseException | None = None
