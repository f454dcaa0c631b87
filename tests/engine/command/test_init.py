"""``cascade init``: the project that it makes works; testing/test_plugin.py runs its tests."""

from pathlib import Path
from tomllib import loads

import pytest


@pytest.fixture
def here(cascade, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return cascade


def test_its_commands_work(here):
    made = here("init", "my weather")

    assert made.code == 0, made.err
    assert made.out.splitlines()[:4] == [
        f"my weather/{name}"
        for name in ("pyproject.toml", "README.md", "flows.py", "tests/test_flows.py")
    ]
    assert made.out.splitlines()[4:] == [
        "run it:   cd 'my weather' && cascade run flows.py:report --city Lima",
        "test it:  cd 'my weather' && pytest",
    ]
    project = loads(Path("my weather/pyproject.toml").read_text())["project"]
    assert project["name"] == "my-weather"
    flows = "my weather/flows.py"
    assert here("run", f"{flows}:report", "--city", "Lima", "--no-connect").out == "Lima: 9.8 °C\n"
    words = [
        "--days=3",
        "--pause=0.01",
        "--run-id=one",
        "--store=sqlite:///runs.db",
        "--no-connect",
    ]
    assert here("run", f"{flows}:watch", *words).out == "[9.75, 9.75, 9.75]\n"
    assert here("graph", f"{flows}:report").code == 0


def test_it_says_how_to_install_pytest(here, monkeypatch):
    monkeypatch.setattr("cascade.command.init.find_spec", lambda name: None)

    assert here("init").out.endswith("\ntest it:  pip install pytest && pytest\n")


@pytest.mark.parametrize("name", ["flows.py", "tests/test_flows.py"])
def test_it_changes_no_file_that_is_there(here, name):
    Path("weather/tests").mkdir(parents=True)
    Path("weather", name).write_text("mine")

    assert here("init", "weather") == (
        1, "", f"cascade: weather has {name} already, and nothing was written; "
        "name another folder\n"
    )  # fmt: skip
    assert [p.name for p in Path("weather").rglob("*") if p.is_file()] == [Path(name).name]


def test_a_folder_that_cannot_be_made_is_told(here):
    Path("file").write_text("")
    outcome = here("init", "file/project")

    assert outcome.code == 2
    assert outcome.err == "cascade: cannot write file/project/pyproject.toml: Not a directory\n"
