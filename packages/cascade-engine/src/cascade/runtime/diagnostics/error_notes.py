"""The notes that Cascade adds to errors: they tell where an error of a task comes from (R9)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.map_items import item_of

_SHOWN = 12
_HALF = _SHOWN // 2
_MARK = "cascade: "


class PathToTarget:
    """The nodes above a node: the path of its value to the target.

    A stretch of names and a link to the next part, so that nodes below each other share the part
    above them, and N failures in a graph cost O(N) together, however deep they are.

    Args:
        names: Names of the nodes right above, from the top down; those that paths show.
        above: The part above these nodes; None for a target.
        catches: The types of errors that one of these nodes catches.

    Attributes:
        catches: The types of errors that any node above catches.
        depth: Number of nodes above that paths show.
    """

    __slots__ = ("above", "catches", "depth", "first", "names")

    def __init__(
        self,
        names: Sequence[str] = (),
        above: PathToTarget | None = None,
        catches: Sequence[type[Exception]] = (),
    ) -> None:
        self.names = names
        self.above = above
        self.catches: tuple[type[Exception], ...] = () if above is None else above.catches
        for kind in catches:
            if not any(kind is known for known in self.catches):
                self.catches += (kind,)
        self.depth: int = len(names) + (0 if above is None else above.depth)
        first = () if above is None else above.first
        self.first: tuple[str, ...] = (*first, *names[: _HALF - len(first)])

    def all_names(self, *names: str) -> list[str]:
        """Names from the target down to a node; the middle of a long path is left out.

        Args:
            names: The end of the path: the node's own name, after names that are not above it.
        """
        depth = self.depth + len(names)
        if depth <= _SHOWN:
            return [*reversed(list(self._up())), *names]
        last = [*reversed(names)]
        for name in self._up():
            if len(last) >= _HALF:
                break
            last.append(name)
        first = (*self.first, *names)[:_HALF]
        return [*first, f"… {depth - 2 * _HALF} more …", *reversed(last[:_HALF])]

    def _up(self) -> Iterator[str]:
        path: PathToTarget | None = self
        while path is not None:
            yield from reversed(path.names)
            path = path.above


#: The path above a target, which is empty.
TOP = PathToTarget()


def step_of(lazy: LazyResult[object]) -> str:
    """The name of a node in a path: ``read``, ``read [item 2]``."""
    return lazy.name if lazy._index is None else f"{lazy.name} [item {lazy._index}]"


def annotate(
    error: BaseException,
    task: str,
    source: LazyResult[object] | None,
    path: Sequence[str],
    given: Mapping[str, object] = NO_KWARGS,
) -> None:
    """Add a note with the task that raised ``error``, its call site, and its path in the graph.

    An error with such a note keeps it: the first place that it passed is its origin.

    Args:
        error: Changed in place.
        task: Name of the task.
        source: The lazy value of the call, or None if only the task is known.
        path: Names from the target of the run down to the task, in the form of ``PathToTarget``.
        given: Values of the call's lazy arguments, by name, as far as they are known.
    """
    if any(note.startswith(_MARK) for note in notes_of(error)):
        return
    called = f", called at {source.callsite}" if source is not None else ""
    which = _which(task, source, given)
    route = f", on the path {' → '.join(path)}" if len(path) > 1 else ""
    add_note(error, f"{_MARK}in task '{task}'{which}{called}{route}")


def _which(task: str, source: LazyResult[object] | None, given: Mapping[str, object]) -> str:
    """The item of a map: `` [item 2, path='x.csv']``; empty for other nodes."""
    item = item_of(source, given)
    if source is None or item is None:
        return ""
    of = "" if source.name == task else f" of '{source.name}'"  # it has tail-called another task
    arguments = f", {item.arguments}" if item.arguments else ""
    return f" [item {item.index}{of}{arguments}]"


def add_note(error: BaseException, text: str) -> None:
    """Add a note once; an exception that refuses attributes also refuses notes."""
    with contextlib.suppress(Exception):  # a frozen dataclass, or a user's __setattr__
        if text not in notes_of(error):
            error.add_note(text)


def notes_of(error: BaseException) -> list[str]:
    """The notes of ``error``; empty if users have replaced them by another object."""
    try:
        notes = error.__notes__
    except Exception:  # there are none yet, or a user's property fails
        return []
    return [note for note in notes if type(note) is str] if type(notes) is list else []
