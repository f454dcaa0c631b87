"""Entries of a cache by code, and the protocol of the stores that keep them.

An *entry* is the value of one call, by the digest of its key. A *plan* leads from the plan key of a
node (``graph.plan_keys``) to an entry. *Components* are what the code of a task was made of, shared
by all entries with this code; ``explain_cache`` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """The value of one call.

    Attributes:
        key: 16 bytes.
        task: ``module:name``.
        code: The digest of the code.
        args: Parameter → digest of its argument, in hex digits, as JSON.
        value: The digest of the value; None if it has none.
        body: The value, encoded.
        computed: When, in seconds since the epoch.
        seconds: How long a hit saves; 0 if unknown.
        expires: When it ends to be a hit; None for never.
    """

    key: bytes
    task: str
    code: str
    args: str
    value: bytes | None
    body: bytes
    computed: float
    seconds: float
    expires: float | None


class Found(NamedTuple):
    """An entry without its value."""

    key: bytes
    args: str
    code: str
    value: bytes | None
    size: int
    computed: float
    seconds: float
    used: float
    expires: float | None


class Got(NamedTuple):
    """What a hit needs of an entry: its body, its end, and the digest of its value."""

    body: bytes
    expires: float | None
    value: bytes | None


class Plan(NamedTuple):
    """The entry that a node with this plan key has, until ``expires``."""

    plan: bytes
    key: bytes
    expires: float | None


class TaskUse(NamedTuple):
    """What a cache keeps of one task."""

    task: str
    entries: int
    #: Bytes of their values.
    size: int
    #: Seconds that computing them took.
    seconds: float
    #: When one of them was last used, in seconds since the epoch.
    used: float


def got(entry: Entry) -> Got:
    """That part of an entry."""
    return Got(entry.body, entry.expires, entry.value)


class Entries(Protocol):
    """Keeps entries, for any number of threads, and of processes if it is a database.

    Times are seconds since the epoch, by the clock of the caller. A crash leaves whole entries.
    """

    def get(self, key: bytes, now: float) -> Got | None:
        """An entry that has not expired. Notes its use, within a minute."""

    def get_all(self, keys: Collection[bytes], now: float) -> Iterable[tuple[bytes, Got]]:
        """The same for many, those that are written; in any order."""

    def put(self, entry: Entry, components: Callable[[], str]) -> None:
        """Keep an entry, in place of an earlier one; and the components of its code.

        This process finds it at once, others a moment later, or after ``flush``. An entry that
        cannot be written is told to the logger ``cascade.cache``, and is none.
        """

    def remove(self, key: bytes) -> None:
        """Forget an entry."""

    def claim(self, key: bytes, wake: Callable[[], object]) -> bool:
        """Whether the caller is to compute the value of an entry, and then to call ``leave``.

        Otherwise another run or process does, and ``wake`` is called, once and from any thread,
        when that may be over: then the entry is there, or it may be claimed.
        """

    def leave(self, key: bytes) -> None:
        """Let others claim an entry. They find it first, if it was put."""

    def plans(self, plans: Collection[bytes], now: float) -> Mapping[bytes, Plan]:
        """The plans that lead to entries, and have not expired."""

    def keep_plans(self, plans: Sequence[Plan]) -> None:
        """Keep plans, in place of earlier ones; written as entries are."""

    def file_digest(self, name: bytes, state: str) -> bytes | None:
        """What ``keep_file`` has kept for a file in this state."""

    def keep_file(self, name: bytes, state: str, digest: bytes) -> None:
        """Remember the digest of a file; written as entries are."""

    def flush(self) -> None:
        """Write everything that is only in memory, also when entries were used."""

    def evict(self, size: int) -> int:
        """Remove the entries that were not used for the longest time, until ``size`` bytes are
        left; the number of removed ones."""

    def stats(self) -> Sequence[TaskUse]:
        """What is kept, by task."""

    def clear(self, task: str | None = None, before: float | None = None) -> int:
        """Remove the entries of a task, or of all; those last used before a time, or all. Returns
        their number."""

    def of_task(self, task: str, limit: int) -> Sequence[Found]:
        """The newest entries of a task, the newest first."""

    def find(self, keys: Collection[bytes]) -> Mapping[bytes, Found]:
        """Entries by key, expired ones as well."""

    def components(self, code: str) -> str | None:
        """The components of a code, as they were given."""

    def close(self) -> None:
        """Let go of connections and files."""
