"""The contract of Executor, for every implementation; some parts apply only to those with threads.

``concurrent.futures``' pool is one as it stands.
"""

import asyncio
import contextlib
import gc
import threading
import weakref
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)

import pytest

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.execution.worker_calls import WorkerCall, end_of
from cascade.spec.protocols import Executor

#: Executors that make calls on their own threads.
POOLS = [LocalExecutor, ThreadPoolExecutor]
#: Executors that can replace the thread of an abandoned call.
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
def test_the_error_of_a_call_is_in_its_future(make_any, error):
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


# -- threads that the system refuses ------------------------------------------------------------


@pytest.fixture
def shortage(monkeypatch):
    """``with shortage():``: the system refuses new threads."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    @contextlib.contextmanager
    def shortage():
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            yield

    return shortage


def test_a_call_that_was_refused_for_want_of_a_thread_is_never_made(make_replacing, shortage):
    executor = make_replacing(4)
    made = []
    with shortage(), pytest.raises(cs.errors.ExecutorError, match="can't start new thread"):
        executor.submit(made.append, "refused")
    executor.submit(made.append, "taken").result(10)
    executor.shutdown(wait=True)

    assert made == ["taken"]


def test_after_a_shortage_there_are_as_many_threads_as_before(make_replacing, shortage):
    executor = make_replacing(2)
    with shortage():
        for _ in range(5):
            with pytest.raises(cs.errors.ExecutorError):
                executor.submit(int)
    barrier = threading.Barrier(2)
    calls = [executor.submit(barrier.wait, 10) for _ in range(2)]

    assert sorted(call.result(10) for call in calls) == [0, 1]


def test_in_a_shortage_calls_wait_for_the_threads_that_are_there(make_replacing, shortage, stuck):
    call, begun, go = stuck
    executor = make_replacing(4)
    first = executor.submit(call)
    assert begun.wait(10)
    with shortage():
        waiting = executor.submit(threading.current_thread)
    go.set()

    assert waiting.result(10) is first.result(10)
    barrier = threading.Barrier(4)
    calls = [executor.submit(barrier.wait, 10) for _ in range(4)]
    assert sorted(call.result(10) for call in calls) == [0, 1, 2, 3]


def test_a_thread_that_cannot_be_replaced_runs_the_waiting_calls(make_replacing, shortage, stuck):
    call, begun, go = stuck
    executor = make_replacing(1)
    first = executor.submit(call)
    assert begun.wait(10)
    waiting = executor.submit(threading.current_thread)
    with shortage():
        executor.replace_thread(first)
    executor.shutdown(wait=False)
    go.set()

    assert waiting.result(10) is first.result(10)


def test_an_interrupt_while_a_thread_starts_leaves_no_thread_behind(make_replacing, monkeypatch):
    started = []
    start = threading.Thread.start

    def interrupted(self):
        start(self)
        started.append(self)
        raise KeyboardInterrupt

    executor = make_replacing(2)
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(made.append, 1)
    started[0].join(10)

    assert not started[0].is_alive()
    assert not made
    assert executor.submit(int).result(10) == 0


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_a_retry_after_a_shortage_makes_the_call_once(make, use_vm, shortage):
    """Also with a pool that keeps a call that it has refused, as concurrent.futures' does."""
    made = []

    @cs.task
    def work(n):
        made.append(n)
        return n

    async with cs.Engine(threads=make(2)) as engine:
        for target in (work(1), work(2).with_timeout(10)):
            with shortage(), pytest.raises(RuntimeError, match="can't start new thread"):
                on_vm = use_vm and target._policies is not None
                await engine.run(pair(work.map(n=[0]), target), use_vm=on_vm)
        made.clear()
        assert await engine.run(work(3).with_timeout(10), use_vm=use_vm) == 3
        assert await engine.run(pair(work(4), work(5))) == 2
    assert sorted(made) == [3, 4, 5]


# -- calls that no thread begins ----------------------------------------------------------------


@cs.task
def pair(*values):
    return len(values)


@cs.task
def double(n):
    return 2 * n


@cs.resource(scope="task")
def opened():
    yield 1


@cs.task
def using(n, opened=cs.inject(opened)):
    return n


def unusable():
    raise OSError("no license server")


class Refusing(ThreadPoolExecutor):
    """Fails the calls after the first few, in one of several ways."""

    def __init__(self, way, calls=0):
        super().__init__(8)
        self.way, self.calls = way, calls
        self.refused = threading.Event()

    def submit(self, fn, /, *args, **kwargs):
        self.calls -= 1
        if self.calls >= 0:
            return super().submit(fn, *args, **kwargs)
        self.refused.set()
        future = Future()
        if self.way == "raises":
            raise OSError("no more")
        if self.way == "cancels":
            assert future.cancel()
            future.set_running_or_notify_cancel()
        elif self.way == "fails":
            future.set_exception(TypeError("cannot pickle '_contextvars.Context' object"))
        else:
            future.set_result(None)
        return future


WAYS = ["raises", "cancels", "fails", "does nothing"]
TARGETS = {
    "plain": lambda: pair(double(1), double(2)),
    "mapped": lambda: double.map(n=[1, 2, 3]),
    "timed": lambda: double(1).with_timeout(100),
    "blocking": lambda: cs.task(name="blocking", mode="blocking")(lambda: 1)(),
    "resource": lambda: using(1),
}


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_run_fails_when_its_executor_starts_no_calls(way, target, use_vm):
    async with cs.Engine(threads=Refusing(way)) as engine, asyncio.timeout(10):
        kind = OSError if way == "raises" else cs.errors.ExecutorError
        with pytest.raises(kind, match=r"no more|before a thread began it"):
            await engine.run(target(), use_vm=use_vm)


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_fails_when_a_later_call_is_not_begun(way):
    """The second thread is asked for while the first one is in a call."""
    executor = Refusing(way, 1)

    @cs.task
    def first():
        assert executor.refused.wait(10)

    @cs.task(mode="blocking")
    def second():
        return 2

    async with cs.Engine(threads=executor) as engine, asyncio.timeout(10):
        kind = OSError if way == "raises" else cs.errors.ExecutorError
        with pytest.raises(kind, match=r"no more|before a thread began it"):
            await engine.run(pair(first(), second(), double(1)))


async def test_an_executor_may_fail_a_call_that_a_run_has_given_up():
    """Like a ThreadPoolExecutor with a failing initializer; it checks for no cancel before that."""
    second = threading.Event()
    pending = []

    class Keeping(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            if self._threads:
                pending.append(Future())
                second.set()
                return pending[-1]
            return super().submit(fn, *args, **kwargs)

    @cs.task
    def fail():
        second.wait(10)
        raise LookupError

    with Keeping(4) as pool:
        async with cs.Engine(threads=pool) as engine:
            with pytest.raises(LookupError):
                await engine.run(cs.gather(fail(), fail(), fail()))
    for call in pending:
        call.set_exception(BrokenExecutor())

    assert pending


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("name", ["timed", "blocking", "resource"])
async def test_a_cancelled_run_leaves_calls_that_wait_to_their_executor(name, use_vm):
    """Their futures are not cancelled, and the calls do nothing when a thread takes them."""
    waiting = []
    submitted = asyncio.Event()

    class Queueing(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            waiting.append((Future(), lambda: fn(*args, **kwargs)))
            submitted.set()
            return waiting[-1][0]

    async with cs.Engine(threads=Queueing(1)) as engine:
        run = asyncio.ensure_future(engine.run(TARGETS[name](), use_vm=use_vm))
        await submitted.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert engine.abandoned == ()
    for call, make in waiting:
        assert not call.cancelled()
        call.set_result(make())

    assert [call.result() for call, _ in waiting] == [None] * len(waiting)


def test_a_withdrawn_call_lets_go_of_its_arguments():
    class Value:
        pass

    value = Value()
    kept = weakref.ref(value)
    call = WorkerCall(print, value)
    del value

    assert call.withdraw()
    gc.collect()

    assert kept() is None
    assert call() is None


async def test_the_end_of_a_call_can_be_cancelled_without_the_call():
    call = Future()
    ended = end_of(call, asyncio.get_running_loop())
    ended.cancel()
    call.set_result(1)
    await asyncio.sleep(0)

    assert call.result() == 1


async def test_a_run_fails_when_its_executor_is_shut_down_and_cancels_its_calls():
    executor = ThreadPoolExecutor(1)
    hold = threading.Event()
    begun = asyncio.Event()

    @cs.task
    async def wait():
        begun.set()
        await asyncio.Event().wait()

    executor.submit(hold.wait, 10)
    async with cs.Engine(threads=executor) as engine, asyncio.timeout(10):
        running = asyncio.ensure_future(engine.run(pair(wait(), double(1))))
        await begun.wait()
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(cs.errors.ExecutorError, match="was it shut down"):
            await running
    hold.set()


@pytest.mark.parametrize("way", WAYS)
async def test_open_resources_are_closed_even_if_the_executor_takes_no_more_calls(way):
    told = []

    @cs.resource
    def connection():
        yield told.append("open")
        told.append("close")

    @cs.task
    async def use(connection=cs.inject(connection)):
        told.append("use")

    async with cs.Engine(threads=Refusing(way, 1)) as engine, asyncio.timeout(10):
        await engine.run(use())
    assert told == ["open", "use", "close"]


async def test_a_retry_gets_over_a_call_that_was_not_begun():
    executor = Refusing("cancels")
    failed = []

    class Later(LocalExecutor):
        def submit(self, fn, /, *args, **kwargs):
            if not failed:
                failed.append(executor.submit(fn, *args, **kwargs))
                return failed[0]
            return super().submit(fn, *args, **kwargs)

    @cs.resource(scope="task")
    async def number():
        yield 4

    @cs.task(timeout=60)  # with a resource of the event loop's: called in a thread of its own
    def doubled(n=cs.inject(number)):
        return 2 * n

    async with cs.Engine(threads=Later()) as engine:
        assert await engine.run(doubled().with_retry(2)) == 8


# -- objects that are no executor ---------------------------------------------------------------


class Pool(ProcessPoolExecutor):
    """Somebody's own."""


class Client:
    """A client of somebody's cluster."""

    async def submit(self, fn, /, *args, **kwargs): ...

    async def shutdown(self, wait=True): ...


Remote = type("Remote", (ThreadPoolExecutor,), {"__module__": "distributed.client"})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (ProcessPoolExecutor, "concurrent.futures.process"),
        (Pool, "makes calls elsewhere"),
        (Remote, r"distributed.client.Remote, which makes calls elsewhere \(distributed\)"),
        (Client, r"submit\(\) is a coroutine function"),
        (object, r"has no submit\(\) and shutdown\(\)"),
        (lambda: ThreadPoolExecutor, "is the class ThreadPoolExecutor"),
    ],
    ids=["processes", "subclass", "cluster", "coroutines", "object", "class"],
)
def test_an_engine_refuses_executors_that_lend_no_threads(make, why):
    with pytest.raises(cs.errors.ExecutorError, match=why) as caught:
        cs.Engine(threads=make())

    is_elsewhere = "makes calls elsewhere" in str(caught.value)
    assert ("FuturesExecutor" if is_elsewhere else "LocalExecutor") in str(caught.value)


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

    async with cs.Engine(threads=make_any(threads)) as engine:
        target = total([*[add(n, n) for n in range(5)], plain(3)])
        assert await engine.run(target, use_vm=use_vm) == 70


async def test_blocking_tasks_of_an_engine_overlap(make):
    barrier = threading.Barrier(8)

    @cs.task
    def meet(n):
        barrier.wait(10)
        return n

    async with cs.Engine(threads=make(8)) as engine:
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

    async with cs.Engine(threads=make(2)) as engine:
        target = stuck.map(n=[1], return_exceptions=True).with_timeout(0.01)
        (error,) = await engine.run(target, use_vm=use_vm)
        assert isinstance(error, cs.errors.TaskTimeoutError)
        assert await engine.run(fine.map(n=[1, 2]), use_vm=use_vm) == [1, 2]
        assert engine.abandoned == ("stuck",)
        go.set()


# -- executors that can replace the thread of an abandoned call ---------------------------------


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


def test_replacing_a_thread_twice_or_without_a_running_call_has_no_effect(make_replacing, stuck):
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
