"""One semantics, two strategies: random programs, run in three ways."""

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans
from tests.differential.build import Build
from tests.differential.harness import check
from tests.differential.programs import (
    PARAMS,
    Box,
    Call,
    Change,
    Const,
    Fail,
    Fold,
    Gather,
    Give,
    Job,
    Lit,
    Loop,
    Map,
    Operator,
    OrElse,
    Pack,
    Program,
    Reader,
    Ref,
    Step,
    Tries,
)
from tests.differential.strategies import Profile, changes, programs

#: The same programs each time, unless more are asked for.
_FIXED = settings(derandomize=True, deadline=None, database=None)
_THOROUGH = settings.get_current_profile_name() == "thorough"
_ASKED_FOR = _THOROUGH or settings.get_current_profile_name() == "brief"
examples = settings() if _ASKED_FOR else _FIXED
pytestmark = [pytest.mark.timeout(0)] if _THOROUGH else []


def hold(program: Program, changes: tuple[Change, ...] = (), *, fail_fast: bool = True) -> None:
    printed = f"{program}\n{changes}"
    watched = len(printed) % 2 == 0  # half of them
    # Those that stand in it, of which a run may not know before (M22); a few are declared.
    standing = {n: v for n, v in PARAMS.items() if f"Source(name='{n}'" in printed}
    params = standing if standing and len(printed) % 5 else None
    # M20: exactly as much as it needs, one less, or enough; for a third of them.
    differences = [None, None, -1, None, 0, None, None, 1, None]
    found = zip(("max_steps", "max_rounds"), (len(printed) % 9, len(printed) // 9 % 9), strict=True)
    limits = {name: d for name, at in found if (d := differences[at]) is not None}
    check(
        lambda cs: Build(program, cs),
        printed,
        fail_fast=fail_fast,
        watched=watched,
        changes=changes,
        params=params,
        limits=limits,
    )


@examples
@given(programs(Profile()), changes())
def test_programs_that_succeed(program: Program, changed: tuple[Change, ...]):
    hold(program, changed)


@examples
@given(programs(Profile(fails=12)), changes())
def test_programs_that_may_fail(program: Program, changed: tuple[Change, ...]):
    hold(program, changed)


@examples
@given(programs(Profile(fails=12)), changes())
def test_programs_that_go_on_after_failures(program: Program, changed: tuple[Change, ...]):
    hold(program, changed, fail_fast=False)


@examples
@given(programs(Profile(fails=12, joins=True)), changes(), booleans())
def test_programs_that_join_what_is_skipped_or_fails(
    program: Program, changed: tuple[Change, ...], fail_fast: bool
):
    hold(program, changed, fail_fast=fail_fast)


@examples
@given(programs(Profile(cycles=True, depth=2)), changes())
def test_programs_that_may_wait_for_themselves(program: Program, changed: tuple[Change, ...]):
    hold(program, changed)


@settings(examples, max_examples=examples.max_examples // 3)
@given(programs(Profile(fails=2, depth=5, shared=6)), changes())
def test_large_programs(program: Program, changed: tuple[Change, ...]):
    hold(program, changed)


def test_equal_loops_of_which_any_may_be_tried_again():
    """M20: a retry has all of its rounds again, so it is open whether a node makes too many."""
    steps = Step("named", 0, Const(6)), Step("named", 0, Const(7))
    loop = Loop((0,), steps, Give(Const(1)), Tries(1, 4))
    item = Job("any", None, Give(Call(loop, (Const(0), Const("a")))), tries=Tries(1, 2))
    program = Program((), (), Map(item, (("a", Box(list, (Const(1), Const(1)))),)))
    for _ in range(5):
        maker = lambda cs: Build(program, cs)  # noqa: E731
        check(maker, f"{program}", limits={"max_rounds": -1})


def test_a_failure_to_which_several_paths_lead():
    """R9: the shared map fails in a dict with an unhashable key; which user is told is open."""
    unhashable = Box(dict, (Gather((Const(None),)),))
    column = Call(Job("file", 1, Give(Box(tuple, (Const(1), unhashable)))))
    shared = Map(Job("file", None, Pack(), "blocking"), (("a", column),))
    late = Map(Job("any", 0, Pack()), (("a", Box(list, (Lit(Ref(0)), Const(4)))),))
    hold(Program((shared,), (), Box(tuple, (late, Ref(0)))))


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_two_values_without_a_hash(kind: type):
    """Which of them the error names is open: their lazy values stand in a set."""
    values: tuple[list[int], dict[int, int]] = [], {}
    given = [Call(Job("any", None, Give(Const(value)))) for value in values]
    for _ in range(4):
        hold(Program((), (), Box(kind, tuple(given))))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_literal_in_a_container_beside_a_retry(mapped: bool, depth: int):
    """M23: it stands for what it holds, and is not examined further."""
    held: object = Const(Reader())
    for _ in range(depth):
        held = Lit(held)
    items = Box(list, (held, Call(Job("any", None, Give(Const(1))))))
    job = Job("any", None, Pack(), tries=Tries(1, 2))
    call = Map(job, (("a", items),)) if mapped else Call(job, (items,))
    hold(Program((), (), call))


@pytest.mark.parametrize("turned", [False, True])
def test_a_comparison_with_a_derived_kind_of_node(turned: bool):
    """M25: Python asks the derived class first, so that the error names the other operator."""
    call = Call(Job("any", None, Give(Const({}))))
    derived = OrElse(Call(Job("any", None, Give(Const([])))), Const(1))
    operands = (derived, call) if turned else (call, derived)
    hold(Program((), (), Operator("<", operands)))


def test_limits_that_change_while_an_attempt_opens_its_own_resources():
    """R10: it closes them again and asks the limits, so they may be opened more than once."""
    slower = (
        Change(2, "global", None, None),
        Change(0, "task:*.1", "pause", 0.002),
        Change(0, "task:t*", "rate_limit", "20000/s"),
        Change(2, "task:t*", "rate_limit", "1000000/s"),
    )
    for _ in range(4):
        hold(Program((), (), Call(Job("session", 0, Pack()))), slower)


def test_a_failure_above_a_node_that_may_be_skipped_first():
    """R9: the path in the note may leave that node out."""
    reader = Map(Job("file", 3, Pack()), (("a", Box(list, (Const(Reader()),))),))
    refused = Map(Job("any", 3, Pack(), tries=Tries(0, 2)), (("a", Ref(1)),))
    skipped = Map(Job("file", None, Pack(), "inline"), (("a", Ref(2)),))
    shared = (Gather(()), reader, refused, skipped)
    target = Box(list, (Const(0), Ref(1), Ref(3), Ref(1)))
    for _ in range(6):
        hold(Program(shared, ((3, "run_if", 0),), target))


@pytest.mark.parametrize("condition", [0, 1])
@pytest.mark.parametrize("is_skipped", [False, True])
def test_a_list_that_cannot_be_built_and_its_condition(condition: int, is_skipped: bool):
    """R10: the condition is asked first, so a list that is skipped does not fail."""
    unhashable = Box(dict, (Call(Job("any", None, Give(Const([])))),))
    asked = Call(Job("any", None, Give(Const(condition))), run_if=Const(int(not is_skipped)))
    shared = (asked, Gather((unhashable,)))
    for target in (Box(list, (Ref(1),)), OrElse(Ref(1), Const(2))):
        hold(Program(shared, ((1, "run_if", 0),), target))


@pytest.mark.parametrize("pauses", [None, 3])
@pytest.mark.parametrize("fold", [None, Fold("pack", ())])
def test_failures_of_items_that_a_window_need_not_read(pauses: int | None, fold: Fold | None):
    """M29: after the failure of an item the map reads no further items, also for its user."""
    job = Job("any", pauses, Fail(ValueError, "one"))
    items = Box(list, (Const(0), Const(1), Const(2), Const(3)))
    failing = Map(job, (("a", items),), window=2, fold=fold)
    user = Map(Job("any", None, Pack()), (("a", Ref(0)),))
    for target in (Ref(0), Box(list, (user, Lit(Ref(0)), Ref(0)))):
        hold(Program((failing,), (), target), fail_fast=False)
