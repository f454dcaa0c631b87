"""VirtualMachine: executes blueprints, made by hand or by the builder."""

import asyncio
import inspect
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.blueprint import Blueprint, Call, Literal, Register, TailCall
from cascade.runtime.vm import BlueprintRegistry, VirtualMachine


def hand_made(func, *names):
    """A blueprint that calls ``func`` with the named inputs."""
    return Blueprint(
        instructions=[
            Call(
                func=func,
                output=Register(len(names)),
                kwargs={name: Register(i) for i, name in enumerate(names)},
            )
        ],
        register_count=len(names) + 1,
        input_kwargs={name: i for i, name in enumerate(names)},
    )


@pytest.fixture
def machine():
    return VirtualMachine()


# -- blueprints made by hand ------------------------------------------------------------------


async def test_a_function_loops_by_tail_calls(machine):
    """R5."""
    seen = []

    def countdown(count: int) -> Any:
        seen.append(count)
        return TailCall(kwargs={"count": count - 1}) if count > 0 else "Done"

    blueprint = hand_made(countdown, "count")

    assert await machine.execute(blueprint, initial_kwargs={"count": 5}) == "Done"
    assert seen == [5, 4, 3, 2, 1, 0]


async def test_an_exception_ends_the_loop(machine):
    """R9."""

    def failing(x):
        if x == 3:
            raise ValueError("Boom")
        return TailCall([x + 1])

    blueprint = Blueprint(
        instructions=[Call(func=failing, output=Register(1), args=[Register(0)])],
        register_count=2,
        input_args=[0],
    )

    with pytest.raises(ValueError, match="Boom") as caught:
        await machine.execute(blueprint, initial_args=[1])
    assert "in task 'failing'" in caught.value.__notes__[0]


async def test_the_stack_does_not_grow(machine):
    depths = {}  # of each thread: a step that takes long has a worker from then on (M6)

    def loop(n):
        depths.setdefault(threading.get_ident(), set()).add(len(inspect.stack(0)))
        return TailCall(kwargs={"n": n - 1}) if n else "end"

    assert await machine.execute(hand_made(loop, "n"), initial_kwargs={"n": 200}) == "end"
    assert {len(found) for found in depths.values()} == {1}


async def test_coroutine_functions_are_awaited(machine):
    async def loop(n):
        await asyncio.sleep(0)
        return TailCall(kwargs={"n": n - 1}) if n else "end"

    assert await machine.execute(hand_made(loop, "n"), initial_kwargs={"n": 5}) == "end"


async def test_two_functions_loop_by_blueprint_id(machine):
    def even(n):
        return TailCall(kwargs={"n": n - 1}, target_blueprint_id="odd") if n else True

    def odd(n):
        return TailCall(kwargs={"n": n - 1}, target_blueprint_id="even") if n else False

    machine.register_blueprint("even", hand_made(even, "n"))
    machine.register_blueprint("odd", hand_made(odd, "n"))

    assert await machine.execute(hand_made(even, "n"), initial_kwargs={"n": 10}) is True
    assert await machine.execute(hand_made(even, "n"), initial_kwargs={"n": 7}) is False


async def test_blueprints_that_are_switched_to_may_have_other_sizes(machine):
    def small(n):
        return TailCall(["a", "b", n], target_blueprint_id="large")

    def large(x, y, n):
        if n == 0:
            return x + y
        return TailCall([n - 1], target_blueprint_id="small")

    machine.register_blueprint(
        "small", Blueprint([Call(small, Register(1), [Register(0)])], 2, input_args=[0])
    )
    machine.register_blueprint(
        "large",
        Blueprint(
            [Call(large, Register(9), [Register(3), Register(1), Register(2)])],
            10,
            input_args=[3, 1, 2],
        ),
    )

    start = hand_made(small, "n")
    assert await machine.execute(start, initial_kwargs={"n": 3}) == "ab"


async def test_instructions_run_in_order_over_registers(machine):
    blueprint = Blueprint(
        instructions=[
            Call(lambda a, b: a + b, Register(1), [Register(0), Literal(1)]),
            Call(lambda a: a * 10, Register(2), [Register(1)]),
            Call(lambda a, *, b: (a, b), Register(0), [Register(2)], {"b": Register(1)}),
        ],
        register_count=3,
        input_args=[0],
        entry=2,
    )

    assert await machine.execute(blueprint, [4]) == (50, 5)


async def test_a_prologue_made_by_hand_runs_once(machine):
    """M3: a loop goes back to the entry."""
    log = []

    def prepare():
        log.append("prepare")
        return 3

    def loop(n, base):
        log.append(n)
        return TailCall(kwargs={"n": n - 1}) if n else base

    blueprint = Blueprint(
        instructions=[
            Call(prepare, Register(1)),
            Call(loop, Register(2), kwargs={"n": Register(0), "base": Register(1)}),
        ],
        register_count=3,
        input_kwargs={"n": 0},
        entry=1,
    )

    assert await machine.execute(blueprint, initial_kwargs={"n": 2}) == 3
    assert log == ["prepare", 2, 1, 0]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing its input 'n'"),
        ((1,), {}, "takes 0 positional inputs, but got 1"),
        ((), {"n": 1, "m": 2}, "has no input 'm'; its named inputs are 'n'"),
    ],
)
async def test_inputs_that_do_not_fit_are_an_error(machine, args, kwargs, message):
    """M3: a missing input is a TypeError, never None."""

    def loop(n): ...

    with pytest.raises(cs.errors.ArgumentError, match=message) as error:
        await machine.execute(hand_made(loop, "n"), args, kwargs)
    assert isinstance(error.value, TypeError)


async def test_an_empty_blueprint_has_no_value(machine):
    with pytest.raises(cs.errors.BlueprintError, match="no instructions"):
        await machine.execute(Blueprint())


# -- compiled blueprints ----------------------------------------------------------------------


@cs.task
def countdown(count: int) -> Any:
    return TailCall(kwargs={"count": count - 1}) if count > 0 else "Done"


async def test_a_compiled_template_is_executed_with_other_arguments(machine):
    """The arguments of the call that was compiled only give the structure."""
    blueprint = BlueprintBuilder().build(countdown(count=0))

    assert "count" in blueprint.input_kwargs
    assert await machine.execute(blueprint, initial_kwargs={"count": 5}) == "Done"


async def test_positional_and_named_arguments_meet_in_one_input(machine):
    """M1."""
    seen = []

    @cs.task
    def loop(n, step=1):
        seen.append((n, step))
        return TailCall(kwargs={"n": n - step}) if n > 0 else "end"

    blueprint = BlueprintBuilder().build(loop(0))

    assert await machine.execute(blueprint, [2]) == "end"
    assert await machine.execute(blueprint, [2], {"step": 2}) == "end"
    assert seen == [(2, 1), (1, 1), (0, 1), (2, 2), (0, 2)]


async def test_baked_in_arguments_are_the_blueprints_own(machine):
    blueprint = BlueprintBuilder().build(countdown(count=3), template=False)

    assert blueprint.input_kwargs == {}
    assert await machine.execute(blueprint) == "Done"


async def test_a_lazy_argument_is_computed_by_the_prologue(machine):
    """M3: an explicit argument replaces it, and nodes that only it needs do not run."""
    ran = []

    @cs.task
    def number(n):
        ran.append(n)
        return n

    @cs.task
    def pair(a, b):
        return a, b

    target = pair(number(number(1)), number(2))
    blueprint = BlueprintBuilder().build(target)

    assert await machine.execute(blueprint, list(target.args)) == (1, 2)
    assert sorted(ran) == [1, 1, 2]
    ran.clear()
    assert await machine.execute(blueprint, [10, target.args[1]]) == (10, 2)
    assert ran == [2]
    ran.clear()
    assert await machine.execute(blueprint, [], {"a": 10, "b": 20}) == (10, 20)
    assert ran == []
    assert await machine.execute(blueprint) == (1, 2)


async def test_a_lazy_argument_for_a_plain_input_is_refused(machine):
    blueprint = BlueprintBuilder().build(countdown(count=0))

    with pytest.raises(cs.errors.ArgumentError, match="was compiled for a plain one"):
        await machine.execute(blueprint, initial_kwargs={"count": countdown(1)})


async def test_a_blueprint_may_be_executed_many_times_at_once(machine):
    barrier = asyncio.Barrier(5)

    @cs.task
    async def meet(n):
        await barrier.wait()
        return TailCall(kwargs={"n": n - 10}) if n >= 10 else n

    blueprint = BlueprintBuilder().build(meet(0))
    values = await asyncio.gather(*[machine.execute(blueprint, [n]) for n in range(20, 25)])

    assert values == [0, 1, 2, 3, 4]


async def test_compiled_tasks_loop_by_blueprint_id(machine):
    @cs.task
    def ping(n, log=()):
        return TailCall([n - 1, (*log, "ping")], target_blueprint_id="pong") if n else log

    @cs.task
    def pong(n, log):
        return TailCall([n - 1, (*log, "pong")], target_blueprint_id="ping") if n else log

    machine.register_blueprint("ping", BlueprintBuilder().build(ping(0)))
    machine.register_blueprint("pong", BlueprintBuilder().build(pong(0, ())))

    result = await machine.execute(BlueprintBuilder().build(ping(0)), initial_kwargs={"n": 3})
    assert result == ("ping", "pong", "ping")


async def test_resources_that_hold_their_provider_need_no_engine(machine):
    log = []

    @cs.resource
    def tool():
        log.append("open")
        yield "tool"
        log.append("close")

    @cs.task
    def use(n, tool=cs.inject(tool)):
        log.append(n)
        return use.tail(n - 1) if n else tool

    assert await machine.execute(BlueprintBuilder().build(use(0)), [1]) == "tool"
    assert log == ["open", 1, 0, "close"]


async def test_a_skipped_root_has_no_value(machine):
    """R6."""

    @cs.task
    def no():
        return False

    blueprint = BlueprintBuilder().build(countdown(1).run_if(no()))

    with pytest.raises(cs.errors.DependencyMissingError, match="condition 'no' was falsy") as error:
        await machine.execute(blueprint, [1])
    assert error.value.condition == "no"


async def test_a_machine_of_a_run_shares_the_runs_registry(engine):
    """So that the engine's blueprints are found."""
    seen = []

    class Looking(VirtualMachine):
        def __init__(self, run=None, **options):
            super().__init__(run, **options)
            seen.append(self.registry)

    import cascade.runtime.engine as module

    original, module.VirtualMachine = module.VirtualMachine, Looking
    try:
        await engine.run(countdown(1), use_vm=True)
    finally:
        module.VirtualMachine = original

    assert seen == [engine.blueprints]
    assert isinstance(VirtualMachine().registry, BlueprintRegistry)
