"""docs/errors.md: every entry raises what the page says that it raises.

An entry is a heading ``###``, its code in a block ``python raises``, the last line of the traceback
in a block ``text error``, in which ``…`` stands for anything, and what to do. To add one, write it
there; nothing has to be done here. The code runs after the page's block ``python setup``, in a file
of its own called ``example.py``; what calls ``cs.run`` is run on both paths. Code that is to run
with some distributions only says so: ``python raises with=cascade-spec``; and so does what older
Pythons say otherwise: ``python raises since=3.12``.
"""

from __future__ import annotations

import builtins
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import cascade
from cascade.runtime import clock
from cascade.spec import errors

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
EXAMPLE = str(ROOT / "example.py")


def blocks(text: str, info: str) -> list[re.Match[str]]:
    """The fenced blocks whose info string begins with ``info``: its rest, and the content."""
    return list(re.finditer(rf"^```{info}\b *(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE))


class Entry(NamedTuple):
    title: str
    options: str
    code: str
    error: str
    advice: str

    @classmethod
    def read(cls, section: str) -> Entry:
        title, _, body = section.partition("\n")
        (code,), (error,) = blocks(body, "python raises"), blocks(body, "text error")
        advice = body[error.end() :].partition("\n## ")[0]
        return cls(title, code[1], code[2], error[2].rstrip("\n"), advice.strip())

    @property
    def on_both_paths(self) -> bool:
        return "cs.run(" in self.code or "cs.run_async(" in self.code


ENTRIES = [Entry.read(section) for section in PAGE.split("\n### ")[1:]]
SETUP = blocks(PAGE, "python setup")[0][2]


def assert_is(told: str, expected: str) -> None:
    """Whether ``told`` is the text of an entry, in which ``…`` stands for anything."""
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert re.fullmatch(pattern, told, re.DOTALL), f"\nexpected: {expected}\nbut got:  {told}"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run code as ``example.py``: the last line of its traceback, or nothing."""
    monkeypatch.chdir(ROOT)  # call sites are shown relative to it
    monkeypatch.setattr(clock, "GRACE", 0.0)
    monkeypatch.delenv("CASCADE_EXAMPLE_TOKEN", raising=False)

    def example(code: str) -> str:
        # Messages quote the line that was wrong, which has to be found somewhere.
        lines = code.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, EXAMPLE, (len(code), None, lines, EXAMPLE))
        namespace: dict[str, Any] = {"__name__": "example"}
        exec(compile(SETUP, str(ROOT / "setup.py"), "exec"), namespace)
        try:
            exec(compile(code, EXAMPLE, "exec"), namespace)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    return example


def told_with(distributions: str, code: str) -> str:
    """The last line of the traceback in a Python that has only these distributions' sources."""
    sources = [str(ROOT / "packages" / name / "src") for name in distributions.split(",")]
    # -S: no site-packages, where the editable installs are.
    result = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stderr.rstrip("\n").rpartition("\n")[2]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_an_entry_raises_what_the_page_says(entry: Entry, example: Callable[[str], str]) -> None:
    option, _, value = entry.options.partition("=")
    assert option in ("", "with", "since"), f"{entry.options!r} means nothing here"
    if option == "since" and sys.version_info < tuple(map(int, value.split("."))):
        pytest.skip(f"Pythons before {value} say otherwise")
    told = told_with(value, entry.code) if option == "with" else example(entry.code)
    assert_is(told, entry.error)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.on_both_paths], ids=lambda entry: entry.title
)
def test_an_entry_raises_the_same_on_the_virtual_machine(
    entry: Entry, example: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run", "run_async"):
        monkeypatch.setattr(cascade, name, partial(getattr(cascade, name), use_vm=True))

    assert_is(example(entry.code), entry.error)


def test_an_entry_that_raises_nothing_or_something_else_is_noticed(
    example: Callable[[str], str],
) -> None:
    told = example("raise ValueError('one')")

    assert_is(told, "ValueError: o…")
    for expected in ("ValueError: two", "TypeError: one", "ValueError: on"):
        with pytest.raises(AssertionError, match="but got:  ValueError: one"):
            assert_is(told, expected)
    with pytest.raises(AssertionError):
        assert_is(example("add(1, 2)"), "ValueError: one")


def test_entries_have_titles_of_their_own_and_say_what_to_do() -> None:
    titles = [entry.title for entry in ENTRIES]

    assert len(set(titles)) == len(titles)
    assert [entry.title for entry in ENTRIES if not entry.advice] == []


def test_no_block_of_the_page_is_left_out() -> None:
    """A block with a misspelt info string would be shown and never run."""
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == 2 * len(ENTRIES) + 1


def own_errors() -> dict[str, type[Exception]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.CascadeError)
    }


def test_the_table_has_every_error_with_the_builtin_that_catches_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    classes = {name: found for name, found in own_errors().items() if name != "CascadeError"}

    assert {name for name, _ in rows} == classes.keys()
    for name, builtin in rows:
        assert issubclass(classes[name], getattr(builtins, builtin))


def test_every_error_has_an_entry() -> None:
    """But for the root of them all, and for the one that nobody is to see."""
    shown = {entry.error.partition(":")[0] for entry in ENTRIES}

    assert own_errors().keys() - shown == {"CascadeError", "InternalError"}
