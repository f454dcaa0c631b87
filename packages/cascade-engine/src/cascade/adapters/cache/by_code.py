"""ByCode: the cache that computes again only what has changed, by the code of tasks."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

from cascade.adapters.cache.entries import Entries, Entry, Got, Plan
from cascade.adapters.cache.opening import check_url, open_entries
from cascade.graph.call_keys import CallKey, call_key, head_of
from cascade.graph.codec import Codec
from cascade.graph.codehash import CodeHash
from cascade.spec.amounts_in_text import bytes_of, seconds_of
from cascade.spec.caching import check_ignore, is_backend
from cascade.spec.digest import digest
from cascade.spec.errors import ArgumentError, NotStorableError, SerializationError, StoreError
from cascade.spec.file_content import remember_files_in
from cascade.spec.protocols import CacheBackend
from cascade.spec.task import Task
from cascade.spec.wording import short

_log = logging.getLogger("cascade.cache")
#: Part of a stored value that holds a file, whose content has to be what it was.
_FILE: Final = b'"cascade:FileContent"'
#: A cache is looked at for its size when this part of it was written.
_SHARE: Final = 20
#: Process and URL → the open cache, shared by all policies with this URL.
_open: WeakValueDictionary[tuple[int, str], Any] = WeakValueDictionary()
_opening = threading.Lock()


class ByCode:
    """A CachePolicy that makes a call only if its code or an argument has changed.

    The key of a call is made of its task, the code of the task with everything that it names
    (helper functions, globals, closures, classes, defaults, versions of libraries, transitively),
    and its arguments by content. Change any of these, and what depends on it runs again; change a
    comment, the formatting or a docstring, and nothing does. ``cs.explain_cache`` says for each
    node whether it is a hit, and if not, what has changed.

    >>> import cascade as cs
    >>> cache = cs.ByCode("memory:")
    >>> @cs.task(cache=cache)
    ... def square(n):
    ...     return n * n
    >>> cs.run([square(2), square(3)]), cs.run([square(2), square(3)])
    ([4, 9], [4, 9])

    The task has to be pure: its value depends on nothing else, and making it has no effect. What it
    reads from outside belongs among its arguments, files as ``cs.FileContent(path)``.

    A run whose target is unchanged loads one value, whatever the size of its graph. A node that is
    computed again, and has the same value as before, changes nothing for those that need it.

    Args:
        store: ``"sqlite:///cache.db"`` (beside it, values above 64 KiB are files), or
            ``"postgresql://…"``, both with the options of stores of durable runs; ``"memory:"``
            ends with the process. It is opened when it is first used. Or a CacheBackend, such as
            ``LRUCache()``, which gets the digests of keys.
        ttl: Seconds, or a text such as ``"12h"``, for which a value is valid.
        ignore: Parameters that do not affect the value, such as a logger.
        version: Values kept under another version are not found.
        max_size: Bytes of values, or a text such as ``"10 GB"``. Beyond, the values that were not
            used for the longest time are removed. None for no limit.
        signing_key: Signs the values, and makes a miss of what was not signed with it.
        serializer: ``"pickle"`` for values that have no stored form; needs a ``signing_key``.
        modules: Modules that may be imported because a stored value names a class in them. None:
            any.
        wait: Seconds to wait for a value that another run or process computes, before computing it
            as well; 0 to compute at once. None: as long as that one lives.
        now: The clock for expiry and last use, in seconds since the epoch.

    If several runs or processes miss the same value at the same time, one computes it and the
    others wait for it. A value that cannot be stored is computed each time; the logger
    ``cascade.cache`` warns once per task, and also if values cannot be written.

    Raises:
        ArgumentError: An option is invalid. From ``key``: an argument has no content; the message
            names its part.
        StoreError: From all methods: the store cannot be used.
    """

    def __init__(
        self,
        store: str | CacheBackend,
        *,
        ttl: float | str | None = None,
        ignore: Iterable[str] = (),
        version: str = "",
        max_size: int | str | None = None,
        signing_key: bytes | str | None = None,
        serializer: Literal["json", "pickle"] = "json",
        modules: Iterable[str] | None = None,
        wait: float | str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(store, str):
            check_url(store)
        elif not is_backend(store):
            raise ArgumentError(
                "ByCode takes the URL of a store, such as 'sqlite:///cache.db', or a CacheBackend, "
                f"but got {short(store)}"
            )
        self.ignored = check_ignore(ignore)
        self.version = version
        self._store = store
        self._ttl = None if ttl is None else _above_zero(seconds_of("ttl", ttl))
        self._max_size = None if max_size is None else bytes_of("max_size", max_size)
        #: As given, in seconds.
        self.wait = None if wait is None else seconds_of("wait", wait)
        self._codec = Codec(signing_key=signing_key, serializer=serializer, modules=modules)
        #: The clock for expiry and last use.
        self.now = now
        #: Bytes written since the size was last looked at; None before the first.
        self._written: int | None = None
        self._told: set[str] = set()
        self._kept: tuple[int, Entries] | None = None
        shared = store if isinstance(store, str) and store != "memory:" else id(self)
        options = (self._ttl, self.ignored, version, max_size, signing_key, serializer, wait)
        self._made_of = (shared if isinstance(store, str) else id(store), *options, now)
        self._hash = hash(self._made_of)

    def __eq__(self, other: object) -> bool:
        return self._made_of == other._made_of if type(other) is ByCode else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        # Of a URL the scheme alone: the rest may hold a password.
        named = isinstance(self._store, str)
        where = f"'{self._store.partition(':')[0]}:…'" if named else short(self._store)  # type: ignore[union-attr]
        return f"ByCode({where})"

    # -- as a policy --------------------------------------------------------------------------

    def key(self, task: Task[..., Any], arguments: Mapping[str, Any]) -> CallKey:
        self._open()
        return call_key(task, arguments, ignored=self.ignored, version=self.version)

    def load(self, key: CallKey, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        found, value = self._load(key, key.digest)
        if not found:
            key.began = time.perf_counter()
        return found, value

    def save(self, key: CallKey, arguments: Mapping[str, Any], value: Any) -> None:
        now = self.now()
        ends = None if self._ttl is None else now + self._ttl
        if not isinstance(self._store, str):
            self._store.put(key.digest, value, self._ttl)
            return
        try:
            body = self._codec.dumps(value, key.digest)
        except NotStorableError as error:
            self._tell_not_stored(key.task, error)
            return
        content = digest(value) if _FILE in body else None
        args = json.dumps({name: part.hex() for name, part in key.args.items()})
        seconds = time.perf_counter() - key.began if key.began else 0.0
        self.entries.put(
            Entry(key.digest, key.task, key.code.digest, args, content, body, now, seconds, ends),
            partial(components_text, key.code),
        )
        key.found(ends)
        self._keep_size(len(body))

    def _load(self, key: CallKey | None, name: bytes) -> tuple[bool, Any]:
        if not isinstance(self._store, str):
            return self._store.get(name)
        got = self.entries.get(name, self.now())
        if got is None:
            return False, None
        found, value = self._value_of(name, got)
        if found and key is not None:
            key.found(got.expires)
        return found, value

    def _value_of(self, name: bytes, got: Got) -> tuple[bool, Any]:
        """The value of an entry that is there."""
        body, _, content = got
        try:
            value = self._codec.loads(body, name)
        except SerializationError as error:
            # Of a class that is gone, or signed with another key.
            _log.warning("an entry of %r cannot be read, and is computed again: %s", self, error)
            return False, None
        if content is not None and not _is_unchanged(value, content):
            return False, None
        return True, value

    def _tell_not_stored(self, task: str, error: NotStorableError) -> None:
        if task not in self._told:
            self._told.add(task)
            _log.warning(
                "the values of task %s are not cached, and each call is made: %s", task, error
            )

    def _keep_size(self, written: int) -> None:
        """Evict, once in a while, the entries above the size."""
        if self._max_size is None:
            return
        if self._written is not None:
            self._written += written
            if self._written < self._max_size // _SHARE:
                return
        self._written = 0
        self.entries.evict(self._max_size)

    # -- calls that are being made ------------------------------------------------------------

    @property
    def shared(self) -> ByCode | None:
        """What lets others wait for a call; None if values are in a backend."""
        return self if isinstance(self._store, str) else None

    def claim(self, key: CallKey, wake: Callable[[], object]) -> bool:
        """Whether to make a call, and then to call ``leave``; see ``SharedCache``."""
        if self.wait != 0 and key.task not in self._told:  # otherwise no other run waits for it
            key.is_claimed = self.entries.claim(key.digest, wake)
            return key.is_claimed
        return True

    def leave(self, key: CallKey) -> None:
        """A call is over."""
        if key.is_claimed:
            key.is_claimed = False
            self.entries.leave(key.digest)

    # -- what is known before a run -----------------------------------------------------------

    @property
    def plans(self) -> ByCode | None:
        """What knows nodes by their plan keys; None if values are in a backend."""
        return self if isinstance(self._store, str) else None

    @property
    def lasts(self) -> bool:
        """Whether values are valid for ever."""
        return self._ttl is None

    def head(self, task: Task[..., Any]) -> bytes:
        """The beginning of the keys of a task's calls."""
        self._open()
        return head_of(task, self.version)[0]

    def find_plans(self, plans: Collection[bytes]) -> Mapping[bytes, Plan]:
        """The entries of nodes, by plan key."""
        return self.entries.plans(plans, self.now())

    def load_plan(self, plan: Plan) -> tuple[bool, Any]:
        """The value of such an entry."""
        return self._load(None, plan.key)

    def load_plans(self, plans: Iterable[Plan]) -> Iterator[tuple[bytes, Any]]:
        """Key and value of such entries, in any order; many at once take half the time."""
        for key, got in self.entries.get_all([plan.key for plan in plans], self.now()):
            found, value = self._value_of(key, got)
            if found:
                yield key, value

    def keep_plans(self, plans: Iterable[tuple[bytes, bytes, float | None]]) -> None:
        """Note the entries of nodes: plan key, key, and end."""
        self.entries.keep_plans([Plan(*plan) for plan in plans])

    # -- the store ----------------------------------------------------------------------------

    @property
    def entries(self) -> Entries:
        """The open store of this process.

        Raises:
            StoreError: It cannot be opened.
        """
        kept, process = self._kept, os.getpid()
        if kept is None or kept[0] != process:  # a fork must not use the connections
            assert isinstance(self._store, str)
            kept = self._kept = process, _opened(process, self._store)
        return kept[1]

    def _open(self) -> None:
        """Open the store, which knows files that other processes have read."""
        if self._kept is None and isinstance(self._store, str):
            _ = self.entries

    def flush(self) -> None:
        """Write the entries in memory. An error is logged: values are computed again."""
        if self._kept is not None and self._kept[0] == os.getpid():
            _flush(self._kept[1])

    def close(self) -> None:
        """Write the entries in memory, and let go of the store; a later use opens it."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == os.getpid():
            _flush(kept[1])


def components_text(code: CodeHash) -> str:
    """The components of a code as they are stored."""
    return json.dumps([dict(code.components), dict(code.users), dict(code.untracked)])


def components_of(text: str) -> CodeHash:
    """What ``components_text`` made."""
    components, users, untracked = json.loads(text)
    return CodeHash("", components, users, untracked)


def _opened(process: int, url: str) -> Entries:
    if url.startswith("memory:"):
        return open_entries(url)
    # The same name in another working directory is another file.
    place = f"{url} in {os.getcwd()}" if url.startswith("sqlite:") else url
    with _opening:
        found: Entries | None = _open.get((process, place))
        if found is None:
            found = _open[process, place] = open_entries(url)
            remember_files_in(found)
            _flush_at_exit(process)
        return found


def _flush(entries: Entries) -> None:
    try:
        entries.flush()
    except StoreError as error:
        _log.warning("values cannot be kept in the cache: %s", error)


def _flush_all() -> None:
    """Write the entries that are only in memory, at the end of the process."""
    for (process, _), entries in list(_open.items()):
        if process == os.getpid():
            _flush(entries)


@cache
def _flush_at_exit(process: int) -> None:
    """Have that done, once per process. Children of ``multiprocessing`` run no exit handlers."""
    atexit.register(_flush_all)
    module = sys.modules.get("multiprocessing.process")
    if module is not None and module.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _flush_all, exitpriority=0)


def _is_unchanged(value: Any, content: bytes) -> bool:
    """Whether the files in a value have the content that they had."""
    try:
        return digest(value) == content
    except Exception:  # a file is gone
        return False


def _above_zero(ttl: float) -> float:
    if not ttl:
        raise ArgumentError("ttl must be seconds > 0, or None for no limit, but is 0")
    return ttl
