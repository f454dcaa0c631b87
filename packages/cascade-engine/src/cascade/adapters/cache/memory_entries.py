"""MemoryEntries: a cache by code that ends with the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from cascade.adapters.cache.claims import Claims, Wake
from cascade.adapters.cache.entries import Entry, Found, Got, Plan, TaskUse, got


class MemoryEntries:
    """Entries in memory; they are encoded as in a database. See ``Entries``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Key → entry and its last use, the one used last at the end.
        self._entries: dict[bytes, tuple[Entry, float]] = {}
        self._plans: dict[bytes, Plan] = {}
        self._components: dict[str, str] = {}
        self._claims = Claims()

    def __repr__(self) -> str:
        return "a cache in memory"

    def get_all(self, keys: Collection[bytes], now: float) -> Iterator[tuple[bytes, Got]]:
        for key in keys:
            found = self.get(key, now)
            if found is not None:
                yield key, found

    def get(self, key: bytes, now: float) -> Got | None:
        with self._lock:
            entry, _ = self._entries.get(key, (None, 0.0))
            if entry is None or _is_over(entry.expires, now):
                return None
            del self._entries[key]
            self._entries[key] = entry, now
            return got(entry)

    def put(self, entry: Entry, components: Callable[[], str]) -> None:
        with self._lock:
            self._entries.pop(entry.key, None)
            self._entries[entry.key] = entry, entry.computed
            if entry.code not in self._components:
                self._components[entry.code] = components()

    def claim(self, key: bytes, wake: Wake) -> bool:
        return self._claims.take(key, wake)

    def leave(self, key: bytes) -> None:
        self._claims.leave(key)

    def remove(self, key: bytes) -> None:
        with self._lock:
            self._forget([key])

    def plans(self, plans: Collection[bytes], now: float) -> Mapping[bytes, Plan]:
        with self._lock:
            found = (self._plans.get(plan) for plan in plans)
            return {p.plan: p for p in found if p is not None and not _is_over(p.expires, now)}

    def keep_plans(self, plans: Sequence[Plan]) -> None:
        with self._lock:
            self._plans.update({p.plan: p for p in plans if p.key in self._entries})

    def file_digest(self, name: bytes, state: str) -> None:
        """The process remembers files by itself."""

    def keep_file(self, name: bytes, state: str, digest: bytes) -> None:
        """The process remembers files by itself."""

    def flush(self) -> None:
        """Nothing is written."""

    def evict(self, size: int) -> int:
        with self._lock:
            left = sum(len(entry.body) for entry, _ in self._entries.values())
            removed = []
            for key, (entry, _) in self._entries.items():
                if left <= size:
                    break
                left -= len(entry.body)
                removed.append(key)
            self._forget(removed)
            return len(removed)

    def stats(self) -> Sequence[TaskUse]:
        with self._lock:
            found: dict[str, TaskUse] = {}
            for entry, used in self._entries.values():
                old = found.get(entry.task, TaskUse(entry.task, 0, 0, 0.0, 0.0))
                found[entry.task] = TaskUse(
                    entry.task,
                    old.entries + 1,
                    old.size + len(entry.body),
                    old.seconds + entry.seconds,
                    max(old.used, used),
                )
            return [found[task] for task in sorted(found)]

    def clear(self, task: str | None = None, before: float | None = None) -> int:
        with self._lock:
            removed = [
                key
                for key, (entry, used) in self._entries.items()
                if task in (None, entry.task) and (before is None or used < before)
            ]
            self._forget(removed)
            return len(removed)

    def of_task(self, task: str, limit: int) -> Sequence[Found]:
        with self._lock:
            found = [_found(*kept) for kept in self._entries.values() if kept[0].task == task]
        return sorted(found, key=lambda each: -each.computed)[:limit]

    def find(self, keys: Collection[bytes]) -> Mapping[bytes, Found]:
        with self._lock:
            return {key: _found(*self._entries[key]) for key in keys if key in self._entries}

    def components(self, code: str) -> str | None:
        with self._lock:
            return self._components.get(code)

    def close(self) -> None:
        """Nothing is open."""

    def _forget(self, keys: Collection[bytes]) -> None:
        for key in keys:
            self._entries.pop(key, None)
        gone = set(keys)
        for plan in [p.plan for p in self._plans.values() if p.key in gone]:
            del self._plans[plan]
        if gone:
            left = {entry.code for entry, _ in self._entries.values()}
            self._components = {c: text for c, text in self._components.items() if c in left}


def _is_over(expires: float | None, now: float) -> bool:
    return expires is not None and expires <= now


def _found(entry: Entry, used: float) -> Found:
    return Found(
        entry.key,
        entry.args,
        entry.code,
        entry.value,
        len(entry.body),
        entry.computed,
        entry.seconds,
        used,
        entry.expires,
    )
