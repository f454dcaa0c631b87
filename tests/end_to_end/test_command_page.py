"""Each command in docs/command.md prints the output on the page."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from tests.in_process import Done, call

from cascade.command.main import main

PAGE = Path(__file__).parents[2] / "docs" / "command.md"
TEXT = PAGE.read_text(encoding="utf-8")
(FLOWS,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(ORDERS,) = re.findall(r"^```python orders.py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> Done:
    program, *words = shlex.split(command)
    assert program == "cascade", command
    done = call(main, *words, cwd=folder, together=True)
    for name in ("flows", "orders"):
        sys.modules.pop(name, None)  # as a new process would not have it
    return done


def session(block: str, folder: Path) -> str:
    """The block's commands, each with its output here."""
    shown, code = [], 0
    for line in block.splitlines():
        if line == "$ echo $?":
            shown += [line, str(code)]
        elif line.startswith("$ "):
            done = run(line[2:], folder)
            printed = re.sub(
                r"\n +[~^]+(?=\n)", "", done.stdout
            )  # Pythons mark columns differently
            shown += [line, *printed.replace(str(folder) + os.sep, "").splitlines()]
            code = done.returncode
    return "".join(f"{line.rstrip()}\n" for line in shown)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][2:])
def test_the_commands_print_the_output_on_the_page(block, tmp_path):
    (tmp_path / "flows.py").write_text(FLOWS, encoding="utf-8")
    (tmp_path / "orders.py").write_text(ORDERS, encoding="utf-8")

    assert session(block, tmp_path) == block


def test_the_page_shows_every_command():
    from cascade.command.app import COMMANDS

    shown = {shlex.split(line)[2] for line in re.findall(r"^\$ cascade \S+", TEXT, re.MULTILINE)}
    # Those for engines that run need a broker; tests/end_to_end/test_control_plane.py runs them.
    remotes = TEXT.partition("## Engines that run\n")[2]
    remote = {name for name in COMMANDS if f"| `cascade {name}" in remotes}
    assert remote == {"status", "watch", "pause", "resume", "limit", "web"}
    assert set(COMMANDS) - remote <= shown
    assert all(f"## `cascade {name}`" in TEXT for name in set(COMMANDS) - remote)
