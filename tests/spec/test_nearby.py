"""The name that was probably meant."""

import pytest

from cascade.spec.nearby import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("itm", ["item", "factor"], " (did you mean 'item'?)"),
        ("databse", {"database": 1}, " (did you mean 'database'?)"),
        ("c", ["a", "b"], ""),
        ("item", [], ""),
    ],
)
def test_the_nearest_name_is_offered_if_it_is_near(name, known, hint):
    assert did_you_mean(name, known) == hint
