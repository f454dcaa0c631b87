"""``engine.run(target, run_id="…")``: begin a run, go on with it, or give its stored value (D1)."""

from __future__ import annotations

from functools import partial
from typing import Any

from cascade.runtime.durable.programs import Wanted, check_same
from cascade.runtime.durable.runs import Begin, DurableRuns
from cascade.runtime.options import MOST_RECOVERIES
from cascade.spec.errors import RunConflictError
from cascade.spec.run_rows import Change, RunRecord, RunStatus


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
    with runs.opening(wanted.new.run_id):
        run = await _claimed(runs, wanted)
    if run.status is RunStatus.SUCCEEDED:
        return await runs.result(run)
    await runs.refuse_stuck(run, MOST_RECOVERIES)
    return await runs.execute(run, wanted.program, begin, unload=unload)


async def _claimed(runs: DurableRuns, wanted: Wanted) -> RunRecord:
    """The run, which this process owns now, unless it has succeeded."""
    store, lease, dead = runs.store, runs.lease, await runs.dead()
    (created,) = await runs.call(store.create, [wanted.new], lease=lease, dead=dead)
    run: RunRecord = created.run
    if not created.new:
        try:
            check_same(runs.codec, wanted, run, await runs.call(store.load, run.number))
        except RunConflictError:
            if created.claimed:
                await runs.release(run, Change(RunStatus.ENQUEUED))
            raise
    if created.claimed or run.status is RunStatus.SUCCEEDED:
        return run
    claim = partial(store.claim_run, run.run_id, lease, again=True, dead=dead)
    return await runs.call(claim)
