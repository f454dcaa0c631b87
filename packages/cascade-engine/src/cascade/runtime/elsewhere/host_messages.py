"""The messages between a driver and its host processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

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


class RunEnded(NamedTuple):
    """A run has ended in the host. Its value is in the store; ``error`` is its error as bytes."""

    run_id: str
    error: bytes | None


#: From a host: it has started. From the driver: the host shall end.
READY: Final = "ready"
DONE: Final = "done"
Message: TypeAlias = RunThere | EndThere | LimitThere | RunEnded | Literal["ready", "done"]
