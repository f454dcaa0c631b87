"""The imports of a module: the statements in its source, and the modules that they mean."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from importlib.util import resolve_name
from typing import NamedTuple

from cascade.observatory.experiments.source_tree import Module


class Import(NamedTuple):
    """One name in an import statement.

    ``import a.b`` is ``Import(0, "a.b", None, line)``, ``from ..a import b`` is
    ``Import(2, "a", "b", line)``, and ``from . import b`` has the empty string as its base.
    """

    #: Number of leading dots.
    level: int
    base: str
    #: The name that ``from`` takes out of ``base``: a module, any other name, or ``"*"``.
    name: str | None
    line: int


def imports_in(source: bytes, filename: str = "<source>") -> list[Import]:
    """The imports anywhere in a source, also in functions and conditions, in their order.

    Args:
        source: As read from the file; its coding cookie is honoured.
        filename: For the error.

    Raises:
        SyntaxError: It does not parse.
        ValueError: It holds null bytes (some Pythons).
        RecursionError, MemoryError: It is nested too deep for the parser.
    """
    found: list[Import] = []
    for statement in _statements(ast.parse(source, filename)):
        if isinstance(statement, ast.Import):
            found += [Import(0, alias.name, None, statement.lineno) for alias in statement.names]
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
            stack += reversed(getattr(node, block, []))


def resolve(found: Import, importer: Module, known: Collection[str]) -> str | None:
    """The module among ``known`` that an import means: the longest name that fits.

    ``from a import b`` means ``a.b`` where that is a module, else ``a``; ``import a.b.c`` means
    ``a.b.c``, and not also the packages around it. None: it leads out of ``known``.
    """
    target = absolute_name(found, importer)
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target or None


def absolute_name(found: Import, importer: Module) -> str:
    """The full dotted name that an import asks for; empty if it leads above the tree."""
    package = importer.name if importer.is_package else importer.name.rpartition(".")[0]
    base = found.base
    if found.level:
        try:
            base = resolve_name("." * found.level + base, package)
        except ImportError:
            return ""
    return f"{base}.{found.name}" if found.name and found.name != "*" else base
