"""Durations as people read them."""

import pytest

from cascade.graph.durations import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (0.000_999_4, "999 µs"),
        (0.000_999_6, "1 ms"),
        (0.999_4, "999 ms"),
        (0.999_6, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3661, "1 h 1 min"),
        (7199, "2 h"),
        (360_000, "100 h"),
    ],
)
def test_a_duration_is_rounded_before_its_unit_is_chosen(seconds, text):
    """So that there is no 1000 ms, and no 60 s."""
    assert duration_text(seconds) == text
