"""Which numbers options take."""

import math

import pytest

from cascade.spec.checks import check_count, is_count, is_number
from cascade.spec.errors import ArgumentError


@pytest.mark.parametrize(
    ("value", "counts"),
    [(1, True), (10**30, True), (0, False), (-1, False), (True, False), (1.0, False), ("1", False)],
)
def test_a_count_is_an_int_from_one_up(value, counts):
    assert is_count(value) is counts


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (1, True),
        (0.5, True),
        (math.inf, True),
        (0.25, False),
        (math.nan, False),
        (True, False),
        ("1", False),
        (None, False),
        (1j, False),
    ],
)
def test_a_number_is_an_int_or_float_from_the_least_up(value, fits):
    assert is_number(value, 0.5) is fits


def test_what_counts_nothing_is_refused_by_the_name_of_the_option():
    check_count("max_workers", 1)
    with pytest.raises(ArgumentError, match=r"^max_workers must be an int from 1 up, but is 'x'$"):
        check_count("max_workers", "x")
