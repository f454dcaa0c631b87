"""The name that was probably meant."""

import pytest

from cascade.spec.nearby import did_you_mean, names_known


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("itm", ["item", "factor"], " (did you mean 'item'?)"),
        ("databse", {"database": 1}, " (did you mean 'database'?)"),
        ("c", ["a", "b"], ""),
        ("item", [], ""),
        ("cpu", ["gpu"], ""),
        ("gup", ["gpu"], " (did you mean 'gpu'?)"),
    ],
)
def test_the_nearest_name_is_offered_if_it_is_near(name, known, hint):
    assert did_you_mean(name, known) == hint


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ([], "none"),
        (["item"], "'item'"),
        (["item", "factor"], "'item', 'factor' (did you mean 'item'?)"),
        (["other", "factor"], "'other', 'factor'"),
    ],
)
def test_a_name_that_is_the_only_one_is_not_asked_about(known, text):
    assert names_known("itm", known) == text
