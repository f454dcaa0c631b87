"""Which numbers options take."""

import math

import pytest

from cascade.spec.checks import check_count, check_seconds, is_count, is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.task import task


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


def test_an_invalid_count_is_refused_by_the_name_of_the_option():
    check_count("max_workers", 1)
    with pytest.raises(ArgumentError, match=r"^max_workers must be an int ≥ 1, but is 'x'$"):
        check_count("max_workers", "x")


HUGE = 10**400  # an int that no float can hold


@pytest.mark.parametrize(
    "use",
    [
        lambda lazy: lazy.with_timeout(HUGE),
        lambda lazy: lazy.with_retry(2, delay=HUGE),
        lambda lazy: lazy.with_retry(2, backoff=HUGE),
        lambda lazy: lazy.with_retry(2, max_delay=HUGE),
        lambda lazy: lazy.with_retry(2, jitter=HUGE),
        lambda lazy: lazy.with_capacity(gpu=HUGE),
        lambda lazy: lazy.with_cache(Kept(), ttl=HUGE),
        lambda lazy: check_seconds("deadline", HUGE),
    ],
)
def test_a_number_that_no_float_can_hold_is_refused(use):
    with pytest.raises(ArgumentError):
        use(task(lambda: None)())


@pytest.mark.parametrize("value", [float("inf"), 1e308, 10**300])
def test_numbers_up_to_infinity_are_accepted(value):
    assert is_number(value, 0)
    assert not is_number(float("nan"), 0)


class Kept:
    """A CacheBackend."""

    def get(self, key): ...

    def put(self, key, value, ttl=None): ...
