"""``engine.resume("order-17")``: go on with a run by its id; its target comes from the store."""

from __future__ import annotations

from functools import partial
from typing import Any

from cascade.runtime.durable.programs import read_program
from cascade.runtime.durable.runs import Begin, DurableRuns
from cascade.runtime.options import MOST_RECOVERIES
from cascade.spec.errors import RunNotFoundError
from cascade.spec.run_rows import RunStatus


async def resumed(runs: DurableRuns, run_id: str, begin: Begin) -> Any:
    """The value of a stored run: stored, or computed from where it was.

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
    program = None
    if not run.trimmed:
        program = read_program(runs.codec, await runs.call(store.load, run.number))
    dead = await runs.dead()
    claim = partial(store.claim_run, run_id, runs.lease, again=True, dead=dead)
    run = await runs.call(claim)
    assert program is not None  # a trimmed run cannot be claimed
    await runs.refuse_stuck(run, MOST_RECOVERIES)
    return await runs.execute(run, program, begin)
