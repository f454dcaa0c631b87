"""LockFile: locks of keys that the processes of one machine see, in an empty file.

Each key is one byte of the file, at an offset made of the key, and its lock is the system's lock of
that byte. The system gives the locks of a process back when that ends, however it ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from weakref import WeakValueDictionary, finalize

from cascade.adapters.cache.claims import Claims
from cascade.spec.errors import StoreError

try:
    import fcntl
except ImportError:  # not on Windows: there, each process computes
    fcntl = None  # type: ignore[assignment]

#: Offsets are below 2 ** 62, so that no system takes one as negative.
_OFFSETS: Final = (1 << 62) - 1
#: Process and path → the claims with locks in this file.
_open: WeakValueDictionary[tuple[int, str], Claims] = WeakValueDictionary()
_opening = threading.Lock()


def claims_at(path: str) -> Claims:
    """The claims with locks in a file, which all users of a cache in this process share.

    Raises:
        StoreError: The file cannot be opened.
    """
    key = os.getpid(), os.path.realpath(path)
    with _opening:
        found = _open.get(key)
        if found is None:
            found = _open[key] = Claims(None if fcntl is None else LockFile(path))
        return found


class LockFile:
    """Locks in a file. See ``Locks``.

    There must be one for each file, since closing any descriptor of a file gives back all locks
    that the process has in it.

    Args:
        path: The file, which is made if it is not there.

    Raises:
        StoreError: It cannot be opened.
    """

    lease = None

    def __init__(self, path: str) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise StoreError(
                f"the locks of the cache cannot be used: {error}; this process must be allowed to "
                "write to the folder of the cache"
            ) from error
        finalize(self, _close, self._file, os.getpid())

    def take(self, key: bytes) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise StoreError(f"the locks in '{self._path}' cannot be used: {error}") from error
        return True

    def give_back(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def renew(self) -> None:
        """They last as long as the process."""


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:8], "big") & _OFFSETS


def _close(file: int, process: int) -> None:
    """Close a file, but not that of a parent process: it would give back the locks of this one."""
    if process == os.getpid():
        os.close(file)
