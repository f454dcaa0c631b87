"""Durable runs of random programs, which crash and are resumed (D1–D4, D8)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential.crashes import POINTS, Crash, check_crashes
from tests.differential.programs import Program
from tests.differential.strategies import Profile, programs

_FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=30)
_THOROUGH = settings.get_current_profile_name() == "thorough"
examples = settings() if _THOROUGH else _FIXED
pytestmark = [pytest.mark.timeout(0)] if _THOROUGH else []

_tiers = st.sampled_from([None, None, "interpreted", "generated", "auto"])
_counts = st.integers(0, 2) | st.integers(0, 12)  # many programs have few points
_crashes = st.lists(
    st.builds(Crash, st.sampled_from(POINTS), _counts, _tiers), min_size=1, max_size=4
)
_durabilities = st.sampled_from(["sync", "sync", "sync", "async", "exit"])


@examples
@given(programs(Profile(caches=False, windows=False)), _crashes, _tiers, _durabilities)
def test_programs_that_succeed(program: Program, crashes, last, durability):
    check_crashes(program, crashes, last=last, durability=durability)


@examples
@given(programs(Profile(caches=False, windows=False, fails=12)), _crashes, _tiers, _durabilities)
def test_programs_that_may_fail(program: Program, crashes, last, durability):
    check_crashes(program, crashes, last=last, durability=durability)


@examples
@given(programs(Profile(caches=False, windows=False, fails=12)), _crashes, _tiers, _durabilities)
def test_programs_that_go_on_after_failures(program: Program, crashes, last, durability):
    check_crashes(program, crashes, last=last, durability=durability, fail_fast=False)


@examples
@given(
    programs(Profile(caches=False, windows=False, fails=12, joins=True)),
    _crashes,
    _tiers,
    _durabilities,
    st.booleans(),
)
def test_programs_that_join_what_is_skipped_or_fails(
    program: Program, crashes, last, durability, fail_fast
):
    check_crashes(program, crashes, last=last, durability=durability, fail_fast=fail_fast)


@settings(examples, max_examples=examples.max_examples // 3)
@given(
    programs(Profile(caches=False, windows=False, fails=2, depth=5, shared=6)),
    _crashes,
    _tiers,
    _durabilities,
)
def test_large_programs(program: Program, crashes, last, durability):
    check_crashes(program, crashes, last=last, durability=durability)
