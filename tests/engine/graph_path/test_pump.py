"""The pump: first steps of coroutines, many in one turn of the event loop (M5, M9, M12, M13)."""

import asyncio
import contextlib
import contextvars
import inspect
import sys
import threading
import weakref

import pytest

import cascade as cs
from cascade.runtime import events
from cascade.runtime.graph_path.lanes import pump
from cascade.runtime.graph_path.lanes.spares import Spare
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.testing import run_virtually

PATIENCE = 10

setting = contextvars.ContextVar("setting", default="outside")


@cs.task
def listed(*values):
    return list(values)


@cs.task
async def give(n):
    return n


@cs.task
async def give_later(n):
    await asyncio.sleep(0)
    return n


@pytest.fixture
def spares(monkeypatch):
    """The spare tasks that were made."""
    made = []

    def begin(spare):
        made.append(spare)
        return true_begin(spare)

    true_begin = Spare.begin
    monkeypatch.setattr(Spare, "begin", begin)
    return made


async def run(target, **options):
    async with cs.Engine() as engine:
        value = await engine.run(target, use_vm=False, **options)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return value


# -- how many asyncio tasks there are -------------------------------------------------------------


def test_coroutines_that_return_at_once_share_one_task(spares):
    assert run_virtually(run(listed(*[give(n) for n in range(100)]))) == [*range(100)]

    assert len(spares) == 1


def test_inline_calls_share_it_too(spares):
    @cs.task(mode="inline")
    def name():
        return asyncio.current_task().get_name()

    calls = [name() for _ in range(100)]
    names = run_virtually(run(listed(*calls, *[give(n) for n in range(100)])))

    assert len(spares) == 1
    assert len(set(names[:100])) == 1


def test_nodes_that_become_ready_meanwhile_begin_in_the_same_turn(spares):
    lazy = give(1)
    for _ in range(99):
        lazy = give(lazy)

    assert run_virtually(run(lazy)) == 1
    assert len(spares) == 1


def test_only_a_coroutine_that_waits_keeps_its_task(spares):
    calls = [give(n) if n % 10 else give_later(n) for n in range(100)]
    value = run_virtually(run(listed(*calls)))

    assert value == [*range(100)]
    assert len(spares) == 11


async def test_the_current_task_is_the_same_in_all_steps():
    @cs.task
    async def look(_):
        found = [asyncio.current_task()]
        for _ in range(3):
            await asyncio.sleep(0)
            found.append(asyncio.current_task())
        return found

    for found in await run(listed(*[look(n) for n in range(3)])):
        assert isinstance(found[0], asyncio.Task)
        assert len(set(found)) == 1


@pytest.mark.parametrize("how", ["strongly", "weakly", "by a callback"])
async def test_a_task_that_a_call_keeps_is_its_own(how, spares):
    kept, ends = [], []

    @cs.task
    async def keep(n):
        task = asyncio.current_task()
        if how == "strongly":
            kept.append(task)
        elif how == "weakly":
            kept.append(weakref.ref(task))
        else:
            task.add_done_callback(lambda _: ends.append(n))
        return n

    assert await run(listed(*[keep(n) for n in range(20)])) == [*range(20)]

    assert len(spares) >= 20
    await asyncio.sleep(0)
    assert ends == ([*range(20)] if how == "by a callback" else [])


async def test_a_stale_handle_on_a_task_that_returned_cancels_nothing():
    handles = []

    @cs.task
    async def keep():
        handles.append(asyncio.current_task())

    @cs.task
    async def wait(_):
        handles[0].cancel()
        await asyncio.sleep(0)
        return "undisturbed"

    assert await run(wait(keep())) == "undisturbed"


@pytest.mark.parametrize("way", ["a factory", "a method"])
async def test_a_loop_that_makes_tasks_itself_makes_those_of_all_nodes(way, spares, monkeypatch):
    loop, made = asyncio.get_running_loop(), []

    def make(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    if way == "a factory":
        loop.set_task_factory(make)
    else:
        monkeypatch.setattr(type(loop), "create_task", make, raising=False)
    try:
        assert await run(listed(*[give([give(n)]) for n in range(5)])) == [[n] for n in range(5)]
    finally:
        loop.set_task_factory(None)

    assert len(made) >= 5
    assert not spares


# -- cancels --------------------------------------------------------------------------------------


async def test_a_cancel_between_the_first_two_steps_arrives_where_the_call_waits():
    """The task that has not had its own first step passes it on, as Task.cancel does."""
    found = []

    @cs.task
    async def waits():
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel)
        answer = asyncio.get_running_loop().create_future()
        try:
            await answer
        except asyncio.CancelledError:
            found.append(answer.cancelled())
            task.uncancel()
            return "went on"

    assert await run(waits()) == "went on"
    assert found == [True]


def test_a_cancel_by_a_call_of_the_same_turn_arrives():
    handles = []

    @cs.task
    async def waits():
        handles.append(asyncio.current_task())
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            return error.args

    @cs.task
    async def cancels():
        handles[0].cancel("a reason")

    # In virtual time a turn has no end that a busy machine might bring between the two.
    with pytest.raises(cs.errors.TaskCancelledError):
        run_virtually(run(listed(waits(), cancels(), *map(give, range(20)))))


async def test_a_future_that_takes_no_cancel_gives_way_to_it():
    """It was done before the cancel: the call gets the cancel itself."""
    seen = []

    @cs.task
    async def waits():
        task, answer = asyncio.current_task(), asyncio.get_running_loop().create_future()
        answer_soon = asyncio.get_running_loop().call_soon
        answer_soon(answer.set_result, 1)
        answer_soon(task.cancel)
        try:
            await answer
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(cs.errors.TaskCancelledError):
        await run(waits())
    assert seen == ["cancelled"]


async def test_first_steps_of_several_calls_await_the_same_future():
    opened = asyncio.get_running_loop().create_future()

    @cs.task
    async def use(n):
        if n == 2:
            opened.set_result("open")
        return n, await opened

    async with cs.Engine() as engine:
        assert await engine.run([use(0), use(1), use(2)]) == [(n, "open") for n in range(3)]


async def test_a_task_group_in_a_first_step_ends_its_call():
    """Its child fails before the task of the call has had its first step."""

    async def fails():
        raise ValueError("child")

    @cs.task
    async def groups():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await run(groups())
    assert [str(error) for error in caught.value.exceptions] == ["child"]


async def test_calls_that_have_begun_are_cancelled_at_the_end_of_their_run():
    ended = []

    @cs.task
    async def waits(n):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    @cs.task
    async def fails():
        raise ValueError("first step")

    with pytest.raises(ValueError, match="first step"):
        await run(listed(waits(1), fails(), waits(2)))
    assert ended == [1]  # the other one has not begun


# -- contexts (M12) -------------------------------------------------------------------------------


async def test_a_variable_that_a_first_step_sets_is_invisible_to_the_next_call():
    @cs.task
    async def sets(n):
        before = setting.get()
        setting.set(n)
        return before

    @cs.task(mode="inline")
    def sets_inline(n):
        before = setting.get()
        setting.set(n)
        return before

    assert set(await run(listed(*[sets(n) for n in range(5)]))) == {"outside"}
    assert set(await run(listed(*[sets_inline(n) for n in range(5)]))) == {"outside"}


async def test_it_stays_visible_to_later_steps_of_its_own_call():
    @cs.task
    async def sets(n):
        setting.set(n)
        await asyncio.sleep(0)
        return setting.get()

    assert await run(listed(*[sets(n) for n in range(5)])) == [*range(5)]


@pytest.mark.parametrize("ends", ["returns", "fails"])
async def test_what_follows_a_call_runs_without_the_variables_that_it_has_set(ends):
    seen = []

    @cs.task
    async def change(_):
        await asyncio.sleep(0)
        setting.set("inside")
        if ends == "fails":
            raise ValueError

    kind = events.TaskFinished if ends == "returns" else events.TaskFailed
    async with cs.Engine() as engine:
        engine.bus.subscribe(kind, lambda _: seen.append(setting.get()))
        with contextlib.suppress(ValueError):
            await engine.run(listed(*[change(n) for n in range(3)]), use_vm=False)

    assert seen
    assert set(seen) == {"outside"}


def test_calls_that_set_variables_and_return_share_a_task(spares):
    @cs.task
    async def change(n):
        before = setting.get()
        setting.set(n)
        return before

    found = run_virtually(run(listed(*[change(n) for n in range(100)])))

    assert found == ["outside"] * 100
    assert len(spares) == 2  # the first of them had a task with the same context


async def test_calls_that_return_and_calls_that_wait_may_alternate():
    @cs.task
    async def alternate(n):
        if n % 3 == 0:
            await asyncio.sleep(0)
        if n % 5 == 0:
            raise ValueError(n)
        return n

    calls = [alternate(n).catch(ValueError, -n) for n in range(100)]
    assert await run(listed(*calls)) == [n if n % 5 else -n for n in range(100)]
    assert await run(listed(*[alternate(n) for n in range(1, 60) if n % 5])) == [
        n for n in range(1, 60) if n % 5
    ]


async def test_a_pump_within_a_first_step_has_a_task_of_its_own():
    """Such as by a commit that a call's own thread makes: the steps of two calls are nested."""
    inner = []

    @cs.task
    async def give_both(n):
        if n == 1:
            parts = pumps[0]._parts
            parts.dispatch.released(pumps=True)
            inner.append(asyncio.current_task())
        await asyncio.sleep(0)
        return n

    pumps = []
    true_turn = pump.Pump.turn

    def turn(self):
        pumps.append(self)
        return true_turn(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pump.Pump, "turn", turn)
        assert await run(listed(*[give_both(n) for n in range(4)])) == [0, 1, 2, 3]
    assert len(pumps) >= 2
    assert len(inner) == 1


async def test_a_wrapper_of_a_coroutine_function_runs_in_the_context_of_its_call():
    async def inner():
        return setting.get()

    def wrapper():
        setting.set("wrapper")
        return inner()

    wrapped = cs.task(marked(wrapper))

    @cs.task
    async def look():
        return setting.get()

    assert await run(listed(wrapped(), look(), wrapped(), look())) == ["wrapper", "outside"] * 2


def marked(function):
    """A plain function that says that it gives coroutines."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine
    return function


# -- turns (M9) and threads -----------------------------------------------------------------------


async def test_the_event_loop_gets_its_turn_after_five_milliseconds(monkeypatch):
    """Time passes by two milliseconds in each call."""
    now, seen = [0.0], []
    loop = asyncio.get_running_loop()

    @cs.task
    async def step(n):
        now[0] += 0.002
        if n == 0:
            loop.call_soon(seen.append, "turn")
        seen.append(n)

    async with cs.Engine() as engine:
        monkeypatch.setattr(pump, "perf_counter", lambda: now[0])
        monitor = engine._lending._monitor_here()
        monkeypatch.setattr(monitor, "clock", lambda: now[0])
        await engine.run(listed(*[step(n) for n in range(20)]), use_vm=False)

    assert seen[:6] == [0, 1, 2, 3, "turn", 4]


def test_in_virtual_time_all_of_them_begin_in_one_turn(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pump, "perf_counter", lambda: now[0])
    seen = []

    @cs.task
    async def step(n):
        now[0] += 0.002
        if n == 0:
            asyncio.get_running_loop().call_soon(seen.append, "turn")
        seen.append(n)

    run_virtually(run(listed(*[step(n) for n in range(6)])))

    assert seen == [*range(6), "turn"]


async def test_plain_nodes_run_while_a_first_step_blocks():
    """A thread is woken before the next first step, which waits for it."""
    released = threading.Event()

    @cs.task
    def release(_):
        released.set()

    @cs.task(may_block=True)
    async def block():
        return released.wait(PATIENCE)

    assert await run(listed(release(give(1)), block())) == [None, True]


def test_a_small_container_of_their_values_takes_no_thread(monkeypatch):
    """Nor does a set that cannot be filled, which fails as on a thread."""
    woken = []
    monkeypatch.setattr(WorkerPool, "_start", lambda pool, count: woken.append(count))

    @cs.task
    async def count(values):
        return len(values)

    assert run_virtually(run(count([give(1), {"two": give_later(2)}]))) == 2
    with pytest.raises(TypeError, match="unhashable"):
        run_virtually(run(count({give([])})))
    assert not woken


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_long_list_of_nothing_but_their_values_takes_none_either(kind, monkeypatch):
    woken = []
    monkeypatch.setattr(WorkerPool, "_start", lambda pool, count: woken.append(count))
    values = kind(give(n) for n in range(1_000))

    assert run_virtually(run(values)) == kind(range(1_000))
    assert not woken


@pytest.mark.parametrize("rest", [{"more": 1}, "frozenset"])
def test_a_thread_fills_other_large_containers(rest, monkeypatch):
    """Their other parts may be many, or user code hashes them."""
    woken = []
    true_start = WorkerPool._start

    def start(pool, count):
        woken.append(count)
        return true_start(pool, count)

    monkeypatch.setattr(WorkerPool, "_start", start)
    calls = [give(n) for n in range(1_000)]
    target = frozenset(calls) if rest == "frozenset" else [*calls, rest]

    value = run_virtually(run(target))

    assert [*value][:1_000] == [*range(1_000)]
    assert woken


# -- results --------------------------------------------------------------------------------------


async def test_tail_calls_and_lazy_values_of_first_steps_go_on():
    @cs.task
    async def count(n, total=0):
        return count.tail(n - 1, total + n) if n else total

    @cs.task
    async def more(n):
        return listed(give(n), [give_later(n)])

    assert await run(listed(count(100), more(1))) == [5050, [1, [1]]]


async def test_a_failed_first_step_is_tried_again():
    answers = [None, None, 7]

    @cs.task(retry=3)
    async def fetch():
        answer = answers.pop(0)
        if answer is None:
            raise ConnectionError
        return answer

    assert await run(fetch()) == 7


async def test_a_stop_iteration_of_a_function_that_makes_coroutines_names_the_task():
    def wrapper():
        raise StopIteration(1)

    with pytest.raises(cs.errors.TaskStopIterationError):
        await run(cs.task(marked(wrapper))())


async def test_arguments_live_no_longer_than_their_call():
    """The pump keeps nothing of a call for the next one (M21)."""

    class Large:
        pass

    seen = []

    @cs.task
    async def make():
        large = Large()
        seen.append(weakref.ref(large))
        return large

    @cs.task
    async def use(large):
        return 1

    @cs.task
    async def look(_):
        return seen[0]() is None

    assert await run(look(use(make())))


# -- timeouts -------------------------------------------------------------------------------------


def test_calls_with_equal_timeouts_end_in_the_order_in_which_they_began():
    ended = []

    @cs.task
    async def wait(n):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append((n, asyncio.get_running_loop().time()))

    @cs.task
    async def nap(n, seconds):
        await asyncio.sleep(seconds)
        return n

    calls = [wait(nap(n, n)).with_timeout(10).catch(TimeoutError) for n in range(3)]
    calls.append(wait("soon").with_timeout(1.5).catch(TimeoutError))
    run_virtually(run(listed(*calls)))

    assert ended == [("soon", 1.5), (0, 10.0), (1, 11.0), (2, 12.0)]


def test_any_number_of_timeouts_take_one_timer():
    timers = []

    async def main():
        loop = asyncio.get_running_loop()
        true_call_at = loop.call_at

        def call_at(when, *details, **options):
            timers.append(when)
            return true_call_at(when, *details, **options)

        loop.call_at = call_at
        await run(listed(*[give_later(n).with_timeout(1000) for n in range(50)]))

    run_virtually(main)

    assert timers.count(1000) == 1


def test_a_call_that_ended_in_time_leaves_no_timer():
    """Virtual time would jump to it."""

    @cs.task
    async def nap(seconds):
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def main():
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        threading.Timer(0.05, loop.call_soon_threadsafe, (ready.set_result, None)).start()

        @cs.task
        async def wait_for_a_thread(_):
            await ready
            return loop.time()

        return await run(wait_for_a_thread(nap(1).with_timeout(60)))

    assert run_virtually(main) == 1.0


def test_a_first_step_that_returns_late_has_its_value():
    """Nothing can end it while it runs, as ``asyncio.timeout`` could not."""

    @cs.task
    async def work(loop):
        loop._advance(100)
        return loop.time()

    async def main():
        return await run(work(asyncio.get_running_loop()).with_timeout(1))

    assert run_virtually(main) == 100


async def test_plain_calls_with_a_timeout_take_no_asyncio_task(monkeypatch):
    loop, made = asyncio.get_running_loop(), []
    true_create_task = loop.create_task

    def create_task(coro, **options):
        made.append(coro)
        return true_create_task(coro, **options)

    @cs.task
    def plain(n):
        return n

    @cs.task(mode="inline")
    def thread():
        return threading.current_thread()

    monkeypatch.setattr(loop, "create_task", create_task)
    calls = [plain(n).with_timeout(PATIENCE) for n in range(50)]
    *values, place = await run(listed(*calls, thread().with_timeout(PATIENCE)))

    assert values == [*range(50)]
    assert place is not threading.current_thread()
    assert not made
