"""The contract of ExecutionStrategy: the value of a target, in a given run."""

import asyncio
import contextvars

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.adapters.state import InMemoryStateBackend
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import run_virtually
from cascade.runtime.engine_parts import EngineParts
from cascade.runtime.events import NodesPlanned, TaskFinished, TaskStarted
from cascade.runtime.graph_path.strategy import GraphExecutionStrategy
from cascade.runtime.options import RunSettings
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.semantics.recording import recorder
from cascade.runtime.vm import BlueprintRegistry, VirtualMachine
from cascade.runtime.vm.strategy import VMExecutionStrategy
from cascade.spec.protocols import ExecutionStrategy

STRATEGIES = {
    "graph": lambda: GraphExecutionStrategy(NativeSolver()),
    "vm": lambda: VMExecutionStrategy(
        lambda target: BlueprintBuilder().build(target),
        lambda run: VirtualMachine(run=run),
    ),
}


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES[request.param]()


@pytest.fixture
def state():
    return InMemoryStateBackend()


@pytest.fixture
def parts(state):
    """The parts of a run."""
    bus = MessageBus()
    executor = LocalExecutor()
    yield EngineParts(
        bus=bus,
        threads=executor,
        container=ResourceContainer(bus),
        blueprints=BlueprintRegistry(),
        record=recorder(state, None),
    )
    executor.shutdown()


@pytest.fixture
def execute(strategy, parts):
    async def execute(target, **params):
        async with Run(parts, params) as run:
            return await strategy.execute(target, run)

    return execute


def test_it_is_an_execution_strategy(strategy):
    assert isinstance(strategy, ExecutionStrategy)
    assert isinstance(strategy.name, str)


async def test_it_gives_the_value(execute):
    assert await execute(add(add_async(1, 2), add(3))) == 6


async def test_it_gives_the_runs_parameters_to_the_nodes(execute):
    assert await execute(add(cs.Param("n", type=int), 1), n="41") == 42


async def test_it_follows_tail_calls_and_returned_lazies(execute):
    """R4, R5."""

    @cs.task
    def loop(n):
        if n == 0:
            return "end"
        return loop.tail(n - 1) if n % 2 else loop(add(n, -1))

    assert await execute(loop(10)) == "end"


async def test_it_finds_blueprints_in_the_runs_registry(execute, parts):
    @cs.task
    def go():
        return cs.TailCall([3], target_blueprint_id="there")

    parts.blueprints.register("there", BlueprintBuilder().build(add(0)))

    assert await execute(add(go(), 10)) == 13


async def test_it_raises_the_first_error_with_its_note(execute):
    """R9."""

    @cs.task
    def fail():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as caught:
        await execute(add(fail()))
    assert caught.value.__notes__[0].startswith("cascade: in task 'fail', called at ")


async def test_it_refuses_missing_resources_before_the_first_call(execute):
    ran = []

    @cs.task
    def note():
        ran.append(1)

    @cs.task
    def use(_, tool=cs.inject("nowhere")): ...

    with pytest.raises(cs.errors.ResourceNotFoundError):
        await execute(use(note()))
    with pytest.raises(cs.errors.ParameterError):
        await execute(add(note(), cs.Param("n")))
    assert not ran


async def test_it_refuses_a_skipped_target(execute):
    """R6."""
    with pytest.raises(cs.errors.DependencyMissingError):
        await execute(add(1).run_if(add(0)))


async def test_it_opens_the_runs_resources_and_leaves_closing_them_to_the_run(strategy, parts):
    log = []

    @cs.resource
    def tool():
        log.append("open")
        yield 1
        log.append("close")

    @cs.task
    def use(n, tool=cs.inject(tool)):
        return n + tool

    async with Run(parts) as run:
        assert await strategy.execute(use(use(1)), run) == 3
        assert log == ["open"]
    assert log == ["open", "close"]


async def test_it_keeps_outcomes_in_the_runs_state(execute, state):
    inner = add(1)
    target = add_async(inner, 1)
    await execute(target)

    assert state.get_result(inner.id) == 1
    assert state.get_result(target.id) == 2


async def test_it_tells_of_tasks_on_the_runs_bus(execute, parts):
    seen = []
    for kind in (NodesPlanned, TaskStarted, TaskFinished):
        parts.bus.subscribe(kind, seen.append)
    await execute(add(add_async(1)))

    assert sum(e.count for e in seen if isinstance(e, NodesPlanned)) == 2
    assert [e.task for e in seen if isinstance(e, TaskStarted)] == ["add_async", "add"]
    assert [e.task for e in seen if isinstance(e, TaskFinished)] == ["add_async", "add"]


async def test_a_cancelled_execution_leaves_no_task_running(execute):
    begun = asyncio.Event()
    ended = []

    @cs.task
    async def wait():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    before = asyncio.all_tasks()
    running = asyncio.ensure_future(execute(add(wait())))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ended == [1]
    assert asyncio.all_tasks() == before


async def test_one_strategy_serves_several_runs_at_once(execute):
    barrier = asyncio.Barrier(4)

    @cs.task
    async def meet(n):
        await barrier.wait()
        return n

    assert await asyncio.gather(*[execute(meet(n)) for n in range(4)]) == [0, 1, 2, 3]


async def test_in_a_run_that_goes_on_it_leaves_the_errors_to_the_run(strategy, parts):
    """All that can run has run, and each error is there once, in the order of the failures."""
    ran = []

    @cs.task
    def fail(text, *_):
        raise ValueError(text)

    @cs.task
    def note(n, *_):
        ran.append(n)

    first = fail("first")
    target = add(note(1), [fail("second").after(note(2)), note(3, first), add(first)])
    async with Run(parts, {}, RunSettings(fail_fast=False)) as run:
        with pytest.raises(ValueError, match=r"^(first|second)"):
            await strategy.execute(target, run)
        assert sorted(str(error) for error in run.failures) == ["first", "second"]
    assert sorted(ran) == [1, 2]


def test_it_reports_nodes_that_wait_for_their_next_attempt(strategy, parts):
    """The run has the time, the strategy the node."""
    attempts = []

    @cs.task
    async def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return 2

    lazy = flaky().with_retry(delay=3600)

    async def main():
        async with Run(parts) as run:
            running = asyncio.ensure_future(strategy.execute(add(lazy), run))
            await asyncio.sleep(10)
            waiting = [w for w in run.waiting() if w.reason == "retry delay"]
            assert await running == 2
            assert not run.waiting()
            return waiting

    (waiting,) = run_virtually(main)
    assert (waiting.task, waiting.node, waiting.seconds) == ("flaky", lazy.number, 3600)


async def test_it_makes_equal_cached_calls_once(execute):
    """R10."""
    made = []

    @cs.task
    async def load(n):
        made.append(n)
        await asyncio.sleep(0)
        return n

    cache = cs.LRUCache()
    assert await execute(add(*[load(1).with_cache(cache) for _ in range(2)])) == 2
    assert made == [1]


async def test_it_tries_again_and_gives_errors_as_values(execute):
    """R10, R8."""
    made = []

    @cs.task
    def load(n):
        made.append(n)
        return 6 / n

    values = await execute(load.map(n=[0, 2], return_exceptions=True).with_retry(3))
    assert [type(value) for value in values] == [ZeroDivisionError, float]
    assert sorted(made) == [0, 0, 0, 2]


async def test_context_variables_of_the_caller_are_seen_and_kept(execute):
    """M12: on all lanes; tasks do not see each other's variables."""
    variable = contextvars.ContextVar("variable")
    variable.set("the caller's")

    def look(*_):
        seen = variable.get()
        variable.set("a task's")
        return seen

    async def alook(*_):
        return look()

    modes = [cs.task(mode=mode)(look) for mode in ("auto", "blocking", "inline")]
    looks = [task() for task in (*modes, cs.task(alook))]
    for lazy in looks[1:]:
        lazy.after(looks[0])
    assert await execute(cs.gather(*looks)) == ["the caller's"] * 4
    assert variable.get() == "the caller's"
