"""Lazy values inside containers: the search (R2, M15) and the node that rebuilds a container."""

import gc
import sys
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spec import shapes
from cascade.spec.blueprint import Literal, literal
from cascade.spec.containers import GATHER, fill, holds_marks, is_container
from cascade.spec.errors import ArgumentError, CycleError
from cascade.spec.lazy_types import LazyResult, as_lazy, gather
from cascade.spec.resource import inject
from cascade.spec.routing import Router
from cascade.spec.task import task


@task
def leaf(value=None): ...


@task
def use(*args, **kwargs): ...


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "left right")


def settled(argument: Any) -> Any:
    """The argument that a task's call makes of this one."""
    return use(argument).args[0]


def rebuilt(lazy: LazyResult[Any], value_of: Callable[[Any], Any]) -> Any:
    """The value of the node when each of its inputs has its value."""
    assert lazy.task is GATHER
    recipe, *leaves = lazy.args
    assert tuple(leaves) == lazy._dependencies
    return fill(recipe, *map(value_of, leaves))


def naive(value: Any, value_of: Callable[[Any], Any]) -> Any:
    """The meaning of R2, by plain recursion."""
    if isinstance(value, LazyResult):
        return value_of(value)
    if isinstance(value, Literal):
        return value.value
    kind = type(value)
    if kind is dict:
        return {naive(k, value_of): naive(v, value_of) for k, v in value.items()}
    if kind is OrderedDict:
        return OrderedDict((naive(k, value_of), naive(v, value_of)) for k, v in value.items())
    if kind is defaultdict:
        made: Any = defaultdict(value.default_factory)
        made.update((naive(k, value_of), naive(v, value_of)) for k, v in value.items())
        return made
    if kind is deque:
        return deque((naive(item, value_of) for item in value), value.maxlen)
    if kind in (list, tuple, set, frozenset):
        return kind(naive(item, value_of) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*(naive(item, value_of) for item in value))
    if kind in (Box, Frozen, Slotted):
        return kind(*(naive(item, value_of) for item in _fields(value)))
    return value


def _fields(value: Any) -> list[Any]:
    return [getattr(value, name) for name in ("number", "value") if hasattr(value, name)]


@contextmanager
def python_steps() -> Iterator[list[int]]:
    """Counts the calls and lines of Python that run inside (the lines of C do not count)."""
    steps = [0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        steps[0] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


def deep(inside: Any, wrap: Callable[[Any], Any], depth: int = 20_000) -> Any:
    for _ in range(depth):
        inside = wrap(inside)
    return inside


# -- where lazy values are found ------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [x],
        lambda x: [1, "two", x, None],
        lambda x: (x,),
        lambda x: {x},
        lambda x: {"key": x},
        lambda x: {x: "value"},
        lambda x: {(1, x): "value"},
        lambda x: Point(x),
        lambda x: Point(1, [x]),
        lambda x: Pair(x, 2),
        lambda x: [[], {}, ({"a": [(x,)]},)],
        lambda x: {"rows": [{"cell": Point(0, (x, {x}))}]},
    ],
)
def test_a_lazy_value_is_found_and_replaced_wherever_it_is(wrap):
    """R2."""
    lazy = leaf()
    for node in (use(wrap(lazy)), use(key=wrap(lazy))):
        (container,) = node._dependencies
        assert container in (*node.args, *node.kwargs.values())
        assert set(container._dependencies) == {lazy}
        assert rebuilt(container, lambda _: "value of it") == wrap("value of it")
        assert type(rebuilt(container, lambda _: 1)) is type(wrap(lazy))


def test_the_leaves_are_inputs_in_their_order_and_repeated_where_they_are():
    a, b = leaf(), leaf()
    container = settled([a, (b, 1), {"k": a}])

    assert rebuilt(container, {a: "A", b: "B"}.get) == ["A", ("B", 1), {"k": "A"}]
    assert sorted(lazy.number for lazy in container._dependencies) == [a.number, a.number, b.number]


class ListOfMine(list): ...


class DictOfMine(dict): ...


class TupleOfMine(tuple):
    __slots__ = ()


@dataclass
class Box:
    value: Any


@dataclass(frozen=True)
class Frozen:
    number: int
    value: Any


@dataclass(slots=True)
class Slotted:
    value: Any
    later: Any = field(init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and self.value == other.value


@dataclass
class NotInInit:
    made = 0
    value: Any
    later: Any = field(init=False, compare=False)

    def __post_init__(self):
        type(self).made += 1


@dataclass
class Odd(Exception):
    """Its instances cannot be made by ``object.__new__``."""

    value: Any


#: The containers below, with 7 in the place of the lazy value.
_FILLED = {
    frozenset: frozenset([1, 7]),
    deque: deque([1, 7]),
    OrderedDict: OrderedDict(a=7, b=1),
    defaultdict: {"a": 7, "b": 1},
    Box: Box(7),
    Frozen: Frozen(1, 7),
    Slotted: Slotted(7),
}


@pytest.mark.parametrize(
    "container",
    [
        frozenset([1, leaf()]),
        deque([1, leaf()], maxlen=3),
        OrderedDict(a=leaf(), b=1),
        defaultdict(list, a=leaf(), b=1),
        Box(leaf()),
        Frozen(1, leaf()),
        Slotted(leaf()),
    ],
    ids=lambda container: type(container).__name__,
)
def test_a_container_is_rebuilt_with_its_own_type(container):
    """M15."""
    built = rebuilt(settled(container), lambda _: 7)

    assert type(built) is type(container)
    assert not holds_marks(built)
    assert built == _FILLED[type(container)]
    assert getattr(built, "maxlen", None) == getattr(container, "maxlen", None)
    assert getattr(built, "default_factory", None) is getattr(container, "default_factory", None)


def test_a_dataclass_is_rebuilt_without_a_call_of_its_own_code():
    """Constructors and ``__post_init__`` may check values, and have run already."""
    NotInInit.made = 0
    box = NotInInit(leaf())
    box.extra = "kept"
    built = rebuilt(settled([box]), lambda _: 7)[0]

    assert NotInInit.made == 1
    assert (built.value, built.extra) == (7, "kept")
    assert not hasattr(built, "later")
    assert box.value is not built.value


def test_a_field_without_a_value_stays_without():
    built = rebuilt(settled(Slotted(leaf())), lambda _: 7)

    assert not hasattr(built, "later")


@pytest.mark.parametrize("container", [ListOfMine([leaf()]), DictOfMine(a=[leaf()]), Odd(leaf())])
def test_what_cannot_be_rebuilt_is_refused_with_a_lazy_value_inside(container):
    name = type(container).__name__
    with pytest.raises(ArgumentError, match=f"a {name} holds a lazy value") as caught:
        use([container])

    assert "cs.literal(…)" in str(caught.value)
    assert settled(literal(container)).value is container


@pytest.mark.parametrize("container", [ListOfMine([1]), DictOfMine(a=[1]), Odd(1), iter([leaf()])])
def test_what_cannot_be_rebuilt_is_handed_over_without_one(container):
    assert settled(container) is container
    assert use(container)._dependencies == ()


def _models():
    """The constructor of a model, for each installed library."""
    with suppress(ImportError):
        yield import_module("attrs").make_class("Attrs", ["value"])
    with suppress(ImportError):
        model = import_module("pydantic").create_model("Model", value=(Any, ...))
        yield lambda value: model(value=value)
    with suppress(ImportError):
        yield import_module("msgspec").defstruct("Struct", ["value"])


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda value: {"k": value}.values(), "list"),
        (lambda value: {"k": value}.items(), "list"),
        (lambda value: OrderedDict(k=[value]).values(), "list"),
        (lambda value: UserList([value]), "list"),
        (lambda value: UserDict(k=value), "dict"),
        (lambda value: ChainMap({}, {"k": value}), "dict"),
        (lambda value: MappingProxyType({"k": (value,)}), "dict"),
    ],
)
def test_views_and_wrappers_are_refused_with_a_lazy_value_inside(make, instead):
    view, plain = make(leaf()), make(1)
    name = type(view).__name__
    with pytest.raises(ArgumentError, match=rf"a {name} holds a lazy value(.|\n)*{instead}\(…\)"):
        use(view)
    with pytest.raises(ArgumentError, match=f"a {name} holds a lazy value"):
        use([view])
    assert settled(plain) is plain


def test_a_view_of_keys_without_lazy_values_is_passed_on():
    keys = {"k": leaf()}.keys()
    assert settled(keys) is keys


@pytest.mark.parametrize("pack", [lambda tail: tail, lambda tail: [tail], lambda tail: {"k": tail}])
def test_a_tail_call_among_the_arguments_is_refused(pack):
    with pytest.raises(ArgumentError, match=r"only a task can return it(.|\n)*right:  leaf\(…\)"):
        use(pack(leaf.tail(1)))
    assert use(literal(pack(leaf.tail(1)))).task is use


def test_models_of_other_libraries_are_refused_with_a_lazy_value_inside():
    for make in _models():
        model, plain = make(leaf()), make(1)
        with pytest.raises(ArgumentError, match=f"a {type(model).__name__} holds a lazy value"):
            use(model)
        assert settled(plain) is plain


def test_the_types_that_are_searched():
    searched = [list, tuple, dict, set, frozenset, deque, Point, Pair, Box, ListOfMine]
    assert all(map(is_container, searched))
    assert not any(map(is_container, [str, range, type(leaf()), Literal, object]))


def test_a_type_that_is_gone_is_forgotten():
    kinds = [type(f"Kind{number}", (list,), {}) for number in range(5)]
    assert all(map(is_container, kinds))
    gone = [ref(kind) for kind in kinds]
    numbers = list(map(id, kinds))
    assert shapes._known.keys() >= set(numbers)

    del kinds
    gc.collect()
    assert [kind() for kind in gone] == [None] * 5
    assert shapes._alive.keys().isdisjoint(numbers)


# -- plain containers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plain",
    [
        [],
        [1, [2, {"three": (4, {5})}]],
        (),
        {"a": {"b": []}},
        {1, 2},
        Point(1, [2]),
        range(3),
        "text",
    ],
)
def test_a_plain_value_is_handed_over_as_the_same_object(plain):
    """R1."""
    assert settled(plain) is plain
    assert as_lazy(plain, None, 0) is plain


def test_a_plain_container_beside_a_lazy_value_stays_the_same_object():
    plain, point = [1, {"two": [3]}], Point(1, [2])
    container = settled([leaf(), plain, {"k": (plain, leaf())}, point])
    result = rebuilt(container, lambda _: 0)

    assert result == [0, plain, {"k": (plain, 0)}, point]
    assert result[1] is plain
    assert result[2]["k"][0] is plain
    assert result[3] is point


def test_a_rebuilt_container_is_new_each_time():
    container = settled([leaf(), [leaf()]])
    first, second = (rebuilt(container, lambda _: 0) for _ in range(2))

    assert first == second
    assert first is not second
    assert first[1] is not second[1]


def test_a_large_plain_container_is_not_visited_from_python():
    """R2."""
    numbers = list(range(1_000_000))
    table = {"rows": numbers, "more": tuple(numbers)}
    with python_steps() as steps:
        lazy = use(numbers, table)

    assert lazy._dependencies == ()
    assert steps[0] < 1_000


def test_a_large_plain_container_beside_a_lazy_value_is_not_visited_from_python():
    """R2: the list is plain, whatever it stands next to."""
    numbers = list(range(1_000_000))
    one = leaf()
    with python_steps() as steps:
        lazy = use([one, numbers, {"rows": numbers}])

    assert steps[0] < 1_000
    assert rebuilt(lazy.args[0], lambda _: 0)[1] is numbers


def test_a_few_lazy_values_in_a_large_list_are_found_without_a_visit_of_the_rest():
    """R2."""
    one = leaf()
    numbers = [*range(50_000), one, *range(50_000)]
    with python_steps() as steps:
        lazy = use(numbers)

    assert steps[0] < 1_000
    assert rebuilt(lazy.args[0], lambda _: -1) == [*range(50_000), -1, *range(50_000)]


def test_many_small_plain_containers():
    rows = [[i, str(i)] for i in range(100_000)]
    with python_steps() as steps:
        assert settled(rows) is rows

    assert steps[0] < 1_000


# -- snapshot -------------------------------------------------------------------------------------


def test_arguments_are_a_snapshot_of_the_call():
    """M15."""
    a, b = leaf(), leaf()
    inner = [a]
    outer = {"k": inner, "n": 1}
    lazy = use(outer)
    inner.append(b)
    inner[0] = "changed"
    outer.clear()

    assert rebuilt(lazy.args[0], {a: "A"}.get) == {"k": ["A"], "n": 1}


# -- sharing and cycles ---------------------------------------------------------------------------


def test_a_container_that_is_met_twice_is_rebuilt_once():
    shared = [leaf()]
    container = settled({"a": shared, "b": (shared, [shared])})
    result = rebuilt(container, lambda _: 1)

    assert result == {"a": [1], "b": ([1], [[1]])}
    assert result["a"] is result["b"][0] is result["b"][1][0]
    assert len(container._dependencies) == 1


def test_lists_shared_at_each_level_are_searched_once():
    """A tree of 2**200 leaves, in 200 lists."""
    container = deep([leaf()], lambda x: [x, x], 200)
    lazy = settled(container)

    assert len(lazy._dependencies) == 1
    assert settled(deep([1], lambda x: [x, x], 200)) is not None


@pytest.mark.parametrize(
    ("wrap", "depth"),
    [
        (lambda x: [x], 5_000),
        (lambda x: (x,), 3_000),
        (lambda x: {"k": x}, 3_000),
        (Point, 3_000),
        (lambda x: [{"k": (x, {x: 1} if isinstance(x, LazyResult) else 0)}], 3_000),
    ],
)
def test_lazy_values_are_found_however_deep(wrap, depth):
    """R2: iterative, not recursive."""
    one = leaf()
    lazy = settled(deep(wrap(one), wrap, depth - 1))
    result = rebuilt(lazy, lambda _: "found")
    while result != "found":
        (result, *_) = result.values() if type(result) is dict else result

    assert set(lazy._dependencies) == {one}


def test_a_plain_container_may_be_as_deep():
    plain = deep(1, lambda x: [x])

    assert settled(plain) is plain


def test_a_plain_container_may_contain_itself():
    """M15: cycle-safe."""
    loop: list[Any] = [1]
    table = {"loop": loop}
    loop.append(table)

    assert settled(loop) is loop
    assert not holds_marks(table)


def test_a_plain_loop_beside_a_lazy_value_stays_the_same_object():
    """M15: nothing in the loop has to be rebuilt."""
    loop: list[Any] = [[1], (2,)]
    loop[0].append(loop)
    loop += [loop, {"loop": loop}]
    result = rebuilt(settled([loop[0], leaf(), loop]), lambda _: 7)

    assert result[1] == 7
    assert result[2] is loop
    assert result[0] is loop[0]


def test_a_long_plain_ring_beside_a_lazy_value_is_walked_once():
    ring: list[Any] = [[None, None] for _ in range(2_000)]
    for i, item in enumerate(ring):
        item[:] = [ring[i - 1], ring[(i + 1) % len(ring)]]
    with python_steps() as steps:
        lazy = settled([leaf(), ring[0]])

    assert steps[0] < 200_000
    assert rebuilt(lazy, lambda _: 7)[1] is ring[0]


@pytest.mark.parametrize("between", [lambda x: x, lambda x: {"k": (x,)}])
def test_a_loop_with_a_lazy_value_in_it_is_refused(between):
    """M15."""
    loop: list[Any] = [leaf()]
    loop.append(between(loop))
    with pytest.raises(
        CycleError, match=r"^a (list|dict|tuple) with lazy values inside contains it"
    ):
        use(loop)


# -- literal --------------------------------------------------------------------------------------


def test_a_literal_is_not_searched():
    """R2."""
    lazy = leaf()
    shield = literal([lazy])

    assert use(shield).args == (shield,)
    assert use(shield)._dependencies == ()


def test_a_literal_in_a_container_is_its_value():
    one, other = leaf(), leaf()
    value = [one]
    container = settled([literal(value), {literal("k"): other}, literal(one)])
    result = rebuilt(container, lambda _: 2)

    assert container._dependencies == (other,)
    assert result == [value, {"k": 2}, one]
    assert result[0] is value


def test_a_container_of_literals_alone_is_unwrapped_too():
    container = settled([literal(1), (2,)])

    assert container._dependencies == ()
    assert rebuilt(container, lambda _: None) == [1, (2,)]


def test_a_literal_of_a_literal_loses_one_shield():
    container = settled([literal(literal(1))])

    assert rebuilt(container, lambda _: None) == [literal(1)]


def test_an_injection_inside_a_container_is_refused():
    with pytest.raises(
        ArgumentError, match=r"^inject\('db'\) stands inside a container, where nothing"
    ):
        use([1, {"k": inject("db")}])


# -- gather ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: [t], lambda t: {"k": (1, t)}, lambda t: [use(), {1: [t]}]]
)
def test_a_task_that_was_not_called_is_refused_wherever_it_is(wrap):
    message = (
        r"^the task 'use' itself was passed; call it: use\(\)\n"
        r"    to hand over the task:  cs\.literal\(use\)$"
    )
    for give in (use, lambda value: use(k=value), gather):
        with pytest.raises(ArgumentError, match=message):
            give(wrap(use))


def test_a_literal_hands_over_a_task():
    assert use(literal(use)).args == (literal(use),)
    assert fill(*gather(literal(use), [literal(use)]).args) == [use, [use]]


def test_gather_is_one_lazy_list_of_its_values():
    a, b = leaf(), leaf()
    lazy = gather(a, 1, [b, {"k": a}])

    assert lazy.name == "gather"
    assert lazy.task.structural
    assert rebuilt(lazy, {a: "A", b: "B"}.get) == ["A", 1, ["B", {"k": "A"}]]


def test_gather_of_nothing_and_of_plain_values():
    plain = [1]

    assert rebuilt(gather(), lambda _: None) == []
    result = rebuilt(gather(1, plain), lambda _: None)
    assert result == [1, [1]]
    assert result[1] is plain


def test_gather_of_a_hundred_thousand():
    lazies = [leaf() for _ in range(100_000)]
    lazy = gather(*lazies)

    assert lazy._dependencies == tuple(lazies)
    assert rebuilt(lazy, lambda x: x.number) == [x.number for x in lazies]


def test_only_a_list_of_leaves_takes_the_short_way():
    a, b, router = leaf(), leaf(), Router(selector=1, routes={1: 2})
    lists = ([a, b], [router, router], [a, router], [a, 1], [a, [b]], [a, literal(1)])
    for made in (*lists, (a, b), {"k": a}, {a: "k"}, Point(a, b)):
        container = settled(made)
        value_of = {a: "A", b: "B", router: "R"}.get
        assert rebuilt(container, value_of) == naive(made, value_of)


# -- all of it, at random -------------------------------------------------------------------------

_LEAVES = [leaf(i) for i in range(6)]
_atoms = st.one_of(
    st.integers(-3, 3), st.text("ab", max_size=2), st.none(), st.booleans(), st.floats(0, 1)
)
_lazies = st.sampled_from(_LEAVES)
_literals = st.builds(literal, st.one_of(_atoms, _lazies, st.lists(_lazies, max_size=2)))
_hashable = st.recursive(
    st.one_of(_atoms, _lazies),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.builds(Point, inner, inner)),
    max_leaves=4,
)


def _wrapped(inner):
    shared = st.tuples(inner, st.integers(2, 3)).map(lambda pair: [pair[0]] * pair[1])
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(_hashable, max_size=4),
        st.frozensets(_hashable, max_size=4),
        st.builds(deque, st.lists(inner, max_size=4), st.sampled_from([None, 4])),
        st.dictionaries(_hashable, inner, max_size=4),
        st.dictionaries(_hashable, inner, max_size=4).map(OrderedDict),
        st.dictionaries(_hashable, inner, max_size=4).map(lambda found: defaultdict(int, found)),
        st.builds(Box, inner),
        st.builds(Frozen, inner, inner),
        st.builds(Slotted, inner),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        shared,
    )


_values = st.recursive(st.one_of(_atoms, _lazies, _literals), _wrapped, max_leaves=25)


def _marks(value):
    """The lazy values in ``value``, and whether anything at all has to be replaced in it."""
    if isinstance(value, LazyResult):
        return {value}, True
    if isinstance(value, Literal):
        return set(), True
    if not is_container(type(value)):
        return set(), False
    if isinstance(value, dict):
        items = [*value, *value.values()]
    else:
        items = _fields(value) if type(value) in (Box, Frozen, Slotted) else list(value)
    found = [_marks(item) for item in items]
    return set().union(*(lazies for lazies, _ in found)), any(mark for _, mark in found)


def _typed(value):
    """``value`` in a form that is equal only for equal types: 1 is not True here."""
    if isinstance(value, dict):
        return type(value), [(_typed(k), _typed(v)) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, map(_typed, value)))
    if type(value) in (Box, Frozen, Slotted):
        return type(value), [_typed(item) for item in _fields(value)]
    if isinstance(value, (list, tuple, deque)):
        return type(value), [_typed(item) for item in value]
    return repr(value)


def _value_of(lazy):
    return f"value {next(i for i, leaf in enumerate(_LEAVES) if leaf is lazy)}"


@pytest.mark.parametrize("place", [0, 1, 5, 150, 299])
@pytest.mark.parametrize("others", [[1], [1, "two"], [1, None, 2.0, "three", b"four", True]])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_lazy_value_is_found_anywhere_in_a_long_list(kind, others, place):
    values = (others * 300)[:300]
    assert not holds_marks(kind(values))
    for inner in (leaf(1), [leaf(1)], ([], {"deep": leaf(1)})):
        values[place] = inner
        assert holds_marks(kind(values))
    values[place] = ["no lazy value"]
    assert not holds_marks(kind(values))


@given(_values)
def test_filling_a_container_is_substituting_its_lazy_values(value):
    """R2."""
    lazies, marked = _marks(value)
    result = settled(value)
    if not is_container(type(value)):
        assert result is value
    elif not marked:
        assert result is value
        assert not holds_marks(value)
    else:
        assert holds_marks(value)
        assert set(result._dependencies) == lazies
        assert rebuilt(result, _value_of) == naive(value, _value_of)
        assert _typed(rebuilt(result, _value_of)) == _typed(naive(value, _value_of))


@given(st.lists(_values, max_size=4))
def test_gather_of_anything_is_the_list_of_its_values(values):
    assert rebuilt(gather(*values), _value_of) == naive(values, _value_of)


@given(_values)
def test_the_search_changes_nothing(value):
    before = repr(value)
    use(value)

    assert repr(value) == before
