"""Which arguments fit a task, and which value belongs to which name (M1)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spec.errors import ArgumentError
from cascade.spec.parameters import Parameters
from cascade.spec.resource import inject


def plain(a, b=2): ...


def every_kind(a, b=2, /, c=3, *rest, d, e=5, **more): ...


def named_only(*, a, b=2): ...


def of(function) -> Parameters:
    return Parameters(function, function.__name__)


def test_the_kinds_are_told_apart():
    parameters = of(every_kind)

    assert parameters.positional == ("a", "b", "c")
    assert parameters.keyword == ("c", "d", "e")
    assert parameters.var_positional == "rest"
    assert parameters.var_keyword == "more"
    assert parameters.defaults == {"b": 2, "c": 3, "e": 5}
    assert parameters.injections == {}


def test_injections_are_the_defaults_that_are_one():
    database = inject("db")

    def f(a, db=database, *, n=1): ...

    assert of(f).injections == {"db": database}
    assert of(f).defaults == {"db": database, "n": 1}


def test_a_builtin_without_a_signature_takes_anything():
    parameters = Parameters(max, "max")

    assert (parameters.var_positional, parameters.var_keyword) == ("args", "kwargs")
    assert parameters.bind((1, 2), {"key": abs}) == {"args": (1, 2), "kwargs": {"key": abs}}


def test_positional_and_keyword_arguments_meet_under_one_name():
    """M1."""
    assert of(plain).bind((10,), {}) == of(plain).bind((), {"a": 10}) == {"a": 10}


def test_binding_leaves_the_defaults_out():
    assert of(every_kind).bind((1,), {"d": 4}) == {"a": 1, "d": 4}


def test_surplus_arguments_are_one_value():
    named = of(every_kind).bind((1, 2, 3, 4, 5), {"d": 6, "x": 7, "a": 8})

    assert named == {"a": 1, "b": 2, "c": 3, "rest": (4, 5), "d": 6, "more": {"x": 7, "a": 8}}


def test_a_misfit_names_the_task_and_its_signature():
    message = "task 'plain': missing a required argument: 'a'; its signature is plain(a, b=2)"
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        of(plain).bind((), {})


def test_an_unknown_argument_is_reported_before_the_missing_one():
    def work(item, *, factor=1): ...

    for args, kwargs, problem in [
        (
            (),
            {"itm": 1},
            "got an unexpected keyword argument 'itm' (did you mean 'item'?), and mis",
        ),
        ((1,), {"c": 2}, "got an unexpected keyword argument 'c'; its signature"),
        ((1,), {"c": 2, "facto": 3}, "got unexpected arguments 'c', 'facto' (did you mean 'factor"),
        ((1, 2), {"c": 3}, "got an unexpected keyword argument 'c', and too many positional argu"),
        ((1,), {"item": 3}, "multiple values for argument 'item'; its signature"),
    ]:
        with pytest.raises(ArgumentError, match=f"^task 'work': {re.escape(problem)}"):
            of(work).bind(args, kwargs)
    with pytest.raises(ArgumentError, match=r"'facto' \(did you mean 'factor'\?\); its signature"):
        of(work).merge({"item": 1}, (), {"facto": 2})


def test_a_name_of_the_wrong_kind_is_not_unknown():
    def work(item, /, factor=1): ...

    with pytest.raises(ArgumentError, match=r"positional.only"):
        of(work).bind((), {"item": 1})


def test_the_signature_shown_is_under_the_tasks_name():
    with pytest.raises(
        ArgumentError, match=r"^task 'other': .*; its signature is other\(a, b=2\)$"
    ):
        Parameters(plain, "other").bind((), {})


# -- a self tail call -----------------------------------------------------------------------------


def test_arguments_not_named_keep_their_last_value():
    """R5."""
    assert of(plain).merge({"a": 1, "b": 7}, (), {"a": 2}) == {"a": 2, "b": 7}
    assert of(plain).merge({"a": 1, "b": 7}, (2,), {}) == {"a": 2, "b": 7}
    assert of(plain).merge({"a": 1, "b": 7}, (), {}) == {"a": 1, "b": 7}


def test_merging_changes_neither_side():
    current, new = {"a": 1}, {"b": 2}
    of(plain).merge(current, (), new)

    assert (current, new) == ({"a": 1}, {"b": 2})


def test_surplus_positionals_are_replaced_as_a_whole():
    current = {"a": 1, "d": 4, "rest": (5, 6), "more": {}}
    merge = of(every_kind).merge

    assert merge(current, (1, 2, 3, 9), {})["rest"] == (9,)
    assert merge(current, (1, 2, 3), {})["rest"] == (5, 6)


def test_surplus_keywords_are_merged_by_key():
    current = {"a": 1, "d": 4, "rest": (), "more": {"x": 1, "y": 2}}

    assert of(every_kind).merge(current, (), {"x": 9, "d": 5}) == {
        "a": 1,
        "d": 5,
        "rest": (),
        "more": {"x": 9, "y": 2},
    }


def test_a_keyword_with_the_name_of_a_positional_only_parameter_is_surplus():
    assert of(every_kind).bind((1,), {"z": 0, "b": 9, "d": 4}) == {
        "a": 1,
        "d": 4,
        "more": {"z": 0, "b": 9},
    }
    merged = of(every_kind).merge({"a": 1, "d": 4}, (), {"a": 9})

    assert merged == {"a": 1, "d": 4, "more": {"a": 9}}
    with pytest.raises(ArgumentError, match=r"missing a required .*'a'"):
        of(every_kind).bind((), {"a": 9, "d": 4})


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {"c": 1}, "unexpected keyword argument 'c'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_a_tail_call_that_does_not_fit_names_the_task(args, kwargs, problem):
    for method in (lambda *a: of(plain).merge({"a": 1}, *a), of(plain).check_partial):
        with pytest.raises(ArgumentError, match=f"^task 'plain': .*{problem}.* plain\\(a, b=2\\)$"):
            method(args, kwargs)


def test_an_incomplete_tail_call_passes_the_check():
    of(plain).check_partial((), {})
    of(plain).check_partial((), {"b": 1})
    of(named_only).check_partial((), {"b": 1})


# -- a switch -------------------------------------------------------------------------------------


def test_a_switch_starts_from_the_defaults():
    """M1."""
    assert of(plain).complete({"a": 1}) == {"a": 1, "b": 2}
    assert of(every_kind).complete({"a": 1, "d": 4}) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


@pytest.mark.parametrize(
    ("function", "named", "missing"),
    [
        (plain, {}, "missing the argument 'a'"),
        (plain, {"b": 1}, "missing the argument 'a'"),
        (every_kind, {"e": 1}, "missing the arguments 'a', 'd'"),
        (named_only, {}, "missing the argument 'a'"),
    ],
)
def test_a_switch_without_a_required_argument_is_an_error(function, named, missing):
    """M1, M3: a missing input is a TypeError, never None."""
    name = function.__name__
    with pytest.raises(TypeError, match=rf"^task '{name}': {missing}; its signature is {name}\("):
        of(function).complete(named)


# -- the call -------------------------------------------------------------------------------------


def test_the_form_that_the_function_is_called_with():
    parameters = of(every_kind)
    named = parameters.complete({"a": 1, "d": 4, "rest": (7, 8), "more": {"x": 9}})

    assert parameters.spread(named) == ([1, 2, 3, 7, 8], {"d": 4, "e": 5, "x": 9})


_names = st.sampled_from(["a", "b", "c", "d", "e", "f", "x"])
_signatures = [
    lambda a, b=2: (a, b),
    lambda a, b=2, /, c=3, *rest, d, e=5, **more: (a, b, c, rest, d, e, more),
    lambda a=1, /, **more: (a, more),
    lambda *, a, b=2: (a, b),
    lambda *rest: rest,
    lambda **more: more,
    lambda a, *rest, b=1: (a, rest, b),
]


@given(
    st.sampled_from(_signatures),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(_names, st.integers(), max_size=4),
)
def test_binding_agrees_with_pythons_own_call(function, args, kwargs):
    """M1: to names and back again is the same call."""
    parameters = Parameters(function, "f")
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(ArgumentError):
            parameters.bind(args, kwargs)
        return
    positional, named = parameters.spread(parameters.complete(parameters.bind(args, kwargs)))

    assert function(*positional, **named) == expected


@given(
    st.sampled_from(_signatures),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(_names, st.integers(), max_size=4),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(_names, st.integers(), max_size=4),
)
def test_a_tail_call_changes_the_named_arguments_only(function, args, kwargs, more, new):
    """R5."""
    parameters = Parameters(function, "f")
    try:
        current = parameters.bind(args, kwargs)
        changes = parameters.bind_some(more, new)
    except ArgumentError:
        return
    merged = parameters.merge(current, more, new)
    surplus = parameters.var_keyword

    for name in {*current, *changes} - {surplus}:
        assert merged[name] == changes.get(name, current.get(name))
    if surplus in merged:
        assert merged[surplus] == {**current.get(surplus, {}), **changes.get(surplus, {})}
