"""``engine.run(target, run_id="…")``: begin a run, go on with it, or give its stored value (D1)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from cascade.runtime.durable.programs import Wanted, check_same
from cascade.runtime.durable.runs import Begin, DurableRuns
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
            return await runs.result(run)
        await runs.refuse_stuck(run, tenure, MOST_RECOVERIES)
        return await runs.execute(run, wanted.program, begin, tenure, loaded=loaded, unload=unload)


async def _owned(
    runs: DurableRuns, wanted: Wanted, stack: AsyncExitStack
) -> tuple[RunRecord, Tenure | None, Loaded | None]:
    """The run; the time in which this engine owns it, None if it has succeeded; and what it knows.

    The last is None if it has to be read.
    """
    store, claims, new = runs.store, runs.claims, wanted.new
    run, is_new, is_claimed = await claims.created(new)
    tenure = await stack.enter_async_context(claims.owned(run)) if is_claimed else None
    if is_new:
        return run, tenure, Loaded(run, new.program, new.params, new.code, (), (), (), (), None)
    loaded = await runs.call(store.load, run.number)
    try:
        check_same(runs.codec, wanted, run, loaded)
    except RunConflictError:
        if tenure is not None:
            await runs.release(Change(RunStatus.ENQUEUED), tenure)
        raise
    if tenure is not None or run.status is RunStatus.SUCCEEDED:
        return run, tenure, loaded
    run = await claims.by_id(new.run_id)
    if run.status is not RunStatus.SUCCEEDED:
        tenure = await stack.enter_async_context(claims.owned(run))
    return run, tenure, None
