"""``import cascade``: the table of public names, and the errors for absent layers."""

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import cascade

ROOT = Path(__file__).parents[1]
LAYERS = {"spec", "graph", "runtime", "adapters", "command", "testing", "observatory"}


def names_for_checkers() -> dict[str, str]:
    """Public name to home module, as the ``if TYPE_CHECKING:`` block has them."""
    tree = ast.parse(Path(cascade.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    # `from x import y as y` is how a module says that y is public.
    assert all(alias.name == alias.asname for node in imports for alias in node.names)
    return {alias.name: str(node.module) for node in imports for alias in node.names}


PUBLIC = names_for_checkers()


def python(code: str, *distributions: str) -> object:
    """Run code in a Python that has only these distributions' sources; it prints JSON."""
    sources = [str(ROOT / "packages" / name / "src") for name in distributions]
    # -S: no site-packages, where the editable installs are.
    result = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_help_names_each_public_name():
    told = set(re.findall(r"\w+", cascade.__doc__))

    assert set(PUBLIC) <= told


def test_the_example_of_the_help_prints_its_output(capsys):
    example = re.search(r"::\n\n(.*?)\n\n\S", cascade.__doc__, re.DOTALL)[1]
    exec(textwrap.dedent(example), {"__name__": "example"})

    assert capsys.readouterr().out.strip() == example.rpartition("# ")[2]


def test_checkers_and_the_runtime_see_the_same_names():
    assert cascade._HOMES == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_is_the_object_of_its_home_module(name):
    assert getattr(cascade, name) is getattr(import_module(PUBLIC[name]), name)


def test_the_facade_has_what_people_write_daily():
    assert len(PUBLIC) <= 62


def test_an_error_that_is_looked_for_on_the_facade_is_in_errors():
    message = (
        "^module 'cascade' has no attribute 'RunError'; errors but CascadeError are in cascade"
    )
    with pytest.raises(AttributeError, match=message):
        cascade.RunError


def test_errors_and_events_are_modules_with_all_of_them():
    assert cascade.errors is import_module("cascade.spec.errors")
    assert cascade.events is import_module("cascade.runtime.events")


def test_events_need_the_engine():
    code = """if True:
        import json, cascade
        try:
            cascade.events
        except AttributeError as error:
            print(json.dumps([str(error), cascade.errors.CascadeError.__name__]))
    """
    message = "cascade.events needs cascade-engine: pip install cascade-engine"
    assert python(code, "cascade-spec") == [message, "CascadeError"]


def test_no_public_name_is_a_layer_but_testing():
    """Importing ``cascade.graph`` rebinds the attribute ``graph``, whatever it was."""
    assert LAYERS & set(PUBLIC) == {"testing"}
    assert cascade.testing is import_module("cascade.testing")


def test_a_name_is_looked_up_once():
    cascade.__dict__.pop("task", None)
    first = cascade.task

    assert cascade.__dict__["task"] is first


def test_a_misspelt_name_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'cascade' has no attribute 'tsak'$"):
        cascade.tsak


def test_dir_and_all_list_every_public_name():
    assert cascade.__all__ == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(cascade))


def test_star_import_gives_every_public_name():
    namespace = {}
    exec("from cascade import *", namespace)

    assert set(PUBLIC) == set(namespace) - {"__builtins__"}


def test_importing_the_facade_imports_no_layer():
    code = "import cascade, sys, json; print(json.dumps(sorted(sys.modules)))"
    modules = python(code, *(path.name for path in ROOT.glob("packages/*")))

    assert isinstance(modules, list)
    assert [name for name in modules if name.startswith("cascade")] == ["cascade"]


MISSING = """
import cascade, json

def message(name):
    try:
        getattr(cascade, name)
    except AttributeError as error:
        return [error.name, str(error)]

print(json.dumps([
    cascade.__all__,
    sorted(name for name in dir(cascade) if not name.startswith("__")),
    hasattr(cascade, "run"),
    [message(name) for name in ("visualize", "run", "testing")],
]))
"""


def test_a_missing_layer_is_an_attribute_error_with_the_install_command():
    names, listed, has_run, messages = python(MISSING, "cascade-spec")

    assert names == listed == sorted(n for n, home in PUBLIC.items() if ".spec" in home)
    assert has_run is False
    assert messages == [
        ["visualize", "cascade.visualize needs cascade-graph: pip install cascade-graph"],
        ["run", "cascade.run needs cascade-engine: pip install cascade-engine"],
        ["testing", "cascade.testing needs cascade-engine: pip install cascade-engine"],
    ]


def test_the_folder_that_an_uninstall_leaves_behind_is_not_a_layer(tmp_path):
    (tmp_path / "cascade" / "runtime" / "__pycache__").mkdir(parents=True)
    code = f"import sys; sys.path.append({str(tmp_path)!r})\n{MISSING}"
    names, _, has_run, messages = python(code, "cascade-spec")

    assert "run" not in names
    assert has_run is False
    assert messages[1][1] == "cascade.run needs cascade-engine: pip install cascade-engine"


def test_an_import_error_inside_a_layer_is_not_taken_for_its_absence(tmp_path):
    layer = tmp_path / "cascade" / "runtime"
    layer.mkdir(parents=True)
    (layer / "__init__.py").touch()
    (layer / "engine.py").write_text("import no_such_module\n", encoding="utf-8")
    code = f"""
import sys; sys.path.append({str(tmp_path)!r})
import cascade, json
try:
    cascade.Engine
except ModuleNotFoundError as error:
    print(json.dumps(error.name))
"""

    assert python(code, "cascade-spec") == "no_such_module"
