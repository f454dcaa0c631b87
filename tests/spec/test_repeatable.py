"""``cascade.spec.repeatable``: a retry takes no iterators (ruling M23)."""

from __future__ import annotations

import csv
import io
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.spec.blueprint import Literal
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import gather
from cascade.spec.task import task


@task
def load(lines, n=0, *rest, **more):
    return list(lines)


@dataclass
class Job:
    rows: Any


async def rows():
    yield 1


def generator():
    return (row for row in "abc")


ITERATORS = [
    lambda: iter("abc"),
    lambda: iter([]),
    lambda: map(str, "abc"),
    generator,
    rows,
    lambda: io.StringIO("abc"),
    lambda: csv.reader(["a,b"]),
]


@pytest.mark.parametrize("make", ITERATORS)
@pytest.mark.parametrize(
    "around",
    [
        lambda x: x,
        lambda x: [1, x],
        lambda x: {"a": [{"b": (x,)}]},
        lambda x: deque([x]),
        lambda x: Job(x),
        lambda x: [load("a"), x],
        lambda x: {"a": load("a"), "b": [[x]]},
        lambda x: gather(load("a"), [x]),
    ],
)
def test_an_iterator_among_the_arguments_of_a_call_with_a_retry_is_refused(make, around):
    call = load(around(make()))
    with pytest.raises(ArgumentError, match=r"its argument 'lines' (is|holds) an iterator"):
        call.with_retry()
    assert call._policies is None


def test_the_error_names_the_call_the_argument_and_what_to_write():
    call = load(generator())
    with pytest.raises(ArgumentError) as caught:
        call.with_retry()
    first, *others = str(caught.value).splitlines()
    assert first.startswith(
        f"task 'load' (called at {call.callsite}) has a retry, and its argument 'lines' is an "
        "iterator, which the first attempt would use up: <generator object "
    )
    assert others == [
        "    right:  list(iterator)      # or what it is made from: a path, a query",
        "    or:     cs.literal(iterator)      # every attempt gets it as the last one left it",
    ]


def test_a_surplus_argument_is_named_by_its_place_or_its_keyword():
    for call, name in [(load(1, 2, 3, iter("a")), "number 4"), (load(1, x=iter("a")), "'x'")]:
        with pytest.raises(ArgumentError, match=f"its argument {name} is an iterator"):
            call.with_retry()


@pytest.mark.parametrize(
    "argument",
    ["abc", range(3), [1, [2]], {"a": 1}.keys(), b"ab", None, load, Path("a"), Job([1])],
)
def test_whatever_can_be_read_again_is_taken(argument):
    if argument is load:
        argument = Literal(load)
    assert load(argument).with_retry(2)._calls.retry.max_attempts == 2


def test_a_literal_hands_over_an_iterator_nevertheless():
    assert load(Literal(iter("abc"))).with_retry(2)._calls.retry.max_attempts == 2


def test_a_literal_inside_of_a_container_does_not():
    with pytest.raises(ArgumentError, match="holds an iterator"):
        load([Literal(iter("abc"))]).with_retry()


def test_an_iterator_as_a_column_of_a_map_is_read_at_once():
    assert load.map(lines=iter(["a", "b"])).with_retry(2)._policies.calls.retry is not None


@pytest.mark.parametrize("items", [lambda x: [x], lambda x: [load("a"), x], lambda x: ["a", [x]]])
def test_an_iterator_as_an_item_of_a_map_is_refused(items):
    mapped = load.map(lines=items(iter("a")))
    with pytest.raises(
        ArgumentError, match=r"^'load\.map' .* its argument 'lines' holds an iterat"
    ):
        mapped.with_retry()


def test_a_literal_of_a_map_is_not_examined():
    mapped = load.map(lines=["a"], n=Literal(iter("a")))
    assert mapped.with_retry(2)._policies.calls.retry is not None


def test_without_a_retry_iterators_are_arguments_as_any_other():
    assert load(iter("abc")).with_timeout(3)._calls.timeout == 3


@task(retry=3)
def again(lines, n=0):
    return list(lines)


def test_a_task_that_declares_a_retry_refuses_iterators_where_it_is_called():
    assert again("abc")._calls.retry.max_attempts == 3
    assert again(Literal(iter("abc")))._calls.retry.max_attempts == 3
    with pytest.raises(ArgumentError, match=r"^task 'again' .* argument 'lines' is an iterator"):
        again(iter("abc"))
    with pytest.raises(ArgumentError, match=r"^'again\.map' .* argument 'lines' holds an iterator"):
        again.map(lines=["a", iter("abc")])


def test_one_attempt_in_all_takes_iterators():
    assert load(iter("abc")).with_retry(1)._calls.retry.max_attempts == 1
    assert load(iter("abc")).with_retry(None)._calls.retry is None
