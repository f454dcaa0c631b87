"""Constraints as people write them."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade as cs
from cascade.runtime.limits.rules import KINDS, RateRule, matcher, per_second
from cascade.spec.errors import ArgumentError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


# -- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("10/s", 10),
        ("300/m", 5),
        ("1000/h", 1000 / 3600),
        ("5000/d", 5000 / 86400),
        ("0.5/s", 0.5),
        (".5/s", 0.5),
        ("  7 / s  ", 7),
    ],
)
def test_a_rate_is_a_number_and_a_time(rate, expected):
    assert per_second(rate) == pytest.approx(expected, rel=1e-12)


@given(
    st.decimals(min_value="0.001", max_value="1e9", places=3),
    st.sampled_from("smhd"),
    st.sampled_from(["", " ", "\t"]),
)
def test_any_such_rate_is_read_as_it_is_written(count, unit, space):
    found = per_second(f"{space}{count:f}{space}/{space}{unit}{space}")
    assert found == pytest.approx(float(Fraction(count) / SECONDS[unit]), rel=1e-12)


@given(st.text(max_size=8))
def test_any_other_text_is_refused(text):
    try:
        found = per_second(text)
    except ArgumentError:
        return
    assert found > 0
    assert text.strip()[-1] in SECONDS
    assert "/" in text


@pytest.mark.parametrize(
    "rate",
    ["", "10", "10/", "/s", "0/s", "0.0/m", "-1/s", "1e3/s", "1./s", "inf/s", "nan/s", "10/S",
     "10/sec", "10 per s", "10/s/s", "10//s", f"{'9' * 400}/s", f"0.{'0' * 322}1/d", None, True,
     b"10/s", ["10/s"]],
)  # fmt: skip
def test_invalid_rates_are_refused(rate):
    with pytest.raises(
        ArgumentError, match=r"a rate is a number > 0 per unit of time, such as '10/s'"
    ):
        per_second(rate)


@pytest.mark.parametrize(("rate", "hint"), [(10, "'10/s'"), (0.5, "'0.5/s'")])
def test_a_number_alone_is_told_how_to_be_a_rate(rate, hint):
    with pytest.raises(ArgumentError, match=f"write {hint}"):
        per_second(rate)


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "has", "has_not"),
    [
        ("global", ["", "a", "global", "task:a"], []),
        ("task:fetch", ["fetch"], ["fetch_", "fetc", "Fetch", "", "fetch\n"]),
        ("task:fetch_*", ["fetch_", "fetch_a", "fetch_a\nb"], ["fetch", "a_fetch_b", "FETCH_a"]),
        ("task:*", ["", "a", "a.b", "a\nb"], []),
        ("task:?", ["a", "*"], ["", "ab"]),
        ("task:[ab]*", ["a", "bc"], ["c", "", "[ab]"]),
        ("task:[!ab]", ["c", "!"], ["a", "b", "cc"]),
        ("task:[", ["["], ["", "a"]),
        ("task:a.b", ["a.b"], ["axb"]),
        ("task:a+(b)|c^$\\", ["a+(b)|c^$\\"], ["aab", "a", "c"]),
        ("task:<lambda>", ["<lambda>"], ["lambda"]),
        ("task:task:a", ["task:a"], ["a"]),
        ("task: ", [" "], ["", "a"]),
        ("task:größe", ["größe"], ["grosse"]),
    ],
)
def test_a_scope_has_the_tasks_that_its_pattern_names(scope, has, has_not):
    cs.Constraint(scope, "pause")
    matches = matcher(scope)
    assert [name for name in has if not matches(name)] == []
    assert [name for name in has_not if matches(name)] == []


@given(st.text(st.characters(exclude_characters="*?["), min_size=1))
def test_a_name_without_wildcards_is_its_own_pattern(name):
    matches = matcher(f"task:{name}")
    assert matches(name)
    assert not matches(f"{name}x")
    assert not matches(f"x{name}")


@pytest.mark.parametrize("scope", ["", "task:", "task", "tasks:a", "Global", "GLOBAL", None, 1])
def test_invalid_scopes_are_refused(scope):
    with pytest.raises(ArgumentError, match="a scope is 'global' or 'task:' and a pattern"):
        cs.Constraint(scope, "pause")


@pytest.mark.parametrize(
    ("scope", "hint"),
    [("globl", "'global'"), ("fetch", r"did you mean 'task:fetch'\?")],
)
def test_near_misses_of_scopes_are_helped(scope, hint):
    with pytest.raises(ArgumentError, match=hint):
        cs.Constraint(scope, "pause")


# -- constraints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ("global", "pauze"),
        ("global", None),
        ("global", "pause", 1),
        ("global", "pause", 0),
        ("global", "concurrency"),
        ("global", "concurrency", 0),
        ("global", "concurrency", True),
        ("global", "concurrency", 1.0),
        ("global", "concurrency", "1"),
        ("global", "rate_limit"),
        ("global", "rate_limit", "1/x"),
        ("global", "rate_limit", "1/s", 0),
        ("global", "rate_limit", "1/s", 1.5),
        ("global", "pause", None, 1, 0),
        ("global", "pause", None, 1, -1),
        ("global", "pause", None, 1, "1"),
        ("global", "pause", None, 1, math.nan),
        ("global", "pause", None, 1, math.inf),
        ("global", "pause", None, 1, 10**400),
        ("global", "rate_limit", "1/s", 10**400),
    ],
)
def test_invalid_arguments_are_refused(given):
    with pytest.raises(ArgumentError):
        cs.Constraint(*given)


def test_near_misses_of_kinds_are_helped():
    with pytest.raises(ArgumentError, match="did you mean 'rate_limit'"):
        cs.Constraint("global", "ratelimit", "1/s")


def test_nothing_begins_is_said_by_a_pause():
    with pytest.raises(ArgumentError, match="to let nothing begin, set a pause"):
        cs.Constraint("global", "concurrency", 0)


def test_a_constraint_is_a_value():
    one, other = (cs.Constraint("task:a", "rate_limit", "1/s", burst=2, ttl=5) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != cs.Constraint("task:a", "rate_limit", "1/s", burst=3, ttl=5)
    assert (str(one), one.key) == ("rate_limit task:a 1/s", ("task:a", "rate_limit"))
    assert str(cs.Constraint("global", "pause")) == "pause global"
    assert {kind for _, kind in [one.key]} <= set(KINDS)


@pytest.mark.parametrize(
    ("rate", "burst", "size"), [("1/s", 1, 1), ("1/s", 5, 5), ("1000/s", 1, 10), ("1000/s", 50, 50)]
)
def test_a_bucket_holds_the_burst_or_the_tokens_between_two_wake_ups(rate, burst, size):
    rule = RateRule(cs.Constraint("global", "rate_limit", rate, burst), math.inf)
    assert rule.size == size
