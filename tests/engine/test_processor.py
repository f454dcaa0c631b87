"""NodeProcessor: one attempt, with the resources that it asks for."""

import asyncio
import threading

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.attempts import NodeCall, NodeProcessor
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine_parts import EngineParts
from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.vm import BlueprintRegistry
from cascade.spec.operation import Operation


class Inline(Operation):
    mode = "inline"


def node_call(func, is_async, args, kwargs, *, inline=False):
    kind = Inline if inline else Operation
    return NodeCall(kind(func, func.__name__, is_async), args, kwargs)


@pytest.fixture
async def processor():
    executor = LocalExecutor(2)
    bus = MessageBus()
    lent = EngineParts(
        bus=bus,
        threads=executor,
        container=ResourceContainer(bus),
        blueprints=BlueprintRegistry(),
    )
    run = Run(lent)
    await run.__aenter__()
    yield NodeProcessor(run, lambda outside: outside > 0)
    # Leaving resets context variables, which belong to the Context of the fixture's set-up.
    await run.resources.close()
    executor.shutdown()


def where(*_):
    return threading.get_ident()


async def where_async(*_):
    return threading.get_ident()


@cs.resource
def tool():
    yield threading.get_ident()


@cs.resource(thread_bound=True)
def bound():
    yield threading.get_ident()


def test_markers_are_found_among_the_arguments():
    assert wants_resources([1, cs.inject(tool)], {})
    assert wants_resources([], {"x": cs.inject("tool")})
    assert not wants_resources([1, [cs.inject(tool)]], {"x": 1})


async def test_where_a_call_is_made(processor):
    here = threading.get_ident()

    def call(*args, **kwargs):
        return processor.call(node_call(*args, **kwargs))

    assert await call(where_async, True, [], {}) == here
    assert await call(where, False, [], {}) != here
    assert await call(where, False, [], {}, inline=True) == here
    assert await call(where_async, True, [cs.inject(tool)], {}) == here
    assert await call(where, False, [cs.inject(tool)], {}) != here


async def test_users_of_bound_resources_run_on_their_thread_even_if_inline(processor):
    def use(bound):
        return bound, threading.get_ident()

    opened, used = await processor.call(node_call(use, False, [cs.inject(bound)], {}, inline=True))

    assert opened == used != threading.get_ident()


async def test_resources_take_the_place_of_their_markers(processor):
    def use(a, tool, *, b):
        return a, type(tool), b

    args, kwargs = [1, cs.inject(tool)], {"b": 2}

    assert await processor.call(node_call(use, False, args, kwargs)) == (1, int, 2)
    assert wants_resources(args, kwargs)  # the arguments are as they were, for the next attempt


@pytest.mark.parametrize("inline", [False, True])
async def test_a_stop_iteration_is_an_error_that_can_travel(processor, inline):
    """M13."""
    with pytest.raises(cs.errors.TaskStopIterationError):
        await processor.call(node_call(lambda: next(iter([])), False, [], {}, inline=inline))


async def test_a_coroutine_that_swallows_a_cancel_is_cancelled_all_the_same(processor):
    begun = asyncio.Event()

    async def stubborn():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "value"

    calling = asyncio.ensure_future(processor.call(node_call(stubborn, True, [], {})))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_coroutine_may_use_a_timeout_of_its_own(processor):
    """Its cancel is the coroutine's own business."""

    async def impatient():
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"

    assert await processor.call(node_call(impatient, True, [], {})) == "in time"


async def test_errors_thrown_into_a_coroutine_reach_it(processor):
    async def resilient():
        try:
            await asyncio.wait_for(failing(), 10)
        except KeyError:
            return "caught"

    async def failing():
        await asyncio.sleep(0)
        raise KeyError

    assert await processor.call(node_call(resilient, True, [], {})) == "caught"
