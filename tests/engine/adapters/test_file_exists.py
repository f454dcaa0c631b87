"""FileExists: a node is done when the file that it makes is there."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from cascade.adapters.cache import FileExists
from cascade.spec.caching import CachePolicy, cache_policy
from cascade.spec.errors import ArgumentError
from cascade.spec.resource import inject
from cascade.spec.task import task


@task
def report(name, source=None, day=None): ...


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Relative paths are in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, seconds: int = 100) -> Path:
    """A file that was modified at this time."""
    path = Path(path)
    path.write_text("made", encoding="utf-8")
    os.utime(path, (seconds, seconds))
    return path


def arguments(name="a", source=None, day=None) -> dict[str, Any]:
    return {"name": name, "source": source, "day": day}


def path_of(policy: FileExists, **given: Any) -> Path:
    return policy.key(report, arguments(**given)).path


def load(policy: FileExists, **given: Any) -> tuple[bool, Any]:
    """The arguments of a call by name, as a policy gets them."""
    return policy.load(policy.key(report, arguments(**given)), arguments(**given))


def save(policy: FileExists, value: Any, **given: Any) -> None:
    policy.save(policy.key(report, arguments(**given)), arguments(**given), value)


def raises(message: str):
    return pytest.raises(ArgumentError, match=f"^{re.escape(message)}$")


# -- the file -------------------------------------------------------------------------------------


def test_it_is_a_policy():
    policy = FileExists("a.csv")

    assert isinstance(policy, CachePolicy)
    assert cache_policy(policy, None, (), "") is policy


def test_policies_made_alike_are_equal():
    def path(given):
        return "a.csv"

    policy = FileExists("{name}.csv", newer_than=["source"])

    assert policy == FileExists(Path("{name}.csv"), newer_than="source")
    assert hash(policy) == hash(FileExists("{name}.csv", newer_than="source"))
    assert policy != FileExists("{name}.csv")
    assert policy != FileExists("a.csv", newer_than=["source"])
    assert policy != "{name}.csv"
    assert FileExists(path) == FileExists(path)
    assert FileExists(path) != FileExists(lambda given: "a.csv")


def test_a_file_that_is_there_is_a_hit_and_its_path_the_value():
    policy = FileExists("a.csv")
    assert load(policy) == (False, None)

    write("a.csv")
    hit, value = load(policy)
    assert hit is True
    assert value == Path("a.csv")
    assert isinstance(value, Path)


def test_a_miss_and_the_hit_after_it_give_equal_values():
    policy = FileExists("{name}.csv")
    made = write("a.csv")
    save(policy, made)

    assert load(policy) == (True, made)


def test_an_empty_file_is_a_file():
    Path("a.csv").touch()

    assert load(FileExists("a.csv")) == (True, Path("a.csv"))


def test_a_directory_is_no_file():
    """It is there before it is complete."""
    Path("a").mkdir()
    policy = FileExists("a")

    assert load(policy) == (False, None)
    with raises(
        "task 'report' is cached by the file that it makes, but ended without making it: there is "
        "no file 'a'"
    ):
        save(policy, Path("a"))


def test_a_file_below_a_file_is_a_miss():
    write("a")

    assert load(FileExists("a/b.csv")) == (False, None)


def test_a_link_to_nothing_is_a_miss():
    Path("a.csv").symlink_to("nothing")

    assert load(FileExists("a.csv")) == (False, None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out/{name}.csv", "out/a.csv"),
        (Path("out", "{name}.csv"), "out/a.csv"),
        ("{day:%Y-%m}/{name!r}.csv", "2024-05/'a'.csv"),
        ("{source.stem}.out", "raw.out"),
        ("{{name}}.csv", "{name}.csv"),
        (lambda given: f"{given['name']}-{given['day'].day}.csv", "a-1.csv"),
        (lambda given: Path("{" + given["name"] + "}"), "{a}"),
    ],
)
def test_the_path_is_made_of_the_arguments(path, expected):
    given = {"source": Path("in/raw.csv"), "day": date(2024, 5, 1)}

    assert path_of(FileExists(path), **given) == Path(expected)


def test_calls_are_known_by_their_file():
    policy = FileExists("{name}.csv")
    key = policy.key(report, arguments("a", day=1))

    assert key == policy.key(report, arguments("a", day=2))
    assert hash(key) == hash(policy.key(report, arguments("a", day=2)))
    assert key != policy.key(report, arguments("b", day=1))


def test_the_file_of_a_call_stays_that_of_its_first_arguments():
    """A task may change its arguments before its value is saved."""
    policy = FileExists("{name[0]}.csv")
    given = arguments(name=["a"])
    key = policy.key(report, given)
    given["name"][0] = "b"
    policy.save(key, given, write("a.csv"))

    assert policy.load(key, given) == (True, Path("a.csv"))


# -- the task's part ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, "a.csv", Path("b.csv"), PurePosixPath("a.csv"), [Path("a.csv")], 3]
)
def test_a_task_that_returns_something_else_than_the_path_is_an_error(value):
    write("a.csv")
    with raises(
        "task 'report' is cached by the file that it makes and must return its path, "
        f"{Path('a.csv')!r}, but returned {value!r}"
    ):
        save(FileExists("a.csv"), value)


def test_a_task_that_does_not_make_its_file_is_an_error():
    with raises(
        "task 'report' is cached by the file that it makes, but ended without making it: there is "
        "no file 'a.csv'"
    ):
        save(FileExists("a.csv"), Path("a.csv"))


# -- newer_than -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("input_time", "hit"), [(99, True), (100, True), (101, False)])
@pytest.mark.parametrize(
    ("newer_than", "source"),
    [
        (["source"], "in.csv"),
        (("source",), Path("in.csv")),
        ("source", ["in.csv"]),
        (["source"], ("older.csv", Path("in.csv"))),
        (["source"], {"in.csv", "older.csv"}),
        (["in.csv"], None),
        ("in.csv", None),
        (Path("in.csv"), None),
        (["source", Path("in.csv")], "older.csv"),
        (["i{name}.csv"], None),
    ],
)
def test_a_file_must_be_as_new_as_its_inputs(newer_than, source, input_time, hit):
    write("in.csv", input_time)
    write("older.csv", 1)
    write("n.csv", 100)
    policy = FileExists("{name}.csv", newer_than=newer_than)
    expected = (True, Path("n.csv")) if hit else (False, None)

    assert load(policy, name="n", source=source) == expected


def test_times_are_compared_to_the_nanosecond():
    write("in.csv")
    write("a.csv")
    policy = FileExists("a.csv", newer_than="in.csv")
    os.utime("in.csv", ns=(10**18 + 100, 10**18 + 100))

    os.utime("a.csv", ns=(10**18 + 100, 10**18 + 100))
    assert load(policy)[0]
    os.utime("a.csv", ns=(10**18, 10**18))
    if os.stat("a.csv").st_mtime_ns != os.stat("in.csv").st_mtime_ns:  # where files have them
        assert not load(policy)[0]


def test_a_directory_counts_with_its_own_time():
    Path("in").mkdir()
    os.utime("in", (50, 50))
    write("a.csv", 100)

    assert load(FileExists("a.csv", newer_than="in"))[0]
    os.utime("in", (200, 200))
    assert not load(FileExists("a.csv", newer_than="in"))[0]


@pytest.mark.parametrize("source", [None, [], ()])
def test_an_argument_may_be_no_input_at_all(source):
    write("a.csv")

    assert load(FileExists("a.csv", newer_than=["source"]), source=source)[0]


def test_an_input_that_does_not_exist_is_an_error_that_says_where_it_is_from():
    write("a.csv")
    policy = FileExists("a.csv", newer_than=["source", "settings.toml"])

    with raises(
        "task 'report': 'a.csv' must be newer than 'gone.csv', which does not exist; it is the "
        "argument 'source'"
    ):
        load(policy, source="gone.csv")
    with raises(
        "task 'report': 'a.csv' must be newer than 'settings.toml', which does not exist; "
        "newer_than='settings.toml' is a path, as there is no such parameter"
    ):
        load(policy)


def test_inputs_are_not_asked_for_where_there_is_no_file_yet():
    """The task itself reports a missing input."""
    assert load(FileExists("a.csv", newer_than=["source"]), source="gone.csv") == (False, None)


@pytest.mark.parametrize("source", [3, [3], b"in.csv", {"in.csv": 1}])
def test_an_argument_that_is_no_path_is_an_error(source):
    write("a.csv")
    found = source[0] if isinstance(source, list) else source
    with raises(
        "task 'report': newer_than names the parameter 'source', which must be a path, several in "
        f"a list, tuple or set, or None, but holds {found!r}"
    ):
        load(FileExists("a.csv", newer_than=["source"]), source=source)


# -- misuse ---------------------------------------------------------------------------------------


def test_a_name_that_the_task_does_not_have_is_an_error_that_lists_those_it_has():
    with raises(
        "task 'report': the path '{nmae}.csv' cannot be filled in (KeyError: 'nmae'); the "
        "arguments are 'name', 'source', 'day'"
    ):
        path_of(FileExists("{nmae}.csv"))


def test_an_argument_that_cannot_be_formatted_is_an_error_with_the_reason():
    with pytest.raises(ArgumentError, match=r"cannot be filled in \(ValueError: .*; the arguments"):
        path_of(FileExists("{name:%Y}"), name=3)


def test_a_resource_has_no_place_in_a_path():
    with pytest.raises(
        ArgumentError, match=r"KeyError: 'source'\); the arguments are 'name', 'day'"
    ):
        path_of(FileExists("{source}"), source=inject("database"))


def test_a_function_that_gives_no_path_is_an_error():
    with raises("task 'report': the function for its file must give a str or a Path, but gave 3"):
        path_of(FileExists(lambda given: 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": 3}, "path takes a path as a str or a Path, but got 3"),
        ({"path": report}, "path takes a path as a str or a Path, but got <task report>"),
        ({"path": b"a"}, "path takes a path as a str or a Path, but got b'a'"),
        ({"path": "a", "newer_than": 3}, "newer_than takes a path as a str or a Path, but got 3"),
        ({"path": "a", "newer_than": [3]}, "newer_than takes a path as a str or a Path, but got 3"),
        (
            {"path": "a{.csv"},
            "path='a{.csv' is not a path with names in braces: expected '}' before end of string; "
            "a literal brace is written twice",
        ),
        (
            {"path": "{}.csv"},
            "path='{}.csv' counts the arguments; name the parameters in the braces: '{name}'",
        ),
        (
            {"path": "a", "newer_than": ["{0}.csv"]},
            "newer_than='{0}.csv' counts the arguments; name the parameters in the braces: "
            "'{name}'",
        ),
    ],
)
def test_other_objects_than_paths_are_refused_at_once(given, message):
    with raises(message):
        FileExists(**given)
