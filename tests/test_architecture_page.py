"""docs/architecture.md names each module of ``cascade.runtime``, in the line of its package."""

from __future__ import annotations

import re

from tests.pages import ROOT

_PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_RUNTIME = ROOT / "packages" / "cascade-engine" / "src" / "cascade" / "runtime"
_ROW = re.compile(r"^\| `([a-z_/]+)` \| (.*) \|$", re.MULTILINE)


def test_the_table_has_each_package_with_each_of_its_modules() -> None:
    table = _PAGE[_PAGE.index("| package | modules |") : _PAGE.index("## Where to add")]
    on_the_page = {row[1]: set(re.findall(r"`([a-z_]+)`", row[2])) for row in _ROW.finditer(table)}
    on_disk = {
        str(init.parent.relative_to(_RUNTIME)): {
            module.stem for module in init.parent.glob("*.py") if module != init
        }
        for init in _RUNTIME.glob("*/**/__init__.py")
    }
    assert on_disk
    assert _only_in(on_the_page, on_disk) == {}
    assert _only_in(on_disk, on_the_page) == {}


def test_the_page_names_each_module_at_the_top() -> None:
    modules = {module.stem for module in _RUNTIME.glob("*.py")} - {"__init__"}
    assert {m for m in modules if not re.search(rf"`{m}`|\b{m}\.py", _PAGE)} == set()


def _only_in(left: dict[str, set[str]], right: dict[str, set[str]]) -> dict[str, set[str]]:
    """Package → the modules that only ``left`` has."""
    return {
        package: missing
        for package, modules in left.items()
        if (missing := modules - right.get(package, set()))
    }
