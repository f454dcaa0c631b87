"""``MODULE:TARGET``: valid targets, and the errors for all others."""

import sys

import pytest

from cascade.command.failures import UsageError
from cascade.command.targets import find


@pytest.fixture
def write(tmp_path):
    """Write a module below ``tmp_path``; its path."""

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import cascade as cs\n{text}\n")
        return str(path)

    return write


ONE = "@cs.task\ndef one(): return __name__"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flows.py:reprot", "flows.py has no 'reprot' (did you mean 'report'?); its targets: load"),
        ("flows:Namespace.targets", "flows has no 'Namespace.targets' (did you mean 'target'?)"),
        ("flwos.py:report", "there is no file flwos.py (did you mean 'flows.py'?)"),
        ("nowhere/flows.py:report", "there is no file nowhere/flows.py"),
        ("cascade.grap:x", "there is no module cascade.grap (did you mean 'cascade.graph'?)"),
        ("cascade.graph.model.x:y", "there is no module cascade.graph.model.x: cascade.graph.mode"),
        ("flows.py", "'flows.py' is a module; write flows.py:TARGET; its targets: load, total"),
        ("report", "'report' names no target; write MODULE:TARGET, such as flows.py:report"),
        ("flows.py:1", "'flows.py:1' names no target; write MODULE:TARGET"),
        ("no-module:x", "'no-module' is neither a module, such as flows.daily, nor a file"),
        ("flows:LIMIT", "flows:LIMIT is 3, but a target is a lazy value, a task, or a function"),
        ("flows:Colour", "flows:Colour is <enum 'Colour'>, but a target is"),
        ("flows:database", "flows:database is <resource database scope=run>, but a target is"),
        ("flows:inner", "flows:inner is a function that takes n, but a target takes nothing; mak"),
        ("flows:later", "flows:later is a coroutine function; make it a task with @cs.task"),
        ("flows:drive", "flows:drive needs 'engine', which no option can set: cascade.runtime.e"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_target_is_an_error_in_one_line_with_similar_names(
    cascade, command, name, message
):
    outcome = cascade(command, name)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"cascade: {message}")
    assert outcome.err.count("\n") == 1


def test_a_file_in_a_package_is_the_module_of_its_dotted_name(cascade, write):
    write("shop/__init__.py", "")
    write("shop/prices.py", "price = 3")
    path = write("shop/daily.py", f"from .prices import price\n{ONE}")

    assert cascade("run", f"{path}:one").out == "shop.daily\n"


def test_an_error_in_the_package_of_a_file_is_the_one_that_is_shown(cascade, write):
    write("torn/__init__.py", "import cascade_nowhere")
    path = write("torn/daily.py", ONE)
    outcome = cascade("run", f"{path}:one")

    assert outcome.code == 1
    assert outcome.err.endswith("ModuleNotFoundError: No module named 'cascade_nowhere'\n")


def test_a_file_is_imported_even_if_another_module_has_its_packages_name(cascade, write):
    write("enum/__init__.py", "")
    path = write("enum/daily.py", ONE)

    assert cascade("run", f"{path}:one").out == "_cascade_target_daily\n"


def test_a_file_can_import_modules_beside_it(cascade, write):
    write("beside.py", "price = 3")
    path = write("target_beside.py", f"import beside\n{ONE}")

    assert cascade("run", f"{path}:one").out == "target_beside\n"


@pytest.mark.parametrize("name", ["enum.py", "my-flows.py", "cascade.py"])
def test_a_file_may_have_a_name_that_means_something_else_or_nothing(cascade, write, name):
    path = write(name, ONE)
    known = sys.modules["enum"]

    assert cascade("run", f"{path}:one").out == f"_cascade_target_{name[:-3]}\n"
    assert sys.modules["enum"] is known


def test_a_dotted_name_is_looked_for_in_the_working_directory(
    cascade, write, monkeypatch, tmp_path
):
    write("house/room/__init__.py", ONE)
    monkeypatch.chdir(tmp_path)

    assert cascade("run", "house.room:one").out == "house.room\n"


@pytest.mark.parametrize("text", ["1 / 0", "import cascade_nowhere", "from cascade import nothing"])
@pytest.mark.parametrize("name", ["broken.py", "bro-ken.py"])
def test_an_error_in_the_module_shows_its_line_and_no_line_of_ours(cascade, write, name, text):
    path = write(name, text)
    outcome = cascade("run", f"{path}:one")

    assert outcome.code == 1
    assert outcome.err.startswith(
        f'Traceback (most recent call last):\n  File "{path}", line 2, in <module>\n    {text}'
    )
    assert outcome.err.count("  File ") == 1
    assert f"_cascade_target_{name[:-3]}" not in sys.modules


def test_an_error_in_the_function_shows_its_line(cascade, write):
    path = write("raises.py", "def make():\n    raise KeyError('x')")
    outcome = cascade("plan", f"{path}:make")

    assert outcome.code == 1
    assert outcome.err.startswith(
        f'Traceback (most recent call last):\n  File "{path}", line 3, in make\n'
    )


def test_an_annotation_that_only_checkers_can_read_leaves_the_default(cascade, write):
    path = write("late.py", "@cs.task\ndef late(n: 'Nowhere' = 3): return n")

    assert cascade("run", f"{path}:late").out == "3\n"


def test_a_call_made_by_the_command_has_the_functions_line(cascade):
    found = find("flows.py:collatz").lazy()

    assert found.callsite.source in ("@cs.task", "def collatz(n: int, length: int = 0) -> int:")
    assert {d.callsite for d in found._dependencies} == {found.callsite}


def test_resources_of_the_module_are_known_once(cascade):
    target = find("flows.py:query")

    assert [resource.name for resource in target.resources] == ["database"]


def test_a_usage_error_is_no_error_of_the_program():
    with pytest.raises(UsageError, match=r"^there is no file x\.py$"):
        find("x.py:y")
