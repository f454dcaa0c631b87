"""Loops of coroutines are current, however many of their steps make a batch (M9, M12)."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

import cascade as cs
from cascade.runtime import events
from cascade.runtime.clock import run_virtually
from cascade.runtime.loops.fused import is_traced

variable: ContextVar[object] = ContextVar("variable")
#: Notes of the tests' loops.
seen: list[object] = []


@pytest.fixture(autouse=True)
def fresh():
    seen.clear()
    token = variable.set("the caller's")
    yield
    variable.reset(token)


@pytest.fixture(params=["graph", "interpreted", "generated", "auto", "program"])
def way(request):
    """How steps are made; by itself the virtual machine takes fused loops for these tasks."""
    return request.param


@pytest.fixture
async def engine(way):
    tier = way if way in ("interpreted", "generated") else "auto"
    async with cs.Engine(tier=tier, step_interval=0.1) as engine:
        yield engine


@pytest.fixture
def run(engine, way):
    async def run(target, **options):
        if way == "program":
            return await engine.compile(target).run()
        return await engine.run(target, use_vm=way != "graph", **options)

    return run


class Gate:
    """Lets a loop that waits for it make one step after the other."""

    def __init__(self):
        self.waiting = asyncio.Queue()

    async def __call__(self):
        future = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(future)
        await future

    async def pass_one(self):
        (await self.waiting.get()).set_result(None)


gate = Gate()


@pytest.fixture(autouse=True)
def new_gate():
    global gate
    gate = Gate()


async def passed(count):
    """Let ``count`` steps pass; the next one then waits."""
    for _ in range(count):
        await gate.pass_one()
    gate.waiting.put_nowait(await gate.waiting.get())


async def end_of(running):
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@cs.task
async def waits(n):
    await gate()
    return waits.tail(n + 1) if n < 500 else "end"


@cs.task
async def waits_here(n):
    await gate()
    return waits_there.tail(n + 1) if n < 500 else "end"


@cs.task
async def waits_there(n):
    await gate()
    return waits_here.tail(n + 1) if n < 500 else "end"


@cs.task
async def waits_by_name(*, n):
    await gate()
    return cs.TailCall(kwargs={"n": n + 1})


LOOPS = [waits, waits_here]
of_loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda task: task.name)


@pytest.mark.skipif(is_traced(), reason="a debugger or coverage traces lines, so nothing is fused")
def test_the_loops_are_fused():
    """Else the others would look at less than they seem to."""
    loops = [*LOOPS, waits_by_name, keeps_no_argument, act, think, binds, binds_elsewhere]
    assert {cs.explain(task).tier for task in loops} == {"fused"}


# -- counts ---------------------------------------------------------------------------------------


@of_loops
async def test_a_query_gets_the_steps_that_were_made(engine, run, loop):
    running = asyncio.ensure_future(run(loop(0)))
    for count in range(1, 100):
        await passed(1)
        assert engine.runs()[0].steps == count
    await end_of(running)


@of_loops
def test_steps_are_told_of_while_a_batch_is_under_way(way, loop):
    """At the interval, whatever the length of a batch, and for late subscribers."""

    async def main():
        told = []
        tier = way if way in ("interpreted", "generated") else "auto"
        async with cs.Engine(tier=tier, step_interval=10) as engine:
            target = engine.compile(loop(0)).run if way == "program" else None
            start = target() if target else engine.run(loop(0), use_vm=way != "graph")
            running = asyncio.ensure_future(start)
            for second in range(1, 300):
                await passed(1)
                await asyncio.sleep(1)
                if second == 150:
                    engine.bus.subscribe(events.StepsMade, told.append)
                if second >= 175:
                    assert second - told[-1].steps <= 12
            await end_of(running)
        return told

    told = run_virtually(main)
    assert 10 <= len(told) <= 16
    assert told == sorted(told, key=lambda event: event.steps)


def test_nothing_is_told_of_a_loop_that_waits(way):
    async def main():
        told = []
        tier = way if way in ("interpreted", "generated") else "auto"
        async with cs.Engine(tier=tier, step_interval=1) as engine:
            engine.bus.subscribe(events.StepsMade, told.append)
            running = asyncio.ensure_future(engine.run(waits(0), use_vm=way != "graph"))
            await passed(70)
            await asyncio.sleep(2)
            assert told[-1].steps == 70
            before = len(told)
            await asyncio.sleep(1e6)
            assert len(told) == before
            await end_of(running)

    run_virtually(main)


@of_loops
@pytest.mark.parametrize("limit", [1, 2, 3, 10, 65, 300])
async def test_loops_share_the_remaining_steps(engine, way, loop, limit):
    """The step that is one too many fails, whichever loop asks for it, and after how long."""
    if way == "program":
        return  # takes no limit
    target = cs.gather(*[loop(0) for _ in range(3)])
    running = asyncio.ensure_future(engine.run(target, use_vm=way != "graph", max_steps=limit))
    for _ in range(limit):
        await passed(1)
        assert not running.done()
    await gate.pass_one()
    with pytest.raises(cs.errors.StepLimitError):
        await running


async def test_a_loop_that_waits_long_keeps_no_other_from_its_steps(engine, way):
    """It may have had permits for many steps, and makes no step."""
    if way == "program":
        return

    @cs.task
    async def never(n):
        if n >= 300:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        return never.tail(n + 1)

    @cs.task
    async def quick(n):
        await asyncio.sleep(0)
        return quick.tail(n + 1)

    with pytest.raises(cs.errors.StepLimitError, match="'quick' asks for another step"):
        await engine.run([never(0), quick(0)], use_vm=way != "graph", max_steps=1000)


# -- arguments ------------------------------------------------------------------------------------


class Thing:
    """An object that a weak reference can find."""


@cs.task
async def keeps_no_argument(n, thing):
    look(n)
    await asyncio.sleep(0)
    look(n)
    return keeps_no_argument.tail(n + 1, made(n + 1)) if n < 80 else "end"


@cs.task
async def keeps_none_here(n, thing):
    look(n)
    await asyncio.sleep(0)
    return keeps_none_there.tail(n + 1, other=made(n + 1)) if n < 80 else "end"


@cs.task
async def keeps_none_there(n, other):
    look(n)
    return keeps_none_here.tail(n + 1, thing=made(n + 1))


def made(n):
    thing = Thing()
    seen.append(weakref.ref(thing))
    return thing


def look(n):
    """Only the argument of this step is alive."""
    alive = [place for place, reference in enumerate(seen) if reference() is not None]
    assert alive in ([], [n - 1]), f"step {n} sees the arguments of {alive}"


@pytest.mark.parametrize("loop", [keeps_no_argument, keeps_none_here], ids=lambda task: task.name)
async def test_the_arguments_of_a_step_are_freed_by_the_next(run, loop):
    gc.disable()
    try:
        assert await run(loop(0, None)) == "end"
    finally:
        gc.enable()


# -- names ----------------------------------------------------------------------------------------


@cs.task
async def think(n):
    await gate()
    return act.tail(n)


@cs.task
async def act(n):
    seen.append("old")
    return think.tail(n + 1)


@cs.task(name="act")
async def new_act(n):
    seen.append("new")
    return think.tail(n + 1)


@cs.task(name="act")
def plain_act(n):
    seen.append("new")
    return think.tail(n + 1)


@pytest.mark.parametrize("new", [new_act, plain_act], ids=["a coroutine", "a plain function"])
async def test_a_name_that_is_rebound_holds_from_the_next_step(run, monkeypatch, new):
    running = asyncio.ensure_future(run(think(0)))
    await passed(70)
    monkeypatch.setitem(globals(), "act", new)
    assert seen == ["old"] * 70
    await passed(70)
    monkeypatch.undo()
    await passed(1)
    assert seen == ["old"] * 70 + ["new"] * 70 + ["old"]
    await end_of(running)


async def test_a_name_that_is_unbound_is_an_error_from_the_next_step(run, monkeypatch):
    running = asyncio.ensure_future(run(think(0)))
    await passed(70)
    monkeypatch.delitem(globals(), "act")
    await gate.pass_one()
    with pytest.raises(NameError, match="name 'act' is not defined"):
        await running


async def test_a_variable_of_a_function_around_it_is_rebound(run):
    @cs.task
    async def begin(n):
        await gate()
        return go_on.tail(n)

    @cs.task
    async def go_on(n):
        seen.append("old")
        return begin.tail(n + 1)

    running = asyncio.ensure_future(run(begin(0)))
    await passed(70)
    go_on = cs.task(name="go_on")(new_act.func)  # noqa: F811  # begin() sees it from now on
    await passed(1)
    assert seen == ["old"] * 70 + ["new"]
    await end_of(running)


# -- context variables ----------------------------------------------------------------------------


def bind(value):
    """As libraries for logs and traces do, on behalf of a task."""
    variable.set(value)


@cs.task
async def binds(n):
    seen.append(variable.get())
    if n % 7 == 0:
        bind(n)
    await asyncio.sleep(0)
    if n % 7 == 3:
        bind("the caller's")
    return binds.tail(n - 1) if n else "end"


@cs.task
async def binds_elsewhere(n):
    seen.append(variable.get())
    bind(n)
    return looks.tail(n - 1) if n else "end"


@cs.task
async def looks(n):
    seen.append(variable.get())
    return binds_elsewhere.tail(n)


@pytest.mark.parametrize("loop", [binds, binds_elsewhere], ids=lambda task: task.name)
async def test_context_variables_set_by_a_helper_are_invisible_to_later_steps(run, loop):
    """M12: whatever step it is that calls it."""
    assert await run(loop(200)) == "end"
    assert len(seen) > 200
    assert set(seen) == {"the caller's"}


class Down:
    """A count whose operators set a context variable, as those of a model that logs may do."""

    def __init__(self, count):
        self.count = count

    def __gt__(self, other):
        seen.append(variable.get())
        bind(self.count)
        return self.count > other

    def __sub__(self, other):
        return Down(self.count - other)


@cs.task
async def counts(n):
    return counts.tail(n - 1) if n > 0 else "end"


@cs.task
async def counts_here(n):
    return counts_there.tail(n - 1) if n > 0 else "end"


@cs.task
async def counts_there(n):
    return counts_here.tail(n - 1) if n > 0 else "end"


@pytest.mark.parametrize("loop", [counts, counts_here], ids=lambda task: task.name)
async def test_context_variables_set_by_an_operator_are_invisible_to_later_steps(run, loop):
    """M12: also where steps of numbers, which call nothing, need no look at their context."""
    assert await run(loop(20)) == "end"
    assert await run(loop(Down(20))) == "end"
    assert seen == ["the caller's"] * 21
