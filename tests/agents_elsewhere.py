"""Agents that host processes import, for tests. Their effects are lines in files."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests import remote_tasks as tasks

import cascade as cs


@cs.task
async def counts(path: str, left: int, pause: float = 0.01) -> Any:
    """Writes a line in each step, and waits for a moment."""
    tasks.note(path, f"{os.getpid()} {left}")
    await asyncio.sleep(pause)
    return os.getpid() if left == 0 else counts.tail(path, left - 1, pause)


@cs.task
async def asks(path: str) -> Any:
    """Waits for a signal."""
    tasks.note(path, "asks")
    return answered(cs.wait_for("answer"))


@cs.task
async def answered(answer: Any) -> Any:
    """What the signal said, and where."""
    return answer, os.getpid()


@cs.task
async def fails() -> None:
    """Raises an error that has attributes."""
    raise tasks.OddError("http://x", 404)


@cs.task
async def dies(path: str) -> int:
    """Ends its process, twice."""
    if tasks.note(path) <= 2:
        os.kill(os.getpid(), tasks.KILL)
    return os.getpid()


@cs.task
async def always_dies(path: str) -> None:
    """Ends its process."""
    tasks.note(path, "dies")
    os._exit(3)


@cs.task
async def takes_seat(path: str) -> int:
    """Notes that it has begun and ended."""
    tasks.note(path, "begun")
    await asyncio.sleep(0.05)
    tasks.note(path, "ended")
    return os.getpid()


@cs.task
async def dies_late(path: str) -> None:
    """Ends its process after the driver has been told of its start."""
    tasks.note(path, "dies")
    await asyncio.sleep(0.2)
    os._exit(3)
