"""``cascade init``: a small project with tasks, an agent and tests."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cascade.command.failures import RefusedError, UsageError

#: File of the project → its template beside this module.
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "flows.py": "flows.py.txt",
    "tests/test_flows.py": "test_flows.py.txt",
}


def init(
    folder: Annotated[
        Path, Parameter(name="DIR", help="Its folder, which is made if there is none.")
    ] = Path(),
    /,
) -> None:
    """Make a small project: tasks, an agent, tests, and a pyproject.toml.

    No existing file is changed.
    """
    from cascade.command.output import show

    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise RefusedError(
            f"{folder} has {', '.join(there)} already, and nothing was written; name another folder"
        )
    named = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "flows"
    templates = files("cascade.command").joinpath("scaffold")
    for name, template in _FILES.items():
        text = templates.joinpath(template).read_text(encoding="utf-8").format(name=named)
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {folder / name}: {error.strerror or error}") from None
        show(str(folder / name))
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    show(f"run it:   {enter}cascade run flows.py:report --city Lima")
    needs = "" if find_spec("pytest") else "pip install pytest && "
    show(f"test it:  {needs}{enter}pytest")
