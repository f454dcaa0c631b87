"""The stack of a call that blocks the event loop, taken by another thread while it blocks."""

from __future__ import annotations

import os
import sys
import traceback
from types import CodeType
from typing import NamedTuple

from cascade.runtime.diagnostics.tracebacks import own_folders
from cascade.spec.callsite import CallSite

#: End of the file name of straight-line code, which has no marks.
STRAIGHT = "straightline/<generated>"
#: Code of the functions that mark calls; stacks are shown from the innermost of them inward.
marking: set[CodeType] = set()
_DEBUGGERS = frozenset({"bdb", "debugpy", "ipdb", "pdb", "pudb", "pydevd", "_pydevd_bundle"})


class Frame(NamedTuple):
    """A frame as shown in a stack; frames themselves would keep their variables alive."""

    code: CodeType
    lineno: int
    module: str

    @property
    def is_debugger(self) -> bool:
        return self.module.partition(".")[0] in _DEBUGGERS


def frames_of(thread: int) -> list[Frame]:
    """The frames of the step that ``thread`` runs, the coroutine's first; [] if there is none."""
    frames: list[Frame] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        code = frame.f_code
        if code in marking:
            return frames[::-1]
        module = str(frame.f_globals.get("__name__", ""))
        frames.append(Frame(code, frame.f_lineno or code.co_firstlineno, module))
        frame = frame.f_back
    return []


def innermost(frames: list[Frame]) -> tuple[str | None, list[Frame]]:
    """The function that straight-line code calls here, and the frames from there inward."""
    for at in range(len(frames) - 2, -1, -1):
        if frames[at].code.co_filename.endswith(STRAIGHT):
            return frames[at + 1].code.co_name, frames[at + 1 :]
    return None, frames


def place_in(frames: list[Frame]) -> CallSite:
    """The innermost line outside of libraries."""
    import sysconfig  # some milliseconds, needed only for a report

    libraries = ("<frozen", os.path.join(sysconfig.get_path("stdlib"), ""), *own_folders())
    place = frames[0]
    for frame in frames:
        filename = frame.code.co_filename
        if not filename.startswith(libraries) and not _is_installed(filename):
            place = frame
    return CallSite(place.code.co_filename, place.lineno)


def _is_installed(filename: str) -> bool:
    return "site-packages" in filename or "dist-packages" in filename


def as_text(frames: list[Frame]) -> str:
    """The frames in the form of a traceback."""
    summary = traceback.StackSummary.from_list(
        [(f.code.co_filename, f.lineno, f.code.co_name, None) for f in frames]
    )
    return "".join(summary.format())
