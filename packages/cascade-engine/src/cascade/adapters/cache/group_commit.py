"""GroupCommit: the rows of a cache, collected from all threads and written together.

A value counts for its own process as soon as it is put. A thread writes what was put within a
moment in one transaction; ``flush`` writes at once, in the calling thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from cascade.adapters.cache.entries import Entry, Plan
from cascade.spec.errors import StoreError

_log = logging.getLogger("cascade.cache")
#: Seconds in which entries are collected before the thread writes them.
GATHER: Final = 0.05
#: Entries, and bytes of their values, that may be unwritten. Beyond, the next one waits.
_MOST: Final = 2_000
_MOST_BYTES: Final = 16_000_000


class Batch:
    """What one transaction writes."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.plans: dict[bytes, Plan] = {}
        #: Code → its components.
        self.codes: dict[str, str] = {}
        #: Name of a file → its state, and the digest of its content.
        self.files: dict[bytes, tuple[str, bytes]] = {}
        #: Key → its last use.
        self.uses: dict[bytes, float] = {}
        #: The keys of calls that are over once it is written.
        self.over: list[bytes] = []
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self.entries or self.plans or self.files or self.uses or self.over)


class GroupCommit:
    """Writes in groups. Thread-safe.

    Args:
        write: Writes a batch in one transaction.
        written: Told of the keys in ``over``, whether or not the batch could be written.
    """

    def __init__(
        self, write: Callable[[Batch], object], written: Callable[[Sequence[bytes]], object]
    ) -> None:
        self._write = write
        self._written = written
        self._news = threading.Condition()
        #: Held by the thread that writes.
        self._writing = threading.Lock()
        self._next = Batch()
        #: What is being written, for readers.
        self._last = Batch()
        self._writer: threading.Thread | None = None
        #: The last error that was told.
        self._told = ""

    # -- readers ------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        """An entry that is not written yet."""
        return self._next.entries.get(key) or self._last.entries.get(key)

    # -- writers ------------------------------------------------------------------------------

    def put(self, entry: Entry, components: str | None) -> None:
        """Write an entry soon, and the components of its code if they are given."""
        with self._news:
            batch = self._next
            batch.entries[entry.key] = entry
            batch.size += len(entry.body)
            if components is not None:
                batch.codes[entry.code] = components
            is_full = batch.size > _MOST_BYTES or len(batch.entries) > _MOST
            self._begin()
        if is_full:
            self._write_or_tell()

    def put_plans(self, plans: Iterable[Plan]) -> None:
        """Write plans soon, those whose entries are there."""
        with self._news:
            self._next.plans.update((plan.plan, plan) for plan in plans)
            self._begin()

    def put_file(self, name: bytes, state: str, digest: bytes) -> None:
        """Write the digest of a file soon."""
        with self._news:
            self._next.files[name] = state, digest
            self._begin()

    def put_uses(self, uses: Mapping[bytes, float]) -> None:
        """Write soon when entries were used."""
        if uses:
            with self._news:
                self._next.uses.update(uses)
                self._begin()

    def over(self, key: bytes) -> bool:
        """Whether a call is over only when its entry is written; ``written`` is told then."""
        with self._news:
            batch = self._next if key in self._next.entries else self._last
            if key not in batch.entries:
                return False
            batch.over.append(key)
            return True

    def forget(self, key: bytes) -> None:
        """Leave out an entry that is not written yet."""
        with self._news:
            self._next.entries.pop(key, None)

    def flush(self) -> None:
        """Write everything now.

        Raises:
            StoreError: It cannot be written, and is lost.
        """
        with self._writing:
            with self._news:
                batch = self._last = self._next  # before it is replaced: readers take no lock
                self._next = Batch()
            if not batch:
                return
            try:
                self._write(batch)
                self._told = ""
            finally:
                with self._news:
                    self._last = Batch()
                self._written(batch.over)

    def _begin(self) -> None:
        """Have the thread write soon. Under the lock of the news."""
        if self._writer is None:
            self._writer = threading.Thread(
                target=self._work, name="cascade-cache-writer", daemon=True
            )
            self._writer.start()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait(GATHER)
                if not self._next:
                    self._writer = None
                    return
            self._write_or_tell()

    def _write_or_tell(self) -> None:
        """Write everything; values that cannot be written are computed again by the next run."""
        try:
            self.flush()
        except Exception as error:
            if not isinstance(error, StoreError):
                _log.exception("values cannot be kept in the cache")
            elif str(error) != self._told:
                self._told = str(error)
                _log.warning("values cannot be kept in the cache: %s", error)
