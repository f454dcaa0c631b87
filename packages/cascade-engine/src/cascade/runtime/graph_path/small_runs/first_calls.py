"""First calls: a coroutine that can continue by tail calls is called before there is a loop.

It need not continue. To enter its compiled loop costs more than a call that ends in its first step.
So the first call is made as that of a small run, until a call of this task has waited or has
returned anything other than a value: from then on its runs begin in the loop. ``lone_loops`` goes
on with its tail call.
"""

from __future__ import annotations

from typing import Any

from cascade.runtime.execution.early_calls import has_plain_tasks, may_begin_early
from cascade.runtime.graph_path.small_runs.small_run import WAITS, SmallRun, is_simple
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.run import Run
from cascade.runtime.straightline.stops import Bailout
from cascade.spec.lazy_types import LazyResult


class FirstCall(SmallRun):
    """The only call of a run that may turn out to be a loop.

    Args:
        run: The run.
        target: The call.

    Attributes:
        reports: For the rest of the run: subscribers that come later get no half stories.
    """

    __slots__ = ("reports",)

    def __init__(self, run: Run, target: LazyResult[Any]) -> None:
        super().__init__(run, (target,), {target: 0})
        self.reports = Reports(run)

    def _begin(self) -> Any:
        outcome = super()._begin()
        if outcome is WAITS or type(outcome) is Bailout:
            early = self._run.early
            assert early is not None
            early.lasting.add(self._lazies[-1].task)
        return outcome


def first_call(run: Run, target: LazyResult[Any]) -> FirstCall | None:
    """The first call of a run of one coroutine; None if the run should begin otherwise."""
    task, early = target.task, run.early
    if early is None or target._dependencies or not task.is_async or task in early.lasting:
        return None
    if not (may_begin_early(target) and is_simple(run) and has_plain_tasks(run.loop)):
        return None
    return FirstCall(run, target)
