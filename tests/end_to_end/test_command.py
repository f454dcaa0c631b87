"""The command in a process of its own, as users start it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = """
import asyncio
import cascade as cs

@cs.task
def double(n: int) -> int:
    return 2 * n

@cs.task
def fail(n: int = 0) -> None:
    raise ValueError(f"not {n}")

@cs.task
async def wait() -> None:
    print("waiting", flush=True)
    await asyncio.Event().wait()
"""
COMMAND = [sys.executable, "-m", "cascade"]
ENGINE = ("cascade.runtime", "cascade.graph", "cascade.adapters")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "flows.py").write_text(FLOWS)
    return tmp_path


def cascade(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


def test_a_target_runs_by_file_and_by_dotted_name():
    for name in ("flows.py:double", "flows:double"):
        done = cascade("run", name, "--n", "21")
        assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_a_failing_program_ends_with_1_and_its_own_lines():
    done = cascade("run", "flows.py:fail", "--vm")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.count("  File ") == 1
    assert "ValueError: not 0\n" in done.stderr


def test_wrong_words_end_with_2_and_one_line():
    done = cascade("run", "flows.py:duoble", "--n", "21")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "cascade: flows.py has no 'duoble' (did you mean 'double'?); "
        "its targets: double, fail, wait\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="a process there gets no SIGINT of its own")
def test_ctrl_c_ends_it_with_130_and_without_a_traceback():
    with subprocess.Popen(
        [*COMMAND, "run", "flows.py:wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (process.returncode, out) == (130, "")
    # On a busy machine it first names the calls that it waits for.
    lines = err.splitlines()
    assert lines[-1] == "cascade: interrupted"
    assert all(line.startswith("cascade: interrupted") for line in lines)


@pytest.mark.skipif(os.name == "nt", reason="pipes end in another way there")
def test_a_closed_pipe_ends_the_command_without_a_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            [*COMMAND, "plan", "flows.py:double"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "")


def test_its_pages_do_not_import_the_engine():
    code = (
        "import json, sys\n"
        "from cascade.command.main import main\n"
        "for words in (['--help'], ['--version'], ['run', '--help']):\n"
        "    main(words)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    modules = json.loads(printed.splitlines()[-1])

    assert "cyclopts" in modules
    assert [name for name in modules if name.startswith(ENGINE)] == []


def test_without_the_extra_one_line_names_the_install_command(folder: Path):
    """A Python without site-packages stands for one without the extra."""
    sources = [str(path) for path in Path(__file__).parents[2].glob("packages/*/src")]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "cascade", "run", "flows.py:double"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'cascade: the command needs cyclopts and rich: pip install "cascade-engine[cli]"\n'
    )
