"""``engine.resume("order-17")``: go on with a run by its id; its target comes from the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cascade.runtime.durable.programs import read_program
from cascade.runtime.durable.runs import Begin, DurableRuns
from cascade.runtime.durable.starting import as_claimed
from cascade.runtime.options import MOST_RECOVERIES
from cascade.spec.errors import RunNotFoundError
from cascade.spec.run_rows import Loaded, RunStatus


async def resumed(runs: DurableRuns, run_id: str, begin: Callable[[Loaded], Begin]) -> Any:
    """The value of a stored run: stored, or computed from where it was.

    Args:
        runs: The durable runs of the engine.
        run_id: The run.
        begin: Gives what begins the run.

    Raises:
        RunNotFoundError: No run has the id.
        TaskNotImportedError: Its target is in a module that is neither imported nor allowed.
        SerializationError: Its target is not stored, or cannot be read in this process.
        RunLeasedError: A process executes it.
        RunConflictError: Its steps were deleted, or it is dead.
        Exception: As ``DurableRuns.execute``.
    """
    store = runs.store
    run = await runs.call(store.find, run_id)
    if run is None:
        raise RunNotFoundError(f"{store!r} has no run {run_id!r}", run_id)
    if run.status is RunStatus.SUCCEEDED:
        return await runs.result(run)
    # Before the claim: a run whose target cannot be read stays as it is.
    program = loaded = None
    if not run.trimmed:
        loaded = await runs.call(store.load, run.number)
        program = read_program(runs.codec, loaded)
    run = await runs.claims.by_id(run_id)
    if run.status is RunStatus.SUCCEEDED:
        return await runs.result(run)
    assert program is not None  # a trimmed run cannot be claimed
    assert loaded is not None
    async with runs.claims.owned(run) as tenure:
        await runs.refuse_stuck(run, tenure, MOST_RECOVERIES)
        known = as_claimed(run, loaded)
        return await runs.execute(run, program, begin(loaded), tenure, loaded=known)
