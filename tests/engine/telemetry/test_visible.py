"""Names and errors come from anywhere: nothing in them acts on a terminal or hides."""

from __future__ import annotations

import io
import json
import logging

import pytest

import cascade as cs
from cascade.command import failures, output
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.disassemble import disassemble
from cascade.runtime.telemetry.bars import _rows
from cascade.runtime.telemetry.tally import RunFigures

EVIL = "\x1b]0;pwned\x07\x1b[2J\u202eevil\u2028\x9b2J\r"
ACTING = set(EVIL) - set("evil]0;pwned[2J")


@cs.task(name=EVIL)
def evil(n: int = 0):
    raise ValueError(EVIL)


def is_harmless(text):
    return not ACTING & set(text) and r"\x1b]0;pwned" in text


@pytest.fixture
async def engine():
    async with cs.Engine() as engine:
        yield engine


async def test_lines_for_people(engine):
    out = io.StringIO()
    with cs.LineWriter(engine.bus, out), pytest.raises(ValueError, match="evil"):
        await engine.run(evil())
    assert is_harmless(out.getvalue())


async def test_lines_of_progress(engine):
    out = io.StringIO()
    with cs.show_progress(engine.bus, out, every=0), pytest.raises(ValueError, match="evil"):
        await engine.run(evil())
    assert is_harmless(out.getvalue())


async def test_records_of_logging(engine, caplog):
    caplog.set_level(logging.DEBUG, "cascade")
    with cs.EventLogger(engine.bus), pytest.raises(ValueError, match="evil"):
        await engine.run(evil())
    assert all(not ACTING & set(record.getMessage()) for record in caplog.records)
    assert any(is_harmless(record.getMessage()) for record in caplog.records)


def test_bars():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(_rows([RunFigures("1", EVIL, "graph")]))
    assert is_harmless(console.file.getvalue())


def test_outlines_listings_and_explanations():
    for text in (
        str(cs.dry_run(evil())),
        disassemble(BlueprintBuilder().build(evil())),
        str(cs.explain(evil)),
        cs.visualize(evil(), "dot"),
    ):
        assert is_harmless(text.replace("\\\\", "\\"))


def test_output_of_the_command_has_no_control_characters(capsys):
    output.show(EVIL)
    output.show_json({EVIL: EVIL}, "it")
    shown, _ = capsys.readouterr()
    assert is_harmless(shown.splitlines()[0])
    assert not ACTING & set(shown)
    assert json.loads(shown.splitlines()[1]) == {EVIL: EVIL}


def test_errors_of_the_command_have_no_control_characters(capsys):
    failures.complain(EVIL, 2)
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        failures.show_failure(error)
    _, complaint = capsys.readouterr()
    assert is_harmless(complaint)


def test_a_result_that_is_text_reaches_a_pipe_as_it_is(capsys):
    output.show_value(EVIL)
    assert capsys.readouterr().out == f"{EVIL}\n"
