"""Resources of scope ``engine``: opened once for all runs, closed with the engine (M7)."""

import asyncio
import contextvars
import gc
import threading
import warnings

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.runtime.resources import engine_scope


@pytest.fixture
def log():
    return []


def plain(name, log, needs=None, **options):
    """A plain resource that writes down when it is opened and closed."""

    def alone():
        log.append(f"open {name}")
        yield f"{name} {log.count(f'open {name}')}"
        log.append(f"close {name}")

    def needing(needed=needs and cs.inject(needs)):
        yield from alone()

    return cs.resource(name=name, **{"scope": "engine", **options})(needing if needs else alone)


def asynchronous(name, log, needs=None, **options):
    async def alone():
        log.append(f"open {name}")
        await asyncio.sleep(0)
        yield f"{name} {log.count(f'open {name}')}"
        await asyncio.sleep(0)
        log.append(f"close {name}")

    async def needing(needed=needs and cs.inject(needs)):
        async for value in alone():
            yield value

    return cs.resource(name=name, **{"scope": "engine", **options})(needing if needs else alone)


def user(definition, asynchronously=False):
    """A task that returns the resource."""

    def use(_=None, it=cs.inject(definition)):
        return it

    async def await_it(_=None, it=cs.inject(definition)):
        return it

    return cs.task(name="use")(await_it if asynchronously else use)


KINDS = pytest.mark.parametrize("kind", [plain, asynchronous])


# -- its life -------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("asynchronously", [False, True])
async def test_it_is_opened_once_for_all_runs_and_closed_with_the_engine(
    kind, log, use_vm, asynchronously
):
    use = user(kind("pool", log), asynchronously)

    async with cs.Engine() as engine:
        assert await engine.run([use(), use(1)], use_vm=use_vm) == ["pool 1", "pool 1"]
        assert await engine.run(use.map(_=[1, 2]), use_vm=use_vm) == ["pool 1", "pool 1"]
        assert await engine.compile(use()).run() == "pool 1"
        assert log == ["open pool"]
    assert log == ["open pool", "close pool"]


async def test_it_is_not_opened_before_its_first_use(log):
    definition = plain("pool", log)

    async with cs.Engine(resources=[definition]) as engine:
        await engine.run(cs.task(len)([]))
    assert log == []


@KINDS
def test_in_cs_run_it_is_closed_at_the_end_of_the_run(kind, log, use_vm):
    assert cs.run(user(kind("pool", log))(), use_vm=use_vm) == "pool 1"
    assert cs.run(user("pool")(), use_vm=use_vm, resources=[kind("pool", log)]) == "pool 2"
    assert log == ["open pool", "close pool"] * 2


async def test_they_are_closed_in_reverse_order_of_opening(log):
    first, last = plain("first", log), plain("last", log)
    middle = asynchronous("middle", log, needs=first)

    async with cs.Engine() as engine:
        await engine.run(user(middle)())
        await engine.run(user(last)())
    assert log == ["open first", "open middle", "open last", *CLOSED]


CLOSED = ["close last", "close middle", "close first"]


@KINDS
async def test_a_resource_of_a_run_may_need_it(kind, log):
    cursor = plain("cursor", log, needs=kind("pool", log), scope="run")

    async with cs.Engine() as engine:
        await engine.run(user(cursor)())
        await engine.run(user(cursor)())
    ends = ["open cursor", "close cursor"]
    assert log == ["open pool", *ends, *ends, "close pool"]


async def test_a_thread_bound_resource_of_a_run_may_need_it(log):
    cursor = plain("cursor", log, needs=plain("pool", log), scope="run", thread_bound=True)

    async with cs.Engine() as engine:
        assert await engine.run(user(cursor)()) == "cursor 1"
    assert log == ["open pool", "open cursor", "close cursor", "close pool"]


async def test_closing_an_engine_twice_closes_it_once(log):
    engine = cs.Engine()
    await engine.run(user(plain("pool", log))())
    await asyncio.gather(engine.close(), engine.close())
    await engine.close()

    assert log == ["open pool", "close pool"]


@KINDS
def test_in_virtual_time(kind, log):
    async def main():
        async with cs.Engine() as engine:
            return await engine.run([user(kind("pool", log))()] * 2)

    assert run_virtually(main) == ["pool 1", "pool 1"]
    assert log == ["open pool", "close pool"]


async def test_its_provider_has_the_context_variables_of_the_code_that_made_the_engine():
    tone = contextvars.ContextVar("tone", default="none")
    seen = []

    @cs.resource(scope="engine")
    def pool():
        seen.append(tone.get())
        tone.set("provider's")
        yield tone.get()
        seen.append(tone.get())

    tone.set("engine's")
    async with cs.Engine() as engine:
        tone.set("run's")
        await engine.run(user(pool)())
    assert seen == ["engine's", "provider's"]


async def test_its_events_belong_to_no_run(log):
    told = []
    async with cs.Engine() as engine:
        for kind in (ResourceAcquired, ResourceReleased):
            engine.bus.subscribe(kind, told.append)
        await engine.run(user(plain("pool", log))())
    assert [(type(event), event.run_id) for event in told] == [
        (ResourceAcquired, ""),
        (ResourceReleased, ""),
    ]


# -- failures -------------------------------------------------------------------------------------


def failing(failures, log, asynchronously=False):
    """A resource whose first openings fail."""

    def attempt():
        log.append("try")
        if len(log) <= failures:
            raise OSError(f"failure {len(log)}")

    def pool():
        attempt()
        yield "pool"

    async def apool():
        attempt()
        yield "pool"

    return cs.resource(scope="engine", name="pool")(apool if asynchronously else pool)


@pytest.mark.parametrize("asynchronously", [False, True])
async def test_a_failure_to_open_is_not_remembered(log, use_vm, asynchronously):
    use = user(failing(2, log, asynchronously))

    async with cs.Engine() as engine:
        with pytest.raises(OSError, match="failure 1") as caught:
            await engine.run(use(), use_vm=use_vm)
        assert "while opening the resource 'pool'" in caught.value.__notes__
        assert await engine.run(use().with_retry(2), use_vm=use_vm) == "pool"
        assert await engine.run(use(), use_vm=use_vm) == "pool"
    assert log == ["try"] * 3


def bad_end(name, error, log):
    @cs.resource(scope="engine", name=name)
    def provide():
        yield name
        log.append(f"close {name}")
        raise error

    return provide


async def test_an_error_of_closing_is_raised_by_close(log):
    engine = cs.Engine()
    await engine.run(user(bad_end("pool", OSError("stuck"), log))())

    with pytest.raises(OSError, match="stuck") as caught:
        await engine.close()
    assert "while closing the resource 'pool'" in caught.value.__notes__
    assert engine.abandoned == ()
    await engine.close()  # the second time there is nothing left


async def test_several_errors_of_closing_are_a_group_and_all_are_closed(log):
    first, second = OSError("one"), ValueError("two")
    with pytest.raises(ExceptionGroup) as caught:
        async with cs.Engine() as engine:
            await engine.run(user(bad_end("a", first, log))())
            await engine.run(user(bad_end("b", second, log))())
    assert caught.value.exceptions == (second, first)
    assert log == ["close b", "close a"]


async def test_the_error_of_the_block_gets_errors_of_closing_as_notes(log):
    with pytest.raises(ZeroDivisionError) as caught:
        async with cs.Engine() as engine:
            await engine.run(user(bad_end("pool", OSError("stuck"), log))())
            raise ZeroDivisionError
    assert caught.value.__notes__ == ["also, while closing the resource 'pool': OSError: stuck"]


def test_in_cs_run_an_error_of_closing_is_that_of_the_run(log, use_vm):
    pool = bad_end("pool", OSError("stuck"), log)

    @cs.task
    def fail(pool=cs.inject(pool)):
        raise ZeroDivisionError

    with pytest.raises(OSError, match="stuck"):
        cs.run(user(pool)(), use_vm=use_vm)
    with pytest.raises(ZeroDivisionError) as caught:
        cs.run(fail(), use_vm=use_vm)
    assert "also, while closing the resource 'pool': OSError: stuck" in caught.value.__notes__


def test_a_plain_closing_that_takes_too_long_is_abandoned():
    held = threading.Event()

    @cs.resource(scope="engine", teardown_timeout=0.001)
    def pool():
        yield "pool"
        held.wait()

    async def main():
        engine = cs.Engine()
        await engine.run(user(pool)())
        try:
            with pytest.raises(cs.errors.ResourceTimeoutError, match="closing the resource 'pool'"):
                await engine.close()
            assert engine.abandoned == ("resource pool",)
        finally:
            held.set()

    asyncio.run(main())


async def test_an_abandoned_call_keeps_it_open_until_the_call_ends(log):
    held = threading.Event()
    pool = plain("pool", log)

    @cs.task
    def hang(pool=cs.inject(pool)):
        held.wait()
        log.append("call ends")

    try:
        async with cs.Engine() as engine:
            with pytest.raises(cs.errors.TaskTimeoutError):
                await engine.run(hang().with_timeout(0.01))
        assert log == ["open pool"]
    finally:
        held.set()
    async with asyncio.timeout(20):
        while len(log) < 3 or asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert log == ["open pool", "call ends", "close pool"]


async def test_a_cancelled_run_does_not_stop_its_opening(log):
    entered, go_on = asyncio.Event(), asyncio.Event()

    @cs.resource(scope="engine")
    async def pool():
        entered.set()
        await go_on.wait()
        yield "pool"
        log.append("closed")

    use = user(pool)
    async with cs.Engine() as engine:
        run = asyncio.create_task(engine.run(use()))
        await entered.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        go_on.set()
        assert await engine.run(use()) == "pool"
        assert log == []
    assert log == ["closed"]


async def test_closing_the_engine_stops_its_opening(log):
    entered = asyncio.Event()

    @cs.resource(scope="engine")
    async def pool():
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("stopped")
        yield

    async with cs.Engine() as engine:
        run = asyncio.create_task(engine.run(user(pool)()))
        await entered.wait()
        run.cancel()
        await asyncio.wait([run])
    assert log == ["stopped"]


# -- several event loops --------------------------------------------------------------------------


def in_thread(work):
    """Run a coroutine function in an event loop of another thread: a future of its end."""
    done = {}

    def main():
        try:
            done["value"] = asyncio.run(work())
        except BaseException as error:
            done["error"] = error

    thread = threading.Thread(target=main, name="the other")
    thread.start()

    def result():
        thread.join(20)
        if "error" in done:
            raise done["error"]
        return done["value"]

    return result


def test_two_runs_in_two_threads_open_it_once(log, monkeypatch, use_vm):
    opening, waiting = threading.Event(), threading.Event()
    hold_until = engine_scope.hold_until
    monkeypatch.setattr(
        engine_scope, "hold_until", lambda *args: (waiting.set(), hold_until(*args))
    )

    @cs.resource(scope="engine")
    def pool():
        log.append("open")
        opening.set()
        assert waiting.wait(20)  # for the second run
        yield object()
        log.append("close")

    use, engine = user(pool), cs.Engine()
    first = in_thread(lambda: engine.run(use(), use_vm=use_vm))
    assert opening.wait(20)
    second = in_thread(lambda: engine.run(use(), use_vm=use_vm))

    assert first() is second()
    assert log == ["open"]
    asyncio.run(engine.close())
    assert log == ["open", "close"]


def test_a_failure_reaches_both_of_two_runs_that_wait_for_it(log, monkeypatch):
    opening, waiting = threading.Event(), threading.Event()
    hold_until = engine_scope.hold_until
    monkeypatch.setattr(
        engine_scope, "hold_until", lambda *args: (waiting.set(), hold_until(*args))
    )

    @cs.resource(scope="engine")
    def pool():
        opening.set()
        assert waiting.wait(20)
        raise OSError("no")
        yield

    use, engine = user(pool), cs.Engine()
    first = in_thread(lambda: engine.run(use()))
    assert opening.wait(20)
    second = in_thread(lambda: engine.run(use()))

    for result in (first, second):
        with pytest.raises(OSError, match="no"):
            result()
    asyncio.run(engine.close())


def test_a_plain_one_outlives_the_event_loops_that_use_it(log):
    engine, use = cs.Engine(), user(plain("pool", log))

    assert asyncio.run(engine.run(use())) == "pool 1"
    assert asyncio.run(engine.run(use())) == "pool 1"
    asyncio.run(engine.close())
    assert log == ["open pool", "close pool"]


def test_an_async_one_is_refused_in_another_event_loop(log):
    engine, use = cs.Engine(), user(asynchronous("hub", log))

    async def main():
        await engine.run(use())
        with pytest.raises(cs.errors.ResourceError) as caught:
            await asyncio.to_thread(in_thread(lambda: engine.run(use())))
        text = str(caught.value)
        assert "of thread 'MainThread' and cannot be used" in text
        assert "of thread 'the other'; use the engine in one event loop" in text
        assert f"{id(asyncio.get_running_loop()):#x}" in text
        await engine.close()

    asyncio.run(main())
    assert log == ["open hub", "close hub"]


def test_an_async_one_is_closed_with_its_event_loop_if_that_ends_first(log):
    engine, use = cs.Engine(), user(asynchronous("hub", log))

    asyncio.run(engine.run(use()))
    assert log == ["open hub", "close hub"]
    with pytest.raises(cs.errors.ResourceError, match="'MainThread', which is closed, and cannot"):
        asyncio.run(engine.run(use()))
    asyncio.run(engine.close())
    assert log == ["open hub", "close hub"]


def test_an_async_one_is_closed_in_its_own_event_loop(log):
    engine, opened, closed = cs.Engine(), threading.Event(), threading.Event()

    @cs.resource(scope="engine")
    async def hub():
        loop = asyncio.get_running_loop()
        yield "hub"
        log.append(loop is asyncio.get_running_loop())

    async def elsewhere():
        await engine.run(user(hub)())
        opened.set()
        await asyncio.to_thread(closed.wait, 20)

    ended = in_thread(elsewhere)
    assert opened.wait(20)
    try:
        asyncio.run(engine.close())
    finally:
        closed.set()
    ended()
    assert log == [True]


def test_an_async_one_cannot_be_closed_when_its_event_loop_does_not_run(log):
    engine, loop = cs.Engine(), asyncio.new_event_loop()
    try:
        loop.run_until_complete(engine.run(user(asynchronous("hub", log))()))
        with pytest.raises(cs.errors.ResourceError, match="which does not run; close the engine"):
            asyncio.run(engine.close())
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
    assert log == ["open hub", "close hub"]


# -- the things that it may need, and overrides ---------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "task"])
def test_a_need_with_a_shorter_life_is_refused_at_the_declaration(log, scope):
    with pytest.raises(
        cs.errors.DefinitionError,
        match=f"'pool' lives as long as the engine, but needs 'short', .* as long as a {scope}",
    ):
        plain("pool", log, needs=plain("short", log, scope=scope))


def test_a_need_by_name_is_refused_at_the_registration(log):
    pool, short = plain("pool", log, needs="short"), plain("short", log, scope="run")

    for resources in ([pool, short], [short, pool]):
        with pytest.raises(cs.errors.ResourceError, match="lives as long as the engine"):
            cs.Engine(resources=resources)


def test_a_need_by_name_is_refused_before_the_run(log, use_vm):
    pool = plain("pool", log, needs="short")

    with pytest.raises(cs.errors.ResourceError, match="lives as long as the engine"):
        cs.run(user(pool)(), use_vm=use_vm, resources=[plain("short", log, scope="run")])
    assert log == []


def test_a_thread_of_its_own_is_refused(log):
    with pytest.raises(cs.errors.DefinitionError, match="thread_bound=True is for the scopes"):
        plain("pool", log, thread_bound=True)


def fake():
    yield "fake"


async def test_an_override_applies_when_it_is_opened(log):
    pool = plain("pool", log)
    use = user(pool)

    async with cs.Engine() as engine:
        with cs.override_resource(pool, fake):
            assert await engine.run(use()) == "fake"
            assert await engine.run(use(), use_vm=True) == "fake"
    async with cs.Engine() as engine:
        engine.override_resource_provider("pool", fake)
        assert await engine.run(use()) == "fake"
    assert log == []


async def test_an_override_that_comes_too_late_is_refused(log):
    pool = plain("pool", log)
    use = user(pool)

    async with cs.Engine() as engine:
        assert await engine.run(use()) == "pool 1"
        with (
            cs.override_resource(pool, fake),
            pytest.raises(cs.errors.ResourceError, match="override it before its first use"),
        ):
            await engine.run(use())
        assert await engine.run(use()) == "pool 1"


async def test_an_override_with_the_scope_of_a_run_always_applies(log):
    pool = plain("pool", log)
    use = user(pool)

    async with cs.Engine() as engine:
        assert await engine.run(use()) == "pool 1"
        with cs.override_resource(pool, cs.resource(fake)):
            assert await engine.run(use()) == "fake"
        assert await engine.run(use()) == "pool 1"


async def test_a_name_and_the_provider_itself_are_one_resource(log):
    pool = plain("pool", log)

    async with cs.Engine(resources=[pool]) as engine:
        assert await engine.run([user("pool")(), user(pool)()]) == ["pool 1", "pool 1"]


# -- an engine that is not closed -----------------------------------------------------------------


def test_an_engine_that_ends_without_close_warns(log):
    threads = LocalExecutor(1)
    engines = [cs.Engine(threads=threads)]
    asyncio.run(engines[0].run(user(plain("pool", log))()))
    threads.shutdown()  # its thread may still be about to let go of the run

    def drop():
        engines.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="without close.*resources 'pool' are still open"):
        drop()


@pytest.mark.parametrize("ending", ["without resources", "closed", "its loop has ended"])
def test_no_other_engine_warns(log, ending):
    threads = LocalExecutor(1)
    engine = cs.Engine(threads=threads)
    kind = asynchronous if ending == "its loop has ended" else plain
    scope = "run" if ending == "without resources" else "engine"
    asyncio.run(engine.run(user(kind("pool", log, scope=scope))()))
    if ending == "closed":
        asyncio.run(engine.close())
    threads.shutdown()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del engine
        gc.collect()
