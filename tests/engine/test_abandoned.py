"""Abandoned calls: timeouts of plain functions and of coroutines (M8, R10)."""

import asyncio
import gc
import logging
import threading
import time

import pytest
from tests.sample_tasks import add

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import CallAbandoned, ResourceAcquired, ResourceReleased

#: Seconds; a call that must be too slow for it waits for an event that is set only afterwards.
SHORT = 0.001
#: Seconds; nothing takes that long, but a Clock can make it pass.
LONG = 1000


async def reached(event):
    """Wait for a threading.Event without holding the loop."""
    assert await asyncio.to_thread(event.wait, 20)


async def turns(count=20):
    """Let everything that is ready in the loop have ``count`` turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop turn until ``condition`` holds."""
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0)


@pytest.fixture
async def clock():
    return Clock(asyncio.get_running_loop())


class Clock:
    """Lets the event loop believe that time has passed."""

    def __init__(self, loop):
        self._ahead = 0
        real_time = loop.time
        loop.time = lambda: real_time() + self._ahead

    def jump(self):
        self._ahead += 2 * LONG

    async def until_abandoned(self, engine, stuck):
        """Let time pass from when a call is stuck until it is abandoned, and no more."""
        await reached(stuck.begun)

        def abandoned():
            if not engine.abandoned:
                self.jump()
            return engine.abandoned

        await until(abandoned)


class Stuck:
    """A function with calls that return on demand.

    Attributes:
        calls: How many have begun.
        threads: Where they ran.
        begun: Set by the first.
    """

    def __init__(self, held):
        self._held = held
        self.calls = 0
        self.threads = []
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self, value="late", times=1):
        """Give ``value``; the first ``times`` calls after they were told to."""
        self.calls += 1
        self.threads.append(threading.current_thread())
        self.begun.set()
        if self.calls <= times:
            assert self._held.wait(20)
            self.ended.set()
        return value


@pytest.fixture
def stuck(held):
    return Stuck(held)


@pytest.fixture
async def narrow():
    """An engine with a single thread for plain functions."""
    executor = LocalExecutor(1)
    async with cs.Engine(threads=executor) as engine:
        yield engine
    executor.shutdown()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@cs.task
async def add_async(a, b=0):
    return a + b


# -- plain functions --------------------------------------------------------------------------


async def test_a_plain_function_that_takes_too_long_fails_and_goes_on(
    engine, use_vm, stuck, held, caplog
):
    """M8: its error says so, it is counted and named as long as it runs, and an event tells."""
    events = []
    engine.bus.subscribe(CallAbandoned, events.append)

    @cs.task
    def work():
        return stuck()

    target = work().with_timeout(SHORT)
    with pytest.raises(
        cs.errors.TaskTimeoutError, match=r"task 'work' took longer than 0\.001 s"
    ) as got:
        await engine.run(add(target, 1), use_vm=use_vm)

    assert isinstance(got.value, TimeoutError)
    assert got.value.seconds == SHORT
    assert len([note for note in got.value.__notes__ if "in task 'work'" in note]) == 1
    await reached(stuck.begun)
    assert engine.abandoned == ("work",)
    assert [(e.task, e.node, e.running) for e in events] == [("work", target.number, 1)]
    held.set()
    await until(lambda: not engine.abandoned)
    assert not caplog.records


async def test_the_thread_of_an_abandoned_call_is_a_daemon_and_ends_with_it(
    engine, use_vm, stuck, held
):
    @cs.task
    def work():
        return stuck()

    with pytest.raises(cs.errors.TaskTimeoutError):
        await engine.run(work().with_timeout(SHORT), use_vm=use_vm)

    await reached(stuck.begun)
    (thread,) = stuck.threads
    assert thread.daemon
    assert thread.is_alive()
    assert thread is not threading.current_thread()
    held.set()
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()


async def test_another_thread_takes_the_place_of_that_of_an_abandoned_call(narrow, use_vm, stuck):
    """The executor has one thread, and that is stuck."""

    @cs.task
    def work():
        return stuck()

    with pytest.raises(cs.errors.TaskTimeoutError):
        await narrow.run(work().with_timeout(SHORT), use_vm=use_vm)

    assert not stuck.ended.is_set()
    assert await narrow.run(add(add_async(1), 2).with_timeout(20), use_vm=use_vm) == 3
    assert await narrow.run(add.map(a=[1, 2, 3]), use_vm=use_vm) == [1, 2, 3]


async def test_of_many_calls_in_a_row_one_is_abandoned_and_the_others_are_made_once(
    narrow, clock, use_vm, stuck, held
):
    """The thread that is stuck had begun with the first ones; another goes on after it."""
    threads = []

    @cs.task
    def work(number):
        threads.append(threading.get_ident())
        if number == 2:
            stuck()
        return add(number, 1) if number == 3 else [number]

    target = [work(n).with_timeout(LONG) for n in range(5)]
    target[2] = target[2].catch(TimeoutError, "late")
    running = asyncio.ensure_future(narrow.run(target, use_vm=use_vm))
    await clock.until_abandoned(narrow, stuck)
    assert await running == [[0], [1], "late", 4, [4]]
    assert len(threads) == 5
    assert threads[0] == threads[2] != threads[3]
    held.set()
    await until(lambda: not narrow.abandoned)
    assert len(threads) == 5


async def test_an_attempt_that_took_too_long_is_followed_by_another(
    narrow, clock, use_vm, stuck, held
):
    """R10; and the late result of the first one is dropped."""
    cache = cs.LRUCache()

    @cs.task
    def work():
        return stuck(f"attempt {stuck.calls + 1}")

    def target():
        return work().with_timeout(LONG).with_retry(on=TimeoutError).with_cache(cache)

    running = asyncio.ensure_future(narrow.run(target(), use_vm=use_vm))
    await clock.until_abandoned(narrow, stuck)
    assert await running == "attempt 2"
    held.set()
    await reached(stuck.ended)
    await until(lambda: not narrow.abandoned)
    assert await narrow.run(target(), use_vm=use_vm) == "attempt 2"
    assert stuck.calls == 2


async def test_several_calls_may_be_abandoned_at_once(narrow, use_vm, stuck, held):
    events = []
    narrow.bus.subscribe(CallAbandoned, lambda event: events.append(event.running))

    @cs.task
    def work(n):
        return stuck(n, times=99)

    target = work(1).with_timeout(SHORT).with_retry(3)
    with pytest.raises(cs.errors.TaskTimeoutError):
        await narrow.run(target, use_vm=use_vm)

    assert narrow.abandoned == ("work",) * 3
    assert events == [1, 2, 3]
    await until(lambda: len(stuck.threads) == 3)
    assert len(set(stuck.threads)) == 3
    held.set()
    await until(lambda: not narrow.abandoned)


async def test_the_time_of_a_call_begins_when_a_thread_begins_it(
    narrow, clock, use_vm, stuck, held
):
    """Waiting for a thread is not counted."""

    @cs.task
    def occupy():
        return stuck("occupied")

    @cs.task
    def work():
        assert stuck.ended.is_set()
        return "worked"

    occupying = asyncio.ensure_future(narrow.run(occupy()))
    await reached(stuck.begun)
    working = asyncio.ensure_future(narrow.run(work().with_timeout(LONG), use_vm=use_vm))
    await turns()
    clock.jump()
    await turns()
    assert not working.done()
    held.set()
    assert await working == "worked"
    assert await occupying == "occupied"


async def test_the_error_of_an_abandoned_call_is_dropped(engine, use_vm, stuck, held, caplog):
    caplog.set_level(logging.DEBUG, "concurrent.futures")

    @cs.resource(scope="task")
    def tool():
        yield

    @cs.task
    def work(tool=None):
        stuck()
        raise ValueError("late")

    for target in (work(), work(cs.inject(tool))):
        stuck.calls = 0
        held.clear()
        with pytest.raises(cs.errors.TaskTimeoutError):
            await engine.run(target.with_timeout(SHORT), use_vm=use_vm)
        held.set()
        await until(lambda: not engine.abandoned)
        await turns()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    gc.collect()
    assert not caplog.records


async def test_an_error_in_time_is_raised_as_it_is(run):
    @cs.task
    def work():
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own") as caught:
        await run(work().with_timeout(20))
    assert type(caught.value) is TimeoutError


# -- the thread's place -----------------------------------------------------------------------


@pytest.fixture
def executor():
    executor = LocalExecutor(1)
    yield executor
    executor.shutdown()


def occupied(executor, held):
    """A call that has its thread until it is let go."""
    begun = threading.Event()

    def call():
        begun.set()
        held.wait(20)
        return threading.current_thread()

    call = executor.submit(call)
    assert begun.wait(20)
    return call


def test_a_call_that_waited_for_a_thread_gets_the_replacement(executor, held):
    stuck = occupied(executor, held)
    waiting = executor.submit(threading.current_thread)
    executor.replace_thread(stuck)
    other = waiting.result(20)
    assert not stuck.done()
    held.set()
    assert stuck.result(20) is not other


def test_it_is_replaced_also_after_it_has_taken_a_call_that_waited(executor, held):
    """A call that waited does not count as a thread that is idle."""
    first = threading.Event()
    executor.submit(first.wait, 20)
    waiting = executor.submit(held.wait, 20)
    first.set()
    while not waiting.running():
        pass
    executor.replace_thread(waiting)
    assert executor.submit(int).result(20) == 0
    assert not waiting.done()


def test_a_call_that_has_ended_or_not_begun_replaces_nothing(executor, held):
    executor.replace_thread(executor.submit(int))
    stuck = occupied(executor, held)
    waiting = executor.submit(threading.current_thread)
    executor.replace_thread(waiting)
    assert not waiting.done()
    held.set()
    assert waiting.result(20) is stuck.result(20)


def test_replacing_a_thread_twice_gives_one(executor, held):
    stuck = occupied(executor, held)
    executor.replace_thread(stuck)
    executor.replace_thread(stuck)
    threads = {executor.submit(threading.current_thread).result(20) for _ in range(9)}
    assert len(threads) == 1


def test_shutdown_does_not_wait_for_an_abandoned_call(held):
    executor = LocalExecutor(1)
    stuck = occupied(executor, held)
    executor.replace_thread(stuck)
    executor.shutdown()
    assert not stuck.done()
    held.set()
    thread = stuck.result(20)
    thread.join(20)
    assert not thread.is_alive()


# -- resources of abandoned calls -------------------------------------------------------------


class Log(list):
    """Openings and closings, with their threads."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def note(self, entry):
        self.append(entry)
        self.threads.add(threading.current_thread())


@pytest.fixture
def log():
    return Log()


def provider(log, name, asynchronous, scope, needs=None, thread_bound=False):
    """A resource that tells when it is opened and closed; ``needs`` is opened before it."""
    if asynchronous:

        async def provide(needed=needs):
            log.note(f"open {name}")
            yield name
            log.note(f"close {name}")

    else:

        def provide(needed=needs):
            log.note(f"open {name}")
            yield name
            log.note(f"close {name}")

    return cs.resource(name=name, scope=scope, thread_bound=thread_bound)(provide)


KINDS = pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])


@KINDS
async def test_task_scoped_resources_stay_open_until_the_call_ends(
    engine, use_vm, stuck, held, log, asynchronous
):
    """M8; and they are told to be closed only then."""
    events = []
    engine.bus.subscribe(ResourceAcquired, lambda event: events.append("acquired"))
    engine.bus.subscribe(ResourceReleased, lambda event: events.append("released"))
    inner = provider(log, "inner", asynchronous, "task")
    outer = provider(log, "outer", asynchronous, "task", cs.inject(inner))

    @cs.task
    def work(outer=cs.inject(outer)):
        stuck()
        log.note("end")

    with pytest.raises(cs.errors.TaskTimeoutError):
        await engine.run(work().with_timeout(SHORT), use_vm=use_vm)

    await turns()
    assert log == ["open inner", "open outer"]
    held.set()
    await until(lambda: len(log) == 5)
    assert log == ["open inner", "open outer", "end", "close outer", "close inner"]
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert events == ["acquired", "acquired", "released", "released"]


@KINDS
async def test_the_next_attempt_has_resources_of_its_own(
    narrow, clock, use_vm, stuck, held, log, asynchronous
):
    tool = provider(log, "tool", asynchronous, "task")

    @cs.task
    def work(tool=cs.inject(tool)):
        stuck()
        return "worked"

    target = work().with_timeout(LONG).with_retry()
    running = asyncio.ensure_future(narrow.run(target, use_vm=use_vm))
    await clock.until_abandoned(narrow, stuck)
    assert await running == "worked"
    assert log == ["open tool", "open tool", "close tool"]
    held.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert log.count("close tool") == 2


@KINDS
async def test_resources_of_abandoned_calls_stay_open_until_the_calls_end(
    engine, use_vm, stuck, held, log, asynchronous
):
    """Last opened, first closed, also where the run is over."""
    base = provider(log, "base", asynchronous, "run")
    other = provider(log, "other", asynchronous, "run")
    tool = provider(log, "tool", asynchronous, "task", cs.inject(base))

    @cs.task
    def use_other(other=cs.inject(other)): ...

    @cs.task
    def work(_, tool=cs.inject(tool)):
        stuck()

    with pytest.raises(cs.errors.TaskTimeoutError):
        await engine.run(work(use_other()).with_timeout(SHORT), use_vm=use_vm)

    opened = ["open other", "open base", "open tool"]
    assert log == [*opened, "close other"]
    held.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert log == [*opened, "close other", "close tool", "close base"]


async def test_a_run_scoped_resource_outlives_the_calls_that_use_it(
    engine, use_vm, stuck, held, log
):
    base = provider(log, "base", False, "run")

    @cs.task
    def work(n, base=cs.inject(base)):
        stuck(times=2)

    with pytest.raises(ExceptionGroup):
        targets = [work(n).with_timeout(SHORT) for n in range(2)]
        await engine.run(targets, use_vm=use_vm, fail_fast=False)

    assert engine.abandoned == ("work", "work")
    assert log == ["open base"]
    held.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert log == ["open base", "close base"]


async def test_the_run_closes_resources_of_abandoned_calls_that_have_ended(
    narrow, clock, use_vm, stuck, held, log
):
    base = provider(log, "base", False, "run")

    @cs.task
    def work(base=cs.inject(base)):
        return stuck("worked")

    @cs.task
    async def let_go(_):
        held.set()
        await until(lambda: not narrow.abandoned)
        await turns()
        assert log == ["open base"]

    target = let_go(work().with_timeout(LONG).with_retry())
    running = asyncio.ensure_future(narrow.run(target, use_vm=use_vm))
    await clock.until_abandoned(narrow, stuck)
    await running
    assert log == ["open base", "close base"]


@pytest.mark.parametrize("scope", ["run", "task"])
async def test_a_bound_thread_is_not_replaced(engine, use_vm, stuck, held, log, scope):
    """M7: a bound resource would not work on another thread."""
    tool = provider(log, "tool", False, scope, thread_bound=True)

    @cs.task
    def work(tool=cs.inject(tool)):
        stuck()

    with pytest.raises(cs.errors.TaskTimeoutError):
        await engine.run(work().with_timeout(SHORT), use_vm=use_vm)

    assert log == ["open tool"]
    held.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert log == ["open tool", "close tool"]
    assert log.threads == set(stuck.threads)
    (thread,) = log.threads
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()


async def test_the_next_attempt_on_a_bound_thread_waits_for_it(
    engine, clock, use_vm, stuck, held, log
):
    tool = provider(log, "tool", False, "run", thread_bound=True)

    @cs.task
    def work(tool=cs.inject(tool)):
        return stuck("worked")

    target = work().with_timeout(LONG).with_retry()
    running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
    await clock.until_abandoned(engine, stuck)
    await turns()
    assert stuck.calls == 1
    held.set()
    assert await running == "worked"
    assert len(set(stuck.threads) | log.threads) == 1
    assert log == ["open tool", "close tool"]


@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("kind", ["plain", "async", "bound"])
async def test_an_engine_that_is_closed_meanwhile_closes_them_all_the_same(
    use_vm, stuck, held, log, kind, scope
):
    tool = provider(log, "tool", kind == "async", scope, thread_bound=kind == "bound")

    @cs.task
    def work(tool=cs.inject(tool)):
        stuck()

    async with cs.Engine() as engine:
        with pytest.raises(cs.errors.TaskTimeoutError):
            await engine.run(work().with_timeout(SHORT), use_vm=use_vm)
    assert log == ["open tool"]
    held.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert log == ["open tool", "close tool"]


@KINDS
@pytest.mark.parametrize("scope", ["run", "task"])
def test_a_loop_that_ends_before_the_call_closes_them(
    use_vm, stuck, log, asynchronous, scope, caplog
):
    """No thread is left that could do it later; the call does not delay the end of the program."""
    tool = provider(log, "tool", asynchronous, scope)

    @cs.task
    def work(tool=cs.inject(tool)):
        stuck()

    with pytest.raises(cs.errors.TaskTimeoutError):
        cs.run(work().with_timeout(SHORT), use_vm=use_vm)
    assert not stuck.ended.is_set()
    assert log == ["open tool", "close tool"]
    gc.collect()
    assert not caplog.records


# -- cancelled runs ---------------------------------------------------------------------------


async def cancelled_twice(running):
    """Cancel a run that waits for plain functions, and again."""
    running.cancel()
    await turns()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("lane", ["fast", "policies", "resource", "blocking", "timeout"])
async def test_a_second_cancel_abandons_and_names_the_call(engine, use_vm, stuck, held, log, lane):
    """M8."""
    tool = provider(log, "tool", False, "task")
    events = []
    engine.bus.subscribe(CallAbandoned, events.append)

    @cs.task
    def work(tool=None):
        stuck()
        log.note("end")

    @cs.task(mode="blocking", name="work")
    def block():
        stuck()

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    waiting = wait()
    target = {
        "fast": lambda: work(),
        "policies": lambda: work().with_retry(),
        "resource": lambda: work(cs.inject(tool)),
        "blocking": lambda: block(),
        "timeout": lambda: work().with_timeout(LONG),
    }[lane]()
    # The coroutine keeps the virtual machine from calling plain functions in the loop's thread.
    running = asyncio.ensure_future(engine.run([waiting, target], use_vm=use_vm))
    await reached(stuck.begun)
    await cancelled_twice(running)

    assert engine.abandoned == ("work",)
    assert [(e.task, e.node) for e in events] == [("work", target.number)]
    assert "close tool" not in log
    held.set()
    await until(lambda: not engine.abandoned)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert lane != "resource" or log == ["open tool", "end", "close tool"]


async def test_each_abandoned_call_goes_by_its_own_name(engine, held):
    """Also where a thread of the run has not begun yet, because all are taken."""
    begun = threading.Barrier(4)

    def make(name):
        @cs.task(name=name)
        def work():
            begun.wait(20)
            held.wait(20)

        return work()

    targets = [make(name) for name in "abc"]
    running = asyncio.ensure_future(engine.run(targets))
    await asyncio.to_thread(begun.wait, 20)
    await cancelled_twice(running)

    assert sorted(engine.abandoned) == ["a", "b", "c"]
    held.set()
    await until(lambda: not engine.abandoned)


async def test_a_call_that_ends_is_struck_off_by_its_own_name(engine):
    """Each name belongs to its own call."""
    begun = threading.Barrier(4)
    gates = {name: threading.Event() for name in "abc"}

    def make(name):
        @cs.task(name=name)
        def work():
            begun.wait(20)
            gates[name].wait(20)

        return work()

    running = asyncio.ensure_future(engine.run([make(name) for name in "abc"]))
    await asyncio.to_thread(begun.wait, 20)
    await cancelled_twice(running)

    for name in "bca":
        left = set(engine.abandoned) - {name}
        gates[name].set()
        await until(lambda left=left: set(engine.abandoned) == left)


async def test_a_run_that_is_cancelled_does_not_wait_for_a_thread(narrow, use_vm, stuck, held):
    """Nothing of it runs: the only thread is taken by another run."""
    ran = []

    @cs.task
    def occupy():
        return stuck("occupied")

    @cs.task(mode="blocking")
    def work():
        ran.append(1)

    @cs.resource
    def tool():
        yield

    @cs.task
    def work_with(tool=cs.inject(tool), more=None):
        ran.append(1)

    for target in (work(), add(work()), work().with_timeout(1)):
        stuck.calls = 0
        held.clear()
        stuck.begun.clear()
        occupying = asyncio.ensure_future(narrow.run(occupy()))
        await reached(stuck.begun)
        waiting = asyncio.ensure_future(narrow.run(target, use_vm=use_vm))
        await turns()
        waiting.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert narrow.abandoned == ()
        held.set()
        assert await occupying == "occupied"
    assert not ran


async def test_a_failed_run_does_not_make_calls_that_wait_for_a_thread(narrow, use_vm, stuck, held):
    ran = []

    @cs.resource
    async def tool():
        yield

    @cs.task
    def occupy():
        return stuck("occupied")

    @cs.task
    def work(tool=cs.inject(tool)):
        ran.append(1)

    @cs.task
    async def fail():
        await turns(50)
        raise ValueError("wrong")

    occupying = asyncio.ensure_future(narrow.run(occupy()))
    await reached(stuck.begun)
    with pytest.raises(ValueError, match="wrong"):
        await narrow.run([fail(), work()], use_vm=use_vm)
    held.set()
    assert await occupying == "occupied"
    assert not ran


def test_a_call_may_outlive_the_event_loop_of_its_run(use_vm, stuck, held, caplog):
    """Its end is reported to no run, and nothing complains of that."""

    @cs.task
    def work():
        return stuck()

    @cs.task
    def after(_): ...

    async def wait():
        await asyncio.Event().wait()

    async def main():
        running = asyncio.ensure_future(engine.run([cs.task(wait)(), after(work())], use_vm=use_vm))
        await reached(stuck.begun)
        await cancelled_twice(running)

    for run in (asyncio.run, run_virtually):
        stuck.calls = 0
        stuck.begun.clear()
        held.clear()
        executor = LocalExecutor(4)
        engine = cs.Engine(threads=executor)
        run(main())
        assert engine.abandoned == ("work",)
        held.set()
        executor.shutdown()
        for thread in stuck.threads:
            thread.join(20)
            assert not thread.is_alive()
        assert engine.abandoned == ()
        asyncio.run(engine.close())
    assert not caplog.records


# -- coroutines, in virtual time --------------------------------------------------------------


def virtually(target, use_vm):
    """The value of ``target``, and the virtual seconds that it took."""

    async def main():
        async with cs.Engine() as engine:
            value = await engine.run(target, use_vm=use_vm)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return value, asyncio.get_running_loop().time()

    return run_virtually(main)


def test_a_coroutine_that_takes_too_long_is_cancelled(use_vm):
    log = []

    @cs.task
    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            log.append(asyncio.get_running_loop().time())
            raise

    with pytest.raises(
        cs.errors.TaskTimeoutError, match=r"task 'work' took longer than 60 s"
    ) as caught:
        virtually(add(work().with_timeout(60)), use_vm)
    assert log == [60]
    assert len([note for note in caught.value.__notes__ if "in task 'work'" in note]) == 1


def test_a_coroutine_in_time_is_left_alone(use_vm):
    @cs.task
    async def work():
        await asyncio.sleep(59)
        return "worked"

    assert virtually(work().with_timeout(60), use_vm) == ("worked", 59)


def test_a_coroutine_that_swallows_the_cancel_has_taken_too_long_all_the_same(use_vm):
    @cs.task
    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        return "worked"

    with pytest.raises(cs.errors.TaskTimeoutError):
        virtually(work().with_timeout(60), use_vm)


def test_an_error_raised_on_the_cancel_of_a_timeout_is_the_timeout(use_vm):
    """The time was over first."""

    @cs.task
    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("in the way") from None

    with pytest.raises((cs.errors.TaskTimeoutError, ValueError)):
        virtually(work().with_timeout(60), use_vm)


@pytest.mark.parametrize("how", ["raised", "a timeout of its own", "a plain function's"])
def test_a_timeout_of_the_users_own_is_not_taken_for_ours(use_vm, how):
    @cs.task
    async def work():
        if how == "raised":
            raise TimeoutError("of its own")
        async with asyncio.timeout(1):
            await asyncio.sleep(3600)

    @cs.task
    def plain():
        raise TimeoutError("of its own")

    target = (plain if how == "a plain function's" else work)()
    with pytest.raises(TimeoutError) as caught:
        virtually(target.with_timeout(60), use_vm)
    assert type(caught.value) is TimeoutError


def test_a_coroutine_that_took_too_long_is_tried_again(use_vm):
    """R10: each attempt has its time."""
    attempts = []

    @cs.task
    async def work():
        attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(3600 if len(attempts) < 3 else 1)
        return "worked"

    target = work().with_timeout(60).with_retry(delay=5, on=cs.errors.TaskTimeoutError)
    assert virtually(target, use_vm) == ("worked", 131)
    assert attempts == [0, 65, 130]


def test_every_step_of_a_loop_has_its_time(use_vm):
    @cs.task
    async def loop(n, seconds):
        await asyncio.sleep(seconds)
        return loop.tail(n - 1) if n else "worked"

    assert virtually(loop(9, 50).with_timeout(60), use_vm) == ("worked", 500)
    with pytest.raises(cs.errors.TaskTimeoutError):
        virtually(loop(9, 70).with_timeout(60), use_vm)


@KINDS
def test_resources_are_closed_when_a_coroutine_took_too_long(use_vm, log, asynchronous):
    base = provider(log, "base", asynchronous, "run")
    tool = provider(log, "tool", asynchronous, "task", cs.inject(base))

    @cs.task
    async def work(tool=cs.inject(tool)):
        try:
            await asyncio.sleep(3600)
        finally:
            log.note("cancelled")

    with pytest.raises(cs.errors.TaskTimeoutError):
        virtually(work().with_timeout(60).with_retry(2), use_vm)
    attempt = ["open tool", "cancelled", "close tool"]
    assert log == ["open base", *attempt, *attempt, "close base"]


def test_opening_resources_is_not_counted(use_vm):
    @cs.resource(scope="task", teardown_timeout=7200)
    async def slow():
        await asyncio.sleep(3600)
        yield "slow"
        await asyncio.sleep(3600)

    @cs.task
    async def work(slow=cs.inject(slow)):
        await asyncio.sleep(1)
        return "worked"

    assert virtually(work().with_timeout(60), use_vm) == ("worked", 7201)


def test_a_cancel_that_comes_with_the_timeout_cancels(use_vm):
    """The run was cancelled, whatever else happened at the same moment."""

    @cs.task
    async def work():
        await asyncio.sleep(3600)

    async def main():
        async with cs.Engine() as engine:
            target = work().with_timeout(60).with_retry(9)
            running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
            asyncio.get_running_loop().call_at(60, running.cancel)
            with pytest.raises(asyncio.CancelledError):
                await running
            return asyncio.get_running_loop().time()

    assert run_virtually(main) == 60
