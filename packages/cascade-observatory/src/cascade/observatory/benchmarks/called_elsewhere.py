"""The functions that the benchmark of other processes calls, each plain and as a task.

Workers import this module, so it imports next to nothing itself.
"""

from __future__ import annotations

import ctypes

from cascade.spec.task import task


def plus_one(x: int) -> int:
    """As short as a call can be."""
    return x + 1


def hold(seconds: float) -> float:
    """Hold the interpreter's lock without using the processor; its argument again."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return seconds


def burn(n: int) -> int:
    """Use the processor."""
    total = 0
    for i in range(n):
        total += i * i
    return total


def zeros(size: int) -> bytes:
    """A large value."""
    return bytes(size)


def size_of(value: bytes) -> int:
    """Its size."""
    return len(value)


@task
def plus(x: int) -> int:
    """``plus_one`` as a task."""
    return x + 1


@task
def holding(seconds: float) -> float:
    """``hold`` as a task."""
    return hold(seconds)


@task
def burning(n: int) -> int:
    """``burn`` as a task."""
    return burn(n)


@task
def large(size: int) -> bytes:
    """``zeros`` as a task."""
    return zeros(size)


@task
def measured(value: bytes) -> int:
    """``size_of`` as a task."""
    return size_of(value)
