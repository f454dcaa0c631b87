"""Handles: runs that are started, awaited and cancelled by whoever has their handle."""

import asyncio
import threading

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished, RunStarted


@cs.task
def double(n):
    return 2 * n


@cs.task
async def wait(event):
    await event.wait()
    return "waited"


@cs.task
def fail():
    raise ValueError("no")


@pytest.fixture
def start(engine, use_vm):
    def start(target, *args, **options):
        return engine.start(target, *args, use_vm=use_vm, **options)

    return start


async def test_start_returns_at_once_and_the_handle_gives_the_value(engine, start):
    go = asyncio.Event()
    handle = start(double(wait(go)))
    assert handle.status == "running"

    first, second = asyncio.gather(handle.result(), handle.result()), handle.result()
    await asyncio.sleep(0)
    assert [run.run_id for run in engine.runs()] == [handle.run_id]
    go.set()

    assert await first == ["waited" * 2] * 2
    assert await second == await handle.result() == "waited" * 2
    assert (handle.status, engine.runs()) == ("succeeded", [])


async def test_an_error_is_raised_to_all_that_ask(start):
    handle = start(fail())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^no\n") as caught:
            await handle.result()
        assert len(caught.value.__notes__) == 1
    assert handle.status == "failed"


async def test_targets_are_those_of_run(start):
    assert await start([double(1), {"a": double(2)}]).result() == [2, {"a": 4}]
    assert await start(7).result() == 7
    assert await start(cs.Param("n", type=int) + 1, {"n": 1}).result() == 2


async def test_a_cancelled_run_has_no_result(engine, start):
    ended = []
    engine.bus.subscribe(RunFinished, lambda event: ended.append((event.run_id, event.status)))
    handle = start(wait(asyncio.Event()), run_id="mine")
    asking = asyncio.create_task(handle.result())
    await asyncio.sleep(0)

    assert handle.cancel()
    with pytest.raises(
        cs.errors.RunCancelledError, match=r"^run mine of 'wait' was cancelled$"
    ) as caught:
        await asking
    assert caught.value.run_id == "mine"
    assert ended == [("mine", "cancelled")]
    assert (handle.status, handle.cancel()) == ("cancelled", False)


async def test_a_run_may_be_cancelled_before_it_has_begun(engine, start):
    told = []
    engine.bus.subscribe(RunStarted, told.append)
    handle = start(double(1))
    handle.cancel()

    with pytest.raises(cs.errors.RunCancelledError):
        await handle.result()
    assert (told, engine.runs()) == ([], [])


async def test_a_run_may_be_cancelled_from_another_thread(start):
    handle = start(wait(asyncio.Event()))
    await asyncio.sleep(0)
    other = threading.Thread(target=handle.cancel)
    other.start()

    with pytest.raises(cs.errors.RunCancelledError):
        await handle.result()
    other.join()


async def test_a_second_cancel_abandons_plain_functions(engine, start, held):
    """M8."""
    begun = threading.Event()

    @cs.task
    def block():
        begun.set()
        held.wait(10)

    handle = start(block())
    await asyncio.to_thread(begun.wait, 10)
    handle.cancel()
    await asyncio.sleep(0.01)
    assert handle.status == "running"
    handle.cancel()

    with pytest.raises(cs.errors.RunCancelledError):
        await handle.result()
    assert engine.abandoned == ("block",)
    held.set()


async def test_a_cancelled_waiter_leaves_the_run_alone(start):
    go = asyncio.Event()
    handle = start(wait(go))
    asking = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert handle.status == "running"

    go.set()
    assert await handle.result() == "waited"


async def test_closing_the_engine_cancels_what_it_has_started(use_vm):
    closed = []

    @cs.resource
    async def tool():
        yield "tool"
        closed.append("tool")

    @cs.task
    async def serve(tool=cs.inject(tool)):
        await asyncio.Event().wait()

    async with cs.Engine() as engine:
        handles = [engine.start(serve(), use_vm=use_vm) for _ in range(2)]
        ended = engine.start(double(1), use_vm=use_vm)
        assert await ended.result() == 2
    assert [handle.status for handle in (*handles, ended)] == ["cancelled"] * 2 + ["succeeded"]
    assert closed == ["tool"] * 2


async def test_a_task_may_close_the_engine_that_has_started_its_run(use_vm):
    engine = cs.Engine()

    @cs.task
    async def stop():
        await engine.close()

    handle = engine.start(stop(), use_vm=use_vm)
    async with asyncio.timeout(10):
        with pytest.raises(cs.errors.RunCancelledError):
            await handle.result()


async def test_a_run_id_is_taken_while_its_run_is_under_way(engine, use_vm):
    go = asyncio.Event()
    handle = engine.start(wait(go), run_id="mine", use_vm=use_vm)
    for begin in (engine.start, engine.run):
        with pytest.raises(
            cs.errors.RunError, match=r"^a run with run_id 'mine' is under way in this"
        ):
            await begin(double(1), run_id="mine")
    go.set()
    await handle.result()

    assert await engine.run(double(1), run_id="mine") == 2


async def test_a_closed_engine_starts_nothing(use_vm):
    engine = cs.Engine()
    await engine.close()
    with pytest.raises(cs.errors.RunError, match=r"^the engine is closed"):
        engine.start(double(1), use_vm=use_vm)


def test_start_needs_an_event_loop():
    with pytest.raises(cs.errors.RunError, match=r"^engine\.start\(\) needs the event loop"):
        cs.Engine().start(double(1))


async def test_faults_of_the_arguments_are_raised_at_the_call(engine):
    with pytest.raises(cs.errors.DefinitionError, match="call it"):
        engine.start(double)
    with pytest.raises(cs.errors.ArgumentError, match="has no option 'deadlin'"):
        engine.start(double(1), deadlin=1)


async def test_a_handle_says_which_run_it_is_of(start):
    handle = start(double(1), run_id="mine")
    assert repr(handle) == "<RunHandle mine of 'double', running>"
    await handle.result()
    assert repr(handle) == "<RunHandle mine of 'double', succeeded>"
