"""Random programs for hypothesis, and their meaning by plain recursion.

Strategies draw plain data in which ``Ref(i)`` stands for a lazy value made before; from it a
program is made. So a failing example can be read.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from tests.graph.flows import Point, join, load, mixed, named_only, pair

from cascade.spec.blueprint import Literal, literal
from cascade.spec.lazy_types import LazyResult, gather
from cascade.spec.params import Env, Param
from cascade.spec.routing import Router


@dataclass(frozen=True)
class Ref:
    """Stands for an older lazy value."""

    number: int


atoms = st.one_of(
    st.integers(-5, 5), st.text("ab$", max_size=3), st.none(), st.booleans(), st.floats()
)
_refs = st.builds(Ref, st.integers(0, 9))
_leaves = st.one_of(atoms, _refs)
_hashables = st.one_of(_leaves, st.tuples(_leaves, _leaves), st.builds(Point, _leaves, _leaves))
_nested = st.recursive(
    st.one_of(_leaves, st.builds(literal, atoms)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(_hashables, max_size=3),
        st.dictionaries(_hashables, inner, max_size=3),
        st.dictionaries(st.text("ab$", max_size=2), inner, max_size=3),
        st.builds(Point, inner, inner),
    ),
    max_leaves=6,
)
_arguments = st.one_of(_refs, _leaves, _nested, st.builds(literal, st.lists(atoms, max_size=2)))
_calls = st.one_of(
    st.tuples(st.just(load), st.tuples(_arguments), st.just({})),
    st.tuples(st.just(pair), st.tuples(_arguments, _arguments), st.just({})),
    st.tuples(
        st.just(pair), st.tuples(_arguments), st.fixed_dictionaries({}, optional={"b": _arguments})
    ),
    st.tuples(
        st.just(pair), st.just(()), st.fixed_dictionaries({"b": _arguments, "a": _arguments})
    ),
    st.tuples(
        st.just(named_only),
        st.just(()),
        st.fixed_dictionaries({"a": _arguments}, optional={"b": _arguments}),
    ),
    st.tuples(
        st.just(mixed),
        st.lists(_arguments, min_size=1, max_size=4),
        st.fixed_dictionaries(
            {"c": _arguments}, optional={"d": _arguments, "z": _arguments, "a": _arguments}
        ),
    ),
    st.tuples(
        st.just(join),
        st.lists(_arguments, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "args"]), _arguments, max_size=2),
    ),
)
_keys = st.sampled_from(["s", "m", "l"])


def _less(lazy: Any, other: Any) -> LazyResult:
    return load(lazy) < load(other)


def _item(lazy: Any, other: Any) -> LazyResult:
    return gather({0: other, 1: lazy})[0][gather(1, 0)[1]]


def _slice(lazy: Any, other: Any) -> LazyResult:
    return gather(lazy, other, 3)[: gather(1, 2)[0]]


def _negative(lazy: Any, other: Any) -> LazyResult:
    return -join.map(x=[lazy])[0] + 1


def _rounded(lazy: Any, other: Any) -> LazyResult:
    return pow(round(gather(lazy, 3)[1], 2), divmod(gather(lazy, other, 5)[2], 2)[0], 7)


_added = st.one_of(
    st.tuples(st.just(gather), st.lists(_arguments, max_size=3), st.just({})),
    st.tuples(
        st.just(pair.map),
        st.just(()),
        st.fixed_dictionaries({"a": st.lists(_arguments, max_size=3)}),
    ),
    st.tuples(
        st.just(pair.map),
        st.just(()),
        st.fixed_dictionaries(
            {"a": st.lists(_arguments, max_size=3), "b": st.builds(literal, atoms)}
        ),
    ),
    st.dictionaries(_keys, _arguments, min_size=1).flatmap(
        lambda routes: st.tuples(
            st.just(Router),
            st.just(()),
            st.fixed_dictionaries(
                {"selector": st.sampled_from(sorted(routes)), "routes": st.just(routes)}
            ),
        )
    ),
)
_operators: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from([_less, _item, _slice, _negative, _rounded]),
    st.tuples(_refs, _leaves),
    st.just({}),
)
_sources: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just(Param), st.tuples(st.just("p"), atoms, st.just(str)), st.just({})),
    st.tuples(st.just(Env), st.tuples(st.just("CASCADE_NOT_SET"), atoms), st.just({})),
)
_policies = st.lists(st.tuples(st.sampled_from(["run_if", "after"]), st.integers(0, 9)), max_size=2)
_with_amounts = st.lists(
    st.tuples(st.sampled_from(["run_if", "after", "gpu", "disk"]), st.integers(0, 9)), max_size=3
)


def programs(
    *, policies: bool = True, sources: bool = True, amounts: bool = False
) -> st.SearchStrategy[list[LazyResult]]:
    """Lazy values in order of creation; the last is the target, and may not need them all.

    With ``amounts`` calls take capacities; a node used as an amount may give anything.
    """
    nodes = st.one_of(_calls, _calls, _added, _operators, *[_sources] * sources)
    extra = (_with_amounts if amounts else _policies) if policies else st.just([])
    return st.tuples(st.lists(st.tuples(nodes, extra), max_size=7), st.tuples(_calls, extra)).map(
        lambda drawn: _made([*drawn[0], drawn[1]])
    )


def _made(recipe: list[Any]) -> list[LazyResult]:
    made: list[LazyResult] = []
    for (function, args, kwargs), policies in recipe:
        lazy = function(*_resolved(tuple(args), made), **_resolved(kwargs, made))
        for policy, number in policies:
            if policy in ("gpu", "disk"):
                _take(lazy, policy, number, made)
            elif made:
                getattr(lazy, policy)(made[number % len(made)])
        made.append(lazy)
    return made


def _take(lazy: LazyResult, name: str, number: int, made: list[LazyResult]) -> None:
    """Let a call of a task take an amount of a capacity, known or given by another call."""
    if not lazy.task.structural:
        amount = made[number % len(made)] if made and number > 4 else number / 2
        lazy.with_capacity(**{name: amount})


def _resolved(value: Any, made: list[LazyResult], hashed: bool = False) -> Any:
    """``value`` with lazy values in place of the Refs, newest first.

    Where a value is to be hashed, a Ref is a call whose result is a number.
    """
    if isinstance(value, Ref):
        lazy = made[-1 - value.number % len(made)] if made else value.number
        return load(lazy) if hashed else lazy
    if type(value) is dict:
        return {_resolved(k, made, True): _resolved(v, made, hashed) for k, v in value.items()}
    if isinstance(value, Point):
        return Point(*(_resolved(item, made, hashed) for item in value))
    if type(value) in (list, tuple, set):
        hashed = hashed or type(value) is set
        return type(value)(_resolved(item, made, hashed) for item in value)
    return value


def meaning(target: LazyResult) -> Any:
    """The value of ``target`` where nothing is skipped and nothing injected, by recursion."""
    known: dict[LazyResult, Any] = {}

    def value(thing: Any) -> Any:
        if not isinstance(thing, LazyResult):
            return thing.value if isinstance(thing, Literal) else thing
        if thing not in known:
            args = [value(argument) for argument in thing.args]
            result = thing.task.func(*args, **{k: value(v) for k, v in thing.kwargs.items()})
            known[thing] = value(result) if isinstance(result, LazyResult) else result
        return known[thing]

    return value(target)
