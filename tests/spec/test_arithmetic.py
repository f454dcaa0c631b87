"""``cascade.spec.arithmetic``: operators of lazy values."""

from __future__ import annotations

import math
import operator

import pytest

from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import task


@task
def given(value):
    return value


def value_of(lazy):
    """The result of a run, by plain recursion."""
    if isinstance(lazy, Literal):
        return lazy.value
    if not isinstance(lazy, LazyResult):
        return lazy
    return lazy.task.func(*map(value_of, lazy.args))


BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    divmod,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lshift,
    operator.rshift,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("function", BINARY, ids=lambda function: function.__name__)
def test_a_binary_operator_makes_a_node_with_the_operands_in_order(function):
    for left, right in [(7, 2), (2, 7)]:
        expected = function(left, right)
        assert value_of(function(given(left), right)) == expected
        assert value_of(function(left, given(right))) == expected
        assert value_of(function(given(left), given(right))) == expected


def test_matrix_multiplication_makes_a_node_either_way():
    class Matrix:
        def __init__(self, name):
            self.name = name

        def __matmul__(self, other):
            return f"{self.name}@{other.name}"

    a, b = Matrix("a"), Matrix("b")
    assert value_of(given(a) @ given(b)) == "a@b"
    assert value_of(given(a) @ b) == "a@b"


@pytest.mark.parametrize("function", [operator.neg, operator.pos, abs, operator.invert])
def test_a_unary_operator_makes_a_node(function):
    assert value_of(function(given(-7))) == function(-7)


@pytest.mark.parametrize("function", [round, math.floor, math.ceil, math.trunc])
def test_rounding_makes_a_node(function):
    for value in (-2.5, -0.4, 2.5, 7.75):
        assert value_of(function(given(value))) == function(value)


def test_the_digits_of_round_and_the_modulus_of_pow_may_be_lazy():
    assert value_of(round(given(2.345), 1)) == 2.3
    assert value_of(round(given(2.345), given(2))) == round(2.345, 2)
    assert isinstance(value_of(round(given(2.345), given(0))), float)
    assert value_of(pow(given(7), 3, given(5))) == pow(7, 3, 5)


def test_items_and_slices_may_be_chosen_by_lazy_values():
    rows = given({"k": [1, 2, 3, 4, 5]})
    assert value_of(rows["k"]) == [1, 2, 3, 4, 5]
    assert value_of(rows["k"][given(1)]) == 2
    assert value_of(rows["k"][1 : given(4) : 2]) == [2, 4]
    assert value_of(rows["k"][given(3) :]) == [4, 5]
    assert value_of(rows[given("k")]) == [1, 2, 3, 4, 5]


def test_a_container_operand_is_searched_for_lazy_values():
    """R2."""
    more = [given(2)]
    total = given([1]) + more
    assert [lazy.name for lazy in total._dependencies] == ["given", "gather"]
    assert total._dependencies[1].task is GATHER


def test_numpy_leaves_the_operator_to_the_lazy_value():
    numpy = pytest.importorskip("numpy", reason="needs numpy: pip install numpy")
    total = numpy.array([1, 2]) + given(1)
    assert isinstance(total, LazyResult)
    assert value_of(total).tolist() == [2, 3]


def test_a_lazy_value_equals_itself_without_a_node():
    one, other = given(1), given(1)
    assert (one == one) is True
    assert (one != one) is False
    assert one in [one, other]
    assert {one: "a", other: "b"}[one] == "a"


def test_the_inverse_of_a_bool_is_its_negation():
    for value in (True, False, 5):
        assert value_of(~given(value)) == (not value if value is True or value is False else ~value)
    assert value_of(~(given(1) == 1)) is False
    assert value_of(~(given(1) != 1)) is True


def test_a_node_remembers_the_line_of_its_operator():
    first = given(1)
    total = first + 1
    assert total.callsite.lineno == first.callsite.lineno + 1
    assert total.callsite.source == "total = first + 1"
    assert first[0].callsite.filename == __file__


def test_items_do_not_make_a_lazy_value_iterable():
    with pytest.raises(TypeError, match="cannot be iterated"):
        iter(given([1]))
