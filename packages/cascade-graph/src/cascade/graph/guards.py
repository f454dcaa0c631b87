"""Guards: whether names, cells and functions still are what they were, asked in C."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter, is_, itemgetter
from types import CellType, FunctionType
from typing import Any

from cascade.spec.digest import UndigestibleError, digest


class Guards:
    """Notes the objects that were read; tells whether reading again would give the same ones."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
        self._absent: dict[int, tuple[Mapping[str, Any], set[str]]] = {}
        self._sizes: list[tuple[Mapping[str, Any], int]] = []
        self._codes: list[tuple[Any, Any]] = []
        self._defaults: list[tuple[Any, Any]] = []
        self._named_defaults: list[tuple[Any, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._contents: list[tuple[Any, bytes | None]] = []
        self._checks: list[tuple[Callable[[Any], Any], Any, Any]] | None = None

    def item(self, scope: Mapping[str, Any], name: str, value: Any) -> None:
        """``scope[name]`` was ``value``."""
        self._items.setdefault(id(scope), (scope, {}))[1][name] = value

    def absent(self, scope: Mapping[str, Any], name: str) -> None:
        """``name`` was not in ``scope``."""
        self._absent.setdefault(id(scope), (scope, set()))[1].add(name)

    def size(self, space: Mapping[str, Any]) -> None:
        """All names of ``space`` were looked at."""
        self._sizes.append((space, len(space)))

    def function(self, function: FunctionType) -> None:
        """The code and the defaults of a function were read."""
        self._codes.append((function, function.__code__))
        # Other defaults, for example by assignment to ``__defaults__``, count as other code.
        if function.__defaults__ is not None:
            self._defaults.append((function, function.__defaults__))
        if function.__kwdefaults__ is not None:
            self._named_defaults.append((function, function.__kwdefaults__))

    def cell(self, cell: CellType, value: Any) -> None:
        """A variable of a closure had this value."""
        self._cells.append((cell, value))

    def content(self, value: Any, content: bytes | None) -> None:
        """An object that may change had this content (``content_of``)."""
        self._contents.append((value, content))

    def hold(self, content: Callable[[Any], bytes | None] | None = None) -> bool:
        """Whether everything is as it was, according to ``content`` in place of ``content_of``."""
        if self._checks is None:
            self._checks = self._made()
        try:
            for read, source, expected in self._checks:
                if not all(map(is_, read(source), expected)):
                    return False
        except (LookupError, ValueError):  # a name or the content of a cell is gone
            return False
        for scope, names in self._absent.values():
            if not names.isdisjoint(scope):
                return False
        for space, size in self._sizes:
            if len(space) != size:
                return False
        read_content = content or content_of
        return all(read_content(value) == known for value, known in self._contents)

    def _made(self) -> list[tuple[Callable[[Any], Any], Any, Any]]:
        """(function that reads several things at once, its argument, the expected result)."""
        checks: list[tuple[Callable[[Any], Any], Any, Any]] = []
        for scope, items in self._items.values():
            # Twice the first name: of a single one, itemgetter would not give a tuple.
            names = [next(iter(items)), *items]
            checks.append((itemgetter(*names), scope, tuple([items[name] for name in names])))
        for name, pairs in (
            ("__code__", self._codes),
            ("__defaults__", self._defaults),
            ("__kwdefaults__", self._named_defaults),
            ("cell_contents", self._cells),
        ):
            if pairs:
                sources, values = zip(*pairs, strict=True)
                checks.append((partial(map, attrgetter(name)), sources, values))
        return checks


def content_of(value: Any) -> bytes | None:
    """The digest of a value; None if it has none."""
    try:
        return digest(value)
    except UndigestibleError:
        return None
