"""docs/architecture.md shows each package, and docs/modules.md names each module of the engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.pages import ROOT

_ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_MODULES = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
_SOURCES = sorted(ROOT.glob("packages/*/src/cascade"))
_RUNTIME = ROOT / "packages" / "cascade-engine" / "src" / "cascade" / "runtime"
_ROW = re.compile(r"^\| `([a-z_/]+)` \| (.*) \|$", re.MULTILINE)
#: Most words of the page about the architecture, with its picture: two printed pages.
_MOST_WORDS = 1_150
#: Most files that the walk of one call names.
_MOST_FILES = 10


def _section(page: str, heading: str) -> str:
    pattern = rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, page, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def _picture() -> list[str]:
    """The packages of the picture, from the top to the bottom, as paths below ``cascade/``."""
    rooms: list[str] = []
    path: list[str] = []
    for line in _section(_ARCHITECTURE, "Rooms").split("```")[1].splitlines()[2:]:
        indented = re.match(r"((?:  )+)([a-z_]+)/", line)
        assert indented is not None, line
        path[len(indented[1]) // 2 - 1 :] = [indented[2]]
        rooms.append("/".join(path))
    return rooms


def _packages(root: Path) -> set[str]:
    return {str(init.parent.relative_to(root)) for init in root.glob("*/**/__init__.py")}


# -- the page about the architecture --------------------------------------------------------------


def test_the_picture_is_the_tree_of_packages() -> None:
    on_disk = set().union(*map(_packages, _SOURCES))
    rooms = _picture()
    assert set(rooms) == on_disk
    assert len(rooms) == len(on_disk)


@pytest.mark.parametrize("container", ["runtime", "runtime/graph_path"])
def test_the_picture_has_the_order_of_the_contracts(container: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name = "cascade." + container.replace("/", ".")
    [contract] = (
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [name] and contract["type"] == "layers"
    )
    level = {
        module: number
        for number, layer in enumerate(contract["layers"])
        for module in layer.split(" | ")
    }
    shown = [
        room.removeprefix(f"{container}/")
        for room in _picture()
        if room.rpartition("/")[0] == container
    ]
    assert len(shown) > 5
    assert shown == sorted(shown, key=level.__getitem__)


def test_the_page_fits_on_two_printed_pages() -> None:
    assert len(_ARCHITECTURE.split()) <= _MOST_WORDS


@pytest.mark.parametrize("heading", ["The way of one call", "The way of one TailCall"])
def test_a_walk_names_few_files(heading: str) -> None:
    files = set(re.findall(r"`([\w/]+\.py)`", _section(_ARCHITECTURE, heading)))
    assert 5 < len(files) <= _MOST_FILES


@pytest.mark.parametrize("page", [_ARCHITECTURE, _MODULES], ids=["architecture", "modules"])
def test_each_file_and_folder_on_a_page_exists(page: str) -> None:
    roots = [ROOT, *_SOURCES, _RUNTIME]
    named = set(re.findall(r"`([\w./]+/[\w./]*|[\w/]+\.py)`", page)) - {"cascade/"}
    assert len(named) > 15
    assert {n for n in named if not any((root / n).exists() for root in roots)} == set()


# -- the page about modules -----------------------------------------------------------------------


def test_the_table_has_each_package_with_each_of_its_modules() -> None:
    table = _section(_MODULES, "Modules by package")
    on_the_page = {row[1]: set(re.findall(r"`([a-z_]+)`", row[2])) for row in _ROW.finditer(table)}
    on_disk = {
        package: {module.stem for module in (_RUNTIME / package).glob("*.py")} - {"__init__"}
        for package in _packages(_RUNTIME)
    }
    assert on_disk
    assert _only_in(on_the_page, on_disk) == {}
    assert _only_in(on_disk, on_the_page) == {}


def test_the_table_has_each_module_at_the_top_once() -> None:
    table = _section(_MODULES, "Modules of `cascade.runtime`")
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r"`([a-z_]+)`", cell)]
    assert sorted(named) == sorted({m.stem for m in _RUNTIME.glob("*.py")} - {"__init__"})


def _only_in(left: dict[str, set[str]], right: dict[str, set[str]]) -> dict[str, set[str]]:
    """Package → the modules that only ``left`` has."""
    return {
        package: missing
        for package, modules in left.items()
        if (missing := modules - right.get(package, set()))
    }
