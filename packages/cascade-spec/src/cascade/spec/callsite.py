"""The place in the user's source where a lazy value was made."""

from __future__ import annotations

import functools
import linecache
import os
from types import CodeType, FrameType
from typing import NamedTuple


class CallSite(NamedTuple):
    """A line of source. ``str()`` gives ``path/to/file.py:12``."""

    filename: str
    lineno: int

    def __str__(self) -> str:
        return f"{_shorten(self.filename, os.getcwd())}:{self.lineno}"

    @property
    def source(self) -> str:
        """The stripped text of the line, or ``""`` if the source is not available."""
        if self.filename == "<string>":  # the file name of `python -c` (in 3.13) and of every exec
            return ""
        return linecache.getline(self.filename, self.lineno).strip()


#: Modules whose frames are skipped: Cascade's own, and those that run its coroutines.
_NOT_USERS = (
    "cascade.spec.",
    "cascade.graph.",
    "cascade.runtime.",
    "cascade.adapters.",
    "asyncio.",
)


def users_frame(found: FrameType) -> FrameType:
    """The frame of the user's code that led to ``found``; ``found`` itself if it is the user's."""
    frame = found
    # With the dot: a user's module may be called asyncio_tools.
    while f"{frame.f_globals.get('__name__')}.".startswith(_NOT_USERS):
        if frame.f_back is None:
            return found  # only a loop in its own thread led here
        frame = frame.f_back
    return frame


def line_of(code: CodeType, lasti: int) -> int:
    """The line of the instruction at byte offset ``lasti``.

    A frame's ``f_lineno`` walks the line table (0.1 µs and more), so a lazy value keeps only the
    offset, and the walk happens here, on demand.
    """
    for start, end, line in code.co_lines():
        if line is not None and start <= lasti < end:
            return line
    return code.co_firstlineno


@functools.lru_cache(maxsize=256)  # a drawing asks for the same few files 100 000 times
def _shorten(filename: str, directory: str) -> str:
    """The path relative to the working ``directory``, if that is shorter to read."""
    try:
        relative = os.path.relpath(filename, directory)
    except ValueError:  # another drive
        return filename
    return filename if relative.startswith("..") else relative
