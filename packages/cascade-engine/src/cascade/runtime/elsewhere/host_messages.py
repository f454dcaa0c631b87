"""The messages between a driver and its host processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeAlias

from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.limits.rules import Constraint


class RunThere(NamedTuple):
    """Execute a run of the store."""

    run_id: str
    #: Modules with its tasks.
    modules: Sequence[str]


class EndThere(NamedTuple):
    """End a run: for good, or so that any process may go on with it."""

    run_id: str
    for_good: bool


class LimitThere(NamedTuple):
    """The constraints of the engine from now on."""

    constraints: Sequence[Constraint]


class TellThere(NamedTuple):
    """The events of runs that the driver wants from now on, by the names of their classes."""

    kinds: Sequence[str]


class Progress(NamedTuple):
    """How far a run is: see ``RunInfo``."""

    run_id: str
    steps: int
    steps_per_second: float
    task: str | None


class Waits(NamedTuple):
    """The nodes of a run that do not run now; ``since`` is the age of a wait, in seconds."""

    run_id: str
    waits: Sequence[Waiting]


class Told(NamedTuple):
    """Events and progress of the runs of a host."""

    #: See ``host_events``.
    events: Sequence[tuple[str, bytes]] = ()
    progress: Sequence[Progress] = ()
    #: Of the runs whose waits have changed.
    waits: Sequence[Waits] = ()


class SharedAmounts(NamedTuple):
    """The capacities of an engine that it shares through a store."""

    total: Mapping[str, float]
    store: str
    lease: float


class NotReady(NamedTuple):
    """The process has started, but cannot execute runs: ``problem`` is the reason."""

    problem: str


class RunEnded(NamedTuple):
    """A run has ended in the host. Its value is in the store; ``error`` is its error as bytes."""

    run_id: str
    error: bytes | None


#: From a host: it has started. From the driver: the host shall end.
READY: Final = "ready"
DONE: Final = "done"
Message: TypeAlias = (
    RunThere
    | EndThere
    | LimitThere
    | TellThere
    | RunEnded
    | Told
    | NotReady
    | Literal["ready", "done"]
)


def sent(wait: Waiting) -> Waiting:
    """A wait for another process: its clock and the numbers of its nodes are its own."""
    item = None if wait.item is None else replace(wait.item, map=0)
    age = None if wait.since is None else monotonic() - wait.since
    return wait._replace(node=0, since=age, item=item)


def received(wait: Waiting) -> Waiting:
    """A wait of another process, by the clock of this one."""
    return wait._replace(since=None if wait.since is None else monotonic() - wait.since)
