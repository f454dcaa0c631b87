"""FileContent: a file as an argument, known by its path and its content."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakSet

from cascade.spec.digest import SIZE, UndigestibleError
from cascade.spec.errors import ArgumentError, StoreError
from cascade.spec.wording import short

#: Most files whose digests are remembered, each by some 200 bytes.
_MOST: Final = 100_000
#: Nanoseconds after a change within which a second change may leave the same time behind: clocks of
#: file systems are coarse, those of FAT and of some networks by two seconds.
_COARSE: Final = 2_000_000_000
_CHUNK: Final = 1 << 20


class _State(NamedTuple):
    """What ``stat`` says of a file; it changes with the content."""

    size: int
    modified: int
    changed: int
    number: int
    device: int


class FileMemory(Protocol):
    """Remembers the digests of files longer than this process does."""

    def file_digest(self, name: bytes, state: str) -> bytes | None:
        """The digest that was kept for a file in this state."""

    def keep_file(self, name: bytes, state: str, digest: bytes) -> None:
        """Keep the digest of a file, in place of that of an earlier state."""


class FileContent(os.PathLike[str]):
    """A file as an argument or value of a task, known by its path and its content.

    In the key of a cache it counts by its path as it is written here and by the bytes in the file.
    A file that was only touched is therefore the same, and one that was edited is another. As the
    value of a cached task it is a hit only as long as the file has the content that it had then.

    >>> import cascade as cs
    >>> @cs.task(pure=True)
    ... def lines(source):
    ...     with open(source) as file:
    ...         return len(file.readlines())
    >>> lines(cs.FileContent("data.csv"))                       # doctest: +ELLIPSIS
    <lazy lines ...>

    It goes wherever a path does: ``open(source)``, ``Path(source)``, ``pandas.read_csv(source)``.

    Args:
        path: The file. A relative path starts from the working directory, and counts as it is.

    Raises:
        ArgumentError: ``path`` is no str or Path.

    Cost: a ``stat`` of about 2 µs, if this process has read the file since it was last changed, or
    10 µs if an open ``cs.ByCode`` has its digest; otherwise reading it, about a second per
    gigabyte. A file that was changed less than two seconds before is read each time.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        named = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(named, str) or not named:
            raise ArgumentError(f"FileContent takes a path as a str or a Path, not {short(path)}")
        self._path = named

    @property
    def path(self) -> Path:
        """The file's path."""
        return Path(self._path)

    def digest(self) -> bytes:
        """The digest of the file's bytes.

        Raises:
            OSError: It cannot be read.
        """
        return _known.digest(self._path)

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"FileContent({self._path!r})"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same path; the contents are not compared."""
        return self._path == other._path if isinstance(other, FileContent) else NotImplemented

    def __hash__(self) -> int:
        return hash((FileContent, self._path))

    def __reduce__(self) -> tuple[Any, ...]:
        return FileContent, (self._path,)

    def __cascade_digest__(self) -> Any:
        try:
            return self._path, self.digest()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UndigestibleError(f"the file '{self._path}' cannot be read: {reason}") from None


class _Known:
    """The digests of files that were read. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Asked for the files that this process has not read.
        self.memories: WeakSet[FileMemory] = WeakSet()
        self._digests: OrderedDict[str, tuple[_State, bytes]] = OrderedDict()

    def digest(self, path: str) -> bytes:
        full = os.path.abspath(path)
        state = _state(full)
        with self._lock:
            known = self._digests.get(full)
            if known is not None and known[0] == state:
                self._digests.move_to_end(full)
                return known[1]
        name, memories = _name(full), [*self.memories]
        for memory in memories:
            kept: bytes | None = _quietly(memory.file_digest, name, str(tuple(state)))
            if kept is not None:
                self._keep(full, state, kept)
                return kept
        while True:
            read = time.time_ns()
            found = _read(full)
            after = _state(full)
            if after == state:
                break
            state = after  # it was written meanwhile
        if read - max(state.modified, state.changed) > _COARSE:
            self._keep(full, state, found)
            for memory in memories:
                _quietly(memory.keep_file, name, str(tuple(state)), found)
        return found

    def _keep(self, full: str, state: _State, found: bytes) -> None:
        with self._lock:
            self._digests[full] = state, found
            if len(self._digests) > _MOST:
                self._digests.popitem(last=False)


def remember_files_in(memory: FileMemory) -> None:
    """Ask ``memory`` for the digests of files from now on, as long as it is used elsewhere."""
    _known.memories.add(memory)


def _name(path: str) -> bytes:
    """A file's name among those of all machines."""
    from platform import node

    return blake2b(f"{node()}:{path}".encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()


def _quietly(ask: Callable[..., Any], *args: Any) -> Any:
    """The answer of a memory; None if it cannot be used: then the file is read."""
    try:
        return ask(*args)
    except StoreError:
        return None


def _state(path: str) -> _State:
    found = os.stat(path)
    return _State(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def _read(path: str) -> bytes:
    hashed = blake2b(digest_size=SIZE)
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    return hashed.digest()


_known = _Known()
