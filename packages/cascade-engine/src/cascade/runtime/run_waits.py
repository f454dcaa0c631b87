"""RunWaits: the calls of a run that are under way, and the nodes that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from cascade.runtime.events import TaskWaiting
from cascade.runtime.execution.abandoned import AbandonedCalls
from cascade.runtime.execution.thread_waits import ThreadWaits
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.options import RunSettings
from cascade.runtime.run_events import RunEvents
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of
from cascade.spec.map_items import item_of
from cascade.spec.protocols import Executor

if TYPE_CHECKING:
    from cascade.runtime.elsewhere.executors import Elsewhere
    from cascade.runtime.engine_parts import EngineParts
    from cascade.runtime.execution.registry import BlueprintRegistry

#: Most nodes in a list without a visit to all nodes that wait for a thread.
_MOST_LISTED = 1000


class RunWaits(RunEvents):
    """Knows the calls and the waits of one run.

    Args:
        settings: The run's options.
        lent: The parts of the engine that the run uses.

    Attributes:
        calls: Key of a begun call of a task or resource → its name.
        constraints: The engine's rules for running tasks.
    """

    constraints: ConstraintManager
    # In the class, because most small runs have none of them.
    _is_watched = False
    _worked_on: Callable[[], Iterable[str]] = tuple
    _lacking: Callable[[], Iterable[Waiting]] = tuple
    _timed: Callable[[], Iterable[Waiting]] = tuple
    _remote: Callable[[], Iterable[Waiting]] = tuple
    if TYPE_CHECKING:

        @property
        def thread_waits(self) -> ThreadWaits:
            """The calls on threads, and those that wait for one."""

    def __init__(self, settings: RunSettings, lent: EngineParts) -> None:
        super().__init__(settings, lent.bus, lent.step_interval)
        self._lent = lent
        self.calls: dict[object, str] = {}
        self._delayed: dict[object, Waiting] = {}

    @property
    def threads(self) -> Executor:
        """Lends the threads for plain functions."""
        return self._lent.threads

    @property
    def blueprints(self) -> BlueprintRegistry:
        """The targets of ``TailCall(target_blueprint_id=…)``."""
        return self._lent.blueprints

    @property
    def elsewhere(self) -> Elsewhere:
        """Makes calls in other processes."""
        return self._lent.elsewhere

    @property
    def abandoned(self) -> AbandonedCalls:
        """The engine's abandoned calls (M8)."""
        return self._lent.abandoned

    def watch_nothing(self) -> None:
        """Forget the functions that list waits and calls."""
        if self._is_watched:
            self._worked_on = self._lacking = self._timed = self._remote = tuple

    def watch_waits(self, lacking: Callable[[], Iterable[Waiting]]) -> None:
        """Let ``waiting`` call ``lacking`` for the nodes that wait for inputs."""
        self._lacking, self._is_watched = lacking, True

    def watch_timed(self, timed: Callable[[], Iterable[Waiting]]) -> None:
        """Let ``waiting`` call ``timed`` for the nodes that wait for a time or a signal."""
        self._timed, self._is_watched = timed, True

    def watch_remote(self, remote: Callable[[], Iterable[Waiting]]) -> None:
        """Let ``waiting`` call ``remote`` for the nodes that wait for a worker elsewhere."""
        self._remote, self._is_watched = remote, True

    def watch_work(self, worked_on: Callable[[], Iterable[str]]) -> None:
        """Let ``under_way`` call ``worked_on`` for the calls that are not in ``calls``."""
        self._worked_on, self._is_watched = worked_on, True

    def under_way(self) -> list[str]:
        """The names of the active calls. In the loop's thread."""
        return [*list(self.calls.values()), *self._worked_on()]

    def waiting(self, inputs: bool = True) -> list[Waiting]:
        """The nodes that do not run now, and the reasons. In the loop's thread."""
        held_up = [
            Waiting(
                *(permit.task, permit.node, limit, holders, None, permit.since),
                item_of(permit.source),
            )
            for permit, limit, holders in self.constraints.capacities.waiting(self)
        ]
        unthreaded = self.thread_waits.waiting(None if inputs else _MOST_LISTED)
        held_up += [Waiting(*wait) for wait in unthreaded]
        held_up += islice(self._remote(), None if inputs else _MOST_LISTED)
        lacking = self._lacking() if inputs else ()
        return [*self._delayed.values(), *self._timed(), *held_up, *lacking]

    def first_rest(self) -> Waiting | None:
        """A node that waits for its next attempt, a time or a signal. In the loop's thread."""
        return next(iter(self._delayed.values()), None) or next(iter(self._timed()), None)

    def begin_delay(
        self,
        task: str,
        source: LazyResult[Any] | None,
        seconds: float | None,
        reason: str = "retry delay",
    ) -> object:
        """Report that a node waits for its next attempt, or for another reason.

        Returns:
            The argument of ``end_delay``, which must be called.
        """
        key = object()
        node, item = number_of(source), item_of(source)
        self._delayed[key] = Waiting(task, node, reason, (), seconds, monotonic(), item)
        if seconds != 0:
            self.publish(TaskWaiting, task, node, reason, (), seconds, item=item)
        return key

    def end_delay(self, key: object) -> None:
        """Report that it no longer waits."""
        del self._delayed[key]
