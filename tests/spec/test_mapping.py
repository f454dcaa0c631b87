"""``task.map``: one call for each item (R8, M17)."""

import itertools

import pytest

from cascade.spec.blueprint import literal
from cascade.spec.containers import GATHER, fill
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.mapping import MapPlan, expand
from cascade.spec.resource import inject
from cascade.spec.task import task


@task
def numbers(): ...


@task
def scale(value, factor=2, *, db=inject("db")): ...


@task
def anything(*args, **kwargs): ...


def calls(lazy: MappedLazyResult, **columns) -> list[LazyResult]:
    """The calls that the map becomes, once its lazy lists are ``columns``."""
    assert lazy.task.func is expand
    plan, *known = lazy.args
    values = [columns.get(n, c) for n, c in zip(plan.names, known, strict=True)]
    result = expand(plan, *values)
    assert result.task is GATHER
    assert fill(result.args[0], *result._dependencies) == list(result._dependencies)
    return list(result._dependencies)


def test_one_call_for_each_item_in_order():
    """R8."""
    made = calls(scale.map(value=[3, 1, 2]))

    assert [lazy.kwargs["value"] for lazy in made] == [3, 1, 2]
    assert {lazy.task for lazy in made} == {scale}


def test_iterables_go_side_by_side():
    made = calls(scale.map(value=[1, 2], factor=(10, 20)))

    assert [(m.kwargs["value"], m.kwargs["factor"]) for m in made] == [(1, 10), (2, 20)]


@pytest.mark.parametrize(
    "iterable",
    [[1, 2], (1, 2), range(1, 3), iter([1, 2]), {1: "a", 2: "b"}, (i for i in (1, 2)), b"".join],
)
def test_any_iterable_will_do(iterable):
    if callable(iterable):
        with pytest.raises(ArgumentError, match="it is no iterable"):
            scale.map(value=iterable)
    else:
        made = calls(scale.map(value=iterable))
        assert [lazy.kwargs["value"] for lazy in made] == [1, 2]


def test_a_map_over_nothing_is_an_empty_list():
    lazy = expand(scale.map(value=[]).args[0], [])

    assert lazy._dependencies == ()
    assert fill(*lazy.args) == []


def test_a_lazy_iterable_is_an_input_of_the_map():
    """R8: the items are known only at run time."""
    source = numbers()
    lazy = scale.map(value=source)

    assert lazy._dependencies == (source,)
    assert [call.kwargs["value"] for call in calls(lazy, value=(7, 8))] == [7, 8]


def test_a_known_and_a_lazy_iterable_together():
    source = numbers()
    lazy = scale.map(value=[1, 2], factor=source)

    assert lazy._dependencies == (source,)
    assert [call.kwargs["factor"] for call in calls(lazy, factor=[3, 4])] == [3, 4]


def test_items_may_be_lazy_and_then_the_list_is_one_input():
    a, b = numbers(), numbers()
    lazy = scale.map(value=[a, [b]])
    (container,) = lazy._dependencies

    assert container.task is GATHER
    assert set(container._dependencies) == {a, b}


def test_a_literal_is_the_same_for_every_item():
    """M17."""
    shared = [1, 2, 3]
    made = calls(scale.map(value=[1, 2], factor=literal(shared)))

    assert [lazy.kwargs["factor"] for lazy in made] == [literal(shared)] * 2
    assert all(lazy.kwargs["factor"].value is shared and lazy._special for lazy in made)


def test_an_injection_is_the_same_for_every_item():
    database = inject("other")
    made = calls(scale.map(value=[1, 2], db=database))

    assert [lazy.kwargs["db"] for lazy in made] == [database] * 2


def test_parameters_with_an_injection_as_default_need_no_iterable():
    (made,) = calls(scale.map(value=[1]))

    assert made.kwargs["db"].resource_name == "db"


def test_every_call_is_written_where_the_map_is():
    lazy = scale.map(value=[1, 2])

    assert {call.callsite for call in calls(lazy)} == {lazy.callsite}


def test_a_map_is_snapshotted_at_the_call():
    """M15."""
    values = [1]
    lazy = scale.map(value=values)
    values.append(2)

    assert len(calls(lazy)) == 1


def test_maps_nest():
    """R8: a mapped task may map again."""
    inner = scale.map(value=[1, 2])
    outer = anything.map(rows=inner)

    assert outer._dependencies == (inner,)
    assert anything.map(rows=[inner, inner])._dependencies[0]._dependencies == (inner, inner)


def test_a_map_over_the_keywords_of_a_variadic_task():
    assert [call.kwargs for call in calls(anything.map(a=[1, 2]))] == [{"a": 1}, {"a": 2}]


def test_the_repr_of_a_map_names_its_task_and_parameters():
    lazy = scale.map(value=[1], factor=[2])

    assert lazy.name == "scale.map"
    assert lazy.task.structural
    assert repr(lazy.args[0]) == "<map of scale over value, factor>"
    assert isinstance(lazy.args[0], MapPlan)


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abc", b"abc", ""])
def test_a_string_is_refused_with_both_ways_out(text):
    """M17."""
    with pytest.raises(
        TypeError, match=r"^scale\.map\(\) goes over the items of 'value'"
    ) as caught:
        scale.map(value=text)

    assert type(caught.value) is ArgumentError
    assert "but it is a string: " in str(caught.value)
    assert "scale.map(value=[value])" in str(caught.value)
    assert "scale.map(value=cs.literal(value), …)" in str(caught.value)


@pytest.mark.parametrize("value", [3, None, scale.func])
def test_a_value_without_items_is_refused(value):
    with pytest.raises(ArgumentError, match=r"the items of 'value', but it is no iterable: "):
        scale.map(value=value)


def test_a_task_that_was_not_called_is_refused():
    message = (
        r"^scale\.map\(\) goes over the items of 'value', but it is the task 'numbers' itself; "
    )
    with pytest.raises(ArgumentError, match=message + r"call it: numbers\(\)$"):
        scale.map(value=numbers)
    with pytest.raises(ArgumentError, match=r"^the task 'numbers' itself was passed"):
        scale.map(value=[numbers])


def test_unequal_lengths_are_refused_at_once_where_they_are_known():
    """M17."""
    message = r"^scale\.map\(\) .* equally long, but 'value' has 2, 'factor' has 3 items$"
    with pytest.raises(ArgumentError, match=message):
        scale.map(value=[1, 2], factor=[1, 2, 3])


def test_an_empty_iterable_is_not_as_long_as_another():
    with pytest.raises(ArgumentError, match=r"'value' has 0, 'factor' has 1 items$"):
        scale.map(value=[], factor=[1])


def test_the_values_of_lazy_columns_are_checked_by_the_run():
    lazy = scale.map(value=numbers(), factor=[1, 2])
    with pytest.raises(ArgumentError, match=r"'value' has 3, 'factor' has 2 items$"):
        calls(lazy, value=[1, 2, 3])
    with pytest.raises(ArgumentError, match="'value', but it is a string: 'ab'"):
        calls(lazy, value="ab")
    with pytest.raises(ArgumentError, match="'value', but it is no iterable: 5"):
        calls(lazy, value=5)


def test_a_map_needs_something_to_go_over():
    with pytest.raises(
        ArgumentError, match=r"^scale\.map\(\) needs at least one iterable to go ov"
    ):
        scale.map()
    with pytest.raises(ArgumentError, match=r"but all its arguments are literals$"):
        scale.map(value=literal(1))


def test_the_names_are_checked_against_the_signature():
    with pytest.raises(
        ArgumentError, match=r"^task 'scale': got an unexpected .*'colour'; its sig"
    ):
        scale.map(value=[1], colour=[2])
    with pytest.raises(ArgumentError, match=r"^task 'scale': missing a required argument: 'value'"):
        scale.map(factor=[1])
    with pytest.raises(
        ArgumentError, match=r"'valeu' \(did you mean 'value'\?\), and missing a req"
    ):
        scale.map(valeu=[1])


def test_positional_arguments_have_no_name_to_map():
    message = r"^scale\.map\(\) takes its iterables by name: scale\.map\("
    with pytest.raises(ArgumentError, match=message + r"value=\[1, 2\]\)$"):
        scale.map([1, 2])
    with pytest.raises(ArgumentError, match=message + r"value=numbers\(…\), factor=\[1\]\)$"):
        scale.map(numbers(), [1], [2], [3])
    with pytest.raises(ArgumentError, match=r"anything\.map\(…=\[1\]\)$"):
        anything.map([1])


# -- iterators without an end (M17) -----------------------------------------------------------


@task
def pair(a, b=0): ...


def endless():
    while True:
        yield 1


@pytest.mark.parametrize("make", [itertools.count, endless, lambda: itertools.repeat(2)])
@pytest.mark.parametrize("other", [lambda: [1, 2], lambda: iter([1, 2]), lambda: {1: 0, 2: 0}])
def test_an_endless_iterator_beside_a_finite_one_is_an_error_that_names_literal(make, other):
    with pytest.raises(ArgumentError) as caught:
        pair.map(a=other(), b=make())
    assert "'a' has 2, 'b' has more than 2 items" in str(caught.value)
    assert "pair.map(b=cs.literal(value), …)" in str(caught.value)


@pytest.mark.parametrize(
    "make", [itertools.count, lambda: itertools.repeat(2), lambda: itertools.cycle([1])]
)
def test_an_iterator_that_is_known_to_be_endless_is_refused_alone(make):
    with pytest.raises(ArgumentError, match="one call per item, but 'a' has no end"):
        pair.map(a=make())


def test_an_iterator_is_read_no_further_than_the_others_are_long():
    numbers = itertools.count()
    with pytest.raises(ArgumentError):
        pair.map(a=[1, 2], b=numbers)
    assert next(numbers) == 3


def test_repeat_with_a_number_and_equally_long_iterators_are_lists():
    lazy = pair.map(a=itertools.repeat(1, 2), b=iter("ab"))
    assert lazy.mapping_kwargs == {"a": [1, 1], "b": ["a", "b"]}


def test_a_longer_iterator_is_told_from_a_shorter_one():
    with pytest.raises(ArgumentError, match="'a' has 2, 'b' has 3 items"):
        pair.map(a=iter([1, 2]), b=[1, 2, 3])
    with pytest.raises(ArgumentError, match="'a' has 1, 'b' has more than 1 items"):
        pair.map(a=iter([1]), b=iter([1, 2]))
