"""The one note that Cascade adds to an error of a task (rule R9)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from cascade.spec.lazy_types import LazyResult

_SHOWN = 12
_MARK = "cascade: "


def annotate(
    error: BaseException, task: str, source: LazyResult[object] | None, path: Sequence[str]
) -> None:
    """Note which task raised ``error``, where its call was written, and its path in the graph.

    An error that has such a note keeps it: the first place it passed is where it comes from.

    Args:
        error: Changed in place.
        task: Name of the task.
        source: The lazy value of the call, or None where only the task is known.
        path: Names from the target of the run down to the task.
    """
    if any(note.startswith(_MARK) for note in getattr(error, "__notes__", ())):
        return
    called = f", called at {source.callsite}" if source is not None else ""
    shown = list(path)
    if len(shown) > _SHOWN:
        half = _SHOWN // 2
        shown[half:-half] = [f"… {len(shown) - 2 * half} more …"]
    route = f", on the path {' → '.join(shown)}" if len(shown) > 1 else ""
    # An exception that takes no attributes (a frozen dataclass) takes no note either.
    with contextlib.suppress(Exception):
        error.add_note(f"{_MARK}in task '{task}'{called}{route}")
