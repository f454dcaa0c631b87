"""Steps of loops: counted, limited, told of, and interrupted alike in every tier (M9, M12)."""

import asyncio
from contextvars import ContextVar

import pytest
from tests.sample_tasks import same

import cascade as cs
from cascade.runtime import events
from cascade.runtime.loops.fused import is_traced

#: Effects of the tests' loops; each has its own.
calls: list[object] = []
#: Endless loops end when this is set.
enough = asyncio.Event()
variable = ContextVar("variable", default="nobody's")


@cs.task
def count_down(n):
    calls.append(n)
    return count_down.tail(n - 1) if n else "end"


@cs.task
async def count_down_async(n):
    calls.append(n)
    return count_down_async.tail(n - 1) if n else "end"


@cs.task
def count_down_lazily(n):
    calls.append(n)
    return count_down_lazily(n - 1) if n else "end"


@cs.task
def count_down_with_lazy_arguments(n):
    calls.append(n)
    return count_down_with_lazy_arguments.tail(same(n - 1)) if n else "end"


@cs.task
def count_down_in_turns(n):
    calls.append(n)
    return the_other.tail(n - 1) if n else "end"


@cs.task
def the_other(n):
    calls.append(n)
    return count_down_in_turns.tail(n - 1) if n else "end"


@cs.task
def spin(n):
    return n if enough.is_set() else spin.tail(n + 1)


@cs.task
async def spin_async(n):
    return n if enough.is_set() else spin_async.tail(n + 1)


@cs.task
def spin_in_turns(n):
    return n if enough.is_set() else spin_back.tail(n + 1)


@cs.task
def spin_back(m):
    return m if enough.is_set() else spin_in_turns.tail(m + 1)


LOOPS = [
    count_down,
    count_down_async,
    count_down_lazily,
    count_down_in_turns,
]
of_loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda task: task.name)
of_spins = pytest.mark.parametrize(
    "loop", [spin, spin_async, spin_in_turns], ids=lambda task: task.name
)


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()
    enough.clear()
    yield
    enough.set()


@pytest.fixture(params=["graph", "interpreted", "generated", "auto"])
def way(request):
    """How steps are made; by itself the virtual machine takes fused loops for these tasks."""
    return request.param


@pytest.fixture
async def engine(way):
    tier = "auto" if way == "graph" else way
    async with cs.Engine(tier=tier, step_interval=1e-9) as engine:
        yield engine
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def run(engine, way):
    def run(target, **options):
        return engine.run(target, use_vm=way != "graph", **options)

    return run


@pytest.mark.skipif(is_traced(), reason="a debugger or coverage traces lines, so nothing is fused")
def test_the_loops_are_fused():
    """Else the others would look at less than they seem to."""
    others = [spin, spin_async, spin_in_turns]
    assert {cs.explain(task).tier for task in [*LOOPS, *others]} == {"fused", "generated"}
    assert cs.explain(count_down_lazily).tier == "generated"
    assert cs.explain(count_down_in_turns).shares_with == ("the_other",)


# -- how many there may be ------------------------------------------------------------------------


@of_loops
@pytest.mark.parametrize("limit", [1, 2, 3, 8, 500])
async def test_just_as_many_steps_as_are_allowed(run, loop, limit):
    assert await run(loop(limit), max_steps=limit) == "end"
    assert calls == list(range(limit, -1, -1))


@of_loops
@pytest.mark.parametrize("limit", [1, 2, 3, 8, 500])
async def test_one_step_too_many(run, loop, limit):
    """The call that asks for it is the last one."""
    with pytest.raises(cs.errors.StepLimitError, match=f"max_steps={limit}") as info:
        await run(loop(limit + 5), max_steps=limit)
    assert len(calls) == limit + 1
    assert info.value.limit == limit
    assert isinstance(info.value, RuntimeError)


@of_loops
async def test_the_error_names_the_task(run, loop):
    known = {"count_down_in_turns", "the_other"} if loop is count_down_in_turns else {loop.name}
    with pytest.raises(cs.errors.StepLimitError) as info:
        await run(loop(20), max_steps=10)
    assert str(info.value).split("'")[1] in known
    (note,) = info.value.__notes__
    assert note.split("'")[1] in known


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9])
async def test_the_error_names_the_task_that_asks(run, limit):
    """Of two that take turns."""
    with pytest.raises(cs.errors.StepLimitError) as info:
        await run(count_down_in_turns(20), max_steps=limit)
    name = "the_other" if limit % 2 else "count_down_in_turns"
    assert f"task '{name}' asks for another step" in str(info.value)
    assert f"task '{name}'" in info.value.__notes__[0]


async def test_the_limit_is_for_all_loops_of_a_run(run):
    targets = [count_down(4), count_down_async(4), count_down_in_turns(4), count_down(4)]
    assert await run(cs.gather(*targets), max_steps=16) == ["end"] * 4
    targets = [count_down(4), count_down_async(4), count_down_in_turns(4), count_down(4)]
    with pytest.raises(cs.errors.StepLimitError):
        await run(cs.gather(*targets), max_steps=15)


async def test_items_of_a_map_count(run):
    """And so does the map, which continues as the list of them."""
    target = count_down.map(n=[1, 2, 3, 4])
    assert await run(target, max_steps=11) == ["end"] * 4
    with pytest.raises(cs.errors.StepLimitError):
        await run(count_down.map(n=[1, 2, 3, 4]), max_steps=10)


async def test_an_inner_node_that_continues_as_a_lazy_value_counts(run):
    assert await run(same(count_down_lazily(4)), max_steps=4) == "end"
    with pytest.raises(cs.errors.StepLimitError):
        await run(same(count_down_lazily(4)), max_steps=3)


async def test_only_a_lazy_route_is_a_step(run):
    def routed(route):
        router = cs.Router(selector=same("chosen"), routes={"chosen": route})
        return cs.Router(selector=router, routes={"end": same("end")})

    assert await run(routed("end"), max_steps=1) == "end"
    with pytest.raises(cs.errors.StepLimitError):
        await run(routed(same("end")), max_steps=1)


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_lazy_arguments_make_it_no_more_steps(run, limit):
    assert await run(count_down_with_lazy_arguments(limit), max_steps=limit) == "end"
    with pytest.raises(cs.errors.StepLimitError):
        await run(count_down_with_lazy_arguments(limit + 1), max_steps=limit)
    assert len(calls) == 2 * (limit + 1)


async def test_the_limit_is_for_each_run_anew(run):
    for _ in range(3):
        assert await run(count_down(5), max_steps=5) == "end"


async def test_an_error_that_comes_first_is_raised(run):
    @cs.task
    def failing(n, last=0):
        return failing.tail(n - 1, 1 // n)

    with pytest.raises(ZeroDivisionError):
        await run(failing(5), max_steps=5)
    with pytest.raises(cs.errors.StepLimitError):
        await run(failing(5), max_steps=4)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3", float("inf")])
async def test_invalid_limits_are_refused(run, limit):
    with pytest.raises(cs.errors.ArgumentError, match="max_steps must be an int ≥ 1"):
        await run(count_down(1), max_steps=limit)
    assert not calls


@pytest.mark.parametrize("use_vm", [False, True])
def test_scripts_have_a_limit_too(use_vm):
    assert cs.run(count_down(5), use_vm=use_vm, max_steps=5) == "end"
    with pytest.raises(cs.errors.StepLimitError):
        cs.run(count_down(5), use_vm=use_vm, max_steps=4)
    with pytest.raises(cs.errors.ArgumentError):
        cs.run(count_down(5), use_vm=use_vm, max_steps=0)


# -- events of steps ------------------------------------------------------------------------------


async def turns(until):
    """Let the event loop go round until ``until`` is true."""
    while not until():  # noqa: ASYNC110  # a turn of the event loop is what is wanted
        await asyncio.sleep(0)


@of_spins
async def test_runs_tell_how_far_they_are(engine, run, way, loop):
    running = asyncio.create_task(run(loop(0)))
    await turns(lambda: engine.runs() and engine.runs()[0].task)
    seen = [engine.runs()[0]]
    for _ in range(3):
        before = seen[-1].steps
        await turns(lambda before=before: engine.runs()[0].steps > before)
        seen += engine.runs()
    enough.set()
    steps = await running
    assert [info.steps for info in seen] == sorted({info.steps for info in seen})
    assert 0 < seen[0].steps <= seen[-1].steps <= steps
    assert {(info.target, info.strategy) for info in seen} == {
        (loop.name, "graph" if way == "graph" else "vm")
    }
    known = {"spin_in_turns", "spin_back"} if loop is spin_in_turns else {loop.name}
    assert {info.task for info in seen} <= known
    assert all(info.steps_per_second >= 0 for info in seen)
    assert engine.runs() == []


@of_loops
async def test_all_steps_are_counted(engine, run, loop):
    counted = []

    def look(event):
        counted.extend(info.steps for info in engine.runs())

    engine.bus.subscribe(events.TaskFinished, look)
    await run(loop(3000))
    assert counted[-1] == 3000


@of_spins
async def test_steps_are_told_of_now_and_then(engine, run, loop):
    told = []
    engine.bus.subscribe(events.StepsMade, told.append)
    running = asyncio.create_task(run(loop(0)))
    await turns(lambda: told and told[-1].steps > 5000)
    (info,) = engine.runs()
    assert told[-1].steps <= info.steps
    enough.set()
    total = await running
    counts = [event.steps for event in told]
    assert counts == sorted(counts)
    assert counts[-1] <= total
    assert len(told) < total / 10, "one for each step, or nearly"
    assert {event.run_id for event in told} == {info.run_id}
    known = {"spin_in_turns", "spin_back"} if loop is spin_in_turns else {loop.name}
    assert {event.task for event in told} <= known
    assert all(event.per_second >= 0 for event in told)


async def test_steps_are_told_of_no_more_often_than_asked_for(way):
    told = []
    async with cs.Engine(tier="auto" if way == "graph" else way, step_interval=3600) as engine:
        engine.bus.subscribe(events.StepsMade, told.append)
        await engine.run(count_down(5000), use_vm=way != "graph")
    assert not told


# -- whom they let in -----------------------------------------------------------------------------


@of_spins
async def test_the_event_loop_has_its_turn(engine, run, loop):
    """M9: while one loop spins."""
    running = asyncio.create_task(run(loop(0)))
    await turns(lambda: engine.runs() and engine.runs()[0].steps > 0)  # on a worker, maybe
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    enough.set()
    assert await running > 0


async def test_loops_let_each_other_in(engine, run):
    """M9: several runs, and several loops within one."""
    runs = [asyncio.create_task(run(loop(0))) for loop in (spin, spin_async, spin_in_turns, spin)]
    runs.append(asyncio.create_task(run(cs.gather(spin_async(0), spin_async(0)))))
    await turns(lambda: len([i for i in engine.runs() if i.steps > 10]) == len(runs))
    enough.set()
    assert all(await asyncio.gather(*runs))


@of_spins
async def test_a_loop_is_cancelled(engine, run, loop):
    running = asyncio.create_task(run(loop(0)))
    await turns(lambda: engine.runs() and engine.runs()[0].steps > 100)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.runs() == []


@of_spins
async def test_a_deadline_ends_a_loop(engine, run, loop):
    with pytest.raises(cs.errors.DeadlineError):
        await run(loop(0), deadline=1e-6)
    assert engine.runs() == []


async def test_a_loop_that_swallows_its_cancel_ends(engine, run):
    """After the step in which it has done so."""
    seen = []

    async def swallow():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("swallowed")

    @cs.task
    async def stubborn(n):
        seen.append(n)
        if n == 5:
            await swallow()
        return stubborn.tail(n + 1)

    running = asyncio.create_task(run(stubborn(0)))
    await turns(lambda: seen[-1:] == [5])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == [0, 1, 2, 3, 4, 5, "swallowed"]


# -- results of steps -----------------------------------------------------------------------------


@cs.task
def writes(n):
    calls.append(variable.get())
    variable.set(n)
    return writes.tail(n - 1) if n else variable.get()


@cs.task
async def writes_async(n):
    calls.append(variable.get())
    variable.set(n)
    return writes_async.tail(n - 1) if n else variable.get()


@cs.task
def writes_late(n):
    calls.append(variable.get())
    if n == 60:
        variable.set(n)
    return writes_late.tail(n - 1) if n else variable.get()


@pytest.mark.parametrize("loop", [writes, writes_async], ids=lambda task: task.name)
async def test_a_context_variable_set_by_a_step_is_invisible_to_others(run, way, loop):
    """M12."""
    if way == "generated":
        with pytest.raises(cs.errors.TierError, match="sets the context variable 'variable'"):
            await run(loop(100))
        return
    token = variable.set("the caller's")
    assert await run(loop(100)) == 0
    assert calls == ["the caller's"] * 101
    assert variable.get() == "the caller's"
    variable.reset(token)


async def test_a_context_variable_set_by_a_later_step_is_invisible_to_others(run, way):
    """M12: nor if that is not the first one."""
    if way == "generated":
        with pytest.raises(cs.errors.TierError, match="sets the context variable 'variable'"):
            await run(writes_late(100))
        return
    assert await run(writes_late(100)) == "nobody's"
    assert set(calls) == {"nobody's"}
