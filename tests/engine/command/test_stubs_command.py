"""``cascade stubs``: it reads modules, and writes stubs under their dotted names."""

import pytest

from cascade.spec.typing.stubs import stub_of

TASK = "import cascade as cs\n\n@cs.task\ndef load(n: int) -> str:\n    return str(n)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch, cascade):
    """A folder with a module, and a package with one in it; none may be imported."""
    (tmp_path / "flows").mkdir()
    for path in ("alone.py", "flows/__init__.py", "flows/daily.py"):
        (tmp_path / path).write_text(f"{TASK}\nraise AssertionError('imported')\n")
    (tmp_path / "flows" / "helpers.py").write_text("def helper() -> int:\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stub_is_written_under_the_dotted_name_of_its_module(cascade, folder):
    done = cascade("stubs", "flows/daily.py", "alone.py")

    assert done.out == "typings/flows/daily.pyi: 1 task\ntypings/alone.pyi: 1 task\n"
    source = (folder / "flows" / "daily.py").read_text()
    assert (folder / "typings" / "flows" / "daily.pyi").read_text() == stub_of(source)


def test_a_folder_stands_for_its_modules_with_tasks(cascade, folder):
    cascade("stubs", "flows", "--out", "elsewhere")

    stubs = sorted(path.name for path in (folder / "elsewhere" / "flows").iterdir())
    assert stubs == ["__init__.pyi", "daily.pyi"]


def test_a_dotted_name_is_found_without_an_import(cascade, folder):
    assert cascade("stubs", "flows.daily").out == "typings/flows/daily.pyi: 1 task\n"


def test_check_tells_whether_stubs_are_those_of_the_source(cascade, folder):
    missing = cascade("stubs", "alone.py", "--check")
    cascade("stubs", "alone.py")
    present = cascade("stubs", "alone.py", "--check")
    (folder / "alone.py").write_text(TASK.replace("int", "float"))
    old = cascade("stubs", "alone.py", "--check")

    assert (missing.code, present.code, old.code) == (1, 0, 1)
    assert missing.err == old.err
    assert "missing, or not of the present source: typings/alone.pyi" in old.err
    assert "cascade stubs alone.py" in old.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alon.py", "there is no file alon.py (did you mean 'alone.py'?)"),
        ("flows.dayly", "there is no module flows.dayly with a source; or name its file: flows.py"),
        ("sys", "there is no module sys with a source; or name its file: flows.py"),
    ],
)
def test_a_module_that_does_not_exist_is_named(cascade, folder, name, message):
    done = cascade("stubs", name)

    assert (done.code, done.out, done.err) == (2, "", f"cascade: {message}\n")


def test_a_module_that_is_no_python_is_named(cascade, folder):
    (folder / "alone.py").write_text("def (")

    done = cascade("stubs", "alone.py")

    assert (done.code, done.err) == (1, "cascade: alone.py is not valid Python: line 1\n")
