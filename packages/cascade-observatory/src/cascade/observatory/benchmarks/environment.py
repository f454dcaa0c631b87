"""The conditions of a measurement besides the measured code: machine, Python, commit and day."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict


class Machine(TypedDict):
    """The machine and the interpreter."""

    cpu_count: int | None
    platform: str
    python: str
    implementation: str


class Environment(TypedDict):
    """The head of a report. ``commit`` is None outside a git repository."""

    date: str
    commit: str | None
    machine: Machine


def environment(folder: Path, *, now: datetime | None = None) -> Environment:
    """Where and when this process measures.

    Args:
        folder: A folder inside the working tree with the commit.
        now: The time of the report; the present by default.
    """
    return {
        "date": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "commit": commit_of(folder),
        "machine": {
            "cpu_count": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
        },
    }


def commit_of(folder: Path) -> str | None:
    """The checked-out commit of ``folder``; None without git or outside a repository."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
