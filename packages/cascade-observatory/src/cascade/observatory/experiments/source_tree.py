"""The modules in a source tree, by the names under which they are imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Folders that are not part of the tree itself: installed packages and caches.
FOREIGN_FOLDERS = frozenset({"__pycache__", "dist-packages", "site-packages"})
TEST_FOLDERS = frozenset({"idle_test", "test", "tests"})


class Module(NamedTuple):
    """A source file: its dotted name, its path, and whether it is a package's ``__init__.py``."""

    name: str
    path: Path
    is_package: bool


class SourceTree(NamedTuple):
    """The result of ``find_modules``.

    Attributes:
        root: The folder that was searched.
        modules: By name, ascending.
        left_out: Reason → number of source files left out.
    """

    root: Path
    modules: tuple[Module, ...]
    left_out: dict[str, int]


def find_modules(root: Path, *, include_tests: bool = False) -> SourceTree:
    """Find the source files under ``root`` that an import statement can name.

    Hidden folders and ``FOREIGN_FOLDERS`` are left out; files in ``TEST_FOLDERS``, unless wanted,
    and files whose path is not a dotted name are left out and counted. Links to folders are not
    followed. Where ``root`` is a package itself, names start with its name.

    Raises:
        OSError: ``root`` cannot be listed.

    Guarantees: the same result for the same tree, whatever the order on disk.
    """
    root = root.resolve()
    prefix = (root.name,) if (root / "__init__.py").exists() else ()
    found: dict[str, Module] = {}
    left_out: Counter[str] = Counter()
    for path in _source_files(root):
        parts = (*prefix, *path.relative_to(root).with_suffix("").parts)
        if not include_tests and not TEST_FOLDERS.isdisjoint(parts[:-1]):
            left_out["in test folders"] += 1
        elif not all(part.isidentifier() for part in parts):
            left_out["not importable by name"] += 1
        else:
            is_package = parts[-1] == "__init__" and len(parts) > 1
            name = ".".join(parts[:-1] if is_package else parts)
            if is_package or name not in found:  # a package hides a module of the same name
                found[name] = Module(name, path, is_package)
    modules = tuple(found[name] for name in sorted(found))
    return SourceTree(root, modules, dict(left_out))


def _source_files(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if error.filename == str(root):
            raise error

    for folder, inner, files in os.walk(root, onerror=refuse):
        inner[:] = [f for f in inner if f not in FOREIGN_FOLDERS and not f.startswith(".")]
        yield from (Path(folder, file) for file in files if file.endswith(".py"))
