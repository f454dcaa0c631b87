"""Retries on both paths, in virtual time (rule R10)."""

from __future__ import annotations

import asyncio

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.serialize import from_json, to_json
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import TaskFailed, TaskFinished, TaskRetrying, TaskStarted, TaskWaiting
from cascade.runtime.vm import VirtualMachine


class Flaky:
    """Makes tasks that fail a number of times before they succeed."""

    def __init__(self):
        self.calls = []

    def fail(self, times, label="call"):
        self.calls.append(label)
        if self.calls.count(label) <= times:
            raise OSError(f"failure {self.calls.count(label)} of {label}")


@pytest.fixture
def flaky():
    return Flaky()


@cs.task
def divide(a, b):
    return a / b


def virtually(target, use_vm, bus=None):
    """The value of ``target``, and the virtual seconds that it took."""

    async def main():
        async with cs.Engine(bus=bus) as engine:
            value = await engine.run(target, use_vm=use_vm)
            return value, asyncio.get_running_loop().time()

    return run_virtually(main)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_a_failed_attempt_is_followed_by_another_after_the_delay(flaky, use_vm, is_async):
    @cs.task
    def plain(x):
        flaky.fail(2)
        return x

    @cs.task
    async def coroutine(x):
        flaky.fail(2)
        return x

    target = (coroutine if is_async else plain)(7).with_retry(delay=60, backoff=10)
    assert virtually(target, use_vm) == (7, 660)
    assert len(flaky.calls) == 3


def test_the_last_error_is_raised_when_all_attempts_failed(flaky, use_vm):
    @cs.task
    def fetch():
        flaky.fail(9)

    with pytest.raises(OSError, match="failure 3 of call") as caught:
        virtually(fetch().with_retry(3), use_vm)
    assert len(flaky.calls) == 3
    assert [note for note in caught.value.__notes__ if "task 'fetch'" in note]


def test_other_errors_end_the_run_at_once(flaky, use_vm):
    @cs.task
    def fetch():
        flaky.fail(9)

    with pytest.raises(OSError, match="failure 1"):
        virtually(fetch().with_retry(5, on=KeyError), use_vm)


def test_without_retries_nothing_is_tried_again(flaky, use_vm):
    @cs.task
    def fetch():
        flaky.fail(1)

    with pytest.raises(OSError, match="failure 1"):
        virtually(fetch(), use_vm)


def test_an_inner_node_and_a_shared_one_are_tried_again_once_per_failure(flaky, use_vm):
    @cs.task
    def load():
        flaky.fail(1)
        return 6

    shared = load().with_retry()
    assert virtually(divide(shared, divide(shared, 2)), use_vm) == (2.0, 0)
    assert len(flaky.calls) == 2


def test_every_step_of_a_loop_has_its_own_attempts(flaky, use_vm):
    @cs.task
    def countdown(n, total=0):
        flaky.fail(2, label=n)
        return countdown.tail(n - 1, total + n) if n else total

    assert virtually(countdown(4).with_retry(3, delay=1), use_vm) == (10, 10)


def test_a_node_keeps_its_retries_when_it_continues_as_another_task(flaky, use_vm):
    @cs.task
    def first():
        flaky.fail(1, "first")
        return second.tail()

    @cs.task
    def second():
        flaky.fail(1, "second")
        return "done"

    assert virtually(first().with_retry(2), use_vm) == ("done", 0)


def test_a_returned_lazy_value_has_its_own_retries_and_not_those_of_its_maker(flaky, use_vm):
    @cs.task
    def outer(inner_retries):
        inner = fetch()
        return inner.with_retry(2) if inner_retries else inner

    @cs.task
    def fetch():
        flaky.fail(1)
        return "fetched"

    assert virtually(outer(True), use_vm) == ("fetched", 0)
    flaky.calls.clear()
    with pytest.raises(OSError, match="failure 1"):
        virtually(outer(False).with_retry(5), use_vm)


def test_items_of_a_map_are_tried_again_each_for_itself(flaky, use_vm):
    """R8."""

    @cs.task
    def fetch(n):
        flaky.fail(n, label=n)
        return n

    target = fetch.map(n=[0, 2, 1]).with_retry(3, delay=5)
    value, seconds = virtually(target, use_vm)
    assert value == [0, 2, 1]
    # The graph path waits for the items side by side, the VM for one after the other.
    assert seconds in (10, 15)


def test_task_scoped_resources_are_opened_anew_for_each_attempt(flaky, use_vm):
    """M7: one instance per attempt; no instance is held while waiting."""
    seen = []

    @cs.resource(scope="task")
    def connection():
        seen.append("open")
        yield len(seen)
        seen.append("close")

    @cs.task
    def fetch(connection=cs.inject(connection)):
        seen.append("call")
        flaky.fail(1)
        return "fetched"

    assert virtually(fetch().with_retry(delay=3600), use_vm) == ("fetched", 3600)
    assert seen == ["open", "call", "close"] * 2


def test_each_further_attempt_is_an_event(flaky, use_vm):
    @cs.task
    def fetch():
        flaky.fail(2)

    bus = MessageBus()
    seen = []
    bus.subscribe(TaskRetrying, lambda e: seen.append((e.task, e.attempt, e.pause, str(e.error))))
    counted = []
    for kind in (TaskStarted, TaskFinished, TaskFailed):
        bus.subscribe(kind, lambda event: counted.append(type(event)))
    virtually(fetch().with_retry(delay=1, backoff=2), use_vm, bus)
    assert seen == [("fetch", 1, 1, "failure 1 of call"), ("fetch", 2, 2, "failure 2 of call")]
    assert counted == [TaskStarted, TaskFinished]


class Refused(Exception):
    def __init__(self, retry_after):
        super().__init__(f"again in {retry_after} s")
        self.retry_after = retry_after


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_a_function_computes_the_delays_which_the_events_show(use_vm, is_async):
    answers = [Refused(30), Refused(5), "the news"]

    def answer():
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    @cs.task
    def plain():
        return answer()

    @cs.task
    async def coroutine():
        return answer()

    bus = MessageBus()
    seen = []
    bus.subscribe(TaskRetrying, lambda event: seen.append((event.attempt, event.pause)))
    bus.subscribe(TaskWaiting, lambda event: seen.append((event.reason, event.seconds)))
    fetch = (coroutine if is_async else plain)()
    fetch.with_retry(5, delay=lambda error, attempt: error.retry_after * attempt, max_delay=25)
    assert virtually(fetch, use_vm, bus) == ("the news", 35)
    assert seen == [(1, 25), ("retry delay", 25), (2, 10), ("retry delay", 10)]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_a_delay_of_none_ends_the_attempts_with_the_last_error(use_vm, is_async):
    calls = []

    def answer():
        calls.append(1)
        raise Refused(len(calls) * 60)

    @cs.task
    def plain():
        answer()

    @cs.task
    async def coroutine():
        answer()

    def patient(error, attempt):
        return error.retry_after if error.retry_after < 150 else None

    with pytest.raises(Refused, match="again in 180 s"):
        virtually((coroutine if is_async else plain)().with_retry(9, delay=patient), use_vm)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize("seconds", [-1, "soon"])
def test_a_function_that_returns_no_seconds_fails_the_node(use_vm, is_async, seconds):
    @cs.task
    def plain():
        raise Refused(1)

    @cs.task
    async def coroutine():
        raise Refused(1)

    def broken(error, attempt):
        return seconds

    with pytest.raises(cs.errors.ArgumentError, match=r"'.*broken', must return") as caught:
        virtually((coroutine if is_async else plain)().with_retry(9, delay=broken), use_vm)
    assert isinstance(caught.value.__context__, Refused)
    assert [note for note in caught.value.__notes__ if "in task" in note]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize("kind", [KeyError, StopIteration, asyncio.CancelledError])
def test_an_error_of_the_function_is_the_error_of_the_node(use_vm, is_async, kind):
    @cs.task
    def plain():
        raise Refused(1)

    @cs.task
    async def coroutine():
        raise Refused(1)

    def broken(error, attempt):
        raise kind("delay")

    expected = {
        StopIteration: cs.errors.TaskStopIterationError,
        asyncio.CancelledError: cs.errors.TaskCancelledError,
    }.get(kind, kind)
    with pytest.raises(expected):
        virtually((coroutine if is_async else plain)().with_retry(9, delay=broken), use_vm)


def refusing(kind):
    """A task of a kind that fails at once, with no retry yet."""

    @cs.task
    def plain(n, ticket=None):
        raise Refused(1)

    @cs.task(mode="inline")
    def inline():
        raise Refused(1)

    @cs.task
    async def coroutine():
        raise Refused(1)

    @cs.task
    def loop(n):
        if not n:
            raise Refused(1)
        return loop.tail(n - 1)

    @cs.task
    async def coroutine_loop(n):
        if not n:
            raise Refused(1)
        return coroutine_loop.tail(n - 1)

    return {
        "plain": lambda: plain(1),
        "timeout": lambda: plain(1).with_timeout(60),
        "capacity": lambda: plain(1).with_capacity(gpu=1),
        "resource": lambda: plain(1, cs.inject("ticket")),
        "inline": inline,
        "coroutine": coroutine,
        "coroutine with a timeout": lambda: coroutine().with_timeout(60),
        "loop": lambda: loop(40),
        "coroutine loop": lambda: coroutine_loop(40),
    }[kind]()


@cs.resource(scope="task")
def ticket():
    yield "ticket"


@pytest.mark.parametrize("way", ["on", "delay"])
@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "timeout",
        "capacity",
        "resource",
        "inline",
        "coroutine",
        "coroutine with a timeout",
        "loop",
        "coroutine loop",
    ],
)
async def test_a_stop_iteration_of_the_function_names_it(use_vm, kind, way):
    """M13: also where the other function decides as well."""

    def stops(*details):
        raise StopIteration

    functions = {"on": lambda error: True, "delay": lambda error, attempt: 0, way: stops}
    async with cs.Engine(capacities={"gpu": 1}, resources=[ticket]) as engine:
        with pytest.raises(
            cs.errors.TaskStopIterationError, match=r"the function '.*stops' raised StopIteration"
        ) as caught:
            await engine.run(refusing(kind).with_retry(3, **functions), use_vm=use_vm)
    assert isinstance(caught.value.__cause__, StopIteration)
    assert [note for note in caught.value.__notes__ if "in task" in note]


def test_attempts_share_their_arguments(use_vm):
    """M23."""

    @cs.task
    def extend(rows):
        rows.append(0)
        if len(rows) < 3:
            raise OSError
        return rows

    assert virtually(extend([]).with_retry(3), use_vm) == ([0, 0, 0], 0)


def test_an_iterator_that_another_task_returns_is_refused_before_the_first_attempt(use_vm):
    """M23."""
    calls = []

    @cs.task
    def read():
        return iter("abc")

    @cs.task
    def load(lines, place):
        calls.append(lines)

    with pytest.raises(cs.errors.ArgumentError, match=r"task 'load' .* argument 'lines' is an "):
        virtually(load(read(), 1).with_retry(3), use_vm)
    assert calls == []


async def test_a_program_keeps_the_literal_of_an_input_that_it_replaces(flaky):
    @cs.task
    def load(lines, place):
        flaky.fail(1, place)
        return next(lines), place

    async with cs.Engine() as engine:
        program = engine.compile(load(cs.literal(iter("abc")), 0).with_retry(2))
        assert await program.run() == ("a", 0)
        assert await program.run(place=1) == ("b", 1)
        assert await program.run(lines=cs.literal(iter("xyz"))) == ("x", 0)
        with pytest.raises(cs.errors.ArgumentError, match="argument 'lines' is an iterator"):
            await program.run(lines=iter("abc"))


def test_calls_of_one_shape_with_and_without_retries_are_not_mixed_up(flaky):
    """The engine shares compiled blueprints between calls of one shape."""

    @cs.task
    def fetch(x):
        flaky.fail(1)
        return x

    async def main():
        async with cs.Engine() as engine:
            assert await engine.run(fetch(1).with_retry(), use_vm=True) == 1
            flaky.calls.clear()
            with pytest.raises(OSError, match="failure 1"):
                await engine.run(fetch(1), use_vm=True)
            flaky.calls.clear()
            return await engine.run(fetch(2).with_retry(), use_vm=True)

    assert run_virtually(main) == 2


async def test_a_blueprint_carries_the_retries(flaky):
    @cs.task
    def fetch(x):
        flaky.fail(1)
        return x

    blueprint = BlueprintBuilder().build(fetch(1).with_retry())
    assert await VirtualMachine().execute(blueprint, initial_args=[5]) == 5


def test_json_keeps_retries_and_refuses_functions():
    from tests.graph import flows

    lazy = flows.load("a").with_retry(4, 0.5, 2, max_delay=9, jitter=0.1, on=(OSError, KeyError))
    retry = from_json(to_json(lazy)).target._calls.retry
    assert (retry.max_attempts, retry.delay, retry.backoff) == (4, 0.5, 2)
    assert (retry.max_delay, retry.jitter, retry.on) == (9, 0.1, (OSError, KeyError))
    assert from_json(to_json(flows.load("a").with_retry())).target._calls.retry.on is Exception
    with pytest.raises(cs.errors.SerializationError, match="its retry on <function"):
        to_json(flows.load("a").with_retry(on=lambda error: True))
