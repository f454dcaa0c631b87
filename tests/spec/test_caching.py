"""``cascade.spec.caching``: the keys of calls (rule R10)."""

from __future__ import annotations

import enum
import functools
import operator
import pickle
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spec.caching import ByArguments, CachePolicy, cache_policy
from cascade.spec.errors import ArgumentError
from cascade.spec.resource import inject, resource
from cascade.spec.task import Task, task


class DictCache:
    """A backend that notes the time to live of its values."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}
        self.ttls: list[float | None] = []

    def get(self, key):
        return key in self.kept, self.kept.get(key)

    def put(self, key, value, ttl=None):
        self.kept[key] = value
        self.ttls.append(ttl)


class OneKey:
    """A policy of its own kind."""

    def key(self, task, arguments):
        return "always"

    def load(self, key, arguments):
        return False, None

    def save(self, key, arguments, value): ...


@task
def load(x=None): ...


@task
def other(x=None): ...


@task
def everything(a, /, b=2, *rest, c=3, **more): ...


def by_arguments(**options) -> ByArguments:
    return ByArguments(DictCache(), **options)


def key_of(value: Any) -> Any:
    """The key of a call with this argument."""
    key = by_arguments().key(load, {"x": value})
    hash(key)
    return key


def key_of_call(task: Task, *args, **kwargs) -> Any:
    """The key of a call as a run would ask for it."""
    named = task.parameters.bind(args, kwargs)
    return by_arguments().key(task, task.parameters.complete(named))


def refused(value: Any) -> str:
    """The message of the error that this argument is."""
    with pytest.raises(ArgumentError) as caught:
        key_of(value)
    return str(caught.value)


# -- values ---------------------------------------------------------------------------------------

#: Few and much alike, so that two values drawn are often nearly the same.
ATOMS = [0, 1, 0.0, -0.0, 1.0, False, True, None, "", "0", b"", b"0", float("nan"), 1j, -1j]
atoms = st.sampled_from(ATOMS)
hashables = st.recursive(
    atoms,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.sets(hashables, max_size=3)
    ),
    max_leaves=6,
)


def same(a: Any, b: Any) -> bool:
    """Whether two plain values have the same type and value; keys are compared with this."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return matched(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return matched(list(a), list(b))
    return repr(a) == repr(b)  # of these atoms, it tells -0.0 from 0.0 and takes nan for nan


def matched(some: list[Any], others: list[Any]) -> bool:
    """Whether each has its like among the others, in any order."""
    for item in some:
        like = next((n for n, other in enumerate(others) if same(item, other)), None)
        if like is None:
            return False
        del others[like]
    return not others


@given(values, values)
def test_keys_are_equal_exactly_for_values_of_one_type_and_value(a, b):
    assert (key_of(a) == key_of(b)) is same(a, b)


@given(values)
def test_a_copy_has_the_same_key(value):
    """No part of a key depends on which object it was."""
    copy = pickle.loads(pickle.dumps(value))

    assert key_of(copy) == key_of(value)
    assert hash(key_of(copy)) == hash(key_of(value))


@given(st.permutations(range(4)))
def test_the_order_of_a_dict_counts(order):
    """A task may depend on it: a hit must not give the value of another order."""
    first, other = dict.fromkeys(range(4)), dict.fromkeys(order)

    assert (key_of(first) == key_of(other)) == (list(order) == list(range(4)))


@given(st.lists(st.integers(0, 9).map(lambda n: n * 1024), unique=True), st.booleans())
def test_the_order_of_a_set_does_not_matter(items, mixed):
    """Multiples of 1024 collide in the table of a set, so that it iterates as it was filled."""
    more = ["text"] if mixed else []

    assert key_of({*items, *more}) == key_of({*more, *reversed(items)})


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


Point = namedtuple("Point", "x y")
Place = namedtuple("Place", "x y")


@dataclass
class Job:
    name: Any
    parts: Any = ()
    seen: int = field(default=0, compare=False)


@dataclass(frozen=True)
class FrozenJob:
    name: Any
    parts: Any = ()


BERLIN = timezone(timedelta(hours=2), "Berlin")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Colour.RED,
        lambda: Level.LOW,
        lambda: Point(1, [2]),
        lambda: Job("a", [1, {2}]),
        lambda: FrozenJob("a", [1, {2}]),
        lambda: Path("a", "b"),
        lambda: date(2024, 5, 1),
        lambda: datetime(2024, 5, 1, 12, tzinfo=BERLIN),
        lambda: time(12, 30),
        lambda: timedelta(seconds=90),
        lambda: Decimal("1.50"),
        lambda: bytearray(b"abc"),
        lambda: deque([1, "a"]),
        lambda: Counter("aab"),
        lambda: defaultdict(list, a=[1]),
        lambda: OrderedDict(a=1, b=2),
        lambda: MappingProxyType({"a": [1]}),
        lambda: range(3),
        lambda: [float("nan"), 1.5],
        lambda: {"deep": [({"er": {1, 2.0}},)]},
        lambda: Job,
        lambda: len,
        lambda: re.compile("a+"),
        lambda: ...,
    ],
)
def test_equal_values_have_the_same_key(make):
    assert key_of(make()) == key_of(make())
    assert key_of([make(), 1]) == key_of([make(), 1])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (None, "None"),
        ("a", b"a"),
        (b"a", bytearray(b"a")),
        ([1], (1,)),
        ([1], [1.0]),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2.0]),
        ([], [[]]),
        ([[]], [()]),
        ([0.0], [-0.0]),
        ({1}, {1.0}),
        ({1}, frozenset({1})),
        ({1, "a"}, {1.0, "a"}),
        ({"a": 1}, {"a": True}),
        ({1: "a"}, {1.0: "a"}),
        ({"a": 1}, [("a", 1)]),
        ({"a": 1}, OrderedDict(a=1)),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        (Colour.RED, Colour.BLUE),
        (Colour.RED, 1),
        (Level.LOW, 1),
        (Point(1, 2), (1, 2)),
        (Point(1, 2), Place(1, 2)),
        (Point(1, 2), Point(1, True)),
        (Job("a"), Job("b")),
        (Job("a", 1), Job("a", 1.0)),
        (Job("a"), FrozenJob("a")),
        (FrozenJob("a", 1), FrozenJob("a", True)),
        (Path("a"), "a"),
        (Path("a"), Path("b")),
        (Path("a"), PurePosixPath("a")),
        (date(2024, 5, 1), datetime(2024, 5, 1)),
        (NOON, NOON.astimezone(BERLIN)),
        (NOON, NOON.replace(tzinfo=None)),
        (NOON, NOON.replace(tzinfo=timezone(timedelta(0), "Greenwich"))),
        (
            datetime(2024, 10, 27, 2, tzinfo=BERLIN),
            datetime(2024, 10, 27, 2, fold=1, tzinfo=BERLIN),
        ),
        (time(12), time(12, tzinfo=UTC)),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("0"), Decimal("-0")),
        (Decimal("sNaN"), Decimal("NaN")),
        (complex(0.0, 1), complex(-0.0, 1)),
        (int, float),
        (load, other),
    ],
)
def test_values_of_another_type_or_content_have_another_key(a, b):
    assert key_of(a) != key_of(b)
    assert key_of([a]) != key_of([b])


def test_a_field_that_does_not_count_for_equality_does_not_count_here():
    assert key_of(Job("a", seen=1)) == key_of(Job("a", seen=2))


def test_an_object_is_compared_by_its_own_equality():
    class Version:
        def __init__(self, text):
            self.text = text

        def __eq__(self, other):
            return self.text.lower() == other.text.lower()

        def __hash__(self):
            return hash(self.text.lower())

    assert key_of(Version("A1")) == key_of(Version("a1"))
    assert key_of(Version("a1")) != key_of(Version("a2"))


def test_an_object_without_equality_is_the_same_as_itself_only():
    class Client: ...

    client = Client()

    assert key_of(client) == key_of(client)
    assert key_of(client) != key_of(Client())


def test_a_key_does_not_change_when_its_arguments_are_mutated():
    value = {"a": [1], "b": {2}}
    key = key_of(value)
    value["a"].append(2)
    value["b"].clear()

    assert key == key_of({"a": [1], "b": {2}})
    assert key != key_of(value)


# -- arguments that cannot be part of a key -------------------------------------------------------


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


HOW_TO_HELP = (
    "leave it out with ignore={'x'}, or give the node a CachePolicy with a key() of your own"
)


def test_an_unhashable_argument_is_named_with_a_remedy():
    assert refused(Unhashable()) == (
        "task 'load': the argument 'x' cannot be part of a cache key: it is a Unhashable, whose "
        f"hash fails (unhashable type: 'Unhashable'); {HOW_TO_HELP}"
    )


@pytest.mark.parametrize("hold", [lambda v: [v], lambda v: {"a": (1, v)}, lambda v: Job("a", v)])
def test_an_unhashable_value_is_found_inside_containers(hold):
    assert "the argument 'x' cannot be part of a cache key: it holds a Unhashable, whose hash " in (
        refused(hold(Unhashable()))
    )


def test_a_hash_that_fails_otherwise_is_told_as_well():
    class Broken:
        def __hash__(self):
            raise RuntimeError("not today")

    assert "it is a test_a_hash_that_fails_otherwise_is_told_as_well.<locals>.Broken" in (
        refused(Broken())
    )
    assert "whose hash fails (not today); leave it out" in refused(Broken())


def loop_in_a_list():
    value = [1]
    value.append([value])
    return value


def loop_in_a_dict():
    value = {}
    value["self"] = value
    return value


def loop_in_an_ordered_dict():
    value = OrderedDict()
    value["self"] = value
    return value


def loop_in_a_dataclass():
    value = Job("a")
    value.parts = value
    return value


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (loop_in_a_list, "list"),
        (loop_in_a_dict, "dict"),
        (loop_in_an_ordered_dict, "OrderedDict"),
        (loop_in_a_dataclass, "Job"),
    ],
)
def test_a_container_that_contains_itself_is_refused(make, kind):
    assert refused(make()) == (
        "task 'load': the argument 'x' cannot be part of a cache key: it is or holds a "
        f"{kind} that contains itself; {HOW_TO_HELP}"
    )


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value, None]
    return value


def test_more_than_100_levels_of_nesting_are_refused():
    assert refused(nested(101)) == (
        "task 'load': the argument 'x' cannot be part of a cache key: it is nested more than 100 "
        f"levels deep; {HOW_TO_HELP}"
    )
    assert "nested more than 100" in refused(nested(100_000))


def test_100_levels_of_nesting_are_accepted():
    assert key_of(nested(100)) == key_of(nested(100))
    assert key_of(nested(100)) != key_of(nested(99))


# -- calls ----------------------------------------------------------------------------------------


def test_how_arguments_were_written_does_not_matter():
    """M1: positional, by keyword or by default, they are the same call."""
    key = key_of_call(everything, 1, 2, c=3)

    assert key == key_of_call(everything, 1)
    assert key == key_of_call(everything, 1, c=3, b=2)
    assert key != key_of_call(everything, 1, 3, c=2)


def test_the_order_in_which_a_run_names_the_arguments_does_not_matter():
    policy = by_arguments()

    assert policy.key(everything, {"c": 3, "a": 1, "b": 2}) == key_of_call(everything, 1)


@pytest.mark.parametrize("value", [1, 1.0, True, None, "text", b"bytes", 2 + 1j, ..., (1, 2), [3]])
def test_keys_of_plain_arguments_are_written_as_all_others(value):
    @task
    def two(b, a=0):
        return a, b

    policy = ByArguments(DictCache())
    with_list = {"b": [value], "a": value}
    policy.key(two, with_list)  # from now on the task's code is known
    arguments = {"a": value, "b": 7}
    assert policy.key(two, arguments) == policy._written(two, arguments)
    assert policy.key(two, arguments) != policy.key(two, {**arguments, "b": 8})
    assert policy.key(two, {"a": value}) == policy._written(two, {"a": value})


def test_a_key_of_plain_arguments_holds_the_present_code():
    def plus(n):
        return n + 1

    def minus(n):
        return n - 1

    policy, changed = ByArguments(DictCache()), task(plus)
    before = [policy.key(changed, {"n": 1}) for _ in range(2)]
    plus.__code__ = minus.__code__
    after = [policy.key(changed, {"n": 1}) for _ in range(2)]
    assert len({*before}) == len({*after}) == 1
    assert before[0] != after[0]


def test_the_order_of_keywords_counts_where_the_function_sees_it():
    assert key_of_call(everything, 1, b=1, c=2) == key_of_call(everything, 1, c=2, b=1)
    assert key_of_call(everything, 1, x=1, y=2) != key_of_call(everything, 1, y=2, x=1)
    assert key_of_call(everything, 1, x=1, y=2) != key_of_call(everything, 1, x=2, y=1)


def test_surplus_arguments_count():
    keys = [
        key_of_call(everything, 1, 2),
        key_of_call(everything, 1, 2, 3),
        key_of_call(everything, 1, 2, 3, 4),
        key_of_call(everything, 1, 2, 4, 3),
        key_of_call(everything, 1, 2, rest=3),
        key_of_call(everything, 1, 2, a=1),
    ]

    assert len(set(keys)) == len(keys)


def test_omitted_and_empty_surplus_arguments_have_the_same_key():
    """A run may leave them out or give an empty value."""
    policy = by_arguments()
    named = {"a": 1, "b": 2, "c": 3}

    assert policy.key(everything, named) == (
        policy.key(everything, {**named, "rest": (), "more": {}})
    )


def test_an_empty_ordinary_argument_is_part_of_the_key():
    assert key_of(()) != key_of(None) != key_of({})


def test_ignored_arguments_make_no_difference():
    key = by_arguments(ignore=["b", "verbose"]).key
    named = {"a": 1, "b": 2, "c": 3}

    assert key(everything, named) == key(everything, {**named, "b": Unhashable()})
    assert key(everything, named) == key(everything, {**named, "more": {"verbose": True}})
    assert key(everything, named) != key(everything, {**named, "more": {"quiet": True}})
    assert key(everything, named) != key(everything, {**named, "c": 4})


def test_of_a_resource_only_the_name_counts():
    @resource
    def database():
        yield object()

    assert key_of(inject(database)) == key_of(inject(database)) == key_of(inject("database"))
    assert key_of(inject("database")) != key_of(inject("archive"))
    assert key_of(inject("database")) != key_of("database")


# -- tasks ----------------------------------------------------------------------------------------


def test_tasks_do_not_share_values():
    assert key_of_call(load) != key_of_call(other)


def test_versions_do_not_share_values():
    named = {"x": 1}

    assert by_arguments(version="1").key(load, named) == by_arguments(version="1").key(load, named)
    assert by_arguments(version="1").key(load, named) != by_arguments(version="2").key(load, named)


def test_tasks_of_one_name_do_not_share_values():
    doubled, halved = task(lambda x: x * 2), task(lambda x: x / 2)

    assert doubled.__qualname__ == halved.__qualname__
    assert key_of_call(doubled, 1) != key_of_call(halved, 1)


def test_functions_that_differ_in_a_constants_type_only_do_not_share_values():
    one, other = task(lambda x: x + 1), task(lambda x: x + 1.0)

    assert key_of_call(one, 1) != key_of_call(other, 1)


def test_a_function_that_is_defined_again_is_the_same_task():
    def define() -> Task:
        @task
        def double(x):
            return x * 2

        return double

    assert define() is not define()
    assert key_of_call(define(), 1) == key_of_call(define(), 1)


def test_a_function_that_python_has_specialized_is_still_the_same_task():
    @task
    def total(x):
        return sum(n * 2 for n in range(x))

    key = key_of_call(total, 1)
    before = hash(key)
    for _ in range(1000):
        total.func(3)

    assert key_of_call(total, 1) == key
    assert hash(key_of_call(total, 1)) == before


def test_a_function_that_was_edited_is_another_task():
    def define(source: str) -> Task:
        namespace: dict[str, Any] = {"__name__": "edited"}
        exec(source, namespace)
        return task(namespace["double"])

    before = define("def double(x): return x * 2")

    assert key_of_call(before, 1) == key_of_call(define("def double(x): return x * 2"), 1)
    assert key_of_call(before, 1) != key_of_call(define("def double(x): return x + x"), 1)


def test_closures_do_not_share_values():
    """Their closures are not in the key, so it is unknown whether they do the same."""

    def scaled(factor) -> Task:
        @task
        def scale(x):
            return x * factor

        return scale

    double = scaled(2)

    assert key_of_call(double, 1) == key_of_call(double, 1)
    assert key_of_call(double, 1) != key_of_call(scaled(3), 1)


def test_methods_of_different_objects_do_not_share_values():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return x * self.factor

        def scale(self, x):
            return x * self.factor

    double, triple = Scale(2), Scale(3)

    assert key_of_call(task(double.scale), 1) == key_of_call(task(double.scale), 1)
    assert key_of_call(task(double.scale), 1) != key_of_call(task(triple.scale), 1)
    assert key_of_call(task(double), 1) == key_of_call(task(double), 1)
    assert key_of_call(task(double), 1) != key_of_call(task(triple), 1)


def test_builtins_are_known_by_themselves():
    assert key_of_call(task(operator.neg), 1) == key_of_call(task(operator.neg), 1)
    assert key_of_call(task(operator.neg), 1) != key_of_call(task(operator.pos), 1)


def test_partials_do_not_share_values():
    first, second = (task(functools.partial(pow, base)) for base in (2, 3))

    assert key_of_call(first, 1) == key_of_call(first, 1)
    assert key_of_call(first, 1) != key_of_call(second, 1)


def test_a_callable_without_a_hash_is_named_with_a_way_out():
    class Scale(Unhashable):
        def __call__(self, x): ...

    message = (
        "task 'Scale': its callable is a test_a_callable_without_a_hash_is_named_with_a_way_out."
        "<locals>.Scale, whose hash fails (unhashable type: 'Scale'), so it cannot be part of a "
        "cache key; make it hashable, or give the node a CachePolicy with a key() of your own"
    )
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        key_of_call(task(Scale()), 1)


# -- values kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, [1]])
def test_values_are_kept_in_the_backend(value):
    backend = DictCache()
    policy = ByArguments(backend)
    key = policy.key(load, {"x": 1})

    assert policy.load(key, {"x": 1}) == (False, None)
    policy.save(key, {"x": 1}, value)
    assert policy.load(policy.key(load, {"x": 1}), {"x": 1}) == (True, value)
    assert list(backend.kept.values()) == [value]


@pytest.mark.parametrize("ttl", [None, 60, 0.5])
def test_values_are_kept_for_the_time_given(ttl):
    backend = DictCache()
    ByArguments(backend, ttl=ttl).save("key", {}, 1)

    assert backend.ttls == [ttl]


def test_errors_of_a_backend_are_raised():
    class Down(DictCache):
        def get(self, key):
            raise ConnectionError("no cache today")

        put = get

    policy = ByArguments(Down())
    with pytest.raises(ConnectionError, match="no cache today"):
        policy.load("key", {})


# -- making a policy ------------------------------------------------------------------------------


def test_it_is_a_policy():
    assert isinstance(by_arguments(), CachePolicy)
    assert isinstance(OneKey(), CachePolicy)
    assert not isinstance(DictCache(), CachePolicy)


def test_policies_made_alike_are_equal():
    """A node has one of its own each time that ``with_cache`` is given the same backend."""
    backend = DictCache()
    policy = ByArguments(backend, ttl=60, ignore=["a", "b"], version="2")
    like = ByArguments(backend, ttl=60, ignore={"b", "a"}, version="2")

    assert policy == like
    assert hash(policy) == hash(like)
    assert policy != ByArguments(DictCache(), ttl=60, ignore=["a", "b"], version="2")
    assert policy != ByArguments(backend, ignore=["a", "b"], version="2")
    assert policy != ByArguments(backend, ttl=60, version="2")
    assert policy != ByArguments(backend, ttl=60, ignore=["a", "b"])
    assert policy != backend


def test_a_policy_that_makes_other_keys_is_not_equal():
    class ByName(ByArguments):
        def key(self, task, arguments):
            return task.name

    backend = DictCache()

    assert ByName(backend) != ByArguments(backend)
    assert ByName(backend) == ByName(backend)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": {}}, "an object with get and put such as LRUCache(), but got {}"),
        ({"backend": DictCache}, "an object with get and put such as LRUCache(), but got <class"),
        ({"ttl": 0}, "ttl must be seconds > 0, or None for no limit, but is 0"),
        ({"ttl": -1.5}, "ttl must be seconds > 0, or None for no limit, but is -1.5"),
        ({"ttl": float("nan")}, "or None for no limit, but is nan"),
        ({"ttl": "60"}, "or None for no limit, but is '60'"),
        ({"ttl": True}, "or None for no limit, but is True"),
        (
            {"ignore": "log"},
            "ignore takes names of parameters, but got one string\n"
            "    wrong:  ignore='log'\n"
            "    right:  ignore={'log'}",
        ),
    ],
)
def test_invalid_options_are_refused_at_once(arguments, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        ByArguments(**{"backend": DictCache(), **arguments})


def test_a_backend_as_cache_keeps_values_by_arguments():
    backend = DictCache()
    policy = cache_policy(backend, 60, {"log"}, "2")

    assert isinstance(policy, ByArguments)
    assert policy.key(load, {"x": 1, "log": print}) == by_arguments(version="2").key(load, {"x": 1})
    policy.save("key", {}, 1)
    assert (backend.kept, backend.ttls) == ({"key": 1}, [60])


def test_a_policy_as_cache_is_used_as_it_is():
    policy = OneKey()

    assert cache_policy(policy, None, (), "") is policy


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((0, (), ""), "ttl"),
        ((None, {"x"}, ""), "ignore"),
        ((None, (), "2"), "version"),
        ((60, ["x"], "2"), "ttl and ignore and version"),
    ],
)
def test_a_policy_takes_no_options_of_backends(options, named):
    message = rf"^{named} can be given for a cache that is a CacheBackend; .*OneKey.* is a CachePol"
    with pytest.raises(ArgumentError, match=message):
        cache_policy(OneKey(), *options)


@pytest.mark.parametrize("cache", [{}, None, OneKey, DictCache, "cache"])
def test_an_object_that_is_not_a_cache_is_refused(cache):
    message = r"^a cache is a CacheBackend, with get and put, .*, or a CachePolicy, .*, but got "
    with pytest.raises(ArgumentError, match=message):
        cache_policy(cache, None, (), "")
