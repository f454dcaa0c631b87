"""``cascade run``: the value of a target, with options for its parameters."""

import json
import os
import re
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from cascade.command import running
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.telemetry.lines import LogFormat


def test_it_prints_the_value(cascade):
    assert cascade("run", "flows.py:report", "--date", "2024-01-20") == (
        0,
        "{'total': 23, 'strict': False}\n",
        "",
    )


@pytest.mark.parametrize("words", [["--vm"], ["--tier", "generated"], ["--tier=auto"], []])
def test_options_have_the_types_of_their_params_on_both_paths(cascade, words):
    options = ["--date=2024-01-20", "--retries", "-4", "--strict"]
    outcome = cascade("run", *words, "flows.py:report", *options, "--json")

    assert json.loads(outcome.out) == {"total": 16, "strict": True}


def test_its_help_lists_the_options_of_the_target(cascade):
    out = cascade("run", "flows.py:report", "--help").out

    assert out.startswith("Usage: cascade run flows.py:report [OPTIONS]\n")
    assert "Run flows.py:report. Add up.\n" in out
    assert "Refuses" not in out
    assert re.search(r"\* +--date DATE +The day to report on\. \[required\]", out)
    assert re.search(r"--retries INT +How often to try again\. \[default: 3\]", out)
    assert re.search(r"--strict --no-strict +Whether to be strict\. \[default: False\]", out)
    assert out.index("--date") < out.index("--vm")


def test_its_help_without_a_target_says_how_to_get_the_options(cascade):
    out = cascade("run", "--help").out

    assert "Usage: cascade run [OPTIONS] TARGET" in out
    assert "add --help behind it" in out


@pytest.mark.parametrize("words", [["report", "--help"], ["--help"]])
def test_no_line_of_the_help_is_wider_than_the_terminal(cascade, words):
    words = [f"flows.py:{word}" if word == "report" else word for word in words]

    assert max(map(len, cascade("run", *words).out.splitlines())) <= 80


def test_the_value_of_an_own_option_in_front_is_not_taken_for_the_target(cascade):
    words = ["--deadline", "60", "--max-steps", "200", "--no-progress", "flows.py:collatz"]

    assert cascade("run", *words, "--n", "27").out == "111\n"


def test_a_task_takes_its_arguments_as_options(cascade):
    outcome = cascade(
        *("run", "flows:read", "--plain", "07", "--count", "1", "--ratio", "2", "--mode=loud"),
        *("--when", "2024-02-29", "--place", "/x", "--colour", "BLUE", "--names", '["a"]'),
        *("--pairs", '{"a": 1}', "--unique", "[1, 1]", "--guessed", "8"),
    )

    assert outcome.err == ""
    values = eval(
        re.sub(r"<Colour\.(\w+): 2>", r"'\1'", outcome.out),
        {"datetime": __import__("datetime"), "PosixPath": str, "WindowsPath": str},
    )
    assert values[:3] == ("07", 1, 2.0)
    assert values[3].isoformat() == "2024-02-29"
    assert values[4:] == ("/x", "loud", "BLUE", ["a"], {"a": 1}, {1}, 8, None, {})


def test_a_task_keeps_its_defaults(cascade):
    out = cascade("run", "flows:read", "--plain", "x").out

    assert "'x'" in out
    assert "<Colour.RED: 1>" in out
    assert "--engine" not in cascade("run", "flows:read", "--help").out


def test_positional_parameters_are_options_too(cascade):
    assert cascade("run", "flows:positional", "--a", "1", "--c", "3").out == "(1, 2, 3)\n"
    assert cascade("run", "flows:positional", "--a=1", "--b=5", "--c=3").out == "(1, 5, 3)\n"


@pytest.mark.parametrize(
    ("target", "printed"),
    [
        ("flows:Namespace.target", "8\n"),
        ("flows:nothing", ""),
        ("flows:text", "two\nlines\n"),
        ("flows:query", "a database\n"),
    ],
)
def test_targets_of_every_kind(cascade, target, printed):
    assert cascade("run", target) == (0, printed, "")


def test_a_function_gives_a_target(cascade):
    assert cascade("run", "flows:both", "--date=2024-01-01", "--json").out == (
        '[{"total": 4, "strict": false}, 111]\n'
    )
    assert cascade("run", "flows:uncalled", "--n", "6").out == "8\n"


def test_a_long_list_of_numbers_fills_the_lines(cascade, tmp_path):
    (tmp_path / "more.py").write_text(
        "import cascade as cs\n@cs.task\ndef more(): return list(range(60))\n"
    )
    lines = cascade("run", f"{tmp_path / 'more.py'}:more").out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_environment_variables_are_named_in_the_help_and_read(cascade, monkeypatch):
    monkeypatch.setenv("CASCADE_TEST_HOME", "/here")

    assert "It reads CASCADE_TEST_HOME from the" in cascade("run", "flows:home_of", "--help").out
    assert cascade("run", "flows:home_of").out == "/here\n"


def test_a_param_that_only_the_run_meets_is_given_by_name(cascade):
    assert cascade("run", "flows:later_param", "--param", "place=a=b").out == "a=b\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flows:later_param", "--param", "x"], "--param takes NAME=VALUE, but got 'x'"),
        (
            ["flows:collatz", "--n=1", "--param", "n=2"],
            "--param n has an option of its own: --n",
        ),
        (["flows:report"], "--date is required; see --help"),
        (["flows:nothing", "x"], "'x' is an unexpected argument; see --help"),
        ([], "TARGET is required; see --help"),
        (
            ["flows:report", "--date", "x"],
            "--date cannot be 'x': Invalid isoformat string: 'x' (declared at flows.py:",
        ),
        (["flows:collatz", "--n", "x"], "--n must be int, but is 'x' (declared at flows.py:"),
        (
            ["flows:read", "--plain=x", "--names", "{}"],
            "--names cannot be '{}': '{}' is not a JSON array (declared at flows.py:",
        ),
        (["flows:read", "--plain=x", "--mode", "lod"], 'Did you mean "loud"?'),
        (["flows:read", "--plain=x", "--colour", "BLU"], 'Did you mean "BLUE"?'),
        (["flows:collatz", "--n", "1", "--lenght", "2"], "Did you mean --length?"),
        (["flows:collatz", "--m", "1"], "Did you mean --n instead of --m?"),
        (
            ["flows:collatz", "--n=1", "--deadline=0"],
            "--deadline takes seconds > 0, but got 0.0",
        ),
        (
            ["flows:collatz", "--n=1", "--max-steps=0"],
            "--max-steps must be an int ≥ 1, but is 0",
        ),
        (["flows:collatz", "--n=1", "--tier=fusd"], 'Did you mean "fused"?'),
        (["flows:disagreeing", "--n", "1.5"], "--n must be int, but is '1.5' (declared at"),
        (["flows:listed", "--day", "soon"], "--day cannot be 'soon': Invalid isoformat"),
    ],
)
def test_words_that_make_no_sense_are_refused_before_anything_runs(cascade, words, message):
    outcome = cascade("run", *words)

    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("cascade: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_one_option_gives_all_nodes_of_its_name_their_value(cascade):
    assert cascade("run", "flows:disagreeing", "--n", "2").out == "[2, 2.0]\n"


def test_a_param_with_a_taken_option_gets_another(cascade):
    words = ["--param-vm=1", "--param-vm-2=3", "--no-vm=2"]

    assert cascade("run", "flows:taken", *words).out == "['1', '2', '3']\n"


def test_params_of_types_that_read_no_text_are_read_all_the_same(cascade):
    out = cascade("run", "flows:listed", "--items", "[1, 2]", "--day", "2024-01-02").out

    assert out == "[[1, 2], datetime.date(2024, 1, 2)]\n"


def test_an_error_shows_the_users_lines_and_no_other(cascade):
    outcome = cascade("run", "flows.py:deep", "--n", "3")

    assert outcome.code == 1
    assert re.findall(r'File ".*[/\\](.+)", line \d+, in (\w+)', outcome.err) == [
        ("flows.py", "deep"),
        ("flows.py", "inner"),
    ]
    assert "KeyError: 'no 3'\ncascade: in task 'deep', called at flows.py:" in outcome.err


def test_log_level_debug_shows_all_lines(cascade, monkeypatch):
    monkeypatch.setenv("CASCADE_FULL_TRACEBACK", "1")

    assert "in _run" in cascade("run", "flows.py:deep").err


def test_errors_of_cascade_about_a_run_have_no_traceback(cascade):
    outcome = cascade("run", "flows:collatz", "--n", "27", "--max-steps", "9")

    assert outcome.code == 1
    assert outcome.err.startswith("cascade.spec.errors.StepLimitError: task 'collatz' asks")
    assert "Traceback" not in outcome.err


def test_without_fail_fast_all_errors_are_told(cascade, tmp_path):
    (tmp_path / "two.py").write_text(
        "import cascade as cs\n"
        "@cs.task\ndef fail(n): raise ValueError(n)\n"
        "both = [fail(1), fail(2)]\n"
    )
    err = cascade("run", f"{tmp_path / 'two.py'}:both", "--no-fail-fast").err

    assert "ValueError: 1" in err
    assert "ValueError: 2" in err
    assert "2 tasks of the run failed" in err


def test_a_value_without_a_json_form_is_an_error(cascade):
    outcome = cascade("run", "flows:unjson", "--json")

    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err == (
        "cascade: the value of flows:unjson has no JSON form: its part ['number']: an object "
        "of type complex has none; let its class have a method __json__(), or leave out --json; it "
        "is\n"
        f"{{'number': 1j, 'more': {list(range(100))}}}\n"
    )


def test_common_classes_have_a_json_form(cascade, tmp_path):
    (tmp_path / "forms.py").write_text("""
import dataclasses, datetime, decimal, enum, pathlib, types, uuid
import cascade as cs

class Colour(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Point:
    x: int
    inner: object = None

class Says:
    def __json__(self):
        return ["says", Point(3)]

class Model:
    def model_dump(self, mode):
        return {"mode": mode}

@cs.task
def values():
    return [
        Point(1, Point(2)), Says(), Model(), {2, 1}, Colour.RED, datetime.date(2024, 1, 2),
        datetime.datetime(2024, 1, 2, 3), decimal.Decimal("1.50"), pathlib.PurePosixPath("a/b"),
        uuid.UUID(int=1), types.MappingProxyType({"a": 1}),
    ]
""")
    outcome = cascade("run", f"{tmp_path / 'forms.py'}:values", "--json")

    assert json.loads(outcome.out) == [
        {"x": 1, "inner": {"x": 2, "inner": None}},
        ["says", {"x": 3, "inner": None}],
        {"mode": "json"},
        [1, 2],
        "red",
        "2024-01-02",
        "2024-01-02T03:00:00",
        "1.50",
        "a/b",
        "00000000-0000-0000-0000-000000000001",
        {"a": 1},
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--progress"], "collatz, graph path: succeeded, 1 of 1 tasks"),
        (["--progress", "--vm"], "collatz, vm path: succeeded, 1 of 1 tasks"),
        (["--log-format", "human"], "started, graph path"),
        (["--log-format", "json"], '"event": "RunStarted"'),
    ],
)
def test_events_are_written_to_standard_error(cascade, words, line):
    outcome = cascade("run", "flows:collatz", "--n", "6", *words)

    assert outcome.out == "8\n"
    assert line in outcome.err


def test_a_result_has_colours_in_a_terminal(cascade, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    assert "\x1b[" in cascade("run", "flows:report", "--date=2024-01-01", "--no-progress").out
    assert "\x1b[" in cascade("run", "flows:report").err
    assert "\x1b[" not in cascade("run", "flows:collatz", "--n=1", "--json", "--no-progress").out


def test_ctrl_c_has_an_exit_code_of_its_own(cascade, tmp_path):
    (tmp_path / "stop.py").write_text(
        "import cascade as cs, signal\n"
        "@cs.task(mode='inline')\n"
        "def stop(): signal.raise_signal(signal.SIGINT)\n"
    )

    code, out, err = cascade("run", f"{tmp_path / 'stop.py'}:stop")
    assert (code, out) == (130, "")
    # On a busy machine it first names the calls that it waits for.
    assert err.splitlines()[-1] == "cascade: interrupted"


def test_the_choices_are_those_of_the_engine():
    """Written out, so that the help does not import the engine."""
    hints = get_type_hints(running.Flags)

    assert set(get_args(get_args(hints["tier"])[0])) == set(get_args(Tier))
    assert set(get_args(get_args(hints["log_format"])[0])) == set(get_args(LogFormat))


def test_run_can_be_called_as_a_function(cascade, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    running.run("flows:Namespace.target", flags=running.Flags(json=True))

    assert capsys.readouterr().out == "8\n"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_plain_functions_may_be_called_in_other_processes(cascade, monkeypatch, by):
    words = ["--executor", "process"]
    if by == "variable":
        words = []
        monkeypatch.setenv("CASCADE_EXECUTOR", "process")
    own, there = cascade("run", "flows.py:where"), cascade("run", "flows.py:where", *words)

    if by == "option":
        assert own.out.strip() == str(os.getpid())
    assert there.code == 0, there.err
    assert there.out.strip() != str(os.getpid())


def test_so_may_those_of_a_file_that_no_process_can_import(cascade, tmp_path):
    path = tmp_path / "my-flows.py"
    path.write_text(Path("flows.py").read_text())
    there = cascade("run", f"{path}:where", "--executor", "process")

    assert there.code == 0, there.err
    assert there.out.strip() != str(os.getpid())


def test_an_unknown_executor_is_refused(cascade):
    outcome = cascade("run", "flows.py:where", "--executor", "dask")

    assert outcome.code == 2
    assert "threads, process, dask://HOST:PORT or ray://HOST:PORT" in " ".join(outcome.err.split())


def test_they_may_be_called_on_a_cluster(cascade, dask_cluster):
    url = dask_cluster.scheduler_address.replace("tcp://", "dask://")
    there = cascade("run", "flows.py:where", "--executor", url)

    assert there.code == 0, there.err
    assert there.out.strip() != str(os.getpid())


def test_a_cluster_that_cannot_be_reached_is_told_in_one_line(cascade, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = cascade("run", "flows.py:where", "--executor", "ray://127.0.0.1:9")

    assert outcome.code == 1
    told = "cascade: cs.RayExecutor needs ray: pip install 'cascade-engine[ray]'\n"
    assert outcome.err == told


def test_a_program_that_imports_pydantic_has_the_same_options(cascade, tmp_path):
    """The command line's library then validates the arguments of the command."""
    path = tmp_path / "with_pydantic.py"
    path.write_text(
        "import pydantic\nimport cascade as cs\n"
        "@cs.task\ndef same(value): return value\n"
        "target = same([cs.Param('strict', True, type=bool), cs.Param('n', 3, type=int)])\n"
    )

    assert cascade("run", f"{path}:target").out == "[True, 3]\n"
    assert cascade("run", f"{path}:target", "--no-strict", "--n", "4").out == "[False, 4]\n"
