"""Constraints: set, replaced, forgotten, and told of."""

import asyncio
import threading

import pytest
from tests.engine.limits.fakes import FakeLoop, Limits

import cascade as cs
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import ConstraintRemoved, ConstraintSet, TaskWaiting
from cascade.runtime.limits import rules
from cascade.runtime.limits.permits import INSIDE, WAITING
from cascade.spec.errors import ArgumentError


def scopes(constraints):
    return [(info.constraint.kind, info.constraint.scope) for info in constraints.active()]


# -- which are in force ---------------------------------------------------------------------------


def test_of_each_scope_and_kind_the_last_one_counts():
    constraints = Limits().constraints
    constraints.limit_concurrency("task:a", 3)
    constraints.limit_rate("task:a", "1/s", burst=2, ttl=4)
    constraints.pause()
    constraints.limit_concurrency("task:a", 1)
    found = {info.constraint: info.seconds_left for info in constraints.active()}
    assert found == {
        cs.Constraint("task:a", "concurrency", 1): None,
        cs.Constraint("task:a", "rate_limit", "1/s", burst=2, ttl=4): 4,
        cs.Constraint("global", "pause"): None,
    }


def test_removing_tells_whether_there_was_one():
    constraints = Limits().constraints
    constraints.pause("task:a")
    constraints.limit_concurrency("task:a", 1)
    constraints.limit_concurrency("task:b", 1)
    assert constraints.resume("task:b") is False
    assert constraints.resume("task:a") is True
    assert constraints.resume("task:a") is False
    assert constraints.remove("task:a") is True
    assert constraints.remove("task:a") is False
    assert scopes(constraints) == [("concurrency", "task:b")]
    constraints.clear()
    assert scopes(constraints) == []
    assert not constraints.any


@pytest.mark.parametrize(
    "misuse",
    [
        lambda c: c.remove("nowhere"),
        lambda c: c.remove("global", "pauze"),
        lambda c: c.set("pause"),
        lambda c: c.set(None),
        lambda c: c.pause(ttl=0),
        lambda c: c.limit_concurrency("global", 0),
        lambda c: c.limit_rate("global", "fast"),
    ],
)
def test_misuse_is_refused_and_changes_nothing(misuse):
    constraints = Limits().constraints
    constraints.pause("task:a")
    with pytest.raises(ArgumentError):
        misuse(constraints)
    assert scopes(constraints) == [("pause", "task:a")]


def test_which_tasks_are_governed_changes_at_once():
    constraints = Limits().constraints
    assert not constraints.governs("a")
    constraints.pause("task:a")
    assert constraints.governs("a")
    assert not constraints.governs("b")
    assert not constraints.alike(["a", "b"])
    constraints.pause("task:[ab]")
    assert constraints.governs("b")
    constraints.remove("task:a")
    assert constraints.alike(["a", "b"])
    constraints.clear()
    assert not constraints.governs("a")
    assert constraints.alike(["a", "c"])


def test_rules_are_looked_up_once_per_name_even_if_there_are_none(monkeypatch):
    asked = []
    monkeypatch.setattr(rules, "matcher", lambda _scope: asked.append)
    constraints = Limits().constraints
    constraints.pause("task:other")
    for _ in range(3):
        assert constraints.alike(["a", "b"])
        assert not constraints.governs("a")
    assert asked == ["a", "b"]


def test_names_of_thousands_of_tasks_are_not_all_remembered():
    constraints = Limits().constraints
    constraints.pause("task:t1*")
    assert sum(constraints.governs(f"t{n}") for n in range(20_000)) == 11_111
    assert len(constraints.found) <= 4_096


# -- their time -----------------------------------------------------------------------------------


def test_the_time_that_is_left_is_told_and_then_it_is_gone():
    limits = Limits()
    limits.constraints.pause(ttl=10)
    limits.loop.advance(4)
    ((constraint, left),) = limits.constraints.active()
    assert (constraint.kind, left) == ("pause", 6)
    limits.loop.advance(6)
    assert limits.constraints.active() == []
    assert limits.constraints.resume() is False


def test_the_first_request_after_expiry_publishes_it_and_runs():
    told = []
    limits = Limits()
    constraints = limits.engine(lambda constraint, what: told.append((constraint.kind, what)))
    constraints.pause(ttl=1)
    limits.loop.advance(1)
    _, is_in = limits.enter(constraints=constraints)
    assert is_in
    assert told == [("pause", "set"), ("pause", "expired")]
    assert not constraints.any


@pytest.mark.parametrize("use_vm", [False, True])
def test_expired_constraints_are_removed_when_the_next_run_begins(use_vm):
    @cs.task
    def work():
        return 1

    told = []

    async def main():
        async with cs.Engine() as engine:
            engine.bus.subscribe(ConstraintRemoved, lambda e: told.append((e.scope, e.why)))
            engine.constraints.pause("task:other", ttl=1)
            assert await engine.run(work(), use_vm=use_vm) == 1
            assert engine.constraints.any
            await asyncio.sleep(1)
            assert await engine.run(work(), use_vm=use_vm) == 1
            assert not engine.constraints.any

    run_virtually(main)
    assert told == [("task:other", "expired")]


def test_waiting_calls_are_admitted_when_a_constraint_expires():
    limits = Limits()
    limits.constraints.pause(ttl=3)
    limits.constraints.pause("task:work", ttl=5)
    permit, is_in = limits.enter()
    assert not is_in
    limits.loop.advance(4.5)
    assert permit.state == WAITING
    limits.loop.advance(0.5)
    assert limits.told == ["work"]
    assert limits.loop.pending == []


def test_setting_it_again_begins_its_time_anew():
    limits = Limits()
    limits.constraints.pause(ttl=3)
    permit, _ = limits.enter()
    limits.loop.advance(2)
    limits.constraints.pause(ttl=3)
    limits.loop.advance(2.5)
    assert permit.state == WAITING
    limits.loop.advance(0.5)
    assert permit.state == INSIDE


def test_another_clock_takes_over_the_time_that_is_left():
    limits = Limits()
    limits.constraints.pause(ttl=10)
    limits.constraints.limit_rate("task:a", "1/m")
    limits.enter("b")
    limits.loop.advance(4)
    other = FakeLoop()
    other.now = 1_000.0
    limits.constraints.use_clock(other.time)
    assert [info.seconds_left for info in limits.constraints.active()] == [6, None]
    other.advance(6)
    assert scopes(limits.constraints) == [("rate_limit", "task:a")]


# -- replacing ------------------------------------------------------------------------------------


def test_those_inside_count_for_the_limit_that_comes_after():
    limits = Limits()
    limits.constraints.limit_concurrency("global", 3)
    inside = [limits.enter()[0] for _ in range(3)]
    limits.constraints.limit_concurrency("global", 2)
    waiting, _ = limits.enter()
    limits.resources.leave(inside[0])
    assert waiting.state == WAITING
    limits.resources.leave(inside[1])
    assert waiting.state == INSIDE
    assert limits.resources.waiting(limits.run) == []


def test_more_room_is_used_at_once():
    limits = Limits()
    limits.constraints.limit_concurrency("global", 1)
    permits = [limits.enter()[0] for _ in range(4)]
    limits.constraints.limit_concurrency("global", 3)
    assert [permit.state for permit in permits] == [INSIDE] * 3 + [WAITING]
    limits.constraints.clear()
    assert permits[3].state == INSIDE


def test_a_faster_rate_does_not_count_for_the_time_before_it():
    limits = Limits()
    limits.constraints.limit_rate("global", "1/h")
    limits.enter()
    limits.loop.advance(60)
    limits.constraints.limit_rate("global", "1/s", burst=5)
    permit, is_in = limits.enter()
    assert not is_in
    limits.loop.advance(0.5)
    assert permit.state == WAITING
    limits.loop.advance(0.5)
    assert permit.state == INSIDE


def test_a_slower_rate_keeps_the_tokens_from_before():
    limits = Limits()
    limits.constraints.limit_rate("global", "1/s")
    limits.enter()
    limits.loop.advance(1)
    limits.constraints.limit_rate("global", "1/h")
    assert limits.enter()[1] is True
    assert limits.enter()[1] is False


def test_a_batch_returns_its_unused_calls():
    limits = Limits()
    limits.constraints.limit_rate("global", "1/h", burst=10)
    batch, _ = limits.enter(most=100)
    assert batch.calls == 10
    limits.resources.leave(batch, unused=4)
    assert [limits.enter()[1] for _ in range(5)] == [True] * 4 + [False]


def test_a_batch_that_ends_late_gives_no_second_burst():
    limits = Limits()
    limits.constraints.limit_rate("global", "1/s", burst=3)
    batch, _ = limits.enter(most=3)
    limits.loop.advance(10)
    assert [limits.enter()[1] for _ in range(3)] == [True] * 3
    limits.resources.leave(batch, unused=2)
    assert limits.enter()[1] is False


def test_of_two_rates_the_wait_reports_the_one_that_takes_longer():
    limits = Limits()
    limits.constraints.limit_rate("global", "1/s")
    limits.constraints.limit_rate("task:work", "1/m")
    limits.enter()
    permit, _ = limits.enter()
    assert limits.resources.why(permit) == ("rate_limit task:work 1/m", ())
    limits.loop.advance(59)
    assert permit.state == WAITING
    limits.loop.advance(1)
    assert permit.state == INSIDE


# -- being told -----------------------------------------------------------------------------------


def test_callbacks_may_change_constraints():
    """A callback runs without a lock: for a setting, a removal, an expiry, and an admission."""
    limits, told = Limits({"gpu": 1}), []

    def changed(constraint, what):
        told.append((constraint.scope, what))
        if (constraint.scope, what) == ("global", "set"):
            constraints.limit_concurrency("task:a", 1)
        elif what == "expired":
            constraints.limit_concurrency("task:b", 1, ttl=1)
        elif what == "removed":
            constraints.pause("task:c")

    constraints = limits.engine(changed)
    constraints.pause(ttl=1)
    waiting, _ = limits.enter("a", constraints=constraints, on_admitted=constraints.clear)
    limits.loop.advance(1)
    assert limits.resources.begin(waiting)
    assert told == [
        ("global", "set"),
        ("task:a", "set"),
        ("task:a", "removed"),
        ("task:c", "set"),
        ("global", "expired"),
        ("task:b", "set"),
    ]


@pytest.mark.parametrize("use_vm", [False, True])
def test_handlers_of_events_may_change_constraints(use_vm):
    @cs.task
    def work(n):
        return n

    @cs.task
    async def work_async(n):
        await asyncio.sleep(1)
        return n

    events = []

    async def main():
        async with cs.Engine() as engine:

            def on_waiting(event):
                events.append((event.task, event.reason))
                engine.constraints.resume(event.reason.removeprefix("pause "))

            def on_removed(event):
                if event.scope == "task:work":
                    engine.constraints.limit_concurrency("task:work_async", 1)

            def on_set(event):
                if event.kind == "concurrency":
                    engine.constraints.resume("task:work_async")

            engine.bus.subscribe(TaskWaiting, on_waiting)
            engine.bus.subscribe(ConstraintRemoved, on_removed)
            engine.bus.subscribe(ConstraintSet, on_set)
            engine.constraints.pause("task:work")
            engine.constraints.pause("task:work_async")
            value = await engine.run([work(1), work_async(2), work_async(3)], use_vm=use_vm)
            assert scopes(engine.constraints) == [("concurrency", "task:work_async")]
            return value, asyncio.get_running_loop().time()

    (value, seconds) = run_virtually(main)
    assert value == [1, 2, 3]
    assert seconds <= 2
    assert ("work", "pause task:work") in events


def test_a_run_with_a_closed_loop_does_not_stop_other_callbacks():
    """It was let in by another engine's thread just when it was cancelled."""
    limits = Limits({"gpu": 1})
    holder, _ = limits.enter(gpu=1)
    loops = []

    async def wait_for_it():
        async with cs.Engine(capacities=limits.resources) as engine:
            loops.append(asyncio.get_running_loop())
            running = asyncio.ensure_future(engine.run(hold().with_capacity(gpu=1)))
            while not engine.waiting():  # noqa: ASYNC110  # a few turns of the loop
                await asyncio.sleep(0)
            ((permit, _, _),) = limits.resources.waiting(next(iter(engine._runs.active)))
            running.cancel()
            await asyncio.wait([running])
            return permit

    @cs.task
    async def hold():
        raise AssertionError("it never runs")

    permit = asyncio.run(wait_for_it())
    assert loops[0].is_closed()
    errors = []

    def tell():
        try:
            permit.on_admitted()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    thread.join()
    assert errors == []
    limits.resources.leave(holder)
    assert limits.resources.available == {"gpu": 1}
