"""Resources that the worker of a call opens and closes (M7, M8): late, failing, and stopped."""

import asyncio
import contextvars
import threading

import pytest

import cascade as cs
from cascade.runtime.events import CallAbandoned, ResourceAcquired, ResourceReleased

#: Seconds; a provider that must be too slow for it waits for an event that is set only afterwards.
SHORT = 0.001
KINDS = pytest.mark.parametrize("kind", ["plain", "coroutine"])


@pytest.fixture
def log():
    return []


@pytest.fixture
def held():
    event = threading.Event()
    yield event
    event.set()


def named(name, log, wait=None, base=None, **options):
    """A resource of each call that writes down its life; ``wait``: (place, event)."""
    place, event = wait or (None, None)

    def pause(here):
        if here == place:
            log.append(f"{here} {name} begins")
            assert event.wait(20)

    def life(value):
        pause("open")
        log.append(f"open {name}")
        yield value
        pause("close")
        log.append(f"close {name}")

    def alone():
        yield from life(name)

    def on_top(base=None if base is None else cs.inject(base)):
        yield from life(f"{name} on {base}")

    return cs.resource(name, "task", **options)(alone if base is None else on_top)


def user(kind, resource, body=lambda value: value):
    """A task of a kind that is given a resource."""
    if kind == "plain":

        @cs.task(name="use")
        def use(value=cs.inject(resource)):
            return body(value)

        return use

    @cs.task(name="use")
    async def use_in_loop(value=cs.inject(resource)):
        await asyncio.sleep(0)
        return body(value)

    return use_in_loop


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # a thread makes it true
            await asyncio.sleep(0)


@KINDS
async def test_a_node_goes_on_after_a_closing_that_was_given_up(use_vm, log, held, kind):
    """The others are closed, the attempt has failed, and the next one gets resources of its own."""
    base = named("base", log)
    stuck = named("stuck", log, ("close", held), base, teardown_timeout=SHORT)
    tried = []

    def body(value):
        tried.append(value)
        if len(tried) == 2:
            held.set()
        return len(tried)

    async with cs.Engine(capacities={"gpu": 1}) as engine:
        told = []
        engine.bus.subscribe(CallAbandoned, told.append)
        target = user(kind, stuck, body)().with_retry(3).with_capacity(gpu=1)
        assert await engine.run(target, use_vm=use_vm) == 2
        assert [event.task for event in told] == ["resource stuck"]
        await until(lambda: not engine.abandoned)
        assert await engine.run(user(kind, base)().with_capacity(gpu=1)) == "base"
    assert tried == ["stuck on base"] * 2
    opened = [line for line in log if line.startswith("open")]
    assert opened == ["open base", "open stuck"] * 2 + ["open base"]
    assert sorted(line for line in log if line.startswith("close") and "begins" not in line) == [
        "close base",
        "close base",
        "close base",
        "close stuck",
        "close stuck",
    ]


@KINDS
async def test_several_closings_in_a_row_may_be_given_up(use_vm, log, held, kind):
    first = named("first", log, ("close", held), teardown_timeout=SHORT)
    second = named("second", log, ("close", held), first, teardown_timeout=SHORT)
    third = named("third", log, ("close", held), second, teardown_timeout=SHORT)
    async with cs.Engine() as engine:
        released = []
        engine.bus.subscribe(ResourceReleased, lambda event: released.append(event.resource_name))
        with pytest.raises(BaseExceptionGroup) as caught:
            await engine.run(user(kind, third)(), use_vm=use_vm)
        kinds = {type(error) for error in caught.value.exceptions}
        assert (kinds, len(caught.value.exceptions)) == ({cs.errors.ResourceTimeoutError}, 3)
        assert released == ["third", "second", "first"]
        assert len(engine.abandoned) == 3
        held.set()
        await until(lambda: not engine.abandoned)
    assert [line for line in log if line.startswith("close") and "begins" not in line]


@KINDS
async def test_a_late_closing_is_a_note_on_the_error_of_the_call(use_vm, log, held, kind):
    stuck = named("stuck", log, ("close", held), teardown_timeout=SHORT)

    def body(_):
        raise ValueError("wrong")

    async with cs.Engine() as engine:
        with pytest.raises(ValueError, match="wrong") as caught:
            await engine.run(user(kind, stuck, body)(), use_vm=use_vm)
        (note,) = [note for note in caught.value.__notes__ if "stuck" in note and "also" in note]
        assert "closing the resource 'stuck' took longer" in note
        held.set()
        await until(lambda: not engine.abandoned)


@KINDS
async def test_a_second_cancel_waits_for_what_closes(use_vm, log, held, kind):
    """Closing has its own deadline; only calls are abandoned (M8)."""
    slow = named("slow", log, ("close", held))
    async with cs.Engine() as engine:
        running = asyncio.ensure_future(engine.run(user(kind, slow)(), use_vm=use_vm))
        await until(lambda: "close slow begins" in log)
        for _ in range(2):
            running.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not running.done()
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.abandoned == ()
    assert log[-1] == "close slow"


@KINDS
async def test_an_opening_that_outlasts_its_run_is_given_up_and_closes_itself(
    use_vm, log, held, kind
):
    base = named("base", log)
    slow = named("slow", log, ("open", held), base, teardown_timeout=SHORT)
    called = []
    async with cs.Engine() as engine:
        acquired = []
        engine.bus.subscribe(ResourceAcquired, lambda event: acquired.append(event.resource_name))
        target = user(kind, slow, called.append)()
        running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
        await until(lambda: "open slow begins" in log)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.abandoned == ("resource slow",)
        assert log == ["open base", "open slow begins", "close base"]
        held.set()
        await until(lambda: not engine.abandoned)
    assert log[3:] == ["open slow", "close slow"]
    assert (called, acquired) == ([], ["base"])


@KINDS
async def test_a_failing_sibling_closes_all_that_is_open(use_vm, log, kind):
    """Whether it waits for a worker, opens, or is closing when the run ends."""
    base = named("base", log)

    @cs.task
    async def fail():
        for _ in range(3):
            await asyncio.sleep(0)
        raise LookupError("gone")

    async with cs.Engine(threads=2) as engine:
        for _ in range(20):
            use = user(kind, base)
            with pytest.raises(LookupError):
                await engine.run([fail(), *(use() for _ in range(50))], use_vm=use_vm)
            assert log.count("open base") == log.count("close base")


async def test_a_provider_has_one_context_and_hides_it_from_the_call(use_vm):
    seen, tone = [], contextvars.ContextVar("tone", default="none")

    @cs.resource(scope="task")
    def provide():
        tone.set("provider's")
        yield
        seen.append(tone.get())

    @cs.task
    def use(_=cs.inject(provide)):
        seen.append(tone.get())
        tone.set("call's")

    async with cs.Engine() as engine:
        await engine.run(use(), use_vm=use_vm)
    assert seen == ["none", "provider's"]


@KINDS
async def test_openings_that_block_overlap(kind):
    """They take threads as nodes do, however many wait."""
    met = threading.Barrier(4)

    @cs.resource(scope="task")
    def slow():
        met.wait(20)
        yield 1

    async with cs.Engine(threads=4) as engine:
        assert await engine.run([user(kind, slow)() for _ in range(4)]) == [1] * 4


async def test_the_second_cancel_abandons_a_call_with_an_async_provider(use_vm, log, held):
    begun = threading.Event()

    @cs.resource(scope="task")
    async def connection():
        log.append("open")
        yield 1
        log.append("close")

    @cs.task
    def slow(_=cs.inject(connection)):
        begun.set()
        held.wait(20)
        log.append("ended")

    async with cs.Engine() as engine:
        running = asyncio.ensure_future(engine.run(slow(), use_vm=use_vm))
        await until(begun.is_set)
        running.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.abandoned == ("slow",)
        assert log == ["open"]
        held.set()
        await until(lambda: "close" in log)
    assert log == ["open", "ended", "close"]


@KINDS
async def test_a_pause_that_comes_while_a_resource_opens_holds_the_call(use_vm, log, held, kind):
    """What was opened is closed again, and opened anew after the pause."""
    slow = named("slow", log, ("open", held))
    async with cs.Engine() as engine:
        running = asyncio.ensure_future(
            engine.run(user(kind, slow, lambda _: log.append("call"))(), use_vm=use_vm)
        )
        await until(lambda: "open slow begins" in log)
        engine.constraints.pause("task:use")
        held.set()
        await until(lambda: engine.waiting(inputs=False))
        assert log == ["open slow begins", "open slow", "close slow"]
        engine.constraints.resume("task:use")
        await running
    assert log[3:] == ["open slow begins", "open slow", "call", "close slow"]
