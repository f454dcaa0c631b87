"""FileExists: a node is done when its output file exists, as in make."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple, TypeAlias

from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.resource import Inject
from cascade.spec.task import Task
from cascade.spec.wording import short

AnyPath: TypeAlias = str | os.PathLike[str]


class Target(NamedTuple):
    """The key of a call: its output file, and the task's name for messages."""

    task: str
    path: Path


class FileExists:
    """A CachePolicy that takes a node as done when its output file exists.

    The task writes the file and returns its path, a Path equal to ``path``; a hit gives that path
    too. In a path, ``{name}`` is the argument of the parameter ``name``, with all formats of
    ``str.format`` (``{day:%Y-%m-%d}``); literal braces are doubled. Relative paths start from the
    working directory.

    An existing file is taken as complete, because a look at it cannot tell. Write under another
    name and call ``os.replace`` at the end; otherwise the partial file of a failed task is a hit
    the next time. Files are not locked against other processes. Arguments outside the path make no
    difference. Two policies with equal arguments are equal.

    >>> policy = FileExists("out/{name}.csv", newer_than=("source", "settings.toml"))

    Args:
        path: The file; or a function that returns it, given a mapping of the arguments by
            parameter name (braces in its result are literal).
        newer_than: Inputs. A file that is older than one of them, by modification time, is made
            again. Each input is the name of a parameter, whose argument is a path, a list, tuple or
            set of paths, or None; any other string or Path is itself a path. For a directory its
            own time counts, not that of the files in it.

    Raises:
        ArgumentError: ``path`` or ``newer_than`` has another type. From ``key``: the arguments lack
            a name in the path. From ``load``: an input does not exist, so the file may be out of
            date. From ``save``: the task returned another value than the path, or the file does
            not exist.
    """

    def __init__(
        self,
        path: AnyPath | Callable[[Mapping[str, Any]], AnyPath],
        *,
        newer_than: AnyPath | Iterable[AnyPath] = (),
    ) -> None:
        lazy = isinstance(path, (LazyResult, Operation))  # callable, but they return no path
        self._path = path if callable(path) and not lazy else _checked("path", path)
        self._inputs = tuple([_checked("newer_than", each) for each in _listed(newer_than)])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (self._path, self._inputs) == (other._path, other._inputs)

    def __hash__(self) -> int:
        return hash((self._path, self._inputs))

    def key(self, task: Task[..., Any], arguments: Mapping[str, Any]) -> Target:
        if not callable(self._path):
            return Target(task.name, Path(_filled(self._path, task.name, arguments)))
        path = self._path(arguments)
        if not _is_path(path):
            raise ArgumentError(
                f"task '{task.name}': the function for its file must give a str or a Path, but "
                f"gave {short(path)}"
            )
        return Target(task.name, Path(path))

    def load(self, key: Target, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        made = _time_of_file(key.path)
        if made is None or any(made < time for time in self._input_times(key, arguments)):
            return False, None
        return True, key.path

    def save(self, key: Target, arguments: Mapping[str, Any], value: Any) -> None:
        # An equal str would give hits another type than computed values.
        if not isinstance(value, Path) or value != key.path:
            raise ArgumentError(
                f"task '{key.task}' is cached by the file that it makes and must return its path, "
                f"{key.path!r}, but returned {short(value)}"
            )
        if _time_of_file(key.path) is None:
            raise ArgumentError(
                f"task '{key.task}' is cached by the file that it makes, but ended without making "
                f"it: there is no file '{key.path}'"
            )

    def _input_times(self, key: Target, arguments: Mapping[str, Any]) -> Iterator[int]:
        for named in self._inputs:
            for path in _paths_of(named, key.task, arguments):
                time = _time(path)
                if time is None:
                    raise ArgumentError(
                        f"task '{key.task}': '{key.path}' must be newer than '{path}', which does "
                        f"not exist" + _by_what(named, arguments)
                    )
                yield time


def _is_path(path: Any) -> bool:
    return isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(path), str)


def _listed(newer_than: Any) -> Iterable[Any]:
    if _is_path(newer_than) or not isinstance(newer_than, Iterable):
        return [newer_than]
    return newer_than


def _checked(what: str, path: Any) -> str:
    if not _is_path(path):
        raise ArgumentError(f"{what} takes a path as a str or a Path, but got {short(path)}")
    text = os.fspath(path)
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ArgumentError(
            f"{what}={text!r} is not a path with names in braces: {error}; "
            "a literal brace is written twice"
        ) from None
    if any(not name or name[0].isdigit() for name in names):
        raise ArgumentError(
            f"{what}={text!r} counts the arguments; name the parameters in the braces: '{{name}}'"
        )
    return str(text)


def _filled(path: str, task: str, arguments: Mapping[str, Any]) -> str:
    values = {n: v for n, v in arguments.items() if not isinstance(v, Inject)}
    try:
        return path.format_map(values)
    except Exception as error:
        known = ", ".join(map(repr, values)) or "none"
        raise ArgumentError(
            f"task '{task}': the path {short(path)} cannot be filled in "
            f"({type(error).__name__}: {error}); the arguments are {known}"
        ) from error


def _paths_of(named: str, task: str, arguments: Mapping[str, Any]) -> Iterable[AnyPath]:
    if named not in arguments:
        return [_filled(named, task, arguments)]
    value = arguments[named]
    paths = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if value is None:
        return []
    for path in paths:
        if not _is_path(path):
            raise ArgumentError(
                f"task '{task}': newer_than names the parameter '{named}', which must be a path, "
                f"several in a list, tuple or set, or None, but holds {short(path)}"
            )
    return paths


def _by_what(named: str, arguments: Mapping[str, Any]) -> str:
    if named in arguments:
        return f"; it is the argument '{named}'"
    return f"; newer_than={named!r} is a path, as there is no such parameter"


def _time_of_file(path: AnyPath) -> int | None:
    """Modification time in nanoseconds; None if there is no regular file."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None


def _time(path: AnyPath) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None
