"""Targets of every kind, for the tests of the command."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import cascade as cs


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@cs.task
def load(day: date, retries: int) -> list[int]:
    return [day.day, retries]


@cs.task
def total(numbers: list[int], strict: bool) -> dict[str, Any]:
    """Add up.

    Refuses a sum below zero.
    """
    if sum(numbers) < 0:
        raise ValueError("below zero")
    return {"total": sum(numbers), "strict": strict}


report = total(
    load(
        cs.Param("date", type=date.fromisoformat, description="The day to report on."),
        cs.Param("retries", 3, int, "How often to try again."),
    ),
    cs.Param("strict", False, bool, "Whether to be strict."),
)


@cs.task
def collatz(n: int, length: int = 0) -> int:
    if n == 1:
        return length
    return collatz.tail(n // 2 if n % 2 == 0 else 3 * n + 1, length + 1)


@cs.task
def read(
    plain,
    count: int | None = None,
    ratio: float = 0.5,
    when: date = date(2024, 1, 1),
    place: Path = Path("."),
    mode: Literal["loud", "soft"] = "soft",
    colour: Colour = Colour.RED,
    names: Sequence[str] = (),
    pairs: Mapping[str, int] | None = None,
    unique: Annotated[set[int], "of ints"] = frozenset(),  # type: ignore[assignment]
    guessed=7,
    engine: cs.Engine | None = None,
    **rest,
) -> tuple[Any, ...]:
    return (
        plain, count, ratio, when, place, mode, colour, names, pairs, unique, guessed, engine, rest
    )  # fmt: skip


@cs.task
def positional(a: int, /, b: int = 2, *more: int, c: int) -> tuple[int, ...]:
    return (a, b, *more, c)


@cs.task
def drive(engine: cs.Engine) -> None: ...


def both() -> list[Any]:
    """Two of them."""
    return [report, collatz(27)]


def uncalled() -> Any:
    return collatz


async def later() -> None: ...


def needs(n: int) -> Any:
    return collatz(n)


@cs.resource
def database():
    yield "a database"


@cs.task
def query(db: str = cs.inject("database")) -> str:
    return db


@cs.task
def home(path: str) -> str:
    return path


home_of = home(cs.Env("CASCADE_TEST_HOME"))


@cs.task
def later_param() -> str:
    return home(cs.Param("place"))  # type: ignore[return-value]


@cs.task
def echo(*values: Any) -> list[Any]:
    return list(values)


# One name that two nodes read as different types, and names that options of `run` have already.
disagreeing = echo(cs.Param("n", type=int), cs.Param("n", type=float))
taken = echo(cs.Param("vm", "a"), cs.Param("no_vm_", "b"), cs.Param("vm ", "c"))
nameless = cs.task(lambda: 1)()
listed = echo(cs.Param("items", [], list), cs.Param("day", None, date))


@cs.task
def deep(n: int = 1) -> int:
    return inner(n)


def inner(n: int) -> int:
    raise KeyError(f"no {n}")


@cs.task
def nothing() -> None: ...


@cs.task
def text() -> str:
    return "two\nlines"


@cs.task
def unjson() -> Any:
    return {"number": 1j, "more": list(range(100))}


LIMIT = 3


class Namespace:
    target = collatz(6)


@cs.task
def give(n: int) -> int:
    return n


taking = give(7).with_capacity(gpu=2, disk=0.5)


@cs.task
def process_id() -> int:
    return os.getpid()


where = process_id()
