"""Targets of durable runs, for the tests of the command."""

from __future__ import annotations

import os
from pathlib import Path

import cascade as cs


def note(text: str) -> None:
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(text + "\n")


@cs.resource
def factor():
    yield 2


@cs.task
def load(n: int) -> list[int]:
    note("load")
    return list(range(n))


@cs.task
def double(x: int, by: int = cs.inject("factor")) -> int:
    note("double")
    return by * x


@cs.task
def total(values: list[int], scale: int) -> int:
    note("total")
    if scale < 0:
        raise ValueError(f"scale is {scale}")
    return sum(values) * scale


report = total(double.map(x=load(3)), cs.Param("scale", 1, int))


@cs.task
def nightly() -> str:
    return "done"
