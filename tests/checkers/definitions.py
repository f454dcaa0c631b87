"""Tasks as users write them, for ``uses.py`` and ``mistakes.py``. Checked by checkers, never run.

A module of its own, because stubs describe a module to those that import it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated

import cascade as cs


@cs.task
def load(path: str) -> list[int]:
    return [len(path)]


@cs.task
def total(values: list[int], scale: float = 1.0) -> float:
    return sum(values) * scale


@cs.task
async def fetch(n: int) -> str:
    return str(n)


@cs.task(name="number", mode="blocking")
def named(x: int) -> int:
    return x


@cs.task
def text(x: str) -> str:
    return x


@cs.task(nout=2)
def split(x: int) -> tuple[int, str]:
    return x, str(x)


@cs.task
def by_name(d: dict[str, int]) -> int:
    return len(d)


@cs.task
def pair(xy: tuple[int, str]) -> int:
    return xy[0]


@cs.task
def longest(words: Sequence[str] | None = None, *, least: int = 0) -> int:
    return max(map(len, words or ()), default=least)


@cs.task
def every(*values: int, **named_values: str) -> int:
    return len(values) + len(named_values)


@cs.task
def join(parts: list[str]) -> str:
    return "".join(parts)


@cs.task
def config() -> dict[str, int]:
    return {"a": 1}


class Db:
    def count(self) -> int:
        return 1


@cs.resource
def db() -> Iterator[Db]:
    yield Db()


@cs.resource
async def adb() -> AsyncIterator[Db]:
    yield Db()


@cs.task
def query(sql: str, database: Annotated[Db, cs.inject(db)]) -> int:
    return len(sql) + database.count()


@cs.task
def query_default(sql: str, database: Db = cs.inject(db)) -> int:
    return len(sql) + database.count()


@cs.task
def spin(n: int, acc: int = 0) -> int:
    if n == 0:
        return acc
    return spin.tail(n - 1, acc + 1)


@cs.task
def spin_or_tail(n: int) -> int | cs.TailCall:
    return spin_or_tail.tail(n - 1) if n else 0


@cs.task
def outer(n: int) -> int:
    return named(n)  # a task under -> int that returns a lazy int


@cs.task
def outer_lazy(n: int) -> cs.LazyResult[int]:
    return named(n)


@cs.task
def outer_either(n: int) -> int | cs.LazyResult[int] | cs.TailCall:
    return named(n) if n else 0


@cs.task
def outer_list(n: int) -> list[int]:
    return [named(n), 1]  # the same in a list


@cs.task
async def outer_awaited(n: int) -> cs.LazyResult[int]:
    return named(n)


class Agent:
    @cs.task
    def step(self, n: int) -> int:
        return n


def retried(lazy: cs.LazyResult[int]) -> cs.LazyResult[int]:
    return lazy.with_retry(2)


@cs.task
def described(error: OSError) -> bool:
    return bool(error)
