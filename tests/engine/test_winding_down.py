"""Only a second cancel of the run abandons plain calls (M8): failures that end it do not count."""

import asyncio

import pytest

import cascade as cs
from cascade.runtime.events import CallAbandoned

both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


class Scene:
    """A run in which a plain call is under way on a thread while a coroutine fails.

    Attributes:
        log: The events, in order.
        fails: Makes the coroutine fail when it is set.
    """

    def __init__(self, held):
        self.log = log = []
        self.fails = fails = asyncio.Event()
        self.failed = asyncio.Event()

        @cs.resource(scope="task")
        def connection():
            log.append("open")
            yield 1
            log.append("close")

        @cs.task(mode="blocking")
        def slow(*_needs, connection=None):
            log.append("slow")
            held.wait(20)
            log.append("slow ended")

        @cs.task
        async def fail(scene=self):
            await fails.wait()
            scene.failed.set()
            raise ValueError("boom")

        @cs.task
        def both(*_values):
            """Needs them."""

        @cs.task
        def loop(n):
            if n == 1:  # the first step of a loop is made by itself
                log.append("slow")
                held.wait(20)
                log.append("slow ended")
            return loop.tail(n - 1) if n else 0

        kinds = {
            "bare": lambda: slow(),
            "with a resource": lambda: slow(connection=cs.inject(connection)),
            "with a timeout": lambda: slow().with_timeout(3600),
            "with a capacity": lambda: slow().with_capacity(gpu=1),
            "a loop": lambda: loop(2),
            "nested": lambda: outer(),
        }

        @cs.task
        async def outer():
            return await self.engine.run(slow(), use_vm=self.use_vm)

        self.target = lambda kind: both(fail(), kinds[kind]())

    async def run(self, kind, use_vm, cancels, held, after_failure=True):
        """The error of a run that is cancelled so often while it winds down."""
        self.use_vm = use_vm
        async with cs.Engine(capacities={"gpu": 1}) as engine:
            self.engine = engine
            engine.bus.subscribe(CallAbandoned, lambda event: self.log.append("abandoned"))
            running = asyncio.ensure_future(engine.run(self.target(kind), use_vm=use_vm))
            await until(lambda: "slow" in self.log)
            if after_failure:
                self.fails.set()
                await self.failed.wait()
                await turns()
            for _ in range(cancels):
                running.cancel()
                await turns()
            assert running.done() == (cancels > 1)
            held.set()
            (error,) = await asyncio.gather(running, return_exceptions=True)
            await until(lambda: "slow ended" in self.log)
            return error


KINDS = [
    "bare",
    "with a resource",
    "with a timeout",
    "with a capacity",
    "a loop",
    "nested",
]


@both_paths
@pytest.mark.parametrize("kind", KINDS)
async def test_one_cancel_of_a_run_that_winds_down_after_a_failure_abandons_nothing(
    kind, use_vm, held
):
    scene = Scene(held)
    error = await scene.run(kind, use_vm, 1, held)
    assert isinstance(error, asyncio.CancelledError)
    assert "abandoned" not in scene.log
    if kind == "with a resource":
        assert scene.log == ["open", "slow", "slow ended", "close"]


@both_paths
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after_failure", [False, True], ids=["running", "failed"])
async def test_the_second_cancel_abandons(kind, after_failure, use_vm, held):
    scene = Scene(held)
    error = await scene.run(kind, use_vm, 2, held, after_failure)
    assert isinstance(error, asyncio.CancelledError)
    told = scene.log[scene.log.index("abandoned") :]
    assert told[:2] == ["abandoned", "slow ended"]
    assert told[2:] in ([], ["close"])  # its thread closes what it holds, at any time after


@both_paths
@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_alone_abandons_nothing(kind, use_vm, held):
    scene = Scene(held)
    error = await scene.run(kind, use_vm, 0, held)
    assert isinstance(error, ValueError)
    assert "abandoned" not in scene.log


@both_paths
async def test_two_cancels_in_one_turn_abandon_also_while_a_failed_run_winds_down(use_vm, held):
    scene = Scene(held)
    async with cs.Engine() as engine:
        engine.bus.subscribe(CallAbandoned, lambda event: scene.log.append("abandoned"))
        running = asyncio.ensure_future(engine.run(scene.target("bare"), use_vm=use_vm))
        await until(lambda: "slow" in scene.log)
        scene.fails.set()
        await scene.failed.wait()
        await turns()
        running.cancel()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert scene.log == ["slow", "abandoned"]
