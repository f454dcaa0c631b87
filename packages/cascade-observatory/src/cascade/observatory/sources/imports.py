"""What a module imports: the statements in its source, and the modules that they mean."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cascade.observatory.sources.tree import Module


@dataclass(frozen=True, slots=True)
class Import:
    """One name in an import statement.

    ``import a.b`` is ``Import(0, "a.b", None)``; ``from ..a import b`` is ``Import(2, "a", "b")``;
    ``from . import b`` has the empty string in the middle.
    """

    #: Number of leading dots.
    level: int
    base: str
    #: What ``from`` takes out of ``base``: a module, any other name, or ``"*"``.
    name: str | None
    line: int


def imports_in(source: bytes, filename: str = "<source>") -> list[Import]:
    """The imports anywhere in a source, inside of functions and conditions too, in their order.

    Args:
        source: As read from the file; its coding cookie is honoured.
        filename: For the error.

    Raises:
        SyntaxError: It does not parse.
        ValueError: It holds null bytes (some Pythons).
        RecursionError, MemoryError: It is nested too deep for the parser.

    >>> [found.base for found in imports_in(b"import os.path as p, re\\nfrom . import x")]
    ['os.path', 're', '']
    """
    found: list[Import] = []
    for statement in _statements(ast.parse(source, filename)):
        if isinstance(statement, ast.Import):
            line = statement.lineno
            found += [Import(0, alias.name, None, line) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            level, base, line = statement.level, statement.module or "", statement.lineno
            found += [Import(level, base, alias.name, line) for alias in statement.names]
    return found


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements in their order. Expressions, which are most of a tree, are not entered."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        for block in ("finalbody", "orelse", "handlers", "cases", "body"):
            inner: list[ast.AST] = getattr(node, block, [])
            stack += reversed(inner)


def resolve(found: Import, importer: Module, known: Collection[str]) -> str | None:
    """The module among ``known`` that an import means: the longest name that fits.

    ``from a import b`` means ``a.b`` where that is a module, else ``a``; ``import a.b.c`` means
    ``a.b.c``, and not also the packages around it. None: it leads out of ``known``.

    >>> from pathlib import Path
    >>> importer = Module("pkg.here", Path("pkg/here.py"), is_package=False)
    >>> known = {"pkg", "pkg.here", "pkg.there"}
    >>> resolve(Import(1, "", "there", 1), importer, known)
    'pkg.there'
    >>> resolve(Import(0, "pkg", "VERSION", 1), importer, known)
    'pkg'
    """
    target = absolute_name(found, importer)
    while target:
        if target in known:
            return target
        target = target.rpartition(".")[0]
    return None


def absolute_name(found: Import, importer: Module) -> str:
    """The full dotted name that an import asks for; empty if it leads above the tree."""
    parts = [part for part in (found.base, found.name) if part and part != "*"]
    if found.level:
        around = importer.name.split(".")
        up = found.level - importer.is_package
        if up >= len(around):
            return ""
        parts = [*around[: len(around) - up], *parts]
    return ".".join(parts)
