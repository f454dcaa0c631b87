"""``lazy.or_else(value)`` and ``task.map(skipped=value)``: joins of skipped branches (M26)."""

import asyncio

import pytest
from tests.engine import json_trips

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.spec.task import task


@task
def same(value):
    return value


@task
def pair(a, b=None):
    return [a, b]


@task
def fail(text):
    raise ValueError(text)


@task
def only_even(n):
    return same(n).run_if(cs.eq(same(n) % 2, 0))


@task
def twice(value):
    return pair(value, value)


def skipped(value=1):
    return same(value).run_if(same(False))


@pytest.fixture(params=["graph", "vm", "program"])
def run_on(request):
    """``run_on(target)``: its value on a path, or as a program."""

    async def value(target, **options):
        async with cs.Engine() as engine:
            if request.param == "program":
                return await engine.compile(target, **options).run()
            return await engine.run(target, use_vm=request.param == "vm", **options)

    return lambda target, **options: asyncio.run(value(target, **options))


@pytest.fixture
def log():
    return []


@pytest.fixture
def noted(log):
    """A task that notes its argument."""

    @cs.task
    def noted(value):
        log.append(value)
        return value

    return noted


# -- or_else --------------------------------------------------------------------------------------


def test_a_join_goes_on_with_a_value_in_place_of_a_skipped_branch(run_on):
    assert run_on(pair(skipped().or_else(None), same(2))) == [None, 2]


def test_a_branch_that_has_a_value_keeps_it(run_on):
    assert run_on(pair(same(0).run_if(same(True)).or_else("none"), same(2))) == [0, 2]


@pytest.mark.parametrize(
    "lacking",
    [
        lambda: same(skipped()),
        lambda: pair(same(1), b=[{"deep": skipped()}]),
        lambda: same(1).run_if(skipped()),
        lambda: cs.Router(selector=skipped(), routes={1: same(1)}),
        lambda: same.map(value=skipped([1])),
        lambda: only_even.map(n=[1]),
        lambda: only_even(1),
        lambda: twice(skipped()) + 1,
        lambda: twice(1)[skipped()],
    ],
)
def test_a_node_that_is_skipped_for_lack_of_an_input_has_the_value(run_on, lacking):
    assert run_on(same(lacking().or_else("none"))) == "none"


def test_a_value_may_be_lazy_and_runs_only_where_it_is_needed(run_on, log, noted):
    target = [skipped().or_else(noted("a")), same(2).or_else(noted("b"))]

    assert run_on(target) == ["a", 2]
    assert log == ["a"]


def test_a_value_is_searched_as_arguments_are(run_on):
    values = [same(1), {"b": same(2)}]
    assert run_on(skipped().or_else(values)) == [1, {"b": 2}]
    assert run_on(skipped().or_else(cs.literal(same))) is same


def test_a_plain_value_is_the_same_object(run_on):
    values = [1, 2]
    assert run_on(skipped().or_else(values)) is values


def test_a_lazy_value_that_others_need_too_is_computed_once(run_on, log, noted):
    shared = noted("x")

    assert run_on([skipped().or_else(shared), shared, skipped().or_else(pair(shared))]) == [
        "x",
        "x",
        ["x", None],
    ]
    assert log == ["x"]


def test_a_lazy_value_is_kept_for_a_fallback_that_needs_it_late(run_on, log, noted):
    """M21: a run sees what a fallback needs, and does not release it."""
    shared = noted("x")
    late = skipped().or_else(pair(shared))

    assert run_on(pair(same(pair(shared)), same(late))) == [["x", None], ["x", None]]
    assert log == ["x"]


def test_the_first_of_several_alternatives_that_is_not_skipped_counts(run_on):
    assert run_on(skipped().or_else(skipped(2).or_else(same(3)))) == 3
    assert run_on(skipped().or_else(skipped(2)).or_else(3)) == 3


def test_without_any_value_the_target_is_skipped(run_on):
    with pytest.raises(cs.errors.DependencyMissingError, match="'same' was skipped"):
        run_on(pair(skipped().or_else(skipped())))


def test_other_users_of_the_lazy_value_are_skipped(run_on):
    lazy = skipped()
    end = same("end").after(pair(lazy))

    assert run_on([lazy.or_else(0), pair(lazy).or_else(1), end]) == [0, 1, "end"]


def test_a_failure_is_no_skip(run_on):
    with pytest.raises(ValueError, match="bad"):
        run_on(fail("bad").or_else(1))
    with pytest.raises(ValueError, match="bad"):
        run_on(pair(fail("bad"), skipped()).or_else(1))


def test_in_a_run_that_goes_on_a_failure_is_no_skip_either(run_on, log, noted):
    with pytest.raises(ExceptionGroup) as group:
        run_on([fail("bad").or_else(1), noted(skipped().or_else(2))], fail_fast=False)
    assert [str(error) for error in group.value.exceptions] == ["bad"]
    assert log == [2]


def test_an_error_of_the_value_is_an_error_of_the_run(run_on):
    with pytest.raises(ValueError, match="bad") as caught:
        run_on(pair(skipped().or_else(same(fail("bad")))))
    assert "on the path pair → same → fail" in caught.value.__notes__[0]


def test_tasks_return_it(run_on):
    @cs.task
    def deep(n):
        return deep(n - 1).or_else("none") if n else skipped()

    assert run_on(deep(1)) == "none"
    assert run_on(deep(50)) == "none"


def test_a_chain_of_many_needs_no_stack(run_on):
    lazy = skipped()
    for n in range(3_000):
        lazy = same(lazy.or_else(n)).run_if(same(False))
    assert run_on(lazy.or_else("end")) == "end"


def test_a_tail_call_waits_for_it(run_on):
    @cs.task
    def loop(n, value=None):
        return loop.tail(n - 1, skipped().or_else([value, same(n)])) if n else value

    assert run_on(loop(2)) == [[None, 2], 1]


def test_the_parts_of_several_values_come_from_it(run_on):
    @cs.task(nout=2)
    def two():
        return 1, 2

    first, second = two().run_if(same(False)).or_else((3, 4))
    assert run_on([second, first]) == [4, 3]


def test_a_parameter_of_a_fallback_is_an_input_of_the_program():
    target = skipped().or_else(cs.Param("n", type=int))

    async def value():
        async with cs.Engine() as engine:
            return await engine.compile(target).run(n="5")

    assert asyncio.run(value()) == 5


def test_only_tasks_have_events(use_vm):
    told = []

    async def value():
        async with cs.Engine() as engine:
            engine.bus.subscribe(cs.events.Event, told.append)
            return await engine.run(pair(skipped().or_else(same(2))), use_vm=use_vm)

    assert asyncio.run(value()) == [2, None]
    skips = [event for event in told if isinstance(event, cs.events.TaskSkipped)]
    assert [(event.task, event.condition) for event in skips] == [("same", "same")]
    names = {getattr(event, "task", None) for event in told}
    assert names == {None, "same", "pair"}


def test_each_outcome_is_recorded(use_vm):
    state = InMemoryStateBackend()
    lazy = skipped()
    joined = lazy.or_else("none")

    async def value():
        async with cs.Engine(state_backend=state) as engine:
            return await engine.run(pair(joined), use_vm=use_vm)

    asyncio.run(value())
    assert state.get_result(joined.id) == "none"
    assert "skipped" in state.get_skip_reason(lazy.id)


# -- maps -----------------------------------------------------------------------------------------


def test_a_map_has_the_value_in_place_of_skipped_items(run_on):
    assert run_on(pair(only_even.map(n=[1, 2, 3], skipped=None))) == [[None, 2, None], None]


def test_items_that_fail_are_errors_besides(run_on):
    @cs.task
    def item(n):
        return [skipped(), fail("bad"), same(n)][n]

    values = run_on(item.map(n=[0, 1, 2], skipped=0, return_exceptions=True))
    assert [str(value) for value in values] == ["0", "bad", "2"]


def test_a_lazy_value_for_skipped_items_is_computed_once_or_never(run_on, log, noted):
    assert run_on(only_even.map(n=[1, 2, 3], skipped=noted("x"))) == ["x", 2, "x"]
    assert run_on(only_even.map(n=[2, 4], skipped=noted("y"))) == [2, 4]
    assert log == ["x"]


def test_policies_of_the_map_are_those_of_its_items(run_on):
    calls = []

    @cs.task
    def flaky(n):
        calls.append(n)
        if calls.count(n) < 2:
            raise ConnectionError(n)
        return only_even(n)

    assert run_on(flaky.map(n=[1, 2], skipped=0).with_retry(2)) == [0, 2]


def test_a_map_that_is_skipped_itself_is_no_list_of_skipped_items(run_on):
    target = only_even.map(n=[2], skipped=0).run_if(same(False))
    assert run_on(target.or_else([])) == []


def test_a_parameter_that_has_the_name_of_the_option_is_refused():
    @cs.task
    def work(skipped): ...

    with pytest.raises(cs.errors.ArgumentError, match=r"work\.map\(\) takes skipped= itself"):
        work.map(skipped=[1])


# -- other forms ----------------------------------------------------------------------------------


TARGETS = {
    "a value": lambda: pair(skipped().or_else({"a": (1, 2)})),
    "a lazy value": lambda: pair(skipped().or_else(same(2))),
    "a container": lambda: skipped().or_else([same(2), 3]),
    "a map": lambda: only_even.map(n=[1, 2], skipped=same("none")),
    "a value of its own": lambda: same(4).or_else(2),
}


@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
def test_a_graph_means_the_same_after_the_trip_through_json(run_on, make):
    json_trips.check_graph(make, run_on)


@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
def test_a_blueprint_means_the_same_after_the_trip_through_json(make):
    json_trips.check_blueprint(make)


@pytest.mark.parametrize("value", [same, same.tail(1), cs.inject("db"), cs.literal(same(1))])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(cs.errors.ArgumentError):
        same(1).or_else(value)
    with pytest.raises(cs.errors.ArgumentError):
        same.map(value=[1], skipped=value)
