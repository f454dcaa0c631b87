"""Errors: the pages in docs and the corpus in tests/errors raise the messages that they show.

An entry is a heading, its code in a block ``python raises``, the last line of the traceback in a
block ``text error``, in which ``…`` stands for any text, and the remedy. To add one, write it into
the file of its theme in tests/errors, or into the page if it is among the commonest faults; nothing
has to be done here. The code runs after the page's block ``python setup``, in a file of its own
called ``example.py``; code that calls ``cs.run`` runs on both paths. docs/surprises.md also shows
values; its first block of Python is the setup of its faults. Code that needs some
distributions only says so: ``python raises with=cascade-spec``; so does code whose message older
Pythons word differently: ``python raises since=3.12``.
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
SURPRISES = (ROOT / "docs" / "surprises.md").read_text(encoding="utf-8")
CORPUS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests" / "errors").glob("*.md"))
}
EXAMPLE = str(ROOT / "example.py")


def blocks(text: str, info: str) -> list[re.Match[str]]:
    """The fenced blocks with an info string that begins with ``info``: its rest, the content."""
    return list(re.finditer(rf"^```{info}\b *(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE))


class Entry(NamedTuple):
    title: str
    options: str
    code: str
    error: str
    advice: str
    setup: str

    @classmethod
    def read(cls, title: str, body: str, setup: str) -> Entry:
        (code,), (error,) = blocks(body, "python raises"), blocks(body, "text error")
        advice = body[error.end() :].strip()
        return cls(title, code[1], code[2], error[2].rstrip("\n"), advice, setup)

    @property
    def on_both_paths(self) -> bool:
        return "cs.run(" in self.code or "cs.run_async(" in self.code


def entries_of(text: str, setup: str) -> list[Entry]:
    """The sections of ``text`` that show a fault; others explain."""
    sections = [section.partition("\n") for section in re.split(r"^##+ ", text, flags=re.MULTILINE)]
    return [
        Entry.read(title, body, setup)
        for title, _, body in sections
        if blocks(body, "python raises")
    ]


SETUP = blocks(PAGE, "python setup")[0][2]
ON_THE_PAGE = entries_of(PAGE, SETUP)
IN_THE_CORPUS = [entry for text in CORPUS.values() for entry in entries_of(text, SETUP)]
SURPRISING = entries_of(SURPRISES, blocks(SURPRISES, "python")[0][2])
ENTRIES = [*ON_THE_PAGE, *IN_THE_CORPUS, *SURPRISING]


def assert_is(told: str, expected: str) -> None:
    """Whether ``told`` is the text of an entry, in which ``…`` stands for anything."""
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert re.fullmatch(pattern, told, re.DOTALL), f"\nexpected: {expected}\nbut got:  {told}"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run code as ``example.py``: the last line of its traceback, or nothing."""
    monkeypatch.chdir(ROOT)  # call sites are shown relative to it
    monkeypatch.setattr(clock, "GRACE", 0.0)
    monkeypatch.delenv("CASCADE_EXAMPLE_TOKEN", raising=False)

    def example(code: str, setup: str = SETUP) -> str:
        # Messages quote the line that was wrong, which has to be found somewhere.
        lines = code.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, EXAMPLE, (len(code), None, lines, EXAMPLE))
        namespace: dict[str, Any] = {"__name__": "example"}
        exec(compile(setup, str(ROOT / "setup.py"), "exec"), namespace)
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
def test_an_entry_raises_the_message_that_it_shows(
    entry: Entry, example: Callable[..., str]
) -> None:
    option, _, value = entry.options.partition("=")
    assert option in ("", "with", "since"), f"{entry.options!r} means nothing here"
    if option == "since" and sys.version_info < tuple(map(int, value.split("."))):
        pytest.skip(f"Pythons before {value} say otherwise")
    told = told_with(value, entry.code) if option == "with" else example(entry.code, entry.setup)
    assert_is(told, entry.error)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.on_both_paths], ids=lambda entry: entry.title
)
def test_an_entry_raises_the_same_on_the_virtual_machine(
    entry: Entry, example: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run", "run_async"):
        monkeypatch.setattr(cascade, name, partial(getattr(cascade, name), use_vm=True))

    assert_is(example(entry.code, entry.setup), entry.error)


def test_a_missing_or_different_error_fails_the_entry(
    example: Callable[..., str],
) -> None:
    told = example("raise ValueError('one')")

    assert_is(told, "ValueError: o…")
    for expected in ("ValueError: two", "TypeError: one", "ValueError: on"):
        with pytest.raises(AssertionError, match="but got:  ValueError: one"):
            assert_is(told, expected)
    with pytest.raises(AssertionError):
        assert_is(example("add(1, 2)"), "ValueError: one")


def test_entries_have_unique_titles_and_a_remedy() -> None:
    titles = [entry.title for entry in ENTRIES]

    assert len(set(titles)) == len(titles)
    assert [entry.title for entry in [*ON_THE_PAGE, *IN_THE_CORPUS] if not entry.advice] == []


@pytest.mark.parametrize("name", ["docs/errors.md", *CORPUS])
def test_every_block_belongs_to_an_entry(name: str) -> None:
    """A block with a misspelt info string would be shown and never run."""
    text = CORPUS.get(name, PAGE)
    setup = len(blocks(text, "python setup"))

    assert setup == (name not in CORPUS)
    assert len(re.findall(r"^```\w", text, re.MULTILINE)) == 2 * len(entries_of(text, "")) + setup


def test_every_block_of_the_surprises_is_run_or_shows_what_is_printed() -> None:
    infos = re.findall(r"^```(\w.*)$", SURPRISES, re.MULTILINE)

    assert set(infos) == {"python", "text", "python raises", "text error"}
    assert infos.count("text") == infos.count("python") - 1  # the setup prints nothing
    assert infos.count("text error") == infos.count("python raises") == len(SURPRISING)


def own_errors() -> dict[str, type[Exception]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type)
        and issubclass(found, errors.CascadeError)
        and not name.startswith("_")
    }


def test_the_table_has_every_error_with_the_builtin_that_catches_it() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\(#(\w+)\) \| `(\w+)` \|", PAGE, re.MULTILINE)
    classes = {name: found for name, found in own_errors().items() if name != "CascadeError"}

    assert sorted(name for name, _, _ in rows) == sorted(classes)
    for name, anchor, builtin in rows:
        assert anchor == name.lower()
        assert issubclass(classes[name], getattr(builtins, builtin))


def test_every_error_has_its_section_below_the_time_at_which_the_table_says_it_is_raised() -> None:
    times = dict(re.findall(r"^\| \[`(\w+)`\]\S+ \| `\w+` \| ([\w ]+) \|", PAGE, re.MULTILINE))
    sections: dict[str, str] = {}
    time = ""
    for level, title in re.findall(r"^(##+) (.+)$", PAGE, re.MULTILINE):
        if level == "##":
            time = title.lower()
        elif level == "###" and title in own_errors():
            sections[title] = time

    assert sections == times


def test_the_page_shows_at_most_thirty_faults() -> None:
    assert len(ON_THE_PAGE) <= 30


def test_every_error_has_an_entry() -> None:
    """Except for the base class, for the error of a bug in Cascade, and for that of a worker of a
    cluster, which the tests of DaskExecutor kill.
    """
    shown = {entry.error.partition(":")[0] for entry in ENTRIES}

    assert own_errors().keys() - shown == {"CascadeError", "InternalError", "ValueLostError"}
