"""Cancels from inside a call: its own, or of something that it awaits (ruling M13)."""

import asyncio
import signal
import sys
import threading

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished, TaskFailed

PATIENCE = 10


def own_task():
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancels_itself():
    own_task().cancel()
    await asyncio.sleep(0)


async def cancels_itself_later():
    await asyncio.sleep(0)
    own_task().cancel()
    await asyncio.Event().wait()


async def cancels_itself_twice():
    own_task().cancel()
    own_task().cancel()
    await asyncio.sleep(0)


async def cancels_itself_and_returns():
    await asyncio.sleep(0)
    own_task().cancel()
    return "a value"


async def swallows_its_own_cancel():
    own_task().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return "a value"


async def awaits_a_cancelled_future():
    answer = asyncio.get_running_loop().create_future()
    answer.cancel()
    await answer


async def awaits_a_cancelled_task():
    child = asyncio.ensure_future(asyncio.sleep(PATIENCE))
    await asyncio.sleep(0)
    child.cancel()
    await child


async def raises_it():
    await asyncio.sleep(0)
    raise asyncio.CancelledError("from a library")


async def cancels_itself_in_a_scope():
    async with asyncio.timeout(PATIENCE):
        await cancels_itself()


def plainly_raises_it():
    raise asyncio.CancelledError


KINDS = [
    cancels_itself,
    cancels_itself_later,
    cancels_itself_twice,
    cancels_itself_and_returns,
    swallows_its_own_cancel,
    awaits_a_cancelled_future,
    awaits_a_cancelled_task,
    raises_it,
    cancels_itself_in_a_scope,
    plainly_raises_it,
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


WAYS = ["graph", "interpreted", "auto", "program"]


@pytest.fixture(params=WAYS)
def run(request):
    """``await run(target, …)`` on one of the ways to run it; it has to end."""
    return runner_of(request.param)


@pytest.fixture(params=[*WAYS, "generated"])
def run_loop(request):
    """The same, for loops, which the generated tier makes, too."""
    return runner_of(request.param)


def runner_of(way):

    async def run(target, *, subscribe=(), **options):
        tier = way if way in ("interpreted", "generated") else "auto"
        before = own_task().cancelling()
        async with cs.Engine(tier=tier) as engine, asyncio.timeout(PATIENCE):
            for event, handler in subscribe:
                engine.bus.subscribe(event, handler)
            try:
                if way == "program":
                    return await engine.compile(target, **options).run()
                return await engine.run(target, use_vm=way != "graph", **options)
            except Exception:
                assert own_task().cancelling() == before
                await asyncio.sleep(0)  # no cancel is left over for the code after the run
                raise

    return run


@cs.task
def pair(*values):
    return values


@cs.task
async def give(n):
    await asyncio.sleep(0)
    return n


def is_inside(error):
    """Whether an error is an ordinary one, with the cancel as its cause."""
    return (
        type(error) is cs.errors.TaskCancelledError
        and isinstance(error, Exception)
        and isinstance(error.__cause__, asyncio.CancelledError)
    )


@each_kind
@pytest.mark.parametrize("place", ["alone", "input", "among others"])
async def test_it_is_an_error_of_that_task(run, kind, place):
    work = cs.task(kind, name="work")()
    target = {"alone": work, "input": pair(work), "among others": pair(give(1), work, give(2))}
    with pytest.raises(cs.errors.TaskCancelledError) as caught:
        await run(target[place])

    assert is_inside(caught.value)
    assert "work" in caught.value.__notes__[0]


@each_kind
async def test_it_is_tried_again(run, kind):
    tries = []

    async def work(n):
        tries.append(n)
        if len(tries) < 3:
            found = kind()
            return await found if asyncio.iscoroutine(found) else found
        return n

    assert await run(pair(cs.task(work)(4).with_retry(3))) == (4,)
    assert tries == [4, 4, 4]


@each_kind
async def test_a_map_catches_it(run, kind):
    work = cs.task(lambda n: kind(), name="work")
    if asyncio.iscoroutinefunction(kind):

        @cs.task
        async def work(n):
            return await kind()

    errors = await run(pair(work.map(n=[1, 2], return_exceptions=True), give(3)))

    assert errors[1] == 3
    assert [is_inside(error) for error in errors[0]] == [True, True]


@each_kind
async def test_a_run_that_goes_on_raises_it_with_the_others(run, kind):
    done = []

    @cs.task
    async def other(n):
        await asyncio.sleep(0)
        done.append(n)

    with pytest.raises(ExceptionGroup) as caught:
        await run(pair(cs.task(kind)(), other(1), other(2)), fail_fast=False)

    assert [is_inside(error) for error in caught.value.exceptions] == [True]
    assert sorted(done) == [1, 2]


async def test_it_is_reported_as_a_failure(run):
    told = []
    with pytest.raises(cs.errors.TaskCancelledError):
        await run(
            pair(cs.task(raises_it)()),
            subscribe=[
                (TaskFailed, lambda event: told.append(type(event.error))),
                (RunFinished, lambda event: told.append(event.status)),
            ],
        )

    assert told == [cs.errors.TaskCancelledError, "failed"]


async def test_an_error_of_the_task_after_its_own_cancel_stays(run):
    @cs.task
    async def work():
        own_task().cancel()
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await run(pair(give(1), work()))


async def test_an_inline_function_that_cancels_the_asyncio_task_it_is_in():
    """On the graph path; on the virtual machine that may be the task of the run's caller."""

    @cs.task(mode="inline")
    def work():
        own_task().cancel()

    async with cs.Engine() as engine:
        with pytest.raises(cs.errors.TaskCancelledError):
            await engine.run(pair(give(1), work()))


# -- cancels that belong to the task itself -------------------------------------------------------


async def test_an_undone_cancel_does_not_count(run):
    @cs.task
    async def work():
        own_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            own_task().uncancel()
        return 7

    assert await run(pair(work())) == (7,)


async def test_a_timeout_of_the_tasks_own_code_stays_its_own(run):
    @cs.task
    async def work():
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"

    @cs.task
    async def lets_it_out():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    assert await run(pair(work(), give(1))) == ("late", 1)
    with pytest.raises(TimeoutError) as caught:
        await run(pair(lets_it_out()))
    assert type(caught.value) is TimeoutError


async def test_a_task_group_of_the_tasks_own_code_stays_its_own(run):
    async def fail():
        raise OSError("child")

    @cs.task
    async def work(caught):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* OSError:
            if not caught:
                raise
        return "caught"

    assert await run(pair(work(True))) == ("caught",)
    with pytest.raises(ExceptionGroup) as caught:
        await run(pair(work(False)))
    assert str(caught.value.exceptions[0]) == "child"


async def test_a_timeout_of_the_node_stays_a_timeout(run):
    @cs.task
    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "it swallows the cancel"

    with pytest.raises(cs.errors.TaskTimeoutError):
        await run(pair(work().with_timeout(0.01)))
    with pytest.raises(cs.errors.TaskCancelledError):
        await run(pair(cs.task(cancels_itself_later)().with_timeout(PATIENCE)))


# -- cancels of the run -----------------------------------------------------------------------


@pytest.mark.parametrize("first", ["the run", "the task"])
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancel_of_the_run_at_the_same_time_wins(run, first, swallows):
    calls = []
    here = asyncio.Event()

    @cs.task
    async def work():
        calls.append(1)
        here.set()
        if first == "the task":
            own_task().cancel()
            running.get_loop().call_soon(running.cancel)
        else:
            running.get_loop().call_soon(running.cancel)
            await asyncio.sleep(0)
            own_task().cancel()
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not swallows:
                raise
            await asyncio.sleep(0)

    running = asyncio.ensure_future(run(pair(give(1), work().with_retry(3))))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(calls) <= 3
    assert running.cancelled()


async def test_a_run_that_is_cancelled_while_its_task_swallows_that_is_cancelled(run):
    here = asyncio.Event()

    @cs.task
    async def work():
        here.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            own_task().cancel()
        return 1

    running = asyncio.ensure_future(run(pair(work())))
    await here.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("cancelled", ["asyncio task", "handle"])
async def test_a_loop_that_cancels_its_own_run_ends_the_run(use_vm, cancelled):
    """Its steps must not be made in the asyncio task of the run, where that looks like M13."""
    running = None

    @cs.task
    async def agent(n):
        await asyncio.sleep(0)
        if n == 3:
            running.cancel()
        await asyncio.sleep(0)
        return agent.tail(n + 1)

    async with cs.Engine() as engine:
        if cancelled == "handle":
            running = engine.start(agent(0), use_vm=use_vm)
            with pytest.raises(cs.errors.RunCancelledError):
                await running.result()
        else:
            running = asyncio.ensure_future(engine.run(agent(0), use_vm=use_vm))
            with pytest.raises(asyncio.CancelledError):
                await running


async def test_another_task_of_the_users_that_cancels_a_call_fails_it():
    """On the graph path, where each coroutine task has an asyncio task of its own."""
    task = asyncio.get_running_loop().create_future()

    @cs.task
    async def work():
        task.set_result(own_task())
        await asyncio.Event().wait()

    @cs.task
    async def cancel():
        (await task).cancel()

    async with cs.Engine() as engine, asyncio.timeout(PATIENCE):
        with pytest.raises(cs.errors.TaskCancelledError):
            await engine.run(pair(work(), cancel()))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("runner", ["cs.run", "asyncio.run"])
def test_ctrl_c_in_a_step_of_a_task_is_no_cancel_of_its_own(use_vm, runner):
    assert threading.current_thread() is threading.main_thread()
    calls = []

    @cs.task
    async def work():
        calls.append(1)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    async def main():
        await cs.run_async(work().with_retry(3), use_vm=use_vm)

    with pytest.raises(KeyboardInterrupt):
        if runner == "cs.run":
            cs.run(work().with_retry(3), use_vm=use_vm)
        else:
            asyncio.run(main())
    assert calls == [1]


# -- loops ------------------------------------------------------------------------------------


@each_kind
async def test_a_step_of_a_loop_that_is_cancelled_from_inside_fails_there(run_loop, kind):
    steps = []

    async def loop(n):
        steps.append(n)
        if n == 5:
            found = kind()
            if asyncio.iscoroutine(found):
                await found
        await asyncio.sleep(0)
        return work.tail(n + 1) if n < 9 else n

    work = cs.task(loop)
    with pytest.raises(cs.errors.TaskCancelledError) as caught:
        await run_loop(work(0))

    assert is_inside(caught.value)
    assert steps == [0, 1, 2, 3, 4, 5]


async def test_a_plain_loop_fails_at_the_step_that_raises_it(run_loop):
    steps = []

    @cs.task
    def work(n):
        steps.append(n)
        if n == 5:
            raise asyncio.CancelledError
        return work.tail(n + 1) if n < 9 else n

    with pytest.raises(cs.errors.TaskCancelledError) as caught:
        await run_loop(work(0))

    assert is_inside(caught.value)
    assert steps == [0, 1, 2, 3, 4, 5]


async def test_plain_calls_one_after_the_other_that_end_with_it(run):
    """Straight-line code, and the chains that tasks return."""

    @cs.task
    def more(n):
        return same(same(fails(n)))

    @cs.task
    def same(n):
        return n

    @cs.task
    def fails(n):
        raise asyncio.CancelledError

    for target in (same(same(fails(1))), more(1)):
        with pytest.raises(cs.errors.TaskCancelledError) as caught:
            await run(target)
        assert is_inside(caught.value)


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
def test_the_end_of_the_event_loop_is_no_cancel_from_inside(use_vm, caplog):
    """``asyncio.run`` cancels all asyncio tasks at once, those of a run in any order."""

    @cs.task
    async def wait(n):
        await asyncio.Event().wait()

    @cs.task
    def both(*values):
        """Needs them."""

    async def main():
        target = both(wait(1), wait(2), wait.map(n=[1, 2]))
        running = asyncio.ensure_future(cs.run_async(target, use_vm=use_vm))
        for _ in range(20):
            await asyncio.sleep(0)
        return running

    for _ in range(5):  # the order is that of a set
        assert asyncio.run(main()).cancelled()
    assert caplog.records == []


async def test_a_run_is_cancelled_while_its_task_awaits_one_that_swallows_that(run):
    """The cancel arrives as a value, and is not the task's own."""
    begun = asyncio.Event()

    async def stubborn():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    @cs.task
    async def work():
        return await asyncio.ensure_future(stubborn())

    running = asyncio.ensure_future(run(work()))
    await begun.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
