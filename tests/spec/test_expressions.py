"""How lazy values are written in messages."""

import math

import pytest

from cascade.spec.blueprint import literal
from cascade.spec.expressions import expression, is_comparison, is_operator, label
from cascade.spec.lazy_types import gather
from cascade.spec.params import Env, Param
from cascade.spec.routing import Router
from cascade.spec.task import task


@task
def load(*paths, **options): ...


@task
def count(): ...


@task(name="gather")
def collect(): ...


@task(nout=3)
def split(): ...


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (load("a.csv", count()), "load(…)"),
        (collect(), "gather(…)"),
        (gather(1), "cs.gather(…)"),
        (load([count()])._dependencies[0], "cs.gather(…)"),
        (Param("region"), "cs.Param('region')"),
        (Env("HOME"), "cs.Env('HOME')"),
        (Router(selector=1, routes={1: 2}), "cs.Router(…)"),
        (load.map(option=[1]), "load.map(…)"),
        (count() + 1, "count(…) + 1"),
        (1 - count(), "1 - count(…)"),
        (count() @ load(), "count(…) @ load(…)"),
        (count() >= 2.5, "count(…) >= 2.5"),
        (count() > 5, "count(…) > 5"),
        (-count(), "-count(…)"),
        (~(count() & load()), "~(count(…) & load(…))"),
        (abs(count() - 1), "abs(count(…) - 1)"),
        (abs(count()) ** 2, "abs(count(…)) ** 2"),
        (round(count()), "round(count(…))"),
        (-round(count() / 3, 1), "-round(count(…) / 3, 1)"),
        (divmod(7, count())[0], "divmod(7, count(…))[0]"),
        (pow(count(), 2, 5), "pow(count(…), 2, 5)"),
        (math.floor(count()), "math.floor(count(…))"),
        ((count() + 1) * 2, "(count(…) + 1) * 2"),
        (load()["key"], "load(…)['key']"),
        (load()[count()][0] << 1, "load(…)[count(…)][0] << 1"),
        (load()[1:], "load(…)[1:]"),
        (load()[: count() : 2], "load(…)[:count(…):2]"),
        (list(split())[1], "split(…)[1]"),
        ((load() + 1)["k"], "(load(…) + 1)['k']"),
        (count() * "x" * 100, "(count(…) * 'x') * 100"),
        (count() + literal([1]), "count(…) + Literal(value=[1])"),
    ],
)
def test_a_lazy_value_is_written_as_in_the_source(made, written):
    assert expression(made) == written


def test_deep_nesting_is_abbreviated(many):
    lazy = count()
    for _ in range(many):
        lazy = lazy + 1

    assert expression(lazy) == "((… + 1) + 1) + 1"


def test_a_long_operand_is_cut():
    assert len(expression(count() + "x" * 10_000)) < 100


def test_a_label_is_the_name_or_else_the_expression():
    assert label(load("a.csv")) == "load"
    assert label(gather(1)) == "gather"
    assert label(count() > 5) == "count(…) > 5"


def test_operators_are_told_from_calls():
    operators = [count() + 1, -count(), abs(count()), count()[0], count()[1:], next(iter(split()))]

    assert all(map(is_operator, operators))
    assert not any(map(is_operator, [count(), gather(1), Param("p"), load.map(option=[1])]))
    assert is_comparison(count() < 1)
    assert not any(map(is_comparison, operators))
