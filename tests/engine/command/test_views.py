"""``plan``, ``graph``, ``explain``, ``disassemble``: a target is looked into, and not run."""

import json

import pytest

import cascade as cs
from cascade.command.targets import find
from cascade.graph.portable import blueprint_from_json


def test_plan_prints_the_same_as_dry_run(cascade):
    printed = cascade("plan", "flows.py:report").out
    assert printed == f"{cs.dry_run(find('flows.py:report').value)}\n"
    assert printed.startswith("5 nodes, 2 tasks\ntotal  (flows.py:")


def test_plan_shows_as_many_inputs_as_it_is_told(cascade, tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(
        "import cascade as cs\n@cs.task\ndef one(n): return n\nwide = [one(n) for n in range(9)]\n"
    )

    assert "… 6 more" in cascade("plan", f"{path}:wide", "--limit", "3").out


def test_a_list_of_lazy_values_stands_at_its_module_or_its_function(cascade, tmp_path):
    path = tmp_path / "lists.py"
    path.write_text(
        "import cascade as cs\n"
        "@cs.task\ndef one(): ...\n"
        "found = [one()]\n"
        "def made():\n    return [one()]\n"
    )

    assert f"gather  ({path}:1)" in cascade("plan", f"{path}:found").out
    assert f"gather  ({path}:5)" in cascade("plan", f"{path}:made").out


@pytest.mark.parametrize("command", ["plan", "graph"])
def test_the_graph_as_json_has_nodes_and_edges(cascade, command):
    graph = json.loads(cascade(command, "flows.py:report", "--json").out)

    assert [(node["id"], node["name"], node["kind"]) for node in graph["nodes"]] == [
        (0, "param date", "source"),
        (1, "param retries", "source"),
        (2, "load", "task"),
        (3, "param strict", "source"),
        (4, "total", "task"),
    ]
    assert {node["file"].rpartition("/")[2] for node in graph["nodes"]} == {"flows.py"}
    assert {"from": 2, "to": 4, "kind": "data", "label": "numbers"} in graph["edges"]


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        ([], "flowchart TD\n"),
        (["--format", "mermaid"], "flowchart TD\n"),
        (["--format", "dot"], "digraph cascade {\n"),
        (["--format", "text"], "5 nodes, 2 tasks\n"),
    ],
)
def test_graph_draws_in_the_format_that_is_asked_for(cascade, words, beginning):
    assert cascade("graph", "flows.py:report", *words).out.startswith(beginning)


@pytest.mark.parametrize(
    ("name", "words", "beginning"),
    [
        ("x.mmd", [], "flowchart TD\n"),
        ("x.gv", [], "digraph"),
        ("x.txt", [], "5 nodes"),
        ("x.md", ["--format", "mermaid"], "flowchart"),
        ("x.json", ["--json"], '{"nodes": ['),
    ],
)
def test_graph_writes_a_file_in_the_format_of_its_name(cascade, tmp_path, name, words, beginning):
    outcome = cascade("graph", "flows.py:report", "-o", str(tmp_path / name), *words)

    assert outcome == (0, "", "")
    written = (tmp_path / name).read_text(encoding="utf-8")
    assert written.startswith(beginning)
    assert written.endswith("\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.pdf"], "x.pdf does not say which format; end it in one of .mmd, .mermaid, .dot"),
        (["-o", "nowhere/x.mmd"], "cannot write nowhere/x.mmd: No such file or directory"),
        (["--json", "--format", "dot"], "--json and --format dot are two formats; choose one"),
        (["--format", "dott"], 'Invalid value "dott" for --format.'),
        (["--limit", "-1"], 'Invalid value "-1" for --limit. Must be >= 0.'),
    ],
)
def test_graph_refuses_unknown_formats_and_unwritable_files(cascade, words, message):
    outcome = cascade("graph", "flows.py:report", *words)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"cascade: {message}")


def test_explain_tells_the_tier_of_each_task_once(cascade):
    lines = cascade("explain", "flows.py:both").out.splitlines()

    assert [line for line in lines if not line.startswith(" ")] == [
        "load: generated",
        "total: generated",
        "collatz: fused",
    ]
    assert lines[1].startswith("    not fused: it returns no tail call")


def test_explain_needs_no_arguments_of_a_task(cascade):
    assert cascade("explain", "flows.py:drive").out.startswith("drive: generated\n")


def test_explain_looks_at_the_policies_of_calls_and_into_maps(cascade, tmp_path):
    path = tmp_path / "policies.py"
    path.write_text(
        "import cascade as cs\n"
        "@cs.task\ndef one(n): return n\n"
        "both = [one(1).with_retry(2), one(2).with_retry(3), one.map(n=[3])]\n"
        "none = cs.Param('x') + 1\n"
    )
    out = cascade("explain", f"{path}:both").out

    assert out.count("one: interpreted") == 1
    assert out.count("one: generated") == 1
    assert "its policies (retry, timeout) are for each step" in out
    assert cascade("explain", f"{path}:none").out == f"{path}:none calls no task\n"


def test_explain_as_json_has_the_reasons(cascade):
    (explanation,) = json.loads(cascade("explain", "flows.py:total", "--json").out)

    assert explanation["task"] == "total"
    assert explanation["tier"] == "generated"
    assert explanation["refusals"][0]["tier"] == "fused"
    assert explanation["refusals"][0]["file"].endswith("flows.py")


def test_disassemble_lists_instructions(cascade):
    out = cascade("disassemble", "flows.py:report").out

    assert out.startswith("blueprint total: 7 registers\n")
    assert "entry:\n     4  r6 = total(r0, r1)\n" in out


def test_disassemble_as_json_can_be_read_back(cascade):
    text = cascade("disassemble", "flows.py:collatz", "--json").out

    assert blueprint_from_json(text).register_count == 5


def test_a_blueprint_without_a_json_form_is_an_error(cascade):
    outcome = cascade("disassemble", "flows.py:nameless", "--json")

    assert outcome.code == 1
    assert outcome.err.startswith("cascade.spec.errors.SerializationError: ")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["plan", "explain", "disassemble"])
def test_colours_are_for_terminals(cascade, monkeypatch, command):
    plain = cascade(command, "flows.py:both").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = cascade(command, "flows.py:both").out

    assert "\x1b[" not in plain
    assert "\x1b[" in coloured


def test_drawings_have_no_colours_anywhere(cascade, monkeypatch):
    plain = cascade("graph", "flows.py:report").out
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert cascade("graph", "flows.py:report").out == plain


def test_a_view_runs_nothing(cascade, tmp_path):
    path = tmp_path / "effects.py"
    path.write_text(
        "import cascade as cs\n@cs.task\ndef effect(n: int): raise SystemExit('it has run')\n"
    )

    for command in ("plan", "graph", "explain", "disassemble"):
        assert cascade(command, f"{path}:effect").code == 0
