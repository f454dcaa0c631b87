"""RunStorage: the part of a store that belongs to one run, as its journal uses it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cascade.graph.codec import Codec
from cascade.runtime.durable.desk import Desk
from cascade.spec.errors import SerializationError, StoreError
from cascade.spec.run_rows import RunRecord
from cascade.spec.run_store import RunStore, StoreTransaction


class RunStorage:
    """The part of a store that belongs to one run.

    Rows are written through the desk, together with those of other runs, and read all at once when
    the run begins here. Only large values are read one by one, and only transactions of tasks write
    on their own.

    Args:
        store: The store.
        codec: Encodes values and continuations.
        run: The run, as it was claimed.
        desk: Takes the rows to write.
    """

    def __init__(self, store: RunStore, codec: Codec, run: RunRecord, desk: Desk) -> None:
        self.codec = codec
        self.desk = desk
        self.run = run
        self._store = store

    def fetch(self, digest: bytes) -> bytes:
        """A large value. In any thread; the run waits for it.

        Raises:
            StoreError: The store cannot be used. That ends the run here, but it has not failed, and
                can be resumed.
            SerializationError: The value is lost.
        """
        try:
            found = self._store.blobs(self.run.number, [digest]).get(digest)
        except StoreError as error:
            self.desk.listener.failed(error)
            raise
        if found is None:
            raise SerializationError(f"the store has lost a large value, {digest.hex()}")
        return found

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        """A transaction of a task, which is not begun yet."""
        return self._store.transaction(self.run.number, self.run.epoch)
