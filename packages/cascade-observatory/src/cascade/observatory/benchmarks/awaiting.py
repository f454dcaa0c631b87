"""Kinds of coroutines that do next to nothing, as functions of shapes and as tasks.

A coroutine node may return at its first step, wait for a turn of the event loop, or do so under a
timeout that never expires. Each costs asyncio, and Cascade, something else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from cascade.observatory.benchmarks.shapes import Functions
from cascade.spec.task import task

#: Seconds of timeouts that never expire.
LONG = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of coroutine.

    Attributes:
        name: Its name in tables.
        functions: Coroutine functions.
        tasks: Functions that make nodes that do the same.
    """

    name: str
    functions: Functions
    tasks: Functions


async def leaf(value: int) -> int:
    """A node without inputs."""
    return value


async def step(value: int) -> int:
    """A node with one input."""
    return value + 1


async def add(left: int, right: int) -> int:
    """A node with two inputs."""
    return left + right


async def leaf_in_turn(value: int) -> int:
    """``leaf`` after a turn of the event loop."""
    await asyncio.sleep(0)
    return value


async def step_in_turn(value: int) -> int:
    """``step`` after a turn of the event loop."""
    await asyncio.sleep(0)
    return value + 1


async def add_in_turn(left: int, right: int) -> int:
    """``add`` after a turn of the event loop."""
    await asyncio.sleep(0)
    return left + right


async def leaf_in_time(value: int) -> int:
    """``leaf_in_turn`` with a timeout."""
    async with asyncio.timeout(LONG):
        return await leaf_in_turn(value)


async def step_in_time(value: int) -> int:
    """``step_in_turn`` with a timeout."""
    async with asyncio.timeout(LONG):
        return await step_in_turn(value)


async def add_in_time(left: int, right: int) -> int:
    """``add_in_turn`` with a timeout."""
    async with asyncio.timeout(LONG):
        return await add_in_turn(left, right)


def _timed(tasks: Functions) -> Functions:
    """The same nodes with a timeout."""

    def one(value: Any) -> Any:
        return tasks.leaf(value).with_timeout(LONG)

    def next_one(value: Any) -> Any:
        return tasks.step(value).with_timeout(LONG)

    def two(left: Any, right: Any) -> Any:
        return tasks.add(left, right).with_timeout(LONG)

    return Functions(one, next_one, two)


_TURN_TASKS = Functions(task(leaf_in_turn), task(step_in_turn), task(add_in_turn))
AT_ONCE = Kind(
    "returns at once", Functions(leaf, step, add), Functions(task(leaf), task(step), task(add))
)
IN_TURN = Kind("awaits sleep(0)", Functions(leaf_in_turn, step_in_turn, add_in_turn), _TURN_TASKS)
IN_TIME = Kind(
    "sleep(0), timeout", Functions(leaf_in_time, step_in_time, add_in_time), _timed(_TURN_TASKS)
)
KINDS = (AT_ONCE, IN_TURN, IN_TIME)
