"""Ways in which a task comes by a lazy value that the run has to keep for it (M21)."""

import dataclasses
import functools
import gc
import types
import weakref
from collections import ChainMap, UserDict
from enum import Enum

import pytest
from tests.engine import pins_by_import

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder

Way = dict[str, "cs.LazyResult[int]"]
kept: Way = {}


@pytest.fixture(autouse=True)
def forgets():
    yield
    kept.clear()
    pins_by_import.lazy = None


class Made:
    """Names a lazy value in its constructor alone."""

    def __init__(self):
        self.found = kept["lazy"]


@dataclasses.dataclass
class Field:
    found: object = dataclasses.field(default_factory=lambda: kept["lazy"])


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    found: object = dataclasses.field(default_factory=lambda: kept["lazy"])


class Metaclass(type):
    def __call__(cls):
        return kept["lazy"]


class OfMetaclass(metaclass=Metaclass):
    pass


class Derived(Made):
    pass


class Special:
    """Each special method gives the lazy value, by an attribute that no function names."""

    __slots__ = ("hidden",)

    def __init__(self, lazy):
        self.hidden = lazy

    def __call__(self, *_args):
        return self.hidden

    def __getitem__(self, _key):
        return self.hidden

    def __iter__(self):
        yield self.hidden

    def __contains__(self, _item):
        return self.hidden is not None

    def __enter__(self):
        return self.hidden

    def __exit__(self, *_error):
        return None

    def __getattr__(self, _name):
        return self.hidden

    def __add__(self, _other):
        return self.hidden

    def __len__(self):
        return 1

    def __await__(self):
        yield from ()
        return self.hidden

    async def __aenter__(self):
        return self.hidden

    async def __aexit__(self, *_error):
        return None

    async def __aiter__(self):
        yield self.hidden


class Cached:
    def __init__(self, lazy):
        self.hidden = lazy

    @functools.cached_property
    def value(self):
        return self.hidden

    @functools.lru_cache  # noqa: B019
    def method(self):
        return self.hidden

    @classmethod
    def of_class(cls):
        return kept["lazy"]

    @staticmethod
    def static():
        return kept["lazy"]

    @functools.partialmethod
    def partial(self):
        return self.hidden

    @functools.singledispatchmethod
    def dispatched(self, _value):
        return self.hidden


class Called:
    def __init__(self, lazy):
        self.hidden = lazy

    def __call__(self, _):
        return self.hidden


class Fake:
    """Says that it is an int, and a lazy value is behind it."""

    def __init__(self, lazy):
        self.hidden = lazy

    @property  # type: ignore[misc]
    def __class__(self):
        return int


class Raising(Fake):
    @property  # type: ignore[misc]
    def __class__(self):
        raise RuntimeError("it has no class")


class Registry(UserDict):
    pass


class Colour(Enum):
    RED = 1

    def lazy(self):
        return kept["lazy"]


def read(holder):
    """A helper, in whose code the name of the attribute stands."""
    return holder.hidden


@functools.lru_cache
def looked_up():
    return kept["lazy"]


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@functools.singledispatch
def dispatched(_value):
    return None


@dispatched.register
def _(_value: int):
    return kept["lazy"]


def by_with(lazy):
    special = Special(lazy)

    def late(_):
        with special as found:
            return found

    return late


def by_async_with(lazy):
    special = Special(lazy)

    async def late(_):
        async with special as found:
            return found

    return late


def by_async_for(lazy):
    special = Special(lazy)

    async def late(_):
        async for found in special:
            return found
        return None

    return late


def by_await(lazy):
    special = Special(lazy)

    async def late(_):
        return await special

    return late


def by_import(lazy):
    pins_by_import.lazy = lazy

    def late(_):
        from tests.engine import pins_by_import as module

        return module.lazy

    return late


def by_import_of_a_name(lazy):
    pins_by_import.lazy = lazy

    def late(_):
        from tests.engine.pins_by_import import get

        return get()

    return late


def by_relative_import(lazy):
    pins_by_import.lazy = lazy

    def late(_):
        from .pins_by_import import lazy as found  # noqa: TID252

        return found

    return late


def by_import_of_a_package(lazy):
    pins_by_import.lazy = lazy

    def late(_):
        import tests.engine.pins_by_import

        return tests.engine.pins_by_import.lazy

    return late


def by_match(lazy):
    box = Cached(lazy)

    def late(_):
        match box:
            case Cached(hidden=found):
                return found

    return late


def by_generator(lazy):
    def all_of_them():
        held = lazy
        while True:
            yield held

    running = all_of_them()
    return lambda _: next(running)


def of(make):
    """A way by an object that is a local variable of the program."""

    def way(lazy):
        kept["lazy"] = lazy
        return make(lazy)

    return way


WAYS = {
    "a constructor": of(lambda _: lambda _: Made().found),
    "an inherited constructor": of(lambda _: lambda _: Derived().found),
    "the factory of a dataclass": of(lambda _: lambda _: Field().found),
    "the factory of one with slots": of(lambda _: lambda _: Slot().found),
    "a metaclass": of(lambda _: lambda _: OfMetaclass()),
    "__call__": of(lambda lazy: (lambda s: lambda _: s())(Special(lazy))),
    "__getitem__": of(lambda lazy: (lambda s: lambda _: s[0])(Special(lazy))),
    "__iter__": of(lambda lazy: (lambda s: lambda _: next(iter(s)))(Special(lazy))),
    "__getattr__": of(lambda lazy: (lambda s: lambda _: s.anything)(Special(lazy))),
    "__add__": of(lambda lazy: (lambda s: lambda _: s + 1)(Special(lazy))),
    "__enter__": by_with,
    "__aenter__": by_async_with,
    "__aiter__": by_async_for,
    "__await__": by_await,
    "a callable object": of(Called),
    "a bound method": of(lambda lazy: Special(lazy).__call__),
    "a cached property": of(lambda lazy: (lambda c: lambda _: c.value)(Cached(lazy))),
    "a cached method": of(lambda lazy: (lambda c: lambda _: c.method())(Cached(lazy))),
    "a class method": of(lambda _: lambda _: Cached.of_class()),
    "a static method": of(lambda _: lambda _: Cached.static()),
    "a dispatched method": of(lambda lazy: (lambda c: lambda _: c.dispatched(1))(Cached(lazy))),
    "a dispatched function": of(lambda _: lambda _: dispatched(1)),
    "a cached function": of(lambda _: lambda _: looked_up.__wrapped__()),
    "lru_cache around the task's": of(lambda lazy: functools.lru_cache(lambda _: lazy)),
    "wraps": of(lambda lazy: decorated(lambda _: lazy)),
    "a partial": of(lambda lazy: functools.partial(lambda given, _: given, lazy)),
    "a partial of a partial": of(
        lambda lazy: functools.partial(functools.partial(lambda a, b, _: b, 1), lazy)
    ),
    "a fake __class__": of(lambda lazy: (lambda f: lambda _: f.hidden)(Fake(lazy))),
    "a raising __class__": of(lambda lazy: (lambda f: lambda _: f.hidden)(Raising(lazy))),
    "a helper that reads an attribute": of(
        lambda lazy: (lambda c: lambda _: read(c))(Cached(lazy))
    ),
    "getattr": of(
        lambda lazy: (lambda c: lambda _: getattr(c, "".join(["hid", "den"])))(Cached(lazy))
    ),
    "vars": of(lambda lazy: (lambda c: lambda _: vars(c)["hidden"])(Cached(lazy))),
    "a namespace": of(lambda lazy: (lambda n: lambda _: n.x)(types.SimpleNamespace(x=lazy))),
    "a dict of a class": of(lambda lazy: (lambda d: lambda _: d["x"])(Registry(x=lazy))),
    "a chain of dicts": of(lambda lazy: (lambda d: lambda _: d["x"])(ChainMap({}, {"x": lazy}))),
    "a mapping proxy": of(
        lambda lazy: (lambda d: lambda _: d["x"])(types.MappingProxyType({"x": lazy}))
    ),
    "a method of a list": of(lambda lazy: (lambda get: lambda _: get(0))([lazy].__getitem__)),
    "a member of an enum": of(lambda _: lambda _: Colour.RED.lazy()),
    "an attribute of a function": of(lambda lazy: _with_attribute(lambda _: kept and 1, lazy)),
    "a match": by_match,
    "a generator": by_generator,
    "an import": by_import,
    "an import of a name": by_import_of_a_name,
    "a relative import": by_relative_import,
    "an import of a package": by_import_of_a_package,
}


def _with_attribute(_function, lazy):
    def late(_):
        return late.lazy

    late.lazy = lazy
    return late


@pytest.mark.parametrize("way", WAYS)
async def test_values_that_a_task_can_reach_are_computed_once_and_kept(run, way):
    made = []

    @cs.task
    def once():
        made.append(1)
        return 7

    @cs.task
    def use(value, more=None):
        return value

    lazy = once()
    late = cs.task(WAYS[way](lazy), name="late")

    assert await run(cs.gather(late(use(lazy)), late(use(lazy, 2)))) == [7, 7]
    assert made == [1]


@pytest.mark.parametrize("place", [lambda v: [v, 5], lambda v: {"a": (v,)}, lambda v: [[v], v]])
async def test_a_literal_in_a_container_hides_nothing(place, run):
    @cs.task
    def base():
        return 7

    @cs.task
    def use(value):
        return value

    @cs.task
    def late(held, _after):
        first = next(iter(held.values())) if isinstance(held, dict) else held[0]
        return use(first[0] if isinstance(first, (tuple, list)) else first)

    lazy = base()
    users = use(use.map(value=[lazy, lazy]))
    assert await run(late(place(cs.literal(lazy)), users)) == 7


async def test_rebound_names_are_searched_again_in_the_next_run(run):
    @cs.task
    def base():
        return 7

    @cs.task
    def use(value):
        return value

    box = [None]
    helper = None

    def from_box():
        return box[0]

    def from_attribute():
        return Cached.found

    def from_global():
        return pins_by_import.lazy

    def from_local():
        return local

    @cs.task
    def late(_):
        return helper()

    for other in (from_box, from_attribute, from_global, from_local, from_box, from_local):
        local = box[0] = Cached.found = pins_by_import.lazy = lazy = base()
        helper = other
        assert await run(late(use(lazy))) == 7


async def test_a_global_that_is_defined_later_is_found(run):
    @cs.task
    def base():
        return 7

    @cs.task
    def late(_):
        return defined_later if "defined_later" in globals() else None  # noqa: F821

    assert await run(late(base())) is None
    globals()["defined_later"] = lazy = base()
    try:
        assert await run(late(lazy)) == 7
    finally:
        del globals()["defined_later"]


async def test_a_search_calls_nothing_of_the_users(run):
    """And fails on nothing, whatever objects say of themselves."""

    class Shy:
        def __getattribute__(self, name):
            raise AssertionError(name)

        def __eq__(self, other):
            raise AssertionError

        def __hash__(self):
            raise AssertionError

        def __len__(self):
            raise AssertionError

        def __bool__(self):
            raise AssertionError

    class ShyMeta(type):
        def __getattribute__(cls, name):
            raise AssertionError(name)

        def __hash__(cls):
            raise AssertionError

    shy = Shy()
    shy_class = ShyMeta("ShyClass", (), {"__module__": 3, "__len__": shy})
    odd = type("Odd", (list,), {"__len__": lambda self: 1 / 0})([1])
    module = types.ModuleType("odd")
    module.__name__ = 3
    module.shy = shy

    @cs.task
    def late(number):
        return number + (0 if shy is shy_class or odd is module.shy else 1)

    assert await run(late(late(1))) == 3


async def test_a_task_does_not_hold_the_data_that_it_was_found_to_refer_to(run):
    class Data:
        pass

    @cs.task
    def late(number):
        return number + len(kept)

    data = Data()
    gone = weakref.ref(data)
    kept["data"] = [data]
    await run(late(late(1)))
    kept.clear()
    del data

    assert gone() is None


def test_tasks_that_are_run_are_freed():
    @cs.task(mode="inline")  # the thread of a worker may hold its last call for a moment
    def again(n):
        return again.name and n  # noqa: F821

    gone = weakref.ref(again)
    cs.run(again(again(1)))
    del again
    gc.collect()

    assert gone() is None


@pytest.mark.parametrize("build", ["of a call", "of the task"])
async def test_the_lazy_inputs_of_a_blueprint_are_kept_for_later_tail_calls(engine, use_vm, build):
    calls = []
    late = cs.task(lambda: calls.append("late") or "late")()

    @cs.task
    def inner(n, late=late):
        return n, late

    @cs.task
    def start(n, _=None):
        return cs.TailCall([n], target_blueprint_id="inner")

    builder = BlueprintBuilder()
    blueprint = builder.build(inner(0)) if build == "of a call" else builder.build_task(inner)
    engine.register_blueprint("inner", blueprint)
    first = start(1)
    assert await engine.run([start(2, first), first], use_vm=use_vm) == [(2, "late"), (1, "late")]
    assert calls == ["late"]
