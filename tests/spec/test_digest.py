"""Digests of content: equal for equal content, in every process and on every Python."""

import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from pathlib import PurePosixPath
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spec.digest import SIZE, UndigestibleError, digest, digestible
from cascade.spec.errors import DefinitionError


def named(thing):
    """Let a class have the same name wherever this file is imported from."""
    thing.__module__ = "shapes"
    return thing


Point = named(namedtuple("Point", "x y"))


@named
class Colour(enum.Enum):
    RED = 1


@named
@dataclass
class Job:
    name: str
    parts: tuple[int, ...] = ()
    seen: int = field(default=0, compare=False)


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
VALUES = {
    "None": None,
    "...": ...,
    "True": True,
    "0": 0,
    "-1": -1,
    "10**5000": 10**5000,
    "1.5": 1.5,
    "-0.0": -0.0,
    "nan": float("nan"),
    "1j": 1j,
    "text": "Grüße \ud800",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"a"),
    "list of ints": [1, 2, 3],
    "list of huge ints": [10**5000],
    "list of floats": [1.0, float("nan"), float("inf")],
    "list of bools": [True, False],
    "list of texts": ["a", "", "bc"],
    "list of bytes": [b"a", b""],
    "mixed list": [1, "a", None, [2.0]],
    "empty list": [],
    "empty tuple": (),
    "set": {"a", "b", 1},
    "frozenset": frozenset({(1, 2), (3,)}),
    "dict": {"a": 1, 2: [None]},
    "OrderedDict": OrderedDict(b=1, a=2),
    "defaultdict": defaultdict(list, a=[1]),
    "Counter": Counter("aab"),
    "deque": deque([1]),
    "proxy": MappingProxyType({"a": 1}),
    "namedtuple": Point(1, "a"),
    "dataclass": Job("a", (1,)),
    "enum": Colour.RED,
    "class": Job,
    "function": len,
    "range": range(1, 9, 2),
    "slice": slice(1, None),
    "date": date(2024, 5, 1),
    "datetime": NOON,
    "datetime with a zone": NOON.astimezone(ZoneInfo("Europe/Berlin")),
    "time": time(12, 30, fold=1),
    "timedelta": timedelta(days=1, microseconds=5),
    "timezone": timezone(timedelta(hours=2), "here"),
    "Decimal": Decimal("-1.50"),
    "Fraction": Fraction(1, 3),
    "UUID": UUID(int=7),
    "path": PurePosixPath("a/b"),
    "pattern": re.compile("a+", re.IGNORECASE),
    "array": np.arange(6, dtype="<i4").reshape(2, 3),
}
#: Written down once. Stores outlive processes and Pythons, so these do not change.
KNOWN = {
    "None": "3bf6ded28f1dd5ecbf9f715d990931f4",
    "...": "2c93287194dcd213d6eddff7c3dccee6",
    "True": "50a50a98b6c7ccfe304f0538a774b0d3",
    "0": "ec93cf56b70626a9214aafafdcb5e2ec",
    "-1": "c04ec2d8b38770566bcbb7021ce02587",
    "10**5000": "7dd4e06899f225242c3ff3fc75107e5f",
    "1.5": "b07efeb6aae16a9ec4e11b0e1a87e749",
    "-0.0": "3d99b46e47574571f98144a2f92dab55",
    "nan": "3dd8005eae201b1cc482b95272929732",
    "1j": "628adf72c52cd1f8ba1fe0dfd39d6fd9",
    "text": "ab2b22fe7af62ca2507b2a9c41b4f545",
    "bytes": "5aa91335f9d494fbd2ca2c27fabaf065",
    "bytearray": "f7a4f5cc6de7de1d0824e2ca0287ce8d",
    "list of ints": "ec50cf633fdc52602e30ffdba1cf7534",
    "list of huge ints": "804d16c7b644139c6e8e267e99e77b7a",
    "list of floats": "c08ad42433597936e7b08850a4d63697",
    "list of bools": "e6dc0597283835a8c7ab5d9da9c453b4",
    "list of texts": "ba57246f96441efccec1cd4f4ca73388",
    "list of bytes": "06a11fc6134cc1e1d8207b1461f17c33",
    "mixed list": "1401bc515798a6991ae9125a69adc49c",
    "empty list": "33fc17661822edf663b4d8db079a31a1",
    "empty tuple": "47f1bddbdd45868916ae1f8de71cf704",
    "set": "09dfa2a9c0930c796293c6fa25f77c0c",
    "frozenset": "d414aee6262d6c333af81cf8e59b6bcf",
    "dict": "ad84f21cf0dbc16bb7ff130751a5a251",
    "OrderedDict": "67e02d82caa0676ea19c9b2e9a5a1b66",
    "defaultdict": "b24a560a993fa33500e7a38b5205ea55",
    "Counter": "8faa65e23a5b0a9c4946a00a1295fd2b",
    "deque": "972f60a702984abc712e8fa707cc53c7",
    "proxy": "af8b9ac0f5254f299e334832b15293a2",
    "namedtuple": "f3f4bdf11aa0d6dcf958e5129549bad4",
    "dataclass": "716b1f3043f3ed51f84200e7d5b6c8c6",
    "enum": "d305ea4198727a78b861637767bbcad7",
    "class": "f44b891f10702e9813bbc9de40fc5c6f",
    "function": "3a77568411292c8df1bfd9a458972d39",
    "range": "f48af54a30d2295a2bd77deb40fec569",
    "slice": "268ad4cc0b92f55ae51850a1f24506e3",
    "date": "095c04ca236f9ceaf189b4cc92ad28fb",
    "datetime": "a7ec1f6bacaf269d4eaa242bedbfcc03",
    "datetime with a zone": "83fd3a7553c326fba56a1be46ac7224d",
    "time": "d429f66055f26599cc7d369abfc3363e",
    "timedelta": "6948dd99c1a901caf5ebe4364931f7b3",
    "timezone": "6036c73a451f3b44cde3e3d66894401d",
    "Decimal": "f05f2ad2b31bd93cc865b53f2957dbe0",
    "Fraction": "8b62156942f2fe3aa788d19a0cd9bceb",
    "UUID": "7b903b845cd452be970a761beca1310a",
    "path": "86c6d847983491f265dfe2e9c01d456b",
    "pattern": "858167c529e264ac1bdb485e03b81ef7",
    "array": "090cff28a26dbc70cab601ba6adbf984",
}


@pytest.mark.parametrize("name", VALUES)
def test_a_digest_is_the_same_in_every_process_on_every_python(name):
    assert digest(VALUES[name]).hex() == KNOWN[name]


def test_digests_of_different_content_differ():
    assert len(set(map(digest, VALUES.values()))) == len(VALUES)
    assert {len(digest(value)) for value in VALUES.values()} == {SIZE}


atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
nested = st.recursive(atoms, lambda inner: st.lists(inner) | st.tuples(inner, inner), max_leaves=6)


@given(nested, nested)
def test_digests_are_equal_exactly_for_equal_content(a, b):
    assert (digest(a) == digest(b)) is (repr(a) == repr(b))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": "bc"}, {"ab": "c"}),
        ({1: 2}, {1, 2}),
        (Job("a"), ("a", ())),
        ([1, 23], [12, 3]),
        (["a\0b"], ["a", "b"]),
        (["a\0", "b"], ["a", "\0b"]),
        (["", "[1, 2]", "bc"], ["\0", "bc"]),
        ([2**63], [-(2**63)]),
        ([inf, -inf], [nan, nan]),
        ({"a": 1, "b": [2]}, {"a": [1], "b": 2}),
        ([1.0], [1]),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2, "f4"), np.zeros(2, "f8")),
    ],
)
def test_content_that_reads_alike_has_another_digest(a, b):
    assert digest(a) != digest(b)


def test_the_order_of_sets_does_not_count():
    assert digest({1024, 0, 2048}) == digest({2048, 1024, 0})


@pytest.mark.parametrize("kind", [dict, OrderedDict, Counter, MappingProxyType])
def test_the_order_of_dicts_counts(kind):
    """A function may depend on it, and so may the columns of a table made of a dict."""
    one, other = kind({"a": 1, "b": 2}), kind({"b": 2, "a": 1})
    assert digest(one) == digest(kind({"a": 1, "b": 2})) != digest(other)


def test_a_field_that_is_not_compared_does_not_count():
    assert digest(Job("a", seen=1)) == digest(Job("a", seen=2))


# -- types of users -------------------------------------------------------------------------------


class Vector:
    def __init__(self, *parts):
        self.parts = parts


class Unit(Vector): ...


digestible(Vector, lambda vector: vector.parts)


class Temperature:
    def __init__(self, kelvin):
        self.kelvin = kelvin

    def __cascade_digest__(self):
        return self.kelvin


def test_a_registered_type_is_known_by_its_content():
    assert digest(Vector(1, [2])) == digest(Vector(1, [2])) != digest(Vector(1, [3]))
    assert digest([Vector(1)]) != digest([(1,)])


def test_subclasses_are_included_and_differ():
    assert digest(Unit(1)) == digest(Unit(1)) != digest(Vector(1))


def test_a_class_may_say_its_content_itself():
    assert digest(Temperature(1)) == digest(Temperature(1)) != digest(Temperature(2))


@pytest.mark.parametrize("kind", [int, list, object])
def test_the_content_of_known_types_cannot_be_redefined(kind):
    with pytest.raises(DefinitionError, match=f"the content of {kind.__name__} is already defined"):
        digestible(kind, repr)


def test_only_classes_can_be_registered():
    with pytest.raises(DefinitionError, match=r"digestible\(\) takes a class, but got 3"):
        digestible(3, repr)


# -- values without a digest ----------------------------------------------------------------------


class Client: ...


def local():
    def function(): ...

    return function


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Client(), "it is a Client, a type whose content is not defined; define it with"),
        ([Client()], "it holds a Client, a type whose content is not defined"),
        ({"a": {Client()}}, "it holds a Client"),
        (lambda: 1, "it is a function, a type whose content is not defined"),
        (local(), "it is a function"),
        (np.array([Client()]), "it holds a Client, a type whose content is not defined"),
    ],
)
def test_other_objects_are_refused_by_name(value, problem):
    with pytest.raises(UndigestibleError, match=problem):
        digest(value)


def test_an_object_may_be_known_to_the_caller():
    client = Client()

    assert digest([client, 1], {client: b"1"}) == digest([client, 1], {client: b"1"})
    assert digest([client], {client: b"1"}) != digest([client], {client: b"2"})


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)

    with pytest.raises(UndigestibleError, match="it is or holds a list that contains itself"):
        digest(value)
