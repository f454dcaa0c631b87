"""Classes of a program whose values are stored."""

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, NamedTuple

from cascade.graph.storable import storable
from cascade.spec.task import task


class Colour(Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796  # an alias
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "a b")  # this kind, too


@dataclass
class Order:
    number: int
    items: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        raise AssertionError("made without code of its own")


@dataclass(frozen=True, slots=True)
class Frozen:
    inner: Any


@storable
class Cart:
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.items: list[Any] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cart) and vars(self) == vars(other)


@storable(name="slotted")
class Slotted:
    __slots__ = ("left", "right")
    left: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and self.left == other.left


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents


storable(Money, lambda money: money.cents, Money)


class Refused(Exception):
    def __init__(self, account: str, *, amount: int) -> None:
        super().__init__(account)
        self.amount = amount


@task
def step(n: int) -> int:
    return n
