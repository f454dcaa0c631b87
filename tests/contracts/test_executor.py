"""What every Executor does, and those that lend threads; some can do without one of these.

``concurrent.futures``' pool is one as it stands.
"""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.adapters.executors.local import LocalExecutor
from cascade.spec.protocols import Executor

#: Those that make calls on threads of their own.
POOLS = [LocalExecutor, ThreadPoolExecutor]
#: Those of them that can do without the thread of a call that nobody waits for any more.
REPLACING = [LocalExecutor]


def makers(kinds):
    @pytest.fixture(params=kinds)
    def make(request):
        """``make(threads)``: an executor, shut down when the test ends."""
        made = []

        def make(threads=4):
            options = {} if request.param is InlineExecutor else {"max_workers": threads}
            made.append(request.param(**options))
            return made[-1]

        yield make
        for executor in made:
            executor.shutdown()

    return make


make, make_any, make_replacing = makers(POOLS), makers([*POOLS, InlineExecutor]), makers(REPLACING)


def test_it_is_an_executor(make_any):
    assert isinstance(make_any(), Executor)


def test_a_call_gets_its_arguments_and_gives_its_value(make_any):
    def call(*args, **kwargs):
        return args, kwargs

    assert make_any().submit(call, 1, 2, fn=3, self=4).result(10) == ((1, 2), {"fn": 3, "self": 4})


def test_a_call_is_made_on_another_thread(make):
    assert make().submit(threading.get_ident).result(10) != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_call_raises_is_in_its_future(make_any, error):
    def fail():
        raise error

    executor = make_any(1)
    assert executor.submit(fail).exception(10) is error
    assert executor.submit(int).result(10) == 0  # the thread lives on


def test_calls_overlap(make):
    executor = make(4)
    barrier = threading.Barrier(4)
    futures = [executor.submit(barrier.wait, 10) for _ in range(4)]

    assert sorted(future.result(10) for future in futures) == [0, 1, 2, 3]


def test_calls_of_one_thread_are_made_in_order(make):
    executor = make(1)
    done = []
    for n in range(50):
        last = executor.submit(done.append, n)
    last.result(10)

    assert done == list(range(50))


def test_a_call_that_was_cancelled_in_time_is_not_made(make):
    executor = make(1)
    begun, go = threading.Event(), threading.Event()
    done = []

    def hold():
        begun.set()
        assert go.wait(10)

    first = executor.submit(hold)
    assert begun.wait(10)
    second = executor.submit(done.append, 1)
    assert second.cancel()
    assert not first.cancel()
    go.set()
    first.result(10)

    assert executor.submit(int).result(10) == 0
    with pytest.raises(CancelledError):
        second.result(10)
    assert not done


def test_a_call_may_submit_another(make_any):
    executor = make_any(2)

    assert executor.submit(lambda: executor.submit(int)).result(10).result(10) == 0


def test_calls_may_be_submitted_from_many_threads(make):
    executor = make(4)
    futures = []
    threads = [
        threading.Thread(target=lambda n=n: futures.append(executor.submit(int, n)))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(future.result(10) for future in futures) == list(range(20))


def test_shutdown_makes_the_calls_that_were_submitted_and_waits_for_them(make_any):
    executor = make_any(1)
    done = []
    for n in range(20):
        executor.submit(done.append, n)
    executor.shutdown(wait=True)

    assert done == list(range(20))


def test_shutdown_without_waiting_returns_while_a_call_is_made(make):
    executor = make(1)
    go = threading.Event()
    future = executor.submit(go.wait, 10)
    executor.shutdown(wait=False)
    assert not future.done()
    go.set()

    assert future.result(10)


def test_after_shutdown_it_takes_no_calls(make_any):
    executor = make_any()
    executor.shutdown()
    executor.shutdown()

    with pytest.raises(RuntimeError):
        executor.submit(int)


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("threads", [1, 2, 8])
async def test_an_engine_runs_with_it(make_any, use_vm, threads):
    @cs.resource(scope="task")
    def tool():
        yield 10

    @cs.task
    def add(a, b, tool=cs.inject(tool)):
        return a + b + tool

    @cs.task
    async def total(parts):
        return sum(parts)

    @cs.task
    def plain(n):
        return plain.tail(n - 1) if n else n

    async with cs.Engine(executor=make_any(threads)) as engine:
        target = total([*[add(n, n) for n in range(5)], plain(3)])
        assert await engine.run(target, use_vm=use_vm) == 70


async def test_blocking_tasks_of_an_engine_overlap(make):
    barrier = threading.Barrier(8)

    @cs.task
    def meet(n):
        barrier.wait(10)
        return n

    async with cs.Engine(executor=make(8)) as engine:
        assert await engine.run(meet.map(n=range(8))) == list(range(8))


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_an_engine_goes_on_when_a_call_takes_too_long(make, use_vm):
    """M8: also with an executor that cannot do without the thread, as long as it has another."""
    go = threading.Event()

    @cs.task
    def stuck(n):
        return go.wait(10)

    @cs.task
    def fine(n):
        return n

    async with cs.Engine(executor=make(2)) as engine:
        target = stuck.map(n=[1], return_exceptions=True).with_timeout(0.01)
        (error,) = await engine.run(target, use_vm=use_vm)
        assert isinstance(error, cs.TaskTimeoutError)
        assert await engine.run(fine.map(n=[1, 2]), use_vm=use_vm) == [1, 2]
        assert engine.abandoned == ("stuck",)
        go.set()


# -- those that can do without the thread of a call that nobody waits for ---------------------


@pytest.fixture
def stuck():
    """A function that waits; events that tell that it has begun, and let it go on."""
    begun, go = threading.Event(), threading.Event()

    def call():
        begun.set()
        go.wait(10)
        return threading.current_thread()

    yield call, begun, go
    go.set()


def test_another_thread_takes_the_place_of_one_that_is_stuck(make_replacing, stuck):
    call, begun, go = stuck
    executor = make_replacing(1)
    first = executor.submit(call)
    assert begun.wait(10)
    waiting = executor.submit(threading.current_thread)
    executor.replace_thread(first)

    replacement = waiting.result(10)
    assert executor.submit(threading.current_thread).result(10) is replacement
    go.set()
    assert first.result(10) is not replacement


def test_the_thread_of_a_call_that_was_given_up_ends_with_it(make_replacing, stuck):
    call, begun, go = stuck
    executor = make_replacing(2)
    first = executor.submit(call)
    assert begun.wait(10)
    executor.replace_thread(first)
    go.set()
    thread = first.result(10)
    thread.join(10)

    assert not thread.is_alive()
    barrier = threading.Barrier(2)  # and there are as many as before
    calls = [executor.submit(barrier.wait, 10) for _ in range(2)]
    assert sorted(call.result(10) for call in calls) == [0, 1]


def test_giving_up_twice_or_a_call_that_does_not_run_changes_nothing(make_replacing, stuck):
    call, begun, _ = stuck
    executor = make_replacing(1)
    done = executor.submit(int)
    assert done.result(10) == 0
    first = executor.submit(call)
    assert begun.wait(10)
    waiting = executor.submit(threading.current_thread)
    for each in (done, waiting, first, first):
        executor.replace_thread(each)
    others = [executor.submit(threading.current_thread) for _ in range(5)]

    assert {other.result(10) for other in others} == {waiting.result(10)}


def test_shutdown_does_not_wait_for_a_call_that_was_given_up(make_replacing, stuck):
    call, begun, _ = stuck
    executor = make_replacing(1)
    first = executor.submit(call)
    assert begun.wait(10)
    executor.replace_thread(first)
    executor.shutdown(wait=True)

    assert not first.done()
