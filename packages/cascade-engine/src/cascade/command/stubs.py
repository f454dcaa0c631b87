"""``cascade stubs``: stubs with the exact types of tasks, for checkers without plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cascade.command.failures import RefusedError, UsageError
from cascade.spec.nearby import did_you_mean

ModuleNames = Annotated[
    tuple[str, ...],
    Parameter(help="Modules by dotted name, .py files, or folders with such files."),
]
Out = Annotated[Path, Parameter(metavar="FOLDER", help="Where the stubs are, by dotted name.")]
Check = Annotated[
    bool,
    Parameter(help="Write nothing; exit with 1 if a stub is missing or old.", show_default=False),
]


def stubs(modules: ModuleNames, /, *, out: Out = Path("typings"), check: Check = False) -> None:
    """Write stubs with the exact types of the tasks in modules, for pyright and ty.

    The modules are read, and not imported. Modules without tasks get no stub.
    """
    from cascade.command.output import show
    from cascade.spec.typing.stubs import stub_of, tasks_in

    old: list[str] = []
    for path in (path for name in modules for path in _sources(name)):
        source = path.read_text(encoding="utf-8")
        try:
            count = tasks_in(source, str(path))
            text = stub_of(source, str(path)) if count else ""
        except SyntaxError as error:
            raise RefusedError(f"{path} is not valid Python: line {error.lineno}") from None
        if not count:
            continue
        stub = out / _place_of(path)
        if check:
            if not stub.is_file() or stub.read_text(encoding="utf-8") != text:
                old.append(str(stub))
            continue
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(text, encoding="utf-8")
        show(f"{stub}: {count} task{'' if count == 1 else 's'}")
    if old:
        raise RefusedError(
            f"missing, or not of the present source: {', '.join(old)}; write them: cascade stubs "
            f"{' '.join(modules)}"
        )


def _sources(name: str) -> Iterator[Path]:
    """The files that a name on the command line stands for.

    Raises:
        UsageError: There is none.
    """
    path = Path(name)
    if path.is_dir():
        yield from sorted(path.rglob("*.py"))
    elif path.suffix == ".py" or len(path.parts) > 1:
        if not path.is_file():
            there = [found.name for found in path.parent.glob("*.py")]
            raise UsageError(f"there is no file {path}{did_you_mean(path.name, there)}")
        yield path
    else:
        yield _source_of_module(name)


def _source_of_module(name: str) -> Path:
    """The file of a dotted name, without an import of its packages."""
    folders: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, folders) if folders else None
        folders = None if spec is None else [*(spec.submodule_search_locations or ())]
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(f"there is no module {name} with a source; or name its file: flows.py")
    return Path(spec.origin)


def _place_of(path: Path) -> Path:
    """The place of the stub in its folder: by the dotted name of the module."""
    path = path.resolve()
    root, names = path.parent, [path.with_suffix(".pyi").name]
    while (root / "__init__.py").exists():
        names.insert(0, root.name)
        root = root.parent
    return Path(*names)
