"""``engine.run(target, run_id="…")``: begin a run, go on with it, or give its stored value (D1)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from cascade.runtime.durable.programs import Wanted, check_same, completed
from cascade.runtime.durable.runs import Begin, DurableRuns, value_of
from cascade.runtime.durable.tenure import Tenure
from cascade.runtime.options import MOST_RECOVERIES
from cascade.spec.errors import RunConflictError
from cascade.spec.run_rows import Change, Loaded, RunRecord, RunStatus


async def value_of_run(
    runs: DurableRuns, wanted: Wanted, begin: Begin, *, unload: float | None = None
) -> Any:
    """The value of a run: stored, or computed from where it was (D1).

    Args:
        unload: As ``DurableRuns.execute`` takes it.

    Raises:
        RunConflictError: The id belongs to a run of another target, or with other parameters; or
            the run is dead.
        RunLeasedError: Another process executes it, or another run of this one.
        Exception: As ``DurableRuns.execute``.
    """
    async with AsyncExitStack() as stack:
        with runs.opening(wanted.new.run_id):
            run, tenure, loaded = await _owned(runs, wanted, stack)
        if tenure is None:
            if loaded is None:
                return await runs.result(run)
            return value_of(runs.codec, run, loaded.result)
        await runs.refuse_stuck(run, tenure, MOST_RECOVERIES)
        return await runs.execute(run, wanted.program, begin, tenure, loaded=loaded, unload=unload)


async def _owned(
    runs: DurableRuns, wanted: Wanted, stack: AsyncExitStack
) -> tuple[RunRecord, Tenure | None, Loaded | None]:
    """The run; the time in which this engine owns it, None if it has succeeded; and what it knows.

    The last is None if it has to be read.
    """
    claims, new = runs.claims, wanted.new
    if wanted.is_large:
        found = await runs.call(runs.store.find, new.run_id)
        if found is not None:
            return await _claimed(runs, wanted, found, stack)
        new = completed(runs.codec, wanted)
    run, is_new, is_claimed = await claims.created(new)
    if not is_claimed:
        return await _claimed(runs, wanted, run, stack)
    tenure = await stack.enter_async_context(claims.owned(run))
    if is_new:
        return run, tenure, Loaded(run, new.program, new.params, new.code, (), (), (), (), None)
    loaded = await runs.call(runs.store.load, run.number)
    try:
        check_same(runs.codec, wanted, run, loaded)
    except RunConflictError:
        await runs.release(Change(RunStatus.ENQUEUED), tenure)
        raise
    return run, tenure, loaded


async def _claimed(
    runs: DurableRuns, wanted: Wanted, run: RunRecord, stack: AsyncExitStack
) -> tuple[RunRecord, Tenure | None, Loaded | None]:
    """``_owned`` for a run that the store has: its target is compared before the claim."""
    loaded = await runs.call(runs.store.load, run.number)
    check_same(runs.codec, wanted, run, loaded)
    if run.status is RunStatus.SUCCEEDED:
        return run, None, loaded
    run = await runs.claims.by_id(wanted.new.run_id)
    if run.status is RunStatus.SUCCEEDED:
        return run, None, None
    tenure = await stack.enter_async_context(runs.claims.owned(run))
    return run, tenure, as_claimed(run, loaded)


def as_claimed(run: RunRecord, loaded: Loaded) -> Loaded | None:
    """The rows of a run that were read before its claim; None if others may have written since.

    Args:
        run: The run, as it was claimed.
        loaded: Its rows. If a process executed the run at that time, it may have written more.
    """
    before = loaded.run
    as_before = before.number, before.epoch + 1, before.inbox
    if before.status is RunStatus.RUNNING or (run.number, run.epoch, run.inbox) != as_before:
        return None
    return loaded._replace(run=run)
