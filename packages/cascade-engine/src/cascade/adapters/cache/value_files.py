"""ValueFiles: large values as files beside the database of a cache, named by their content."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cascade.spec.digest import SIZE

#: Seconds after which a file without an entry is taken as left behind by a crash.
_LEFT_BEHIND: Final = 3600.0
_TEMPORARY: Final = ".new"


class ValueFiles:
    """Files in one folder, which is made when the first is written.

    A file has its whole content from the moment at which it has its name, so a crash leaves at most
    files that no entry needs. ``sweep`` removes these.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def write(self, body: bytes) -> str:
        """Keep ``body``; returns its name."""
        name = _name(body)
        path = self._path(name)
        try:
            os.utime(path)  # so that no process sweeps it before its entry is there
            return name
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(_TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            os.replace(written, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(written)
            raise
        return name

    def read(self, name: str) -> bytes | None:
        """The body with this name; None if it is gone or damaged."""
        try:
            body = self._path(name).read_bytes()
        except OSError:
            return None
        return body if _name(body) == name else None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(OSError):
            self._path(name).unlink()

    def sweep(self, is_needed: Callable[[str], bool]) -> None:
        """Remove the files that no entry needs, unless they are new."""
        before = time.time() - _LEFT_BEHIND
        for path in self._all():
            with suppress(OSError):
                if path.stat().st_mtime < before and not is_needed(path.name):
                    path.unlink()

    def _all(self) -> Iterator[Path]:
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            yield from folder.iterdir() if folder.is_dir() else ()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _name(body: bytes) -> str:
    return blake2b(body, digest_size=SIZE).hexdigest()
