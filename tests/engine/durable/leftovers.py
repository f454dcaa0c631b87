"""What a run must not leave in its store."""

from collections.abc import Iterator

from cascade.runtime.durable.rows import rows_of
from cascade.spec.run_rows import RunStatus
from cascade.spec.run_store import RunStore


def left_in(store: RunStore, run_id: str) -> Iterator[str]:
    """What is in the store of a run that has succeeded, although nobody needs it."""
    run = store.find(run_id)
    if run is None or run.status is not RunStatus.SUCCEEDED:
        return
    loaded = store.load(run.number)
    if loaded.records:
        yield f"left in the store: {loaded.records}"
    for chunk in loaded.chunks:
        if all(row.owner is not None for row in rows_of(chunk)):
            yield f"left in the store: {chunk}"
