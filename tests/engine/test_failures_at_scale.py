"""The cost of failures that a run survives: linear in the nodes that they leave without a value."""

import sys
import threading
from collections import Counter

import pytest
from tests.sample_tasks import same

import cascade as cs
from cascade.runtime.execution.placement import Durations


@cs.task
def bad(n=0):
    raise ValueError(n)


@cs.task
def both(a, b):
    return a, b


def below(n):
    """``n`` nodes below the one that fails."""
    node = bad()
    for _ in range(n):
        node = same(node)
    return node


def diamonds(n):
    """As many ways from the failure to the target as there are numbers of ``n`` bits."""
    node = bad()
    for _ in range(n // 3):
        node = both(same(node), same(node))
    return node


def fan(n):
    """One failure that is used by many."""
    node = bad()
    return cs.gather(*[same(node) for _ in range(n)])


def wide(n):
    """Failures side by side."""
    return cs.gather(*[bad(i) for i in range(n)])


def comb(n):
    """Failures at all depths, with long paths to the target."""
    node = bad()
    for i in range(n // 2):
        node = both(node, bad(i))
    return node


def ladder(n):
    """Nodes that lack more and more failed inputs."""
    nodes = [bad(0)]
    for i in range(n // 3):
        nodes.append(both(nodes[-1], same(bad(i))))
    return nodes[-1]


SHAPES = {shape.__name__: shape for shape in (below, diamonds, fan, wide, comb, ladder)}


@cs.task
def returning(shape, n):
    return SHAPES[shape](n)


def calls_made(function):
    """Calls of Python functions that are made meanwhile, in all threads."""
    count = Counter()

    def note(_frame, event, _argument):
        count[event] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count["call"]


@pytest.fixture
def is_linear(monkeypatch, nodes):
    """Whether twice as many nodes take no more than two and a half times as many calls."""
    # After a stall of the machine a function is known as slow, and called in another way.
    monkeypatch.setattr(Durations, "note", lambda *_: None)

    def is_linear(run):
        run(20)  # what is made once
        return calls_made(lambda: run(2 * nodes)) < 2.5 * calls_made(lambda: run(nodes))

    return is_linear


@pytest.fixture(params=[100, pytest.param(600, marks=pytest.mark.thorough)], ids=str)
def nodes(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_failures_in_a_run_that_goes_on_cost_no_more_than_their_nodes(use_vm, shape, is_linear):
    def run(n):
        with pytest.raises(ExceptionGroup):
            cs.run(SHAPES[shape](n), use_vm=use_vm, fail_fast=False)

    assert is_linear(run)


@pytest.mark.parametrize("shape", SHAPES)
def test_failures_below_an_item_that_catches_them_cost_no_more_than_their_nodes(
    use_vm, shape, is_linear
):
    def run(n):
        items = returning.map(shape=[shape], n=[n], return_exceptions=True)
        [error] = cs.run(items, use_vm=use_vm)
        assert isinstance(error, ValueError)

    assert is_linear(run)


@pytest.mark.parametrize("survives", ["goes on", "catches"])
def test_a_node_below_a_failure_costs_few_calls(use_vm, survives, monkeypatch):
    monkeypatch.setattr(Durations, "note", lambda *_: None)

    def run(n):
        if survives == "catches":
            cs.run(returning.map(shape=["below"], n=[n], return_exceptions=True), use_vm=use_vm)
        else:
            with pytest.raises(ExceptionGroup):
                cs.run(below(n), use_vm=use_vm, fail_fast=False)

    run(50)
    calls = [calls_made(lambda n=n: run(n)) for n in (400, 800)]
    assert (calls[1] - calls[0]) / 400 < 28  # 25 on each Python


def test_items_that_fail_cost_no_more_than_their_number(use_vm, is_linear):
    def run(n):
        errors = cs.run(bad.map(n=range(n), return_exceptions=True), use_vm=use_vm)
        assert [error.args for error in errors] == [(i,) for i in range(n)]

    assert is_linear(run)


@pytest.mark.parametrize(("shape", "failed"), [("wide", 60), ("comb", 31), ("ladder", 21)])
def test_each_error_is_raised_exactly_once(use_vm, shape, failed):
    with pytest.raises(ExceptionGroup) as caught:
        cs.run(SHAPES[shape](60), use_vm=use_vm, fail_fast=False)

    errors = caught.value.exceptions
    assert len(errors) == len({id(error) for error in errors}) == failed


def test_a_path_that_many_failures_share_is_that_of_each(use_vm):
    with pytest.raises(ExceptionGroup) as caught:
        cs.run(comb(60), use_vm=use_vm, fail_fast=False)

    depths = []
    for error in caught.value.exceptions:
        [note] = error.__notes__
        names = note.partition("path ")[2].split(" → ")
        left_out = int(names.pop(6).split()[1]) if len(names) > 12 else 0
        assert names == [*["both"] * (len(names) - 1), "bad"]
        depths.append(len(names) + left_out)
    assert sorted(depths) == sorted([31, *range(2, 32)])
