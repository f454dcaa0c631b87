"""Limits hold on the graph path and on every tier of the virtual machine (R10, M9)."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import (
    ConstraintRemoved,
    ConstraintSet,
    Event,
    StepsMade,
    TaskFailed,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.graph_path.compiled_loops.loop_driver import LoopDriver
from cascade.runtime.graph_path.dispatch import Dispatch

#: How a target is run: the graph path, and the tiers.
PATHS = [(False, "auto"), (True, "interpreted"), (True, "generated"), (True, "auto")]
IDS = ["graph", "interpreted", "generated", "fused"]

path = pytest.mark.parametrize(("use_vm", "tier"), PATHS, ids=IDS)


class Crowd:
    """How many are inside of something at the same time."""

    def __init__(self):
        self.now = self.most = self.came = 0
        self._lock = threading.Lock()

    def enter(self):
        with self._lock:
            self.now += 1
            self.came += 1
            self.most = max(self.most, self.now)

    def leave(self):
        with self._lock:
            self.now -= 1


crowd = Crowd()


@pytest.fixture(autouse=True)
def new_crowd():
    crowd.__init__()


@cs.task
async def visit(n=0):
    crowd.enter()
    await asyncio.sleep(1)
    crowd.leave()
    return n


@cs.task(mode="blocking")
def visit_on_a_thread(n, others):
    crowd.enter()
    if crowd.most < others:  # as long as more could come in beside this one, wait for them
        arrived.wait(0.01)
    crowd.leave()
    return n


arrived = threading.Event()


@cs.task
def count_down(n):
    crowd.enter()
    crowd.leave()
    return count_down.tail(n - 1) if n else "end"


@cs.task
async def count_down_async(n):
    crowd.enter()
    await asyncio.sleep(0.01)
    crowd.leave()
    return count_down_async.tail(n - 1) if n else "end"


@cs.task
def ping(n):
    crowd.enter()
    crowd.leave()
    return pong.tail(n - 1) if n else "end"


@cs.task
def pong(n):
    crowd.enter()
    crowd.leave()
    return ping.tail(n - 1) if n else "end"


@cs.task
def two():
    return 2


@cs.task
def join(items):
    return sum(items)


async def timed(work):
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await work, loop.time() - began


# -- capacities -----------------------------------------------------------------------------------


@path
def test_no_more_run_at_once_than_there_is_room_for(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 2}) as engine:
            target = join([visit(n).with_capacity(gpu=1) for n in range(6)])
            return await timed(engine.run(target, use_vm=use_vm)), engine.capacities

    (value, seconds), manager = run_virtually(main)
    assert value == 15
    assert seconds == pytest.approx(3)
    assert (crowd.most, crowd.came) == (2, 6)
    assert manager.available == {"gpu": 2}


@path
def test_amounts_are_taken_together_or_not_at_all(use_vm, tier):
    """Two that need both, in whatever order, never wait for each other."""

    async def main():
        async with cs.Engine(tier=tier, capacities={"a": 1, "b": 1}) as engine:
            target = join([visit(n).with_capacity(a=1, b=1) for n in range(4)])
            return await timed(engine.run(target, use_vm=use_vm))

    assert run_virtually(main) == (6, pytest.approx(4))
    assert crowd.most == 1


@path
def test_an_amount_may_be_a_tasks_value(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 3}) as engine:
            amount = two()
            target = join([visit(n).with_capacity(gpu=amount) for n in range(3)])
            return await timed(engine.run(target, use_vm=use_vm))

    assert run_virtually(main) == (3, pytest.approx(3))
    assert crowd.most == 1


@path
def test_the_items_of_a_map_take_each_their_own(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 2, "disk": 4}) as engine:
            mapped = visit.map(n=[0, 1, 2, 3]).with_capacity(gpu=1, disk=two())
            return await timed(engine.run(mapped, use_vm=use_vm))

    assert run_virtually(main) == ([0, 1, 2, 3], pytest.approx(2))
    assert crowd.most == 2


@path
def test_plain_functions_on_threads_take_turns(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            visits = [visit_on_a_thread(n, 2).with_capacity(gpu=1) for n in range(5)]
            return await engine.run(join(visits), use_vm=use_vm)

    assert asyncio.run(main()) == 10
    assert (crowd.most, crowd.came) == (1, 5)


@path
def test_a_loop_takes_it_for_each_step(use_vm, tier):
    """Between two steps others get their turn, so both loops come to their ends together."""

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            loops = [count_down_async(n).with_capacity(gpu=1) for n in (10, 10)]
            return await timed(engine.run(loops, use_vm=use_vm))

    assert run_virtually(main) == (["end", "end"], pytest.approx(22 * 0.01))
    assert (crowd.most, crowd.came) == (1, 22)


@path
def test_a_failed_attempt_gives_back_before_the_delay(use_vm, tier):
    attempts = []

    @cs.task
    async def fails_once(n):
        attempts.append(n)
        await asyncio.sleep(1)
        if attempts.count(n) == 1:
            raise OSError("once")
        return n

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            lazies = [fails_once(n).with_retry(2, delay=5).with_capacity(gpu=1) for n in range(3)]
            value, seconds = await timed(engine.run(join(lazies), use_vm=use_vm))
            assert engine.capacities.available == {"gpu": 1}
            return value, seconds

    # Three attempts, one after the other; the first node's second may begin at 6.
    assert run_virtually(main) == (3, pytest.approx(9))
    assert attempts == [0, 1, 2, 0, 1, 2]


@path
def test_failed_and_cancelled_calls_return_their_permits(use_vm, tier):
    @cs.task
    async def fail():
        raise ValueError("no")

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 2}) as engine:
            lazies = [visit(n).with_capacity(gpu=1) for n in range(3)]
            with pytest.raises(ValueError, match="no"):
                await engine.run([*lazies, fail().with_capacity(gpu=1)], use_vm=use_vm)
            assert engine.capacities.available == {"gpu": 2}
            running = asyncio.ensure_future(engine.run(lazies, use_vm=use_vm))
            await asyncio.sleep(0.5)
            assert engine.capacities.available == {"gpu": 0}
            assert engine.capacities.holders("gpu") == ("visit", "visit")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert engine.capacities.available == {"gpu": 2}

    run_virtually(main)


@path
def test_engines_may_share_capacities(use_vm, tier):
    async def main():
        shared = cs.Capacities({"gpu": 1})
        async with (
            cs.Engine(tier=tier, capacities=shared) as one,
            cs.Engine(capacities=shared) as other,
        ):
            runs = (
                engine.run(visit(n).with_capacity(gpu=1), use_vm=use_vm)
                for n, engine in enumerate([one, other, one])
            )
            return await timed(asyncio.gather(*runs))

    assert run_virtually(main) == ([0, 1, 2], pytest.approx(3))
    assert crowd.most == 1


# -- constraints ----------------------------------------------------------------------------------


@path
def test_a_pause_holds_calls_that_have_not_begun_until_it_is_removed(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.pause("task:vis*")
            asyncio.get_running_loop().call_later(5, engine.constraints.resume, "task:vis*")
            return await timed(engine.run(join([visit(1), visit(2)]), use_vm=use_vm))

    assert run_virtually(main) == (3, pytest.approx(6))


@path
def test_a_constraint_is_forgotten_after_its_time(use_vm, tier):
    events = []

    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.bus.subscribe(ConstraintRemoved, events.append)
            engine.bus.subscribe(ConstraintSet, events.append)
            engine.constraints.pause("global", ttl=7)
            value, seconds = await timed(engine.run(visit(1), use_vm=use_vm))
            assert engine.constraints.active() == []
            return value, seconds

    assert run_virtually(main) == (1, pytest.approx(8))
    assert [(type(e), e.scope, e.kind) for e in events] == [
        (ConstraintSet, "global", "pause"),
        (ConstraintRemoved, "global", "pause"),
    ]
    assert events[1].why == "expired"


@path
def test_concurrency_can_be_changed_while_it_runs(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.limit_concurrency("global", 1)
            loop = asyncio.get_running_loop()
            loop.call_later(2.5, engine.constraints.limit_concurrency, "global", 3)
            return await timed(engine.run(join([visit(n) for n in range(9)]), use_vm=use_vm))

    # 1 at a time until 2.5; then 2 more at once: from 0, 1, 2; 2.5, 2.5; 3, 3.5, 3.5; 4.
    assert run_virtually(main) == (36, pytest.approx(5))
    assert crowd.most == 3


@path
@pytest.mark.parametrize("loop", [count_down, count_down_async, ping])
def test_the_steps_of_a_loop_keep_to_a_rate(loop, use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.limit_rate("global", "10/s")
            return await timed(engine.run(loop(20), use_vm=use_vm))

    value, seconds = run_virtually(main)
    assert (value, crowd.came) == ("end", 21)
    assert seconds == pytest.approx(2, abs=0.02)


@path
def test_a_burst_may_come_at_once(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.limit_rate("task:count_down", "1/m", burst=11)
            return await timed(engine.run(count_down(12), use_vm=use_vm))

    assert run_virtually(main) == ("end", pytest.approx(120))


@path
def test_a_limit_for_one_of_two_that_continue_as_each_other(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.limit_rate("task:pong", "1/s")
            return await timed(engine.run(ping(10), use_vm=use_vm))

    assert run_virtually(main) == ("end", pytest.approx(4))


@path
@pytest.mark.parametrize("is_async", [False, True])
def test_an_endless_loop_is_paused_slowed_and_resumed_from_outside(is_async, use_vm, tier):
    """In real time, where nothing but the loop itself can stop it."""
    steps, enough = [], threading.Event()

    @cs.task
    def spin(n):
        steps.append(n)
        return n if enough.is_set() else spin.tail(n + 1)

    @cs.task
    async def spin_async(n):
        steps.append(n)
        await asyncio.sleep(0)
        return n if enough.is_set() else spin_async.tail(n + 1)

    async def until(reached):
        while not reached():  # noqa: ASYNC110  # the loop is to have no other turns than these
            await asyncio.sleep(0)

    async def standing(engine):
        await until(engine.waiting)
        before = len(steps)
        for _ in range(50):
            await asyncio.sleep(0)
        return before == len(steps)

    async def main():
        async with cs.Engine(tier=tier) as engine:
            target = (spin_async if is_async else spin)(0)
            running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
            await until(lambda: len(steps) >= 1_000)
            engine.constraints.pause("task:spin*")
            assert await standing(engine)
            (waiting,) = engine.waiting()
            assert waiting.reason == "pause task:spin*"
            before = len(steps)
            engine.constraints.resume("task:spin*")
            await until(lambda: len(steps) >= before + 1_000)
            engine.constraints.limit_rate("global", "1/h")
            assert await standing(engine)
            enough.set()
            engine.constraints.clear()
            return await running

    assert asyncio.run(main()) == len(steps) - 1
    assert steps == list(range(len(steps)))


@path
def test_a_paused_run_can_be_cancelled(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.pause()
            for target in (count_down(3), visit(1), join([count_down(1), visit(2)])):
                running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
                await asyncio.sleep(1)
                assert engine.waiting()
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                assert engine.waiting() == []
            assert crowd.came == 0

    run_virtually(main)


# -- why does it wait? ----------------------------------------------------------------------------


@path
def test_waits_are_reported_with_their_limit_and_holders(use_vm, tier):
    told = []

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            engine.bus.subscribe(TaskWaiting, told.append)
            lazies = [visit(n).with_capacity(gpu=1) for n in range(2)]
            running = asyncio.ensure_future(engine.run(join(lazies), use_vm=use_vm))
            await asyncio.sleep(0.5)
            found = [w for w in engine.waiting() if w.reason != "inputs"]
            await running
            return found

    (waiting,) = run_virtually(main)
    assert (waiting.task, waiting.reason, waiting.holders) == ("visit", "capacity gpu", ("visit",))
    assert waiting.since is not None
    (event,) = told
    assert (event.task, event.reason, event.holders) == ("visit", "capacity gpu", ("visit",))
    assert event.node == waiting.node > 0


@path
def test_limits_that_match_nothing_change_no_events(use_vm, tier):
    """Limits that match nothing do not change the events."""

    def events_of(limited):
        told = []

        async def main():
            async with cs.Engine(tier=tier) as engine:
                if limited:
                    engine.constraints.limit_concurrency("task:other", 1)
                engine.bus.subscribe(Event, told.append)
                await engine.run(join([count_down(3), two()]), use_vm=use_vm)

        with pytest.raises(TypeError):  # "end" is no number
            asyncio.run(main())
        # StepsMade comes after a time, so on a busy machine more often.
        others = [e for e in told if not isinstance(e, (ConstraintSet, StepsMade))]
        return sorted(type(e).__name__ for e in others)

    assert events_of(limited=True) == events_of(limited=False)


# -- beside other policies ------------------------------------------------------------------------


@path
def test_waiting_does_not_count_for_a_timeout(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            visits = [visit(n).with_timeout(1.5).with_capacity(gpu=1) for n in range(4)]
            engine.constraints.pause(ttl=3)
            return await timed(engine.run(join(visits), use_vm=use_vm))

    assert run_virtually(main) == (6, pytest.approx(7))


@path
def test_failures_block_no_other_node_in_a_run_that_goes_on(use_vm, tier):
    @cs.task
    async def fail(n):
        await asyncio.sleep(1)
        raise ValueError(n)

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            engine.constraints.limit_concurrency("task:fail", 1)
            target = [
                *(fail(n).with_capacity(gpu=1) for n in range(2)),
                visit(1).with_capacity(gpu=fail(3)),
                *(visit(n).with_capacity(gpu=1) for n in range(2)),
            ]
            with pytest.raises(ExceptionGroup) as caught:
                await engine.run(target, use_vm=use_vm, fail_fast=False)
            assert engine.capacities.available == {"gpu": 1}
            assert engine.waiting() == []
            return sorted(error.args[0] for error in caught.value.exceptions)

    assert run_virtually(main) == [0, 1, 3]
    assert crowd.came == 2


@path
def test_users_of_a_thread_bound_resource_take_turns(use_vm, tier):
    threads = []

    @cs.resource(thread_bound=True)
    def connection():
        threads.append(threading.get_ident())
        yield "connection"

    @cs.task
    def use(n, connection=cs.inject(connection)):
        threads.append(threading.get_ident())
        crowd.enter()
        crowd.leave()
        return n

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            engine.constraints.limit_rate("task:use", "1000/s")
            uses = [use(n).with_capacity(gpu=1) for n in range(4)]
            value = await engine.run(join(uses), use_vm=use_vm)
            assert engine.capacities.available == {"gpu": 1}
            return value

    assert asyncio.run(main()) == 6
    assert len(set(threads)) == 1


@path
@pytest.mark.parametrize("loop", [count_down, count_down_async, ping])
def test_steps_stay_counted_while_limits_change(loop, use_vm, tier):
    """Changes end the batch that a loop is in, which neither loses a step nor makes one twice."""

    async def main():
        async with cs.Engine(tier=tier) as engine:
            running = asyncio.ensure_future(
                engine.run([loop(40), visit(1)], use_vm=use_vm, max_steps=40)
            )
            clock = asyncio.get_running_loop()
            for n in range(20):
                clock.call_later(n * 0.013, engine.constraints.limit_rate, "global", "200/s")
                clock.call_later(n * 0.013 + 0.006, engine.constraints.clear)
            await running
            with pytest.raises(cs.errors.StepLimitError):
                await engine.run(loop(41), use_vm=use_vm, max_steps=40)
            return running.result()

    assert run_virtually(main) == ["end", 1]
    assert crowd.came == 41 + 1 + 41


@path
def test_a_step_limit_holds_though_loops_wait_for_each_other(use_vm, tier):
    """While one waits for its batch, the other one makes steps that the run is allowed."""

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            loops = [count_down(200).with_capacity(gpu=1), visit(0), ping(200)]
            engine.constraints.limit_rate("global", "1000/s", burst=50)
            with pytest.raises(cs.errors.StepLimitError):
                await engine.run(loops, use_vm=use_vm, max_steps=150)
            return engine.capacities.available

    assert run_virtually(main) == {"gpu": 1}
    assert crowd.came <= 150 + 3


@path
def test_a_paused_node_comes_after_its_predecessors_and_conditions(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            engine.constraints.pause("task:two", ttl=4)
            first = two()
            skipped = visit(7).run_if(cs.eq(first, 3))
            return await timed(
                engine.run(join([visit(1).after(first), visit(2).after(skipped)]), use_vm=use_vm)
            )

    assert run_virtually(main) == (3, pytest.approx(5))
    assert crowd.came == 2


# -- amounts that nodes give ----------------------------------------------------------------------


@path
@pytest.mark.parametrize(
    ("amount", "error"),
    [(3, cs.errors.CapacityError), ("1", cs.errors.ArgumentError), (-1, cs.errors.ArgumentError)],
)
@pytest.mark.parametrize("task", [visit, count_down])
def test_an_invalid_lazy_amount_fails_the_node(amount, error, task, use_vm, tier):
    told = []

    @cs.task
    def give():
        return amount

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 2}) as engine:
            for event in (TaskStarted, TaskFailed):
                engine.bus.subscribe(event, lambda e: told.append((type(e).__name__, e.task)))
            with pytest.raises(error) as caught:
                await engine.run([task(1).with_capacity(gpu=give())], use_vm=use_vm)
            return caught.value

    note = "\n".join(run_virtually(main).__notes__)
    assert f"'{task.name}'" in note
    assert told == [
        ("TaskStarted", "give"),
        *((e, task.name) for e in ("TaskStarted", "TaskFailed")),
    ]
    assert crowd.came == 0


@path
def test_a_value_from_a_cache_takes_nothing(use_vm, tier):
    cache = cs.LRUCache()

    @cs.task
    def too_much():
        return 5

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            await engine.run(visit(1).with_cache(cache).with_capacity(gpu=1), use_vm=use_vm)
            engine.constraints.pause("task:visit")
            again = visit(1).with_cache(cache).with_capacity(gpu=too_much())
            return await engine.run(again, use_vm=use_vm)

    assert run_virtually(main) == 1
    assert crowd.came == 1


@path
def test_a_node_that_goes_on_as_a_blueprint_takes_its_amounts_for_each_call(use_vm, tier):
    """Permits of one could not be granted to the others."""

    @cs.task
    def enter_blueprint():
        return cs.TailCall(target_blueprint_id="inner")

    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            inner = join([visit(1).with_capacity(gpu=1), visit(2).with_capacity(gpu=1)])
            inner.run_if(cs.eq(two(), 2))
            engine.register_blueprint("inner", BlueprintBuilder().build(inner))
            engine.constraints.limit_concurrency("global", 1)
            target = enter_blueprint().with_capacity(gpu=two_halves())
            value = await timed(engine.run(target, use_vm=use_vm))
            assert engine.capacities.available == {"gpu": 1}
            return value

    assert run_virtually(main) == (3, pytest.approx(2))


@cs.task
def two_halves():
    return 1


# -- other threads --------------------------------------------------------------------------------


@path
def test_another_thread_may_list_waits_and_resume_them(use_vm, tier):
    async def main():
        async with cs.Engine(tier=tier, capacities={"gpu": 1}) as engine:
            engine.constraints.pause("task:count_down")
            target = [count_down(3).with_capacity(gpu=1), count_down(2), join([two(), two()])]
            running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))

            def ask():
                while True:
                    found = [w for w in engine.waiting() if w.reason == "pause task:count_down"]
                    if found:
                        engine.constraints.clear()
                        return found[0].task

            asked = await asyncio.to_thread(ask)
            return asked, await running

    assert asyncio.run(main()) == ("count_down", ["end", "end", 4])


def test_a_worker_that_parks_its_work_just_now_is_no_standstill():
    """The check for remaining work asks the workers before the limits."""
    dispatch = Dispatch.__new__(Dispatch)
    dispatch._sent_in_all = dispatch._left = 0
    admissions = SimpleNamespace(permits={})
    dispatch._run = SimpleNamespace(admissions=admissions, journal=None)
    dispatch._parts = SimpleNamespace(made=lambda name: None)

    class LastWorker:
        @property
        def busy(self):
            admissions.permits["parked"] = None  # and is not awake any more
            return False

    dispatch.pool = dispatch.workers = LastWorker()
    assert dispatch.busy


async def test_limits_for_other_tasks_leave_a_loop_on_a_worker_compiled(engine, monkeypatch):
    """It made each step as a call of its own, some hundred times as slow."""
    batches, made = [], LoopDriver._made_on_worker

    def noted(driver, work, loop, enter, steps):
        batches.append(loop.task.name)
        return made(driver, work, loop, enter, steps)

    monkeypatch.setattr(LoopDriver, "_made_on_worker", noted)

    @cs.task
    def step(n):
        return step.tail(n - 1) if n else "end"

    engine.constraints.limit_concurrency("task:others_*", 1)
    assert await engine.run(step(1_000)) == "end"
    assert set(batches) == {"step"}

    batches.clear()
    engine.constraints.limit_concurrency("task:step", 1)
    assert await engine.run(step(1_000)) == "end"
    assert not batches
