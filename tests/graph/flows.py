"""Tasks at the top level of a module, which is where graphs as JSON look for them."""

import enum
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cascade.spec.blueprint import TailCall
from cascade.spec.resource import inject, resource
from cascade.spec.task import task


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Row:
    key: Any
    cell: Any = field(default=None)


class Colour(enum.StrEnum):
    RED = "red"


def digest(value: Any) -> int:
    """A number that stands for ``value``: the same for equal values, in any order of a set."""
    if isinstance(value, dict):
        value = sorted((digest(k), digest(v)) for k, v in value.items())
    elif isinstance(value, (set, frozenset)):
        value = [type(value).__name__, *sorted(map(digest, value))]
    elif isinstance(value, Row):
        value = ["row", digest(value.key), digest(value.cell)]
    elif isinstance(value, (list, tuple, deque)):
        value = [type(value).__name__, *map(digest, value)]
    return zlib.crc32(repr(value).encode())


@resource
def database():
    yield "db"


@task
def load(path="a.csv"):
    return digest(("load", path))


@task
def pair(a, b=2):
    return digest(("pair", a, b))


@task
def mixed(a, /, b=2, *rest, c, d=4, **more):
    return digest(("mixed", a, b, rest, c, d, more))


@task
def join(*parts, **named):
    return digest(("join", parts, named))


@task
def named_only(*, a, b=2):
    return digest(("named_only", a, b))


@task
def query(sql, db=inject(database), log=inject("log")):
    return sql, db, log


@task
def countdown(count):
    return TailCall(kwargs={"count": count - 1}) if count else "done"


class Group:
    @task
    def nested():  # a task in a class, with no self
        return "nested"


def not_a_task(): ...


@task(retry=4, timeout=2, capacities={"gpu": 1})
def fetch(url):
    return url
