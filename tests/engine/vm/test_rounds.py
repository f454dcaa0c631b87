"""Rounds of nodes: counted and limited alike in every tier (M20)."""

import pytest
from tests.sample_tasks import same

import cascade as cs

#: The arguments of the calls of this test's loops.
calls: list[int] = []


@cs.task
def down(n):
    calls.append(n)
    return down.tail(n - 1) if n else "end"


@cs.task
async def down_async(n):
    calls.append(n)
    return down_async.tail(n - 1) if n else "end"


@cs.task
def down_lazily(n):
    calls.append(n)
    return down_lazily(n - 1) if n else "end"


@cs.task
def down_by_turns(n):
    calls.append(n)
    return turn.tail(n - 1) if n else "end"


@cs.task
def turn(n):
    calls.append(n)
    return down_by_turns.tail(n - 1) if n else "end"


@cs.task
def down_in_both_ways(n):
    """Tail calls and returned lazy values, some of which need others first."""
    calls.append(n)
    if n <= 0:
        return "end"
    return [down_in_both_ways.tail(n - 1), down_in_both_ways(same(n - 1))][n % 2]


LOOPS = [down, down_async, down_lazily, down_by_turns, down_in_both_ways]
of_loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()


@pytest.fixture(params=["graph", "interpreted", "generated", "auto", "program"])
def way(request):
    return request.param


@pytest.fixture
async def run(way):
    tier = "auto" if way in ("graph", "program") else way

    async with cs.Engine(tier=tier) as engine:

        def run(target, **options):
            if way == "program":
                return engine.compile(target).run(**options)
            return engine.run(target, use_vm=way != "graph", **options)

        yield run


@of_loops
@pytest.mark.parametrize("limit", [1, 2, 3, 40, 300])
async def test_a_node_makes_as_many_rounds_as_are_allowed(run, loop, limit):
    assert await run(loop(limit), max_rounds=limit) == "end"
    assert calls == list(range(limit, -1, -1))


@of_loops
@pytest.mark.parametrize("limit", [1, 2, 3, 40, 300])
async def test_the_call_that_asks_for_one_round_too_many_is_the_last(run, loop, limit):
    with pytest.raises(cs.errors.StepLimitError, match=f"its max_rounds={limit}") as caught:
        await run(loop(limit + 5), max_rounds=limit)
    assert len(calls) == limit + 1
    assert caught.value.limit == limit


@of_loops
async def test_each_node_has_its_own_rounds(run, loop):
    targets = [loop(4), same(loop(4)), loop.map(n=[3, 4])]
    assert await run(targets, max_rounds=4) == ["end", "end", ["end", "end"]]
    with pytest.raises(cs.errors.StepLimitError):
        await run([loop(4), loop(5)], max_rounds=4)


async def test_what_a_returned_value_has_inside_has_rounds_of_its_own(run):
    @cs.task
    def several():
        return [down(3), same(same(down(3)))]

    assert await run(several(), max_rounds=3) == ["end", "end"]
    with pytest.raises(cs.errors.StepLimitError, match="max_rounds=2"):
        await run(several(), max_rounds=2)


async def test_a_value_that_the_run_has_met_keeps_its_own_rounds(run):
    loop = down(3)

    @cs.task
    def late(_value):
        return loop

    assert await run(late(loop), max_rounds=3) == "end"


async def test_a_value_that_the_run_has_met_is_one_step(run):
    loop = down(3)

    @cs.task
    def late(_value):
        return loop

    assert await run(late(loop), max_steps=4) == "end"
    with pytest.raises(cs.errors.StepLimitError, match="max_steps=3"):
        await run(late(loop), max_steps=3)


@pytest.mark.parametrize("lazily", [False, True])
async def test_a_retried_attempt_starts_at_0_rounds_again(run, lazily):
    failed = []

    @cs.task
    def flaky(n):
        if n == 3 and not failed:
            failed.append(n)
            raise OSError("once")
        if not n:
            return "end"
        return flaky(n - 1).with_retry(2) if lazily else flaky.tail(n - 1)

    assert await run(flaky(6).with_retry(2), max_rounds=3) == "end"
    with pytest.raises(cs.errors.StepLimitError):
        await run(flaky(6).with_retry(2), max_rounds=3)  # it fails no more


async def test_steps_are_not_taken_back_by_a_retry(run):
    failed = []

    @cs.task
    def flaky(n):
        if n == 3 and not failed:
            failed.append(n)
            raise OSError("once")
        return flaky.tail(n - 1) if n else "end"

    with pytest.raises(cs.errors.StepLimitError, match="max_steps=5"):
        await run(flaky(6).with_retry(2), max_steps=5)


async def test_an_item_of_a_map_does_not_catch_the_limit(run):
    target = down.map(n=[1, 9], return_exceptions=True)
    with pytest.raises(cs.errors.StepLimitError):
        await run(target, max_rounds=4)


async def test_both_limits_may_be_given(run):
    assert await run([down(3), down(3)], max_rounds=3, max_steps=6) == ["end", "end"]
    with pytest.raises(cs.errors.StepLimitError, match="max_steps=5"):
        await run([down(3), down(3)], max_rounds=3, max_steps=5)


async def test_under_a_constraint_a_batch_is_no_longer_than_the_rounds(use_vm):
    async with cs.Engine() as engine:
        engine.constraints.limit_concurrency("task:down", 1)
        assert await engine.run(down(50), use_vm=use_vm, max_rounds=50) == "end"
        with pytest.raises(cs.errors.StepLimitError):
            await engine.run(down(51), use_vm=use_vm, max_rounds=50)
    assert len(calls) == 51 + 51


async def test_a_blueprint_written_by_hand_has_rounds():
    from cascade.graph.compiler import BlueprintBuilder

    def work(n):
        calls.append(n)
        return cs.TailCall(kwargs={"n": n - 1}) if n else "end"

    async with cs.Engine() as engine:
        blueprint = BlueprintBuilder().build(cs.task(work, name="work")(0))
        engine.register_blueprint("work", blueprint)
        enter = cs.task(lambda n: cs.TailCall((n,), target_blueprint_id="work"), name="enter")
        assert await engine.run(enter(5), max_rounds=6) == "end"
        with pytest.raises(cs.errors.StepLimitError, match="'work' asks"):
            await engine.run(enter(6), max_rounds=6)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
async def test_impossible_limits_are_refused(run, limit):
    with pytest.raises(cs.errors.ArgumentError, match="max_rounds must be an int ≥ 1"):
        await run(down(1), max_rounds=limit)
    assert not calls


# -- options of one run of a program ----------------------------------------------------------


@cs.task
def add(a, b):
    return a + b


async def test_options_of_a_run_of_a_program_replace_those_of_compile():
    async with cs.Engine() as engine:
        program = engine.compile(down(4), max_steps=3)
        with pytest.raises(cs.errors.StepLimitError, match="max_steps=3"):
            await program.run()
        assert await program.run(max_steps=4) == "end"
        assert await program.run(max_steps=None) == "end"
        with pytest.raises(cs.errors.StepLimitError, match="max_rounds=2"):
            await program.run(max_steps=None, max_rounds=2)
        with pytest.raises(cs.errors.StepLimitError, match="max_steps=3"):
            await program.run(n=9)


async def test_a_run_of_a_program_has_a_deadline():
    async with cs.Engine() as engine:
        forever = cs.task(lambda n: forever.tail(n + 1), name="forever")
        with pytest.raises(cs.errors.DeadlineError):
            await engine.compile(forever(0)).run(deadline=0.02)
        program = engine.compile(add(add(1, 2), add(3, 4)))
        assert await program.run(deadline=30, max_steps=1) == await program.run() == 10


@pytest.mark.parametrize("name", ["deadline", "max_steps", "max_rounds"])
async def test_an_input_has_precedence_over_an_option_of_its_name(name):
    async with cs.Engine() as engine:
        target = add(cs.Param(name, type=int), b=add(1, 1))
        program = engine.compile(target)
        assert await program.run(**{name: 5}) == 7
        assert await program.run(**{name: -1}) == 1


async def test_the_error_for_an_unknown_input_lists_the_options():
    async with cs.Engine() as engine:
        program = engine.compile(add(1, 2))
        with pytest.raises(cs.errors.ArgumentError, match="options deadline, max_steps, max_rou"):
            await program.run(dead_line=3)
