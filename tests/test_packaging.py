"""The relations between the four distributions, read from their source."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW = {
    "cascade-spec": None,
    "cascade-graph": "cascade-spec",
    "cascade-engine": "cascade-graph",
    "cascade-observatory": "cascade-engine",
}
LAYERS = {
    "cascade-spec": {"spec"},
    "cascade-graph": {"graph"},
    "cascade-engine": {"runtime", "adapters", "command", "testing", "web"},
    "cascade-observatory": {"observatory"},
}


def load(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def project(distribution: str) -> dict:
    return load(ROOT / "packages" / distribution / "pyproject.toml")["project"]


def source(distribution: str) -> Path:
    return ROOT / "packages" / distribution / "src" / "cascade"


def version() -> str:
    return load(ROOT / "pyproject.toml")["tool"]["bumpversion"]["current_version"]


#: Distribution → its package, where the names differ.
_IMPORTED_AS = {"opentelemetry-api": "opentelemetry"}


def third_party(distribution: str) -> set[str]:
    """Names of the distributions that are declared, extras included, siblings not."""
    metadata = project(distribution)
    extras = metadata.get("optional-dependencies", {}).values()
    declared = [*metadata["dependencies"], *(line for extra in extras for line in extra)]
    names = {re.split(r"[^\w.-]", line)[0] for line in declared}
    return {_IMPORTED_AS.get(name, name) for name in names - set(BELOW)}


@cache
def imports(distribution: str) -> list[tuple[str, str]]:
    """Place and module of every import in a distribution, also of those for checkers only."""
    found: list[tuple[str, str]] = []
    for folder in LAYERS[distribution]:
        for path in sorted((source(distribution) / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.Import):
                    found += [(place, alias.name) for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    found.append((place, str(node.module)))
    return found


def test_the_packages_folder_holds_these_distributions_and_no_other():
    assert set(BELOW) == {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}


@pytest.mark.parametrize("distribution", BELOW)
def test_every_distribution_has_the_one_version(distribution):
    assert project(distribution)["version"] == version()


@pytest.mark.parametrize(("distribution", "below"), BELOW.items())
def test_a_distribution_pins_the_one_below_it_exactly(distribution, below):
    siblings = [line for line in project(distribution)["dependencies"] if "cascade" in line]

    assert siblings == ([f"{below}=={version()}"] if below else [])


def test_only_the_top_layer_has_third_party_dependencies():
    required = {name: project(name)["dependencies"] for name in BELOW}
    foreign = {
        name: [line for line in lines if "cascade" not in line] for name, lines in required.items()
    }

    assert foreign == {
        "cascade-spec": [],
        "cascade-graph": [],
        "cascade-engine": [],
        "cascade-observatory": ["rich>=13,<16"],
    }


@pytest.mark.parametrize("distribution", BELOW)
def test_a_layer_imports_only_declared_dependencies(distribution):
    allowed = sys.stdlib_module_names | third_party(distribution) | {"cascade"}
    undeclared = [
        f"{place}: {module}"
        for place, module in imports(distribution)
        if module.partition(".")[0] not in allowed
    ]

    assert undeclared == []


@pytest.mark.parametrize("distribution", BELOW)
def test_no_layer_imports_the_facade(distribution):
    """It would be a hidden import of every layer above."""
    assert [place for place, module in imports(distribution) if module == "cascade"] == []


@pytest.mark.parametrize(("distribution", "layers"), LAYERS.items())
def test_each_source_tree_holds_its_own_typed_layers(distribution, layers):
    folders = {path.parent.name for path in source(distribution).glob("*/__init__.py")}
    typed = {path.parent.name for path in source(distribution).glob("*/py.typed")}

    assert folders == layers
    assert typed == layers


def test_only_cascade_spec_has_the_facade():
    owners = [name for name in BELOW if (source(name) / "__init__.py").exists()]

    assert owners == ["cascade-spec"]


def test_only_cascade_spec_answers_to_python_m_cascade():
    owners = [name for name in BELOW if (source(name) / "__main__.py").exists()]

    assert owners == ["cascade-spec"]


def test_the_test_environment_has_the_commands_dependencies():
    extra = project("cascade-engine")["optional-dependencies"]["cli"]
    tested = load(ROOT / "pyproject.toml")["dependency-groups"]["test"]

    assert set(extra) <= set(map(str, tested))


def test_the_changelog_has_a_section_for_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.search(rf"^## {re.escape(version())}\b", changelog, re.MULTILINE)


@pytest.mark.parametrize("distribution", BELOW)
def test_every_distribution_carries_the_license(distribution):
    copy = ROOT / "packages" / distribution / "LICENSE"

    assert copy.read_bytes() == (ROOT / "LICENSE").read_bytes()
