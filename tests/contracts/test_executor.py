"""What every Executor that lends threads does; concurrent.futures' pool is one as it stands."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.spec.protocols import Executor

EXECUTORS = [LocalExecutor, ThreadPoolExecutor]


@pytest.fixture(params=EXECUTORS)
def make(request):
    """``make(threads)``: an executor, shut down when the test ends."""
    made = []

    def make(threads=4):
        executor = request.param(max_workers=threads)
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.shutdown()


def test_it_is_an_executor(make):
    assert isinstance(make(), Executor)


def test_a_call_gets_its_arguments_and_gives_its_value(make):
    def call(*args, **kwargs):
        return args, kwargs

    assert make().submit(call, 1, 2, fn=3, self=4).result(10) == ((1, 2), {"fn": 3, "self": 4})


def test_a_call_is_made_on_another_thread(make):
    assert make().submit(threading.get_ident).result(10) != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_call_raises_is_in_its_future(make, error):
    def fail():
        raise error

    executor = make(1)
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


def test_a_call_may_submit_another(make):
    executor = make(2)

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


def test_shutdown_makes_the_calls_that_were_submitted_and_waits_for_them(make):
    executor = make(1)
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


def test_after_shutdown_it_takes_no_calls(make):
    executor = make()
    executor.shutdown()
    executor.shutdown()

    with pytest.raises(RuntimeError):
        executor.submit(int)


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("threads", [1, 2, 8])
async def test_an_engine_runs_with_it(make, use_vm, threads):
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

    async with cs.Engine(executor=make(threads)) as engine:
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
