"""Policies of nodes on both paths (R10): their order, their scope, and their events."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections import Counter

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.state import InMemoryStateBackend
from cascade.graph.serialize import from_json, to_json
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import (
    Event,
    InputsAwaited,
    NodesPlanned,
    TaskEvent,
    TaskRetrying,
    TaskSkipped,
    TaskWaiting,
)
from cascade.spec.blueprint import Blueprint, Call, Register

PATIENCE = 20


@cs.task
def same(value=None):
    return value


@cs.task
async def asame(value=None):
    await asyncio.sleep(0)
    return value


@cs.task
def pair(a, b):
    return a, b


@cs.task
def divide(a, b):
    return a / b


@cs.task
def fail(text="failed"):
    raise ValueError(text)


@cs.task(nout=2)
def halves(text):
    middle = len(text) // 2
    return text[:middle], text[middle:]


def virtually(target, use_vm, *, executor=None, watch=None, **options):
    """The value of ``target``, and the virtual seconds that it took."""

    async def main():
        async with cs.Engine(threads=executor) as engine:
            if watch is not None:
                watch(engine)
            value = await engine.run(target, use_vm=use_vm, **options)
            return value, asyncio.get_running_loop().time()

    return run_virtually(main)


@pytest.fixture
def run_on(engine, use_vm):
    """``await run_on(target)``: run all that can run, on the path under test."""

    def run_on(target):
        return engine.run(target, use_vm=use_vm, fail_fast=False)

    return run_on


@pytest.fixture
def failures(run_on):
    """``await failures(target)``: the messages of its run's errors, in their order."""

    async def failures(target):
        with pytest.raises(ExceptionGroup) as caught:
            await run_on(target)
        return [str(error) for error in caught.value.exceptions]

    return failures


class Calls:
    """Makes tasks that count their calls."""

    def __init__(self):
        self.log = []

    def task(self, func, name="work", asynchronous=False, **options):
        signature = inspect.signature(func)

        @functools.wraps(func)
        def call(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.log.append((name, *bound.arguments.values()))
            return func(*args, **kwargs)

        @functools.wraps(func)
        async def acall(*args, **kwargs):
            await asyncio.sleep(0)
            return call(*args, **kwargs)

        return cs.task(name=name, **options)(acall if asynchronous else call)

    def flaky(self, failures, name="flaky", asynchronous=False, **options):
        """A task that gives its argument; its first calls with each argument fail."""

        def work(value=None):
            if self.log.count((name, value)) <= failures:
                raise OSError(f"failure {self.log.count((name, value))} of {value}")
            return value

        return self.task(lambda value=None: work(value), name, asynchronous, **options)

    def __len__(self):
        return len(self.log)

    def count(self, name):
        return sum(entry[0] == name for entry in self.log)


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture(params=[False, True], ids=["plain", "coroutine"])
def asynchronous(request):
    return request.param


class Book:
    """A cache with keys of arguments that notes its calls, and may fail."""

    def __init__(self, fails=(), known=(), kind=OSError):
        self.asked = []
        self.kept = dict(known)
        self.fails = set(fails)
        self.kind = kind

    def _note(self, what, *details):
        self.asked.append((what, *details))
        if what in self.fails:
            raise self.kind(f"{what} failed")

    def key(self, task, arguments):
        self._note("key", dict(arguments))
        return tuple(sorted(arguments.items()))

    def load(self, key, arguments):
        self._note("load", key)
        return key in self.kept, self.kept.get(key)

    def save(self, key, arguments, value):
        self._note("save", key, value)
        self.kept[key] = value

    @property
    def steps(self):
        return [what for what, *_ in self.asked]


# -- retry ------------------------------------------------------------------------------------


def test_delays_grow_up_to_the_cap(calls, use_vm, asynchronous):
    """10, 30, and 50 instead of 90 and 270."""
    work = calls.flaky(4, asynchronous=asynchronous)
    target = work(7).with_retry(5, delay=10, backoff=3, max_delay=50)

    assert virtually(target, use_vm) == (7, 140)


def test_jitter_lengthens_a_delay_by_up_to_its_fraction(calls, use_vm, asynchronous):
    work = calls.flaky(3, asynchronous=asynchronous)
    _, seconds = virtually(work().with_retry(4, delay=100, jitter=0.5), use_vm)

    assert 300 <= seconds <= 450


@pytest.mark.parametrize(("worth_it", "count"), [("failure 1", 2), ("nothing", 1)])
def test_a_predicate_sees_the_error_and_decides(calls, use_vm, asynchronous, worth_it, count):
    work = calls.flaky(9, asynchronous=asynchronous)
    target = work("x").with_retry(5, on=lambda error: worth_it in str(error))

    with pytest.raises(OSError, match=f"failure {count} of x"):
        virtually(target, use_vm)
    assert len(calls) == count


def test_an_error_of_the_predicate_is_the_nodes(calls, use_vm, asynchronous):
    work = calls.flaky(9, asynchronous=asynchronous)

    with pytest.raises(ZeroDivisionError) as caught:
        virtually(work().with_retry(5, on=lambda error: 1 / 0), use_vm)
    assert isinstance(caught.value.__context__, OSError)
    assert "in task 'flaky'" in caught.value.__notes__[0]


def test_a_stop_iteration_is_tried_again_like_other_errors(calls, use_vm, asynchronous):
    """M13: the escaped error is a RuntimeError before any code looks at it."""
    answers = iter([iter([]), iter([1])])
    work = calls.task(lambda: next(next(answers)), asynchronous=asynchronous)

    assert virtually(work().with_retry(2, on=RuntimeError), use_vm) == (1, 0)


def test_base_exceptions_are_not_retried(calls, use_vm, asynchronous):
    def leave():
        raise SystemExit(3)

    work = calls.task(leave, asynchronous=asynchronous)
    with pytest.raises(SystemExit):
        virtually(work().with_retry(5), use_vm)
    assert len(calls) == 1


def test_a_loop_has_as_many_attempts_for_each_step(calls, use_vm, asynchronous):
    """Also where a step switches to another task, and back."""
    tried = Counter()

    def step(name, n, following):
        tried[n] += 1
        if tried[n] < 3:
            raise OSError(f"{name} {n}")
        return following().tail(n - 1) if n else name

    ping = calls.task(lambda n: step("ping", n, lambda: pong), "ping", asynchronous)
    pong = calls.task(lambda n: step("pong", n, lambda: ping), "pong")

    assert virtually(ping(3).with_retry(3, delay=1), use_vm) == ("pong", 8)
    assert tried == dict.fromkeys(range(4), 3)


def test_a_step_that_used_up_its_attempts_fails_the_node(calls, use_vm, asynchronous):
    work = calls.task(lambda n: work.tail(n - 1) if n else 1 / 0, asynchronous=asynchronous)

    with pytest.raises(ZeroDivisionError):
        virtually(work(3).with_retry(2), use_vm)
    assert calls.log == [("work", n) for n in (3, 2, 1, 0, 0)]


def test_a_tail_call_that_does_not_fit_is_not_tried_again(calls, use_vm, asynchronous):
    """Returning it was a success of the call."""
    work = calls.task(lambda: cs.TailCall(kwargs={"nobody": 1}), asynchronous=asynchronous)

    with pytest.raises(cs.errors.ArgumentError, match="nobody"):
        virtually(work().with_retry(5), use_vm)
    assert len(calls) == 1


def test_a_lazy_value_that_fails_is_no_failure_of_the_call_that_returned_it(calls, use_vm):
    work = calls.task(lambda: pair(fail(), 1))

    with pytest.raises(ValueError, match="failed"):
        virtually(work().with_retry(5), use_vm)
    assert len(calls) == 1


def test_a_delay_holds_no_thread(calls, use_vm):
    """The only thread works on another node meanwhile, which a coroutine has waited for."""
    work = calls.flaky(1)
    other = calls.task(lambda n: "other", "other")

    @cs.task
    async def slow():
        await asyncio.sleep(60)
        return other(1)

    executor = LocalExecutor(1)
    target = pair(slow(), work(1).with_retry(delay=3600))
    assert virtually(target, use_vm, executor=executor) == (("other", 1), 3600)
    assert calls.log == [("flaky", 1), ("other", 1), ("flaky", 1)]
    executor.shutdown()


def test_a_delay_lets_the_thread_take_the_next_node(calls):
    """On the graph path; on the VM the next plain function comes after this one's last attempt."""
    work, other = calls.flaky(1), calls.task(lambda: "other", "other")
    executor = LocalExecutor(1)
    target = pair(work(1).with_retry(delay=3600), other())

    assert virtually(target, False, executor=executor) == ((1, "other"), 3600)
    assert calls.log == [("flaky", 1), ("other",), ("flaky", 1)]
    executor.shutdown()


def test_a_delay_can_be_cancelled(calls, use_vm, asynchronous):
    work = calls.flaky(1, asynchronous=asynchronous)

    async def main():
        async with cs.Engine() as engine:
            running = asyncio.ensure_future(
                engine.run(work().with_retry(delay=3600), use_vm=use_vm)
            )
            await asyncio.sleep(10)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert not engine.waiting()
            return asyncio.get_running_loop().time()

    assert run_virtually(main) == 10
    assert len(calls) == 1


def test_a_failure_elsewhere_ends_a_delay(calls, use_vm):
    work = calls.flaky(1, asynchronous=True)

    @cs.task
    async def give_up():
        await asyncio.sleep(5)
        raise ValueError("given up")

    async def main():
        async with cs.Engine() as engine:
            with pytest.raises(ValueError, match="given up"):
                await engine.run(pair(work().with_retry(delay=3600), give_up()), use_vm=use_vm)
            return asyncio.get_running_loop().time()

    assert run_virtually(main) == 5


def test_waiting_lists_nodes_that_wait_for_their_next_attempt(calls, use_vm, asynchronous):
    work = calls.flaky(1, asynchronous=asynchronous)
    target = work().with_retry(delay=3600)

    async def main():
        async with cs.Engine() as engine:
            running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
            await asyncio.sleep(10)
            (waiting,) = engine.waiting()
            await running
            assert not engine.waiting()
            return waiting

    waiting = run_virtually(main)
    assert waiting[:5] == ("flaky", target.number, "retry delay", (), 3600)


async def test_a_run_in_which_all_rests_does_not_stand_still(use_vm):
    """A worker that has left, and has told of its failed attempt, is still expected back."""
    drained = []

    class Threads(LocalExecutor):
        def submit(self, fn, /, *args, **kwargs):
            call = super().submit(fn, *args, **kwargs)
            drained.append(call)
            return call

    begun = threading.Event()
    attempts = []

    @cs.task
    def flaky():
        begun.set()
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return "done"

    @cs.task(may_block=True)
    async def hold_the_loop():
        assert begun.wait(PATIENCE)
        for call in list(drained):
            call.result(PATIENCE)
        return "held"

    executor = Threads(2)
    async with cs.Engine(threads=executor) as engine:
        target = pair(flaky().with_retry(2), hold_the_loop())
        if use_vm:  # where a plain function is called in the loop's thread
            target = pair(flaky().with_retry(2), asame("held"))
        assert await engine.run(target, use_vm=use_vm) == ("done", "held")
    executor.shutdown()


# -- the order of the policies ----------------------------------------------------------------


def test_a_node_that_is_skipped_is_not_looked_for(calls, use_vm, asynchronous):
    """run_if comes before the cache."""
    book = Book(known={(): "kept"})
    work = calls.task(lambda: 1, asynchronous=asynchronous)
    skipped = work().with_cache(book).run_if(same(0))

    assert virtually(same("end").after(skipped), use_vm)[0] == "end"
    assert not book.asked
    assert not calls.log


def test_a_hit_makes_no_attempt(calls, use_vm, asynchronous):
    """No call, no resources, no retries; the cache comes before all of them."""
    opened = []

    @cs.resource(scope="task")
    def tool():
        opened.append(1)
        yield 1

    a_tool = cs.inject(tool)
    work = calls.task(lambda n, tool=a_tool: 1 / 0, asynchronous=asynchronous)
    known = {(("n", 1), ("tool", a_tool)): "kept"}
    target = work(1).with_cache(Book(known=known)).with_retry(5, delay=9).with_timeout(1)

    assert virtually(target, use_vm) == ("kept", 0)
    assert not calls.log
    assert not opened


def test_a_cache_is_asked_once_for_all_attempts(calls, use_vm, asynchronous):
    book = Book()
    work = calls.flaky(3, asynchronous=asynchronous)
    target = work(5).with_cache(book).with_retry(4, delay=2)

    assert virtually(target, use_vm) == (5, 6)
    assert book.steps == ["key", "load", "save"]


@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
def test_a_cache_is_for_first_arguments_and_final_value(calls, use_vm, asynchronous, inner):
    """In a loop of tail calls, of several tasks."""
    book = Book()
    work = calls.task(
        lambda n, acc=0: work.tail(n - 1, acc + n) if n else other.tail(acc),
        asynchronous=asynchronous,
    )
    other = calls.task(lambda acc: ("final", acc), "other")
    target = work(3).with_cache(book)

    assert virtually(same(target) if inner else target, use_vm)[0] == ("final", 6)
    key = (("acc", 0), ("n", 3))
    assert book.asked == [
        ("key", {"n": 3, "acc": 0}),
        ("load", key),
        ("save", key, ("final", 6)),
    ]


@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
def test_a_node_that_returns_a_lazy_value_is_kept_with_the_value_of_that(
    calls, use_vm, asynchronous, inner
):
    book = Book()
    work = calls.task(lambda: divide(asame(6), same(2)), asynchronous=asynchronous)
    target = work().with_cache(book)

    assert virtually(same(target) if inner else target, use_vm)[0] == 3
    assert book.asked[-1] == ("save", (), 3)


@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
def test_a_node_and_its_continuation_may_both_be_cached(calls, use_vm, asynchronous, inner):
    """Each in its own cache, with the same value; the next time the first is enough."""
    books = [Book(), Book(), Book()]
    one = calls.task(lambda: two(2).with_cache(books[1]), "one", asynchronous)
    two = calls.task(lambda n: three(same(n)).with_cache(books[2]), "two", asynchronous)
    three = calls.task(lambda n: same([n, asame(n)]), "three", asynchronous)

    def target():
        lazy = one().with_cache(books[0])
        return same(lazy) if inner else lazy

    assert virtually(target(), use_vm)[0] == [2, 2]
    assert [book.asked[-1] for book in books] == [
        ("save", (), [2, 2]),
        ("save", (("n", 2),), [2, 2]),
        ("save", (("n", 2),), [2, 2]),
    ]
    assert virtually(target(), use_vm)[0] == [2, 2]
    assert [book.steps for book in books[1:]] == [["key", "load", "save"]] * 2
    assert [name for name, *_ in calls.log] == ["one", "two", "three"]


def test_a_timeout_is_for_each_attempt_and_not_for_the_node(calls, use_vm):
    """Four attempts of a minute each, with two between them, under a timeout of 90 s."""

    @cs.task
    async def work():
        calls.log.append(("work",))
        await asyncio.sleep(60)
        if len(calls) < 4:
            raise OSError
        return "done"

    target = work().with_timeout(90).with_retry(4, delay=120)
    assert virtually(target, use_vm) == ("done", 4 * 60 + 3 * 120)


def test_a_timed_out_attempt_is_not_cached_but_a_later_success_is(calls, use_vm):
    book = Book()

    @cs.task
    async def work():
        calls.log.append(("work",))
        await asyncio.sleep(60 if len(calls) < 3 else 1)
        return "done"

    target = work().with_cache(book).with_timeout(30)
    with pytest.raises(cs.errors.TaskTimeoutError):
        virtually(target, use_vm)
    assert book.steps == ["key", "load"]
    assert virtually(target.with_retry(2), use_vm) == ("done", 31)
    assert book.steps == ["key", "load", "key", "load", "save"]


# -- contents of caches -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, [], 0.0])
async def test_any_value_is_kept_and_found(run, calls, asynchronous, value):
    work = calls.task(lambda: value, asynchronous=asynchronous)
    cache = cs.LRUCache()

    assert await run(work().with_cache(cache)) is value
    assert await run(work().with_cache(cache)) is value
    assert len(calls) == 1


async def test_a_failure_is_not_kept(run, calls, asynchronous):
    work = calls.flaky(1, asynchronous=asynchronous)
    cache = cs.LRUCache()

    with pytest.raises(OSError, match="failure 1"):
        await run(work(1).with_cache(cache))
    assert len(cache) == 0
    assert await run(work(1).with_cache(cache)) == 1
    assert await run(work(1).with_cache(cache)) == 1
    assert len(calls) == 2


async def test_a_skip_is_not_kept(run, calls, asynchronous):
    """Neither that of the node nor that of its continuation."""
    cache = cs.LRUCache()
    work = calls.task(lambda n: same(1).run_if(same(n)), asynchronous=asynchronous)
    skipped = [work(0).with_cache(cache), work(1).with_cache(cache).run_if(same(0))]

    assert await run(same("end").after(*skipped)) == "end"
    assert len(cache) == 0


async def test_a_shared_node_is_looked_for_once(run):
    """R3."""
    book = Book()
    shared = asame(1).with_cache(book)

    assert await run(pair(shared, pair(shared, [shared]))) == (1, (1, [1]))
    assert book.steps == ["key", "load", "save"]


async def test_a_lazy_value_that_others_wait_for_may_be_cached(run, calls):
    """M14: it is met by a task that returns it, and by a node that uses it."""
    book = Book()
    hidden = asame(1).with_cache(book)
    mention = calls.task(lambda: hidden)

    assert await run([mention(), same(hidden), mention()]) == [1, 1, 1]
    assert book.steps == ["key", "load", "save"]


async def test_a_cached_node_may_take_the_value_of_one_that_is_known(run, calls, asynchronous):
    """M14: the returned value is computed elsewhere."""
    book = Book()
    known = asame("known")
    work = calls.task(lambda: known, asynchronous=asynchronous)

    assert await run(pair(known, work().with_cache(book))) == ("known", "known")
    assert book.asked[-1] == ("save", (), "known")


async def test_items_of_a_map_are_cached_each_for_itself(run, calls, asynchronous):
    cache = cs.LRUCache()
    work = calls.task(lambda n: n * n, asynchronous=asynchronous)

    assert await run(work.map(n=[1, 2, 3]).with_cache(cache)) == [1, 4, 9]
    assert await run(work.map(n=[3, 4]).with_cache(cache)) == [9, 16]
    assert sorted(calls.log) == [("work", n) for n in (1, 2, 3, 4)]


async def test_the_options_of_a_cache_are_its_keys(run, calls):
    cache = cs.LRUCache()
    work = calls.task(lambda n, label="": n)

    await run(work(1, "a").with_cache(cache, ignore=["label"]))
    await run(work(1, "b").with_cache(cache, ignore=["label"]))
    assert len(calls) == 1
    await run(work(1, "b").with_cache(cache, ignore=["label"], version="2"))
    assert len(calls) == 2


async def test_a_file_that_is_there_is_not_made_again(run, calls, tmp_path):
    def write(name):
        (tmp_path / name).write_text(name)
        return tmp_path / name

    work = calls.task(write)
    cache = cs.FileExists(tmp_path / "{name}")

    for _ in range(2):
        assert await run(work("a").with_cache(cache)) == tmp_path / "a"
    assert calls.log == [("work", "a")]


@pytest.mark.parametrize("what", ["key", "load", "save"])
@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
async def test_an_error_of_the_cache_is_the_nodes(engine, use_vm, calls, what, inner):
    """It is not retried, and names the node; users of the value do not run."""
    work = calls.task(lambda n: n)
    user = calls.task(lambda value: value, "user")
    cached = work(1).with_cache(Book(fails=[what])).with_retry(5)

    with pytest.raises(OSError, match=f"{what} failed") as caught:
        await engine.run(user(cached) if inner else cached, use_vm=use_vm)
    assert "in task 'work'" in caught.value.__notes__[0]
    assert len(calls) == (what == "save")


@pytest.mark.parametrize("what", ["key", "load", "save"])
@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
async def test_an_error_of_the_cache_that_ends_loops_is_replaced(
    engine, use_vm, calls, asynchronous, what, inner
):
    """M13."""
    work = calls.task(lambda n: n, asynchronous=asynchronous)
    target = work(1).with_cache(Book(fails=[what], kind=StopIteration))

    with pytest.raises(
        cs.errors.TaskStopIterationError, match=f"the function 'Book.{what}' raised StopIteration"
    ) as caught:
        await engine.run([target] if inner else target, use_vm=use_vm)
    assert "in task 'work'" in caught.value.__notes__[0]

    target = work(1).with_cache(Book(fails=[what], kind=asyncio.CancelledError))
    with pytest.raises(cs.errors.TaskCancelledError):
        await engine.run([target] if inner else target, use_vm=use_vm)


@pytest.mark.parametrize("what", ["key", "load", "save"])
async def test_a_failing_cache_leaves_nothing_behind(run_on, calls, asynchronous, what):
    """An equal call that comes later is made, and not taken for one that is under way."""
    book = Book(fails=[what])
    work = calls.task(lambda n: n, asynchronous=asynchronous)
    mend = calls.task(lambda: book.fails.clear(), "mend")
    # Users of a failed node do not run, except for an item's.
    first = work.map(n=[1], return_exceptions=True).with_cache(book)
    mended = mend().after(first)

    errors, again = await run_on(pair(first, work(1).with_cache(book).after(mended)))
    assert [str(error) for error in errors] == [f"{what} failed"]
    assert again == 1
    assert book.kept == {(("n", 1),): 1}


async def test_a_cache_may_fail_for_one_of_two_that_continue_each_other(run_on, calls):
    """The value of the outer one is that of the inner one, which has no value."""
    books = [Book(), Book(fails=["save"])]
    inner = calls.task(lambda: same([asame(1)]), "inner")
    outer = calls.task(lambda: inner().with_cache(books[1]), "outer")

    with pytest.raises(ExceptionGroup) as caught:
        await run_on(same(outer().with_cache(books[0])))
    assert [str(error) for error in caught.value.exceptions] == ["save failed"]
    assert not any(book.kept for book in books)


# -- equal calls that are under way are made once ---------------------------------------------


async def test_equal_calls_are_made_once(run, calls, asynchronous):
    work = calls.task(lambda n, m=0: object(), asynchronous=asynchronous)
    cache = cs.LRUCache()
    targets = [work(1), work(1, 0), work(n=1), work(same(1)), asame(work(1))]
    for target in targets[:4]:
        target.with_cache(cache)
    targets[4].args[0].with_cache(cache)

    values = await run(targets)
    assert len(set(map(id, values))) == 1
    assert len(calls) == 1


@pytest.mark.parametrize("use_vm", [False], ids=["graph"])
async def test_plain_functions_that_are_equal_wait_for_one_and_hold_no_thread(calls, use_vm, held):
    """On two threads, eight of them leave one for the thread that releases them."""
    work = calls.task(lambda n: held.wait(PATIENCE))
    release = calls.task(lambda: held.set(), "release")
    cache = cs.LRUCache()

    executor = LocalExecutor(2)
    async with cs.Engine(threads=executor) as engine:
        target = [*[work(1).with_cache(cache) for _ in range(8)], release()]
        assert await engine.run(target, use_vm=use_vm) == [True] * 8 + [None]
    assert calls.count("work") == 1
    executor.shutdown()


def test_coroutines_that_are_equal_wait_for_one(use_vm, calls):
    cache = cs.LRUCache()

    @cs.task
    async def work(n):
        calls.log.append(("work", n))
        await asyncio.sleep(60)
        return n

    target = work.map(n=[1, 2, 1, 1, 2]).with_cache(cache)
    assert virtually(target, use_vm) == ([1, 2, 1, 1, 2], 60)
    assert sorted(calls.log) == [("work", 1), ("work", 2)]


def test_equal_calls_wait_for_the_attempts_of_one(use_vm, calls, asynchronous):
    work = calls.flaky(2, asynchronous=asynchronous)
    cache = cs.LRUCache()
    target = work.map(value=["x"] * 4).with_cache(cache).with_retry(3, delay=5)

    assert virtually(target, use_vm) == (["x"] * 4, 10)
    assert len(calls) == 3


def test_equal_calls_under_way_fail_with_one_error(use_vm, calls):
    """Of several that have begun, one is made; its error is that of all of them."""
    cache = cs.LRUCache()

    @cs.task
    async def work(n):
        calls.log.append(("work", n))
        await asyncio.sleep(60)
        raise OSError(n)

    target = work.map(n=[1, 1, 1], return_exceptions=True).with_cache(cache)
    errors, _ = virtually(target, use_vm)
    assert [type(error) for error in errors] == [OSError] * 3
    assert len(set(map(id, errors))) == 1
    assert len(calls) == 1


def test_a_node_that_does_not_catch_fails_with_the_error_of_an_equal_call_that_does(use_vm, calls):
    """The item has the error as its value; for the other node it is one."""
    cache = cs.LRUCache()

    @cs.task
    async def work(n):
        calls.log.append(("work", n))
        await asyncio.sleep(60)
        raise OSError(n)

    for order in (1, -1):
        parts = [
            work.map(n=[1], return_exceptions=True).with_cache(cache),
            same(work(1).with_cache(cache)),
        ]
        with pytest.raises(OSError, match="1"):
            virtually(parts[::order], use_vm)
        with pytest.raises(ExceptionGroup) as caught:
            virtually(parts[::order], use_vm, fail_fast=False)
        assert [str(error) for error in caught.value.exceptions] == ["1"]
    assert len(calls) == 4


async def test_an_equal_call_inside_of_itself_waits_for_itself(run, calls, asynchronous):
    cache = cs.LRUCache()
    work = calls.task(lambda n: same([work(n).with_cache(cache)]), asynchronous=asynchronous)

    with pytest.raises(cs.errors.CycleError):
        await run(work(1).with_cache(cache))


async def test_policies_that_are_not_equal_do_not_know_of_each_other(run, calls):
    books = [Book(), Book()]
    work = calls.task(lambda n: n, asynchronous=True)

    assert await run([work(1).with_cache(book) for book in books]) == [1, 1]
    assert len(calls) == 2


# -- several values of one task ---------------------------------------------------------------


async def test_several_values_of_a_task_can_be_unpacked_before_the_run(run, calls, asynchronous):
    """The task is called once, whatever is used of it."""
    split = calls.task(lambda n: (n, -n), asynchronous=asynchronous, nout=2)
    a, b = split(3)

    assert await run(pair(b, [a, asame(a)])) == (-3, [3, 3])
    assert len(calls) == 1


@pytest.mark.parametrize("values", [(1, 2), [1, 2], "12", {1: "a", 2: "b"}, range(1, 3)])
async def test_whatever_can_be_iterated_can_be_unpacked(run, values):
    give = cs.task(nout=2)(lambda: values)
    a, b = give()

    assert [str(value) for value in await run([a, b])] == ["1", "2"]


@pytest.mark.parametrize(
    ("values", "found"), [((1,), "gave 1 values"), ([1, 2, 3], "gave 3 values"), (7, "of type int")]
)
async def test_a_wrong_number_of_values_is_an_error_that_names_both(run, values, found):
    split = cs.task(name="split", nout=2)(lambda: values)
    a, _ = split()

    with pytest.raises(
        cs.errors.UnpackError, match=f"'split' is declared with nout=2, but .*{found}"
    ):
        await run(same(a))


async def test_values_of_values_can_be_unpacked(run):
    """Each by a task of its own; and by a map, for each item."""
    a, b = halves("abcdefgh")
    (aa, ab), (ba, bb) = halves(a), halves(b)

    assert await run([aa, ab, ba, bb]) == ["ab", "cd", "ef", "gh"]
    assert await run(halves.map(text=[a, ba])) == [("ab", "cd"), ("e", "f")]


async def test_unpacked_values_come_from_loops_and_returned_lazy_values_as_well(run, calls):
    """It is the final value of the node that is unpacked."""
    loop = calls.task(lambda n: loop.tail(n - 1) if n else pair(same(1), 2), nout=2)
    a, b = loop(3)

    assert await run([b, a]) == [2, 1]


async def test_unpacked_values_keep_their_policies(run, calls, asynchronous):
    split = calls.flaky(1, asynchronous=asynchronous, nout=2)
    lazy = split("ab").with_retry(2).with_cache(cs.LRUCache())
    a, b = lazy

    assert await run([a, b]) == ["a", "b"]
    assert len(calls) == 2


async def test_values_of_a_node_that_is_skipped_are_skipped(run):
    a, b = halves("abcd").run_if(same(0))

    assert await run(same("end").after(a, same(b))) == "end"


async def test_unpacking_survives_json(run):
    a, b = halves("abcd")

    assert await run(from_json(to_json(pair(b, same(a)))).target) == ("cd", "ab")


# -- where a function is called ---------------------------------------------------------------


def thread_of(mode, **options):
    return cs.task(mode=mode, **options)(lambda *_: threading.get_ident())


@pytest.mark.parametrize("place", ["root", "inner", "in a loop", "with a resource", "tried again"])
async def test_the_mode_says_which_thread_calls(run, use_vm, calls, place):
    here = threading.get_ident()

    @cs.resource(scope="task")
    def tool():
        yield 1

    def of(mode):
        def where(n=0, tool=None):
            if n:
                return cs.TailCall(kwargs={"n": n - 1})
            if place == "tried again" and calls.log.append(mode) is None and len(calls) % 2:
                raise OSError
            return threading.get_ident()

        work = cs.task(mode=mode)(where)
        match place:
            case "root":
                return work()
            case "inner":
                return same(work())
            case "in a loop":
                return same(work(3))
            case "with a resource":
                return same(work(0, cs.inject(tool)))
        return work().with_retry(2)

    assert await run(of("inline")) == here
    assert await run(of("blocking")) != here
    begins_in_a_loop = use_vm and place == "root"
    assert (await run(of("auto")) == here) == begins_in_a_loop


@pytest.mark.parametrize("count", [2, 6])
async def test_blocking_tasks_overlap_at_once(run, count):
    """Each waits for all the others."""
    barrier = threading.Barrier(count)

    @cs.task(mode="blocking")
    def meet(n):
        barrier.wait(PATIENCE)
        return n

    assert await run(meet.map(n=range(count))) == list(range(count))
    assert await run([meet(n) for n in range(count)]) == list(range(count))


async def test_a_blocking_task_lets_coroutines_go_on(run):
    """Which it may wait for."""
    event = threading.Event()
    wait = cs.task(mode="blocking")(lambda: event.wait(PATIENCE))

    @cs.task
    async def announce():
        await asyncio.sleep(0)
        event.set()
        return "announced"

    assert await run(pair(wait(), announce())) == (True, "announced")


async def test_inline_tasks_are_called_one_after_the_other(run):
    """In the loop's thread, so that no two can be inside at once."""
    inside = []

    @cs.task(mode="inline")
    def work(n):
        inside.append(n)
        assert len(inside) == 1
        inside.clear()
        return threading.get_ident()

    target = [work.map(n=range(20)), asame(work(1)), cs.gather(*[work(asame(2)) for _ in "abc"])]
    threads = await run(target)
    assert {*threads[0], threads[1], *threads[2]} == {threading.get_ident()}


async def test_an_inline_task_with_a_timeout_is_called_on_a_thread(run):
    """Nothing could end it in time otherwise."""
    assert await run(thread_of("inline")().with_timeout(PATIENCE)) != threading.get_ident()


async def test_modes_may_change_with_every_step_of_a_loop(run):
    here = threading.get_ident()
    modes = ["inline", "blocking", "inline", "blocking", "inline"]

    def step(place, seen=()):
        seen = (*seen, threading.get_ident() == here)
        return steps[place + 1].tail(place + 1, seen) if place + 1 < len(steps) else seen

    steps = [cs.task(mode=mode)(step) for mode in modes]
    assert await run(steps[0](0)) == tuple(mode == "inline" for mode in modes)
    assert await run(same(steps[0](0))) == tuple(mode == "inline" for mode in modes)


# -- runs that go on after failures -----------------------------------------------------------


async def test_all_that_can_run_does_and_all_errors_are_raised_together(run_on, calls):
    """With a note each on where it comes from (R9)."""
    target = [
        pair(fail("one"), calls.task(lambda: 1, "beside")()),
        asame(fail("two")),
        calls.task(lambda n: n, "apart")(asame(3)),
    ]

    with pytest.raises(ExceptionGroup, match="2 tasks of the run failed") as caught:
        await run_on(target)
    first, second = sorted(caught.value.exceptions, key=str)
    assert (str(first), str(second)) == ("one", "two")
    assert [note.count("in task 'fail', called at ") for note in first.__notes__] == [1]
    assert first.__notes__[0].endswith("on the path pair → fail")
    assert second.__notes__[0].endswith("on the path asame → fail")
    assert sorted(calls.log) == [("apart", 3), ("beside",)]


async def test_one_error_is_a_group_too(run_on):
    with pytest.raises(ExceptionGroup, match="1 task of the run failed"):
        await run_on(fail())


async def test_a_run_without_errors_gives_its_value(run_on):
    assert await run_on(pair(same(1), asame(2))) == (1, 2)


@pytest.mark.parametrize("way", ["data", "container", "condition", "after", "map", "selector"])
async def test_users_of_a_failed_node_do_not_run(failures, calls, way):
    work = calls.task(lambda *_: 1)
    bad = fail("bad")
    user = {
        "data": lambda: work(bad),
        "container": lambda: work({"deep": [(bad,)]}),
        "condition": lambda: work().run_if(bad),
        "after": lambda: work().after(bad),
        "map": lambda: calls.task(lambda n: n).map(n=bad),
        "selector": lambda: cs.Router(selector=bad, routes={1: work()}),
    }[way]()
    beside = calls.task(lambda: 1, "beside")()

    assert await failures([user, work(user), beside]) == ["bad"]
    assert calls.log == [("beside",)]


async def test_a_skipped_predecessor_counts_as_done_a_failed_one_does_not(failures, calls):
    """M16; also if an input of a predecessor was skipped or failed."""
    work = calls.task(lambda n: n)
    skipped, failed = same(1).run_if(same(0)), fail("bad")
    target = [
        work(1).after(skipped),
        work(2).after(same(skipped)),
        work(3).after(failed),
        work(4).after(same(failed)),
        work(5).after(skipped, failed),
    ]

    assert await failures(target) == ["bad"]
    assert sorted(calls.log) == [("work", 1), ("work", 2)]


@pytest.mark.parametrize("turned", [False, True])
async def test_a_failure_counts_more_than_a_skip(run_on, calls, turned):
    """A node that lacks both has failed, so that no error is lost on its way to a catch."""
    work = calls.task(lambda *_: 1)

    def item(n):
        lacks = [same(1).run_if(same(0)), fail("bad")]
        return work(*lacks[:: -1 if turned else 1])

    value = await run_on(calls.task(item, "item").map(n=[1], return_exceptions=True))
    assert [str(error) for error in value] == ["bad"]
    assert calls.log == [("item", 1)]


def test_errors_are_in_the_order_in_which_tasks_failed(use_vm):
    @cs.task
    async def fail_after(seconds):
        await asyncio.sleep(seconds)
        raise ValueError(seconds)

    with pytest.raises(ExceptionGroup) as caught:
        virtually([fail_after(n) for n in (30, 10, 20)], use_vm, fail_fast=False)
    assert [error.args for error in caught.value.exceptions] == [(10,), (20,), (30,)]


async def test_items_of_a_map_fail_each_for_itself(failures, calls, asynchronous):
    work = calls.task(lambda n: 1 / (n - 1) if n % 2 else n, asynchronous=asynchronous)

    assert await failures(same(work.map(n=[0, 1, 2, 1, 4]))) == ["division by zero"] * 2
    assert len(calls) == 5


async def test_each_task_fails_after_its_own_retries(failures, calls, asynchronous):
    work = calls.flaky(5, asynchronous=asynchronous)
    target = [work("a").with_retry(2), work("b").with_retry(3), work("c").with_retry(6)]

    assert sorted(await failures(target)) == ["failure 2 of a", "failure 3 of b"]
    assert len(calls) == 2 + 3 + 6


async def test_a_node_that_many_need_fails_once(failures, calls):
    """R3, M14: also where tasks return it."""
    bad = fail("bad")
    mention = calls.task(lambda: bad)

    assert await failures([bad, pair(bad, [bad]), mention(), mention(), same(mention())]) == ["bad"]


async def test_a_returned_graph_runs_as_far_as_it_can(failures, calls):
    """R4, nested, and a tail call with failing lazy arguments (M2)."""
    work = calls.task(lambda n: n)
    deep = calls.task(lambda n: pair(deep(n - 1), work(n)) if n else fail("deep"), "deep")
    tail = calls.task(lambda n: cs.TailCall((fail("argument"),)), "tail")

    assert sorted(await failures([deep(3), work(0), tail(1)])) == ["argument", "deep"]
    assert sorted(entry for entry in calls.log if entry[0] == "work") == [
        ("work", n) for n in range(4)
    ]


async def test_one_exception_that_several_tasks_raise_is_there_for_each(failures):
    error = ValueError("the same")

    @cs.task
    def throw(n):
        raise error

    assert await failures(throw.map(n=[1, 2, 3])) == ["the same"] * 3


async def test_a_skipped_target_is_an_error_by_itself_unless_something_failed(run_on, failures):
    """R6."""
    with pytest.raises(cs.errors.DependencyMissingError):
        await run_on(same(1).run_if(same(0)))
    assert await failures(pair(fail("bad"), 1).run_if(same(0))) == ["bad"]


async def test_errors_before_the_run_starts_are_raised_alone(run_on, calls):
    work = calls.task(lambda *_: 1)
    first = work()
    first.after(work(first))

    with pytest.raises(cs.errors.ParameterError):
        await run_on([cs.Param("nobody"), fail(), work()])
    with pytest.raises(cs.errors.CycleError):
        await run_on([first, fail(), work()])
    assert not calls.log


async def test_tasks_that_wait_for_each_other_are_an_error_beside_the_others(failures, calls):
    lazies = []
    work = calls.task(lambda: lazies[0])
    lazies.append(pair(work(), 0))
    beside = calls.task(lambda: 1, "beside")

    errors = await failures([lazies[0], fail("bad"), beside()])
    assert "bad" in errors
    assert len(errors) == 2
    assert ("beside",) in calls.log


async def test_a_cancel_is_no_failure_to_go_on_after(engine, use_vm):
    begun = asyncio.Event()

    @cs.task
    async def wait():
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(
        engine.run([wait(), fail("bad")], use_vm=use_vm, fail_fast=False)
    )
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Stop(BaseException):
    """No Exception."""


@pytest.mark.parametrize("error", [SystemExit, Stop])
@pytest.mark.parametrize("catches", [False, True])
def test_a_base_exception_ends_the_run_at_once(calls, use_vm, error, asynchronous, catches):
    def leave(n):
        raise error("left")

    work = calls.task(leave, asynchronous=asynchronous)
    target = [work.map(n=[1], return_exceptions=catches), asame(1)]
    with pytest.raises(error, match="left"):
        virtually(target, use_vm, fail_fast=False)


# -- errors as values -------------------------------------------------------------------------


async def test_an_items_error_becomes_its_value_and_the_rest_goes_on(run, calls, asynchronous):
    """In its place, with a note on where it comes from."""
    work = calls.task(lambda n: 6 / n, asynchronous=asynchronous)

    one, error, three = await run(work.map(n=[1, 0, 3], return_exceptions=True))
    assert (one, three) == (6, 2)
    assert type(error) is ZeroDivisionError
    assert "in task 'work'" in error.__notes__[0]


async def test_without_it_the_first_error_ends_the_run(run, calls):
    work = calls.task(lambda n: 6 / n)

    with pytest.raises(ZeroDivisionError):
        await run(work.map(n=[1, 0, 3]))


async def test_an_items_error_is_that_of_its_last_attempt(run, calls, asynchronous):
    work = calls.flaky(2, asynchronous=asynchronous)
    values = await run(work.map(value=["a", "b"], return_exceptions=True).with_retry(2))

    assert [str(error) for error in values] == ["failure 2 of a", "failure 2 of b"]
    assert await run(work.map(value=["a"], return_exceptions=True).with_retry(2)) == ["a"]


@pytest.mark.parametrize("inner", [False, True], ids=["root", "inner"])
async def test_an_item_may_fail_in_its_continuation(run, calls, asynchronous, inner):
    """Its returned value, the inputs of that, its tail call, and the arguments of that."""
    ways = {
        0: lambda: fail("returned"),
        1: lambda: pair(asame(1), [same(fail("needed"))]),
        2: lambda: fail.tail("tail-called"),
        3: lambda: cs.TailCall((asame(fail("argument")),)),
        4: lambda: same(1).run_if(fail("condition")),
        5: lambda: same(1).after(fail("predecessor")),
        6: lambda: fail.map(text=["item", "item"]),
        7: lambda: cs.Router(selector=asame(1), routes={1: fail("route"), 2: 0}),
        8: lambda: cs.TailCall(kwargs={"nobody": 1}),
        9: lambda: divide(1, asame(2)),
    }
    item = calls.task(lambda n: ways[n](), "item", asynchronous)
    target = item.map(n=range(10), return_exceptions=True)

    values = await run(same(target) if inner else target)
    assert [str(value) for value in values[:8]] == [
        *["returned", "needed", "tail-called", "argument", "condition", "predecessor"],
        *["item", "route"],
    ]
    assert isinstance(values[8], cs.errors.ArgumentError)
    assert values[9] == 0.5


async def test_maps_in_maps_catch_each_for_themselves(run, calls):
    """The inner one catches first; errors that it leaves uncaught are the outer item's."""
    work = calls.task(lambda n: 6 / n)
    rows = calls.task(lambda ns: work.map(n=ns, return_exceptions=len(ns) > 1), "rows")
    values = await run(rows.map(ns=[[1, 0], [0], [3]], return_exceptions=True))

    assert [type(value) for value in values[0]] == [float, ZeroDivisionError]
    assert type(values[1]) is ZeroDivisionError
    assert values[2] == [2]


@pytest.mark.parametrize("first", ["item", "user"])
async def test_an_error_that_others_need_as_well_is_not_caught(engine, use_vm, calls, first):
    """Two paths lead to the target, and no node of one of them catches it."""
    shared = fail("shared")
    item = calls.task(lambda n: shared, "item")
    mention = calls.task(lambda *_: same(shared), "mention", asynchronous=True)
    caught = item.map(n=[1], return_exceptions=True)
    user = mention().after(caught) if first == "item" else same(shared)

    with pytest.raises(ValueError, match="shared"):
        await engine.run(pair(caught, user), use_vm=use_vm)
    with pytest.raises(ExceptionGroup) as group:
        await engine.run(pair(caught, user), use_vm=use_vm, fail_fast=False)
    assert [str(error) for error in group.value.exceptions] == ["shared"]


async def test_an_error_that_several_items_need_is_caught_by_each(run, calls):
    shared = fail("shared")
    item = calls.task(lambda n: [shared, asame(shared), pair(n, [shared])][n], "item")

    values = await run(item.map(n=range(3), return_exceptions=True))
    assert [str(value) for value in values] == ["shared"] * 3


async def test_an_error_in_the_list_that_is_gone_over_is_the_maps(run, calls):
    """All items need it, and there are no items yet."""
    work = calls.task(lambda n: n)

    with pytest.raises(ValueError, match="bad"):
        await run(work.map(n=[1, fail("bad")], return_exceptions=True))
    assert not calls.log


async def test_an_item_that_is_skipped_has_no_value(run, calls):
    """M16: a skip is no error, so the list is skipped."""
    item = calls.task(lambda n: same(n).run_if(same(n)), "item")

    assert await run(same("end").after(item.map(n=[1, 0], return_exceptions=True))) == "end"
    with pytest.raises(cs.errors.DependencyMissingError):
        await run(item.map(n=[1, 0], return_exceptions=True))


async def test_a_cycle_is_no_value(run, calls):
    """Nodes that wait for each other wait on both paths, whichever of them is an item."""
    lazies = []
    item = calls.task(lambda n: lazies[0], "item")
    lazies.append(same(item.map(n=[1], return_exceptions=True)))

    with pytest.raises(cs.errors.CycleError):
        await run(lazies[0])


async def test_caught_errors_do_not_fail_the_run(run_on, failures, calls):
    work = calls.task(lambda n: 6 / n)
    target = work.map(n=[1, 0], return_exceptions=True)

    assert [type(value) for value in await run_on(target)] == [float, ZeroDivisionError]
    assert await failures(pair(fail("bad"), target)) == ["bad"]


def test_a_timeout_may_be_a_value(use_vm):
    @cs.task
    async def work(seconds):
        await asyncio.sleep(seconds)
        return seconds

    target = work.map(seconds=[10, 90, 20], return_exceptions=True).with_timeout(60)
    (short, late, other), seconds = virtually(target, use_vm)
    assert (short, other, seconds) == (10, 20, 60)
    assert isinstance(late, cs.errors.TaskTimeoutError)


async def test_catching_survives_json(run):
    target = from_json(to_json(divide.map(a=[6, 6], b=[0, 2], return_exceptions=True))).target
    error, value = await run(target)

    assert (type(error), value) == (ZeroDivisionError, 3)


# -- kept failures ----------------------------------------------------------------------------


async def test_a_state_backend_has_values_and_errors_that_are_values(use_vm, calls):
    """And nothing of a node that failed, or did not run for it."""
    state = InMemoryStateBackend()
    work = calls.task(lambda n: 6 / n)
    bad, good, items = fail("bad"), asame(1), work.map(n=[0, 1], return_exceptions=True)
    user = pair(bad, good)
    async with cs.Engine(state_backend=state) as engine:
        with pytest.raises(ExceptionGroup):
            await engine.run(pair(user, items), use_vm=use_vm, fail_fast=False)

    assert not state.has_result(bad.id)
    assert not state.has_result(user.id)
    assert state.get_skip_reason(user.id) is None
    assert state.get_result(good.id) == 1
    assert [type(value) for value in state.get_result(items.id)] == [ZeroDivisionError, float]


@pytest.mark.parametrize("root", ["skipped", "failing"])
async def test_a_blueprint_by_hand_may_end_without_a_value(run_on, engine, calls, root):
    """A node that continues as it has no value either, and neither have its users."""

    def zero():
        return 0

    def work():
        raise ValueError("by hand")

    condition = [Register(0)] if root == "skipped" else ()
    made = Blueprint([Call(zero, Register(0)), Call(work, Register(1), conditions=condition)], 2)
    engine.register_blueprint("made", made)
    go = calls.task(lambda n: cs.TailCall(target_blueprint_id="made"), "go")
    user = calls.task(lambda *_: 1, "user")

    with pytest.raises((ExceptionGroup, cs.errors.DependencyMissingError)) as caught:
        await run_on(user([go(1)]))
    errors = getattr(caught.value, "exceptions", ())
    assert [str(error) for error in errors] == ["by hand"] * (root == "failing")
    assert calls.log == [("go", 1)]
    if root == "failing":
        (error,) = await run_on(go.map(n=[1], return_exceptions=True))
        assert str(error) == "by hand"


# -- events -----------------------------------------------------------------------------------


def told(target, use_vm, **options):
    """The events of a run of ``target``, without times, in one order."""
    seen = []

    def tell(event):
        match event:
            case NodesPlanned():
                seen.append(("planned", event.count))
            case InputsAwaited():
                seen.append(("InputsAwaited", event.task, event.inputs))
            case TaskSkipped():
                error = None if event.error is None else str(event.error)
                seen.append(("TaskSkipped", event.task, event.condition, error))
            case TaskRetrying():
                details = event.attempt, event.pause, str(event.error)
                seen.append(("TaskRetrying", event.task, *details))
            case TaskWaiting():
                seen.append(("TaskWaiting", event.task, event.reason, event.seconds))
            case TaskEvent():
                seen.append((type(event).__name__, event.task))

    def watch(engine):
        engine.bus.subscribe(Event, tell)

    try:
        virtually(target, use_vm, watch=watch, **options)
    except Exception as error:
        seen.append(("error", type(error).__name__))
    planned = sum(count for kind, count, *_ in seen if kind == "planned")
    return sorted([*(entry for entry in seen if entry[0] != "planned"), ("planned", planned)])


def test_inputs_are_told_of_where_a_node_has_to_wait(use_vm):
    """Also of graphs returned by tasks, and of nodes that only wait by condition or order."""
    give = cs.task(lambda: pair(same(1), asame(2)), name="give")
    target = same(give()).run_if(asame(1)).after(same(0))

    awaited = [entry for entry in told(target, use_vm) if entry[0] == "InputsAwaited"]
    assert awaited == [
        ("InputsAwaited", "pair", ("same", "asame")),
        ("InputsAwaited", "same", ("give", "asame", "same")),
    ]


def test_delays_and_attempts_are_told_of(use_vm, calls, asynchronous):
    work = calls.flaky(2, asynchronous=asynchronous)

    assert told(work("x").with_retry(delay=5, backoff=2), use_vm) == [
        ("TaskFinished", "flaky"),
        ("TaskRetrying", "flaky", 1, 5, "failure 1 of x"),
        ("TaskRetrying", "flaky", 2, 10, "failure 2 of x"),
        ("TaskStarted", "flaky"),
        ("TaskWaiting", "flaky", "retry delay", 5),
        ("TaskWaiting", "flaky", "retry delay", 10),
        ("planned", 1),
    ]


def test_a_node_keeps_its_name_in_events_whatever_it_continues_as(use_vm, calls, asynchronous):
    """So that a start and an end belong together; the attempts of steps count from 1."""
    second = calls.flaky(1, "second")
    first = calls.task(lambda: second.tail("x"), "first", asynchronous)

    assert told(first().with_retry(2), use_vm) == [
        ("TaskFinished", "first"),
        ("TaskRetrying", "first", 1, 0, "failure 1 of x"),
        ("TaskStarted", "first"),
        ("planned", 1),
    ]


def test_a_value_from_a_cache_is_told_of_instead_of_a_start_and_an_end(use_vm, asynchronous, calls):
    work = calls.task(lambda n: n, asynchronous=asynchronous)
    cache = cs.LRUCache()
    virtually(work(1).with_cache(cache), use_vm)

    target = pair(work(1).with_cache(cache), work(2).with_cache(cache))
    events = [entry for entry in told(target, use_vm) if "work" in entry]
    assert events == [("TaskCached", "work"), ("TaskFinished", "work"), ("TaskStarted", "work")]


def test_a_value_from_an_equal_call_is_told_of_as_one_from_the_cache(use_vm, asynchronous, calls):
    """So that every planned node ends for subscribers."""
    work = calls.task(lambda n: n, asynchronous=asynchronous)
    events = told(work.map(n=[1, 1, 1]).with_cache(cs.LRUCache()), use_vm)

    assert events == [
        ("TaskCached", "work"),
        ("TaskCached", "work"),
        ("TaskFinished", "work"),
        ("TaskStarted", "work"),
        ("planned", 3),
    ]


def test_a_node_with_a_failed_equal_call_is_reported_as_skipped(use_vm):
    cache = cs.LRUCache()

    @cs.task
    async def work(n):
        await asyncio.sleep(60)
        raise ValueError("bad")

    target = work.map(n=[1, 1]).with_cache(cache)
    assert told(target, use_vm, fail_fast=False) == [
        ("TaskFailed", "work"),
        ("TaskSkipped", "work", "work", "bad"),
        ("TaskStarted", "work"),
        ("error", "ExceptionGroup"),
        ("planned", 2),
    ]


@pytest.mark.parametrize("what", ["key", "load", "save"])
def test_a_node_with_a_failing_cache_starts_and_ends_once(use_vm, what, asynchronous, calls):
    """With its call, where there was one."""
    work = calls.task(lambda n: n, asynchronous=asynchronous)
    target = work(1).with_cache(Book(fails=[what]))

    assert told(target, use_vm, fail_fast=False) == [
        ("TaskFinished" if what == "save" else "TaskFailed", "work"),
        ("TaskStarted", "work"),
        ("error", "ExceptionGroup"),
        ("planned", 1),
    ]


def test_the_reason_of_a_skip_is_its_condition_or_the_failure_and_its_error(use_vm):
    skipped = same("skipped").run_if(asame(0))
    target = [divide(skipped, 1), divide(fail("bad"), 1), pair(1, 2).after(fail("worse"))]

    assert told(target, use_vm, fail_fast=False) == [
        ("InputsAwaited", "divide", ("fail",)),
        ("InputsAwaited", "divide", ("same",)),
        ("InputsAwaited", "pair", ("fail",)),
        ("InputsAwaited", "same", ("asame",)),
        ("TaskFailed", "fail"),
        ("TaskFailed", "fail"),
        ("TaskFinished", "asame"),
        ("TaskSkipped", "divide", "asame", None),
        ("TaskSkipped", "divide", "fail", "bad"),
        ("TaskSkipped", "pair", "fail", "worse"),
        ("TaskSkipped", "same", "asame", None),
        ("TaskStarted", "asame"),
        ("TaskStarted", "fail"),
        ("TaskStarted", "fail"),
        ("error", "ExceptionGroup"),
        ("planned", 7),
    ]


def test_an_error_that_becomes_a_value_is_told_of_as_a_failure(use_vm, calls, asynchronous):
    work = calls.task(lambda n: 6 / n, asynchronous=asynchronous)

    assert told(work.map(n=[0, 1], return_exceptions=True), use_vm) == [
        ("TaskFailed", "work"),
        ("TaskFinished", "work"),
        ("TaskStarted", "work"),
        ("TaskStarted", "work"),
        ("planned", 2),
    ]


def test_plans_are_published_without_other_subscriptions(use_vm, calls, asynchronous):
    """Also a returned graph, with existing arguments and others (R4)."""
    give = calls.task(lambda: pair(1, same(2)), "give", asynchronous)
    go_on = calls.task(lambda: same(1), "go on", asynchronous)
    counts = []

    def watch(engine):
        engine.bus.subscribe(NodesPlanned, lambda event: counts.append(event.count))

    virtually([give(), go_on(), same.map(value=[1, 2])], use_vm, watch=watch)
    assert sum(counts) == 2 + 2 + 1 + 2
