"""Steps of loops: how many a loop may make, how many it has made, and the one that has failed."""

from __future__ import annotations

import asyncio
from typing import Any

from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.graph_path.compiled_loops.loop_batches import Loop, Steps
from cascade.runtime.graph_path.rounds import Rounds
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.loops.trampoline import REPEATING
from cascade.runtime.run import Run
from cascade.spec.errors import TaskCancelledError, TaskStopIterationError
from cascade.spec.task import Task


def allowed_steps(run: Run, work: Work, calls: int) -> int:
    """The number of ``calls`` that the limits of steps and rounds allow (M20)."""
    allowed = run.steps.allowed(calls)
    rounds = Rounds.of(run)
    return allowed if rounds is None else rounds.allowed(work, allowed)


def count_steps(
    run: Run, work: Work, loop: Loop, entered: Task[..., Any], steps: Steps, made: int
) -> None:
    """Count the steps of a batch that has ended, entered at the task ``entered``.

    Raises:
        StepLimitError: They are too many.
    """
    made = max(made, 0)
    loop.made += made
    work.steps += made
    if work.operation is not entered:
        work.operation, work.blueprint = entered, None
    run.made(made, entered.name, steps)
    rounds = Rounds.of(run)
    if rounds is not None:
        rounds.count(work, made)


def fail_at(error: BaseException, work: Work, loop: Loop) -> Task[..., Any]:
    """Put ``work`` at the task whose step has raised ``error``, out of the loop; that task."""
    loop.state = loop.code.state_at(error, loop.state)
    work.loop, work.operation = None, loop.task
    if work.policies.retry is not None and isinstance(loop.code, REPEATING):
        named = work.named = loop.code.named(*loop.code.failed)
        work.args, work.kwargs = loop.task.parameters.spread(named)
        work.tails = work.stays = 0
    return loop.task


def fail_here(error: BaseException, work: Work, loop: Loop) -> None:
    """The same for a step that was made in the event loop's thread.

    Raises:
        BaseException: A replacement of ``error`` that names the task.
    """
    replaced = isinstance(error, (TaskStopIterationError, TaskCancelledError))
    stopped = error.__cause__ if replaced else error
    task = fail_at(error if stopped is None else stopped, work, loop)
    if isinstance(error, StopIteration) or (
        isinstance(error, asyncio.CancelledError) and not loop.code.is_async
    ):
        raise carried(task.func, error) from error
    if isinstance(error, TaskStopIterationError):  # it names the task that was entered
        error.args = TaskStopIterationError.of(task.func).args
