"""The life of one resource: cancelled while it opens, late while it closes (M7, M8, R9)."""

import asyncio
import sqlite3
import threading

import pytest

import cascade as cs
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import CallAbandoned, ResourceAcquired, ResourceReleased

#: Seconds; a call that must be too slow for it waits for an event that is set only afterwards.
SHORT = 0.001
SCOPES = pytest.mark.parametrize("scope", ["run", "task"])


@pytest.fixture
def log():
    return []


def simple(name, log, **options):
    """A resource that writes down when it is opened and closed."""

    @cs.resource(name=name, **options)
    def provide():
        log.append(f"open {name}")
        yield name
        log.append(f"close {name}")

    return provide


def after(base, log, held, **options):
    """A plain resource on top of ``base`` with a closing that waits for ``held``."""

    @cs.resource(name="stuck", **options)
    def provide(base=cs.inject(base)):
        log.append("open stuck")
        yield "stuck"
        assert held.wait(20)
        log.append("close stuck")

    return provide


def virtually(target, use_vm, log=None, **options):
    """Run it in virtual time: its value or error, and the seconds that it took."""

    async def main():
        async with cs.Engine(**options) as engine:
            if log is not None:
                engine.bus.subscribe(ResourceAcquired, log.append)
                engine.bus.subscribe(ResourceReleased, log.append)
            try:
                outcome = await engine.run(target, use_vm=use_vm)
            except Exception as error:
                outcome = error
            return outcome, asyncio.get_running_loop().time()

    return run_virtually(main)


async def until(condition):
    """Let the loop turn until ``condition`` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # a thread makes it true
            await asyncio.sleep(0)


async def reached(event):
    assert await asyncio.to_thread(event.wait, 20)


# -- closing takes too long -------------------------------------------------------------------


@SCOPES
def test_an_async_teardown_that_takes_too_long_is_cancelled(use_vm, log, scope):
    base = simple("base", log, scope=scope)

    @cs.resource(scope=scope)
    async def slow(base=cs.inject(base)):
        yield "slow"
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("close slow")

    @cs.task
    def use(slow=cs.inject(slow)):
        return slow

    events = []
    error, seconds = virtually(use(), use_vm, events, teardown_timeout=5)

    assert type(error) is cs.errors.ResourceTimeoutError
    assert str(error).startswith(
        "closing the resource 'slow' took longer than the 5 s of its teardown_timeout; it stands "
        "at tests/engine/test_resource_instance.py:"
    )
    assert str(error).endswith(", and it was cancelled there")
    assert (error.seconds, seconds) == (5, 5)
    assert log == ["open base", "close slow", "close base"]
    assert [event.error for event in events[2:]] == [error, None]


def test_a_teardown_has_its_own_deadline_before_the_engines(use_vm):
    @cs.resource(teardown_timeout=100)
    async def patient():
        yield "patient"
        await asyncio.sleep(90)

    @cs.task
    def use(patient=cs.inject(patient)):
        return patient

    assert virtually(use(), use_vm, teardown_timeout=5) == ("patient", 90)


def test_the_default_teardown_timeout_is_a_minute(use_vm):
    @cs.resource
    async def slow():
        yield
        await asyncio.sleep(61)

    @cs.task
    def use(slow=cs.inject(slow)): ...

    error, seconds = virtually(use(), use_vm)
    assert (type(error), seconds) == (cs.errors.ResourceTimeoutError, 60)


def test_the_error_of_a_late_teardown_is_the_cause(use_vm):
    @cs.resource
    async def slow():
        yield
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise OSError("half closed") from None

    @cs.task
    def use(slow=cs.inject(slow)): ...

    error, _ = virtually(use(), use_vm)
    assert isinstance(error, cs.errors.ResourceTimeoutError)
    assert isinstance(error.__cause__, OSError)


def test_a_late_teardown_is_a_note_on_the_first_error(use_vm):
    @cs.resource
    async def slow():
        yield
        await asyncio.sleep(3600)

    @cs.task
    def use(slow=cs.inject(slow)):
        raise ValueError("wrong")

    error, seconds = virtually(use(), use_vm)
    assert (type(error), seconds) == (ValueError, 60)
    (note,) = [note for note in error.__notes__ if "slow" in note]
    assert note.startswith("also, while closing the resource 'slow': ResourceTimeoutError: closing")


def test_a_teardown_that_takes_no_notice_of_its_cancel_is_given_up(use_vm, log):
    """After the same time again; its later actions are not reported a second time."""
    base = simple("base", log)

    @cs.resource(teardown_timeout=5)
    async def stubborn(base=cs.inject(base)):
        yield
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(20)
            log.append("close stubborn")

    @cs.task
    def use(stubborn=cs.inject(stubborn)): ...

    async def main():
        events = []
        loop = asyncio.get_running_loop()
        async with cs.Engine() as engine:
            engine.bus.subscribe(ResourceReleased, events.append)
            with pytest.raises(
                cs.errors.ResourceTimeoutError, match="cancelled there, and went on"
            ):
                await engine.run(use(), use_vm=use_vm)
        assert loop.time() == 10
        assert log == ["open base", "close base"]
        await asyncio.sleep(1000)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert log[2:] == ["close stubborn"]
        assert [event.resource_name for event in events] == ["stubborn", "base"]

    run_virtually(main)


@SCOPES
async def test_a_plain_teardown_that_takes_too_long_is_abandoned(use_vm, log, held, scope):
    """M8: its thread is counted and named as long as it runs; the rest is closed."""
    stuck = after(simple("base", log), log, held, scope=scope, teardown_timeout=SHORT)
    told = []

    @cs.task
    def use(stuck=cs.inject(stuck)):
        return stuck

    async with cs.Engine() as engine:
        engine.bus.subscribe(CallAbandoned, told.append)
        engine.bus.subscribe(ResourceReleased, told.append)
        with pytest.raises(
            cs.errors.ResourceTimeoutError, match="it goes on in its thread"
        ) as caught:
            await engine.run(use(), use_vm=use_vm)
        assert engine.abandoned == ("resource stuck",)
        assert log == ["open base", "open stuck", "close base"]
        abandoned, released, base = told
        assert (abandoned.task, abandoned.running) == ("resource stuck", 1)
        assert (released.error, base.error) == (caught.value, None)
        held.set()
        await until(lambda: not engine.abandoned)
    assert log[3:] == ["close stuck"]
    assert len(told) == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_resources_on_the_thread_of_a_stuck_teardown_do_not_block_the_run(use_vm, log, held):
    """It is closed there when the thread comes to it, and the run says that it is not yet."""
    base = simple("base", log, thread_bound=True)
    stuck = after(base, log, held, thread_bound=True, teardown_timeout=SHORT)

    @cs.task
    def use(stuck=cs.inject(stuck)): ...

    async with cs.Engine() as engine:
        with pytest.raises(ExceptionGroup) as caught:
            await engine.run(use(), use_vm=use_vm)
        assert [type(error) for error in caught.value.exceptions] == [
            cs.errors.ResourceTimeoutError
        ] * 2
        assert log == ["open base", "open stuck"]
        held.set()
        await until(lambda: not engine.abandoned)
    assert log[2:] == ["close stuck", "close base"]


def test_a_stuck_teardown_does_not_keep_the_program_from_ending(use_vm, log, held):
    stuck = after(simple("base", log), log, held, teardown_timeout=SHORT)

    @cs.task
    def use(stuck=cs.inject(stuck)): ...

    with pytest.raises(cs.errors.ResourceTimeoutError):
        cs.run(use(), use_vm=use_vm)
    assert log == ["open base", "open stuck", "close base"]
    held.set()


@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("nan")])
def test_a_deadline_is_seconds(seconds):
    with pytest.raises(cs.errors.ArgumentError, match=r"^teardown_timeout takes seconds > 0"):
        cs.Engine(teardown_timeout=seconds)
    with pytest.raises(cs.errors.DefinitionError, match="teardown_timeout must be seconds > 0"):
        cs.resource(teardown_timeout=seconds)(lambda: (yield))


# -- cancelled while it opens -----------------------------------------------------------------


@SCOPES
def test_an_async_setup_is_cancelled_with_the_run(use_vm, log, scope):
    """A connection that cannot be had does not hold up a Ctrl-C."""
    base = simple("base", log, scope=scope)

    @cs.resource(scope=scope)
    async def slow(base=cs.inject(base)):
        try:
            await asyncio.sleep(3600)
            yield
        finally:
            log.append("cancelled")

    @cs.task
    def use(slow=cs.inject(slow)): ...

    async def main():
        loop = asyncio.get_running_loop()
        async with cs.Engine() as engine:
            running = asyncio.ensure_future(engine.run(use(), use_vm=use_vm))
            loop.call_at(7, running.cancel)
            with pytest.raises(asyncio.CancelledError):
                await running
        assert loop.time() == 7
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main)
    assert log == ["open base", "cancelled", "close base"]


@SCOPES
def test_a_run_ends_with_its_event_loop_at_whatever_turn(use_vm, log, scope):
    """Also in the turn in which a resource was asked for, before its provider has begun."""

    @cs.resource(scope=scope)
    async def slow():
        log.append("open")
        try:
            await asyncio.sleep(3600)
            yield
        finally:
            log.append("close")

    @cs.task
    async def use(slow=cs.inject(slow)): ...

    async def main(turns):
        async with cs.Engine() as engine:
            running = asyncio.ensure_future(engine.run(use(), use_vm=use_vm))
            for _ in range(turns):
                await asyncio.sleep(0)
            under_way = asyncio.all_tasks() - {asyncio.current_task()}
            for work in under_way:  # as asyncio.run does at its end
                work.cancel()
            _, unfinished = await asyncio.wait(under_way, timeout=60)
            assert not unfinished, turns
            return running.cancelled()

    for turns in range(1, 20):
        assert run_virtually(lambda turns=turns: main(turns))
    assert log == ["open", "close"] * (len(log) // 2)
    assert log  # some turns are later


def test_a_setup_that_takes_no_notice_of_its_cancel_is_closed(use_vm, log):
    @cs.resource
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        log.append("open")
        yield
        await asyncio.sleep(1)
        log.append("close")

    @cs.task
    def use(stubborn=cs.inject(stubborn)): ...

    async def main():
        async with cs.Engine() as engine:
            with pytest.raises(cs.errors.DeadlineError):
                await engine.run(use(), use_vm=use_vm, deadline=7)
        assert asyncio.get_running_loop().time() == 9

    run_virtually(main)
    assert log == ["open", "close"]


def test_a_setup_that_does_not_end_when_it_is_cancelled_is_given_up(use_vm, log):
    """And closed by itself, should it ever open."""

    @cs.resource(teardown_timeout=5)
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(100)
        log.append("open")
        yield
        log.append("close")

    @cs.task
    def use(stubborn=cs.inject(stubborn)): ...

    async def main():
        events = []
        loop = asyncio.get_running_loop()
        async with cs.Engine() as engine:
            engine.bus.subscribe(ResourceAcquired, events.append)
            with pytest.raises(cs.errors.DeadlineError) as caught:
                await engine.run(use(), use_vm=use_vm, deadline=7)
        assert loop.time() == 12
        (note,) = [note for note in caught.value.__notes__ if "stubborn" in note]
        assert "opening the resource 'stubborn' took longer than the 5 s of its" in note
        assert log == []
        await asyncio.sleep(1000)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert log == ["open", "close"]
        assert events == []

    run_virtually(main)


def test_the_error_of_a_cancelled_setup_is_not_lost(use_vm):
    @cs.resource
    async def broken():
        try:
            await asyncio.sleep(3600)
            yield
        finally:
            raise OSError("half open")

    @cs.task
    def use(broken=cs.inject(broken)): ...

    async def main():
        async with cs.Engine() as engine:
            with pytest.raises(cs.errors.DeadlineError) as caught:
                await engine.run(use(), use_vm=use_vm, deadline=7)
        said = "also, while opening the resource 'broken': OSError: half open"
        assert said in caught.value.__notes__

    run_virtually(main)


@SCOPES
@pytest.mark.parametrize("bound", [False, True])
async def test_a_plain_setup_that_runs_is_waited_for_and_closed(use_vm, log, held, scope, bound):
    begun = threading.Event()

    @cs.resource(scope=scope, thread_bound=bound)
    def slow():
        begun.set()
        assert held.wait(20)
        log.append("open")
        yield
        log.append("close")

    @cs.task
    def use(slow=cs.inject(slow)): ...

    async with cs.Engine() as engine:
        running = asyncio.ensure_future(engine.run(use(), use_vm=use_vm))
        await reached(begun)
        running.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert log == ["open", "close"]
        assert engine.abandoned == ()


@pytest.mark.parametrize("bound", [False, True])
async def test_a_plain_setup_that_takes_too_long_then_closes_itself(use_vm, log, held, bound):
    """On its thread, after it was given up."""
    begun = threading.Event()
    threads = set()

    @cs.resource(teardown_timeout=SHORT, thread_bound=bound)
    def slow():
        begun.set()
        assert held.wait(20)
        connection = sqlite3.connect(":memory:")
        yield connection
        threads.add(threading.current_thread())
        connection.close()
        log.append("closed")

    @cs.task
    def use(slow=cs.inject(slow)): ...

    async with cs.Engine() as engine:
        running = asyncio.ensure_future(engine.run(use(), use_vm=use_vm))
        await reached(begun)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.abandoned == ("resource slow",)
        held.set()
        await until(lambda: not engine.abandoned)
    assert log == ["closed"]
    assert threading.current_thread() not in threads


# -- an unrequested cancel --------------------------------------------------------------------


@SCOPES
@pytest.mark.parametrize("place", ["opening", "closing"])
async def test_a_provider_that_raises_a_cancel_does_not_cancel_the_run(
    engine, use_vm, scope, place
):
    """As one does that cancels its own background task and awaits it."""

    async def wait_for_a_cancelled_task():
        worker = asyncio.create_task(asyncio.sleep(3600))
        worker.cancel()
        await worker

    @cs.resource(scope=scope)
    async def careless():
        if place == "opening":
            await wait_for_a_cancelled_task()
        yield
        await wait_for_a_cancelled_task()

    @cs.task
    def use(careless=cs.inject(careless)): ...

    with pytest.raises(
        cs.errors.ResourceError, match="'careless' raised CancelledError, but"
    ) as caught:
        await engine.run(use(), use_vm=use_vm)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert f"while {place} the resource 'careless'" in caught.value.__notes__


# -- order ------------------------------------------------------------------------------------


def test_resources_close_in_reverse_order_of_opening_not_of_requests(use_vm, log):
    def slow(name, seconds):
        @cs.resource(name=name)
        async def provide():
            await asyncio.sleep(seconds)
            log.append(f"open {name}")
            yield
            log.append(f"close {name}")

        return cs.inject(provide)

    @cs.task
    async def use(_): ...

    virtually([use(slow("a", 3)), use(slow("b", 1)), use(slow("c", 2))], use_vm)

    assert log == ["open b", "open c", "open a", "close a", "close c", "close b"]
