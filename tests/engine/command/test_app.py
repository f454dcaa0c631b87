"""The command as a whole: its pages, its exit codes, its completion, and its dependencies."""

import re
import sys

import pytest
from cyclopts import CycloptsError

from cascade.command import app, main


def test_its_page_names_every_command(cascade):
    page = cascade("--help")

    assert page.code == 0
    places = [page.out.index(f"│ {name} ") for name in app.COMMANDS]
    assert places == sorted(places)
    codes = "Exit codes: 0 done, 1 the program failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."
    assert codes in " ".join(page.out.split())
    assert cascade() == page


@pytest.mark.parametrize("name", [*app.COMMANDS, "--install-completion"])
def test_every_command_has_a_page_of_80_columns(cascade, name):
    page = cascade(name, "--help")

    assert page.code == 0
    assert page.out.startswith(f"Usage: cascade {name}")
    assert max(map(len, page.out.splitlines())) <= 80


def test_it_tells_its_version(cascade):
    assert re.fullmatch(r"cascade \d+\.\d+\.\d+, Python 3\.\d+\.\d+\n", cascade("--version").out)


def test_an_unknown_command_is_told_the_near_one(cascade):
    outcome = cascade("rnu", "flows.py:report")

    assert outcome.code == 2
    assert outcome.err.startswith('cascade: Unknown command "rnu". Did you mean "run"?')


@pytest.fixture
def more(monkeypatch, tmp_path):
    """A group of commands as another module would add it."""
    (tmp_path / "more_commands.py").write_text(
        "from cyclopts import App\n"
        "from cascade.command.failures import UsageError\n"
        "async def status(run: str, /, *, quiet: bool = False) -> int:\n"
        "    if run == 'none':\n"
        "        raise UsageError('there is no run none')\n"
        "    print(run, quiet)\n"
        "    return 3\n"
        "limit = App(name='limit')\n"
        "@limit.command\n"
        "def rate(scope: str, value: float, /, *, ttl: float | None = None) -> None:\n"
        "    print(scope, value, ttl)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(app.COMMANDS, "status", ("more_commands:status", "Say how runs are."))
    monkeypatch.setitem(app.COMMANDS, "limit", ("more_commands:limit", "Set limits."))


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        (["status", "r1", "--quiet"], (3, "r1 True\n", "")),
        (["status", "none"], (2, "", "cascade: there is no run none\n")),
        (["limit", "rate", "agents", "2.5", "--ttl", "60"], (0, "agents 2.5 60.0\n", "")),
    ],
)
def test_a_module_may_add_coroutines_and_groups_of_commands(cascade, more, words, outcome):
    assert cascade(*words) == outcome


def test_the_page_tells_of_added_commands_without_importing_them(cascade, more):
    page = cascade("--help").out

    assert page.index("│ disassemble ") < page.index("│ status ") < page.index("│ limit ")
    assert "more_commands" not in sys.modules


def test_a_program_that_ends_itself_has_its_own_exit_code(cascade, tmp_path):
    (tmp_path / "ends.py").write_text("raise SystemExit(7)\n")

    with pytest.raises(SystemExit, match=r"^7$"):
        cascade("run", f"{tmp_path / 'ends.py'}:x")


def test_an_error_of_cascades_own_keeps_its_traceback(cascade, monkeypatch):
    def broken(_arguments):
        raise AttributeError("a fault of ours")

    monkeypatch.setattr(app, "make_app", broken)
    outcome = cascade("run")

    assert outcome.code == 1
    assert outcome.err.startswith("Traceback (most recent call last):\n")
    assert "in broken\n" in outcome.err


@pytest.mark.parametrize("missing", [["cyclopts"], ["rich"], ["cyclopts", "rich"]])
def test_without_the_extra_the_error_names_the_package(cascade, monkeypatch, missing):
    monkeypatch.setattr(main, "find_spec", lambda name: None if name in missing else object())

    assert cascade("run", "flows.py:report") == (
        2,
        "",
        f'cascade: the command needs {" and ".join(missing)}: pip install "cascade-engine[cli]"\n',
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_knows_commands_and_options(cascade, monkeypatch, tmp_path, shell):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    script = tmp_path / "script"
    outcome = cascade("--install-completion", "--shell", shell, "-o", str(script))

    assert outcome.code == 0
    assert outcome.out == f"completion is in {script}; start a new shell to use it\n"
    text = script.read_text(encoding="utf-8")
    assert all(word in text for word in [*app.COMMANDS, "max-steps", "install-completion"])
    assert not (tmp_path / "home").exists()  # no start-up file was touched


def test_completion_is_installed_for_the_shell_that_starts_next(cascade, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cascade("--install-completion", "--shell", "bash").code == 0
    assert "cascade" in (tmp_path / ".bashrc").read_text(encoding="utf-8")


def test_completion_without_a_shell_to_be_seen_asks_for_it(cascade, monkeypatch):
    from cyclopts.completion import ShellDetectionError

    def unseen(*_args, **_options):
        raise ShellDetectionError("no shell")

    monkeypatch.setattr("cyclopts.App.install_completion", unseen)

    assert cascade("--install-completion") == (
        2,
        "",
        "cascade: cannot tell which shell this is; add --shell\n",
    )


def test_completion_that_cannot_be_written_says_so(cascade, tmp_path):
    (tmp_path / "file").write_text("")
    script = str(tmp_path / "file" / "script")
    outcome = cascade("--install-completion", "--shell", "fish", "-o", script)

    assert outcome.code == 2
    assert outcome.err.startswith("cascade: cannot write the script: ")


def test_the_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cascade", "--version"])

    assert main.main() == 0
    assert capsys.readouterr().out.startswith("cascade ")


def test_errors_of_cyclopts_are_one_sentence():
    assert app._said(CycloptsError(msg="as it is")) == "as it is"
