"""Runs of few calls without a graph, and programs with coroutines (M6, M12, M13)."""

import asyncio
import contextvars
import threading

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime import engine_runs
from cascade.runtime.execution import early_calls, fairness
from cascade.runtime.graph_path.small_runs import shared_runs
from cascade.runtime.graph_path.strategy import GraphRun

PATIENCE = 10

setting = contextvars.ContextVar("setting", default="outside")


@cs.task
def add(a, b=0):
    return a + b


@cs.task(mode="inline")
def add_inline(a, b=0):
    return a + b


@cs.task(mode="inline")
def total(numbers):
    return sum(numbers)


@cs.task
async def give(n):
    return n


@cs.task
async def give_later(n):
    await asyncio.sleep(0)
    return n


@pytest.fixture
def graphs(monkeypatch):
    """The graph runs that were made, although no turn of the event loop is ever over."""
    monkeypatch.setattr(fairness, "BUDGET", PATIENCE)
    made = []

    def value(graph, target, *details, **more):
        made.append(target.name)
        return true_value(graph, target, *details, **more)

    true_value = GraphRun.value
    monkeypatch.setattr(GraphRun, "value", value)
    return made


@pytest.fixture
def patient(monkeypatch):
    """The event loop's thread waits for workers as long as they need."""
    monkeypatch.setattr(shared_runs, "MOMENT", PATIENCE)
    monkeypatch.setattr(LocalExecutor, "is_short", False)


@pytest.fixture
async def engine():
    async with cs.Engine() as engine:
        await engine.run(give_later(0))
        yield engine
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(params=["run", "program"])
def run(request, engine):
    """Computes a target as a run or as a program."""

    async def compute(target):
        if request.param == "run":
            return await engine.run(target)
        return await engine.compile(target).run()

    return compute


# -- no graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (lambda: add_inline(add_inline(1), add_inline(2)), 3),
        (lambda: add_inline(give(1), add_inline(2)), 3),
        (lambda: add_inline(give_later(add_inline(1)), 2), 3),
        (lambda: give_later(give_later(1)), 1),
        (lambda: give(None), None),
        (lambda: total([give(n) for n in range(9)]), 36),
        (lambda: [give(1), {"two": add_inline(2)}], [1, {"two": 2}]),
    ],
)
async def test_calls_in_the_loops_thread_need_no_graph(run, graphs, target, value):
    graphs.clear()
    assert await run(target()) == value
    assert graphs == []


@pytest.mark.parametrize(
    "target",
    [
        lambda: add(add(1), add(2)),
        lambda: add(give(1), add(2)),
        lambda: add(add(give_later(1)), 2),
        lambda: add_inline(add(add_inline(1)), give(2)),
        lambda: add_inline(add(1), give_later(add(2))),
    ],
)
async def test_plain_calls_that_take_a_moment_need_no_graph(run, graphs, patient, target):
    graphs.clear()
    assert await run(target()) == 3
    assert graphs == []


async def test_large_graphs_have_a_graph_run(engine, graphs):
    graphs.clear()
    assert await engine.run(total([give(n) for n in range(30)])) == 435
    assert graphs == ["total"]


async def test_plain_functions_run_on_a_worker_in_a_run_and_here_in_a_program(engine, patient):
    @cs.task
    def thread():
        return threading.get_ident()

    @cs.task
    def threads(first, _waits):
        return first, threading.get_ident()

    here = threading.get_ident()
    assert here not in await engine.run(threads(thread(), give_later(1)))
    assert await engine.compile(threads(thread(), give_later(1))).run() == (here, here)


# -- one asyncio task for each call ---------------------------------------------------------------


async def test_a_call_has_one_task_from_its_first_step_to_its_last(run):
    @cs.task
    async def tasks(_before):
        first = asyncio.current_task()
        await asyncio.sleep(0)
        return first is asyncio.current_task() and first is not caller

    caller = asyncio.current_task()
    assert await run(tasks(give(1)))
    assert await run([tasks(1), tasks(2)]) == [True, True]


async def test_a_task_that_a_call_keeps_is_its_own(run):
    kept = []

    @cs.task
    async def keep(*_before):
        kept.append(asyncio.current_task())

    await run(keep(keep(keep())))
    assert len({*kept}) == 3


async def test_calls_that_wait_overlap(run):
    came = []

    @cs.task
    async def meet(n):
        came.append(n)
        while len(came) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return n

    assert await run([meet(0), meet(1), meet(2)]) == [0, 1, 2]


async def test_a_plain_call_overlaps_with_a_coroutine(engine):
    answered = threading.Event()

    @cs.task
    def wait():
        return answered.wait(PATIENCE)

    @cs.task
    async def answer():
        await asyncio.sleep(0)
        answered.set()

    assert await engine.run([wait(), answer()]) == [True, None]
    answered.clear()
    assert await engine.run([wait(), wait(), answer(), answer()]) == [True, True, None, None]


# -- a worker's calls, taken over while one lasts -------------------------------------------------


async def test_a_call_that_lasts_longer_goes_on_in_a_graph(engine, graphs):
    go_on, begun, made = threading.Event(), threading.Event(), []

    @cs.task
    def wait(n):
        made.append(n)
        begun.set()
        return go_on.wait(PATIENCE) and n

    running = asyncio.ensure_future(engine.run(add(add(add(wait(1)), add(wait(2))), give(3))))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    go_on.set()
    assert await running == 6
    assert sorted(made) == [1, 2]


@pytest.mark.parametrize("result", ["an error", "a lazy value", "a tail call", "a value"])
async def test_a_call_that_lasts_longer_ends_as_any(engine, result):
    go_on, begun = threading.Event(), threading.Event()

    @cs.task
    def wait(n):
        begun.set()
        assert go_on.wait(PATIENCE)
        if n and result == "an error":
            raise ValueError("late")
        if n and result == "a lazy value":
            return add(n, 0)
        return wait.tail(0) if n and result == "a tail call" else n

    running = asyncio.ensure_future(engine.run(add(wait(2), 1)))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    go_on.set()
    if result == "an error":
        with pytest.raises(ValueError, match="late") as caught:
            await running
        assert "cascade: in task 'wait'" in caught.value.__notes__[0]
    else:
        assert await running == (1 if result == "a tail call" else 3)


async def test_a_cancel_waits_for_a_call_that_was_taken_over(engine):
    go_on, begun, ended = threading.Event(), threading.Event(), []

    @cs.task
    def wait():
        begun.set()
        go_on.wait(PATIENCE)
        ended.append(True)

    running = asyncio.ensure_future(engine.run(add(wait(), 1)))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    running.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not running.done()  # (M8)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == [True]


async def test_an_error_beside_a_call_that_lasts_waits_for_it(engine):
    go_on, ended = threading.Event(), []

    @cs.task
    def wait():
        go_on.wait(PATIENCE)
        ended.append(True)

    @cs.task
    async def fail():
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        await engine.run(add(wait(), fail()))
    assert ended in ([], [True])  # it may not have begun
    assert engine.runs() == []


async def test_a_run_stops_waiting_for_targets_that_take_longer(engine, monkeypatch):
    asked, waited = [], threading.Event()
    true_start, true_has_ended = shared_runs.Batch.start, shared_runs.Batch.has_ended

    @cs.task
    def slow():
        assert waited.wait(10)

    def start(batch):
        waited.clear()
        return true_start(batch)

    def has_ended(batch, *seconds):
        asked.append(seconds)
        try:
            return true_has_ended(batch, *seconds)
        finally:
            waited.set()

    waited.set()
    monkeypatch.setattr(shared_runs.Batch, "start", start)
    monkeypatch.setattr(shared_runs.Batch, "has_ended", has_ended)
    for _ in range(20):
        assert await engine.run(slow()) is None
    assert 0 < len(asked) < 10


# -- context variables, cancels, errors -----------------------------------------------------------


async def test_calls_do_not_see_each_others_variables(run, patient):
    @cs.task
    async def write(_before, waits):
        setting.set("inside")
        if waits:
            await asyncio.sleep(0)
        return setting.get()

    @cs.task
    async def read(*_before):
        return setting.get()

    @cs.task(mode="inline")
    def write_inline(*_before):
        setting.set("inline")

    @cs.task
    def write_plain(*_before):
        setting.set("plain")

    @cs.task
    def read_plain(*_before):
        return setting.get()

    for waits in (False, True):
        assert await run(read(write(1, waits))) == "outside"
        assert await run(read_plain(write(1, waits))) == "outside"
    assert await run(read(write_inline())) == "outside"
    assert await run(read_plain(write_plain())) == "outside"
    assert setting.get() == "outside"


async def test_a_call_sees_the_variables_of_its_caller_in_each_step(run):
    @cs.task
    async def read():
        first = setting.get()
        await asyncio.sleep(0)
        return first, setting.get()

    for value in ("one", "two"):
        token = setting.set(value)
        assert await run(read()) == (value, value)
        setting.reset(token)
    assert await run(read()) == ("outside", "outside")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_that_cancels_its_own_task_fails(run, waits):
    @cs.task
    async def cancel(_before):
        asyncio.current_task().cancel()
        if waits:
            await asyncio.sleep(0)

    with pytest.raises(cs.errors.TaskCancelledError):
        await run(cancel(give(1)))
    with pytest.raises(cs.errors.TaskCancelledError):
        await run([cancel(1), give(2)])
    assert asyncio.current_task().cancelling() == 0


async def test_timeouts_of_a_call_cancel_that_call(run):
    @cs.task
    async def limited(_before):
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"

    assert await run(limited(give(1))) == "in time"
    assert await run([limited(1), limited(2)]) == ["in time"] * 2


async def test_a_cancel_of_the_run_reaches_a_call_that_waits(run):
    seen, begun = [], asyncio.Event()

    @cs.task
    async def wait(_before):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    running = asyncio.ensure_future(run(add_inline(wait(give(1)))))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["cancelled"]


async def test_a_cancel_in_the_turn_of_the_first_step_arrives(run):
    seen = []

    @cs.task
    async def wait():
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(cs.errors.TaskCancelledError):
        await run(wait())
    assert seen == ["cancelled"]


async def test_a_deadline_ends_a_call_that_waits(engine):
    @cs.task
    async def wait():
        await asyncio.Event().wait()

    with pytest.raises(cs.errors.DeadlineError):
        await engine.run(add_inline(wait()), deadline=0.01)


@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_has_the_note_of_its_task(run, waits):
    @cs.task
    async def fail(_before):
        if waits:
            await asyncio.sleep(0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as caught:
        await run(add_inline(fail(give(1))))
    assert "cascade: in task 'fail'" in caught.value.__notes__[0]
    frames = [entry.name for entry in caught.traceback]
    assert frames[-1] == "fail"
    assert not {"_begin", "_made", "begin", "straight"} & {*frames}


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_call_returns_goes_on(run, waits):
    @cs.task
    async def count(n):
        if waits:
            await asyncio.sleep(0)
        return count.tail(n - 1) if n else give(5)

    assert await run(add_inline(count(3), 1)) == 6
    assert await run([count(3), count(1)]) == [5, 5]


async def test_a_stop_iteration_is_named(run):
    @cs.task
    async def stop():
        raise StopIteration

    with pytest.raises(cs.errors.TaskStopIterationError, match="stop"):
        await run(add_inline(stop()))


async def test_a_run_that_waits_is_listed_with_what_it_lacks(engine):
    go_on = asyncio.Event()

    @cs.task
    async def wait():
        await go_on.wait()
        return 1

    running = asyncio.ensure_future(engine.run(add_inline(wait(), 1)))
    await asyncio.sleep(0)
    assert [run.target for run in engine.runs()] == ["add_inline"]
    assert [(w.task, w.holders) for w in engine.waiting()] == [("add_inline", ("wait",))]
    go_on.set()
    assert await running == 2


async def test_events_are_published_once_there_are_subscribers(engine):
    go_on, seen = asyncio.Event(), []

    @cs.task
    async def wait():
        await go_on.wait()
        return 1

    running = asyncio.ensure_future(engine.run(give(add_inline(wait(), 1))))
    await asyncio.sleep(0)
    engine.bus.subscribe(cs.events.TaskFinished, lambda event: seen.append(event.task))
    go_on.set()
    assert await running == 2
    assert seen == ["add_inline", "give"]


async def test_limits_set_during_a_wait_hold_for_the_next_calls(engine):
    go_on = asyncio.Event()

    @cs.task
    async def wait():
        await go_on.wait()
        return 1

    running = asyncio.ensure_future(engine.run(give(give(wait()))))
    await asyncio.sleep(0)
    engine.constraints.pause("task:give")
    go_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    engine.constraints.resume("task:give")
    assert await running == 1


async def test_inputs_are_released_when_their_last_user_has_returned(engine):
    import weakref

    class Block:
        pass

    seen = []

    @cs.task(mode="inline")
    def make():
        block = Block()
        seen.append(weakref.ref(block))
        return block

    @cs.task(mode="inline")
    def use(_block):
        return 1

    @cs.task
    async def look(_used):
        return seen[-1]()

    assert await engine.run(look(use(make()))) is None


async def test_a_closed_engine_takes_no_call_of_a_program_that_waits(engine):
    ended = []

    async def main():
        async with cs.Engine() as other:

            @cs.task
            async def close():
                try:
                    await other.close()
                    await asyncio.sleep(PATIENCE)
                finally:
                    ended.append(True)

            await other.compile(add(close(), 1)).run()

    with pytest.raises(cs.errors.RunError, match="closed"):
        await main()
    assert ended == [True]


async def test_task_factories_get_all_calls(engine, graphs):
    loop, made = asyncio.get_running_loop(), []

    def factory(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        graphs.clear()
        assert await engine.run(give(1)) == 1
        assert await engine.compile(give(2)).run() == 2
    finally:
        loop.set_task_factory(None)
    assert graphs == ["give", "give"]
    assert made


def test_runs_in_one_turn_share_a_spare_task(monkeypatch):
    made = []

    class Counted(early_calls.EarlyCall):
        __slots__ = ()

        def __init__(self, tasks):
            made.append(self)
            super().__init__(tasks)

    async def main():
        async with cs.Engine() as engine:
            program = engine.compile(add(give(1), give(2)))
            for _ in range(5):
                assert await program.run() == 3
                assert await engine.run(give(give(1))) == 1

    monkeypatch.setattr(fairness, "BUDGET", PATIENCE)
    monkeypatch.setattr(engine_runs, "BUDGET", PATIENCE)
    monkeypatch.setattr(early_calls, "EarlyCall", Counted)
    contextvars.Context().run(asyncio.run, main())
    assert len(made) == 1


def test_a_caller_with_variables_gets_spare_tasks_of_its_own(monkeypatch):
    """A task keeps the variables of the code that has made it."""
    seen = []

    async def main():
        async with cs.Engine() as engine:

            @cs.task
            async def look():
                asyncio.get_running_loop().call_soon(lambda: seen.append(setting.get()))
                await asyncio.sleep(0)

            for value in ("one", "two"):
                setting.set(value)
                await engine.run(look())

    contextvars.Context().run(asyncio.run, main())
    assert seen == ["one", "two"]
