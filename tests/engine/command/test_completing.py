"""Completion of targets and of their options, by the command itself and in a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = """
from __future__ import annotations
import sys
from dataclasses import dataclass
import cascade as cs

print("imported")
sys.stderr.write("imported")
open("imported", "w").close()

@dataclass
class Home:
    city: str

@dataclass(frozen=True)
class Customer:
    full_name: str
    home: Home | None = None
    vip: bool = False

@cs.task
def greet(customer: Customer, loud: bool = False, db: str = cs.inject("db")) -> str:
    return customer.full_name

@cs.task(pure=True)
async def load(day: str, *, shop_name: str = "Oslo") -> list[int]:
    return []

@cs.task
def _hidden() -> int:
    return 1

report = load(cs.Param("day"), shop_name=cs.Param("shop_name", "Oslo"))
who = greet(cs.Param("customer", type=Customer))

def both():
    return [report, report]

def helper(n):
    return n
"""


@pytest.fixture
def complete(cascade, tmp_path, monkeypatch):
    """``complete("run", "flows.py:")``: the candidates for the last word."""
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("import cascade as cs\n@cs.task\ndef f(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cascade.command.target_source._PATIENCE", 50)

    def call(*words):
        outcome = cascade("--complete", "words", *words)
        assert outcome.err == ""
        return outcome.out.split()

    return call


@pytest.mark.parametrize("command", ["run", "plan", "graph", "explain", "disassemble"])
def test_files_and_targets_are_read_and_not_imported(complete, command):
    assert complete(command, "") == ["flows.py:", "package/"]
    assert complete(command, "pack") == ["package/"]
    assert complete(command, "package/") == ["package/inner.py:"]
    assert complete(command, "package/inner.py:") == ["package/inner.py:f"]
    assert complete(command, "package.inner:") == ["package.inner:f"]
    targets = ["greet", "load", "report", "who", "both"]
    assert complete(command, "flows.py:") == [f"flows.py:{name}" for name in targets]
    assert complete(command, "--json", "flows.py:r") == ["flows.py:report"]
    assert not Path("imported").exists()


def test_options_of_a_task_are_read_and_not_imported(complete):
    assert complete("run", "flows.py:greet", "-") == [
        "--customer", "--customer.full-name", "--customer.home", "--customer.home.city",
        "--customer.vip", "--no-customer.vip", "--loud", "--no-loud",
    ]  # fmt: skip
    assert complete("run", "flows.py:load", "--day", "x", "--sh") == ["--shop-name"]
    assert complete("plan", "flows.py:load", "--") == []
    assert not Path("imported").exists()


def test_options_of_a_lazy_value_need_its_module(complete):
    assert complete("run", "flows.py:report", "--") == ["--day", "--shop-name"]
    assert complete("run", "flows.py:both", "--d") == ["--day"]
    assert complete("run", "flows.py:who", "--customer.h") == [
        "--customer.home", "--customer.home.city"
    ]  # fmt: skip
    assert Path("imported").exists()


@pytest.mark.parametrize(
    "last", ["raise SystemExit(3)", "1 / 0", "import missing_library", "while True: pass"]
)
def test_a_module_that_fails_offers_what_its_source_names(complete, monkeypatch, last):
    monkeypatch.setattr("cascade.command.target_source._PATIENCE", 0.3)
    Path("flows.py").write_text(f"{FLOWS}\n{last}\n")
    assert complete("run", "flows.py:report", "--") == ["--day", "--shop-name", "--customer"]


@pytest.mark.parametrize(
    "words",
    [[], [""], ["run"], ["status", ""], ["run", "no.py:"], ["run", "no.py:x", "--"],
     ["run", "no/such/"], ["run", "broken.py:"], ["run", "--par"]],
)  # fmt: skip
def test_where_nothing_is_known_there_is_no_candidate(complete, words):
    Path("broken.py").write_text("def (")
    assert complete(*words) == []


def test_starting_a_completion_needs_neither_the_engine_nor_cyclopts(complete):
    code = (
        "import sys; from cascade.command.main import main\n"
        "main(['--complete', 'words', 'run', 'flows.py:greet', '--'])\n"
        "heavy = {'cyclopts', 'rich', 'asyncio', 'cascade.runtime', 'cascade.graph'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.posix
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")
def test_a_bash_completes_targets_and_options(complete, cascade, tmp_path):
    assert cascade("--install-completion", "--shell", "bash", "-o", "script").code == 0
    program = tmp_path / "cascade"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom cascade.command.main import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    asked = """
        source ./script
        ask() {
            COMP_LINE="$1"; COMP_POINT=${#1}; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _cascade_with_targets cascade
            echo "${COMPREPLY[*]}"
        }
        ask "cascade run fl" ./cascade run fl
        ask "cascade run flows.py:gr" ./cascade run flows.py : gr
        ask "cascade run flows.py:greet --customer.h" ./cascade run flows.py : greet --customer.h
        ask "cascade stat" ./cascade stat
    """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "flows.py:", "greet", "--customer.home --customer.home.city", "status"
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_scripts_of_shells_ask_the_command(cascade, tmp_path, shell):
    script = tmp_path / "script"
    assert cascade("--install-completion", "--shell", shell, "-o", str(script)).code == 0
    text = script.read_text(encoding="utf-8")
    assert ("--complete" in text) == (shell != "powershell")
    assert ("run|plan|graph|explain|disassemble" in text) == (shell != "powershell")
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", str(script)], check=True)
