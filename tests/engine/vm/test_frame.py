"""Frame: registers, inputs and place of a blueprint in execution (M1, M3)."""

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder, template_of
from cascade.runtime.vm.frame import Frame


@cs.task
def number():
    return 1


@cs.task
def call(a, b=2, *rest, c=3, **more): ...


def inputs(frame):
    """Name → value of the input registers."""
    return {n: frame.registers[i] for n, i in frame.blueprint.input_kwargs.items()}


def test_arguments_by_position_and_name_and_defaults_fill_the_inputs():
    blueprint = template_of(call)
    frame = Frame(blueprint, [1], {"c": 30})

    assert inputs(frame) == {"a": 1, "b": 2, "c": 30}
    assert frame.registers[blueprint.input_var_args] == ()
    assert frame.registers[blueprint.input_var_kwargs] == {}


def test_surplus_arguments_are_collected():
    blueprint = template_of(call)
    frame = Frame(blueprint, [1, 20, "x", "y"], {"z": 5})

    assert inputs(frame) == {"a": 1, "b": 20, "c": 3}
    assert frame.registers[blueprint.input_var_args] == ("x", "y")
    assert frame.registers[blueprint.input_var_kwargs] == {"z": 5}


def test_literals_are_unwrapped():
    blueprint = template_of(call)
    frame = Frame(blueprint, [cs.literal(1), cs.literal([2]), cs.literal(3)], {"z": cs.literal(4)})

    assert inputs(frame) == {"a": 1, "b": [2], "c": 3}
    assert frame.registers[blueprint.input_var_args] == (3,)
    assert frame.registers[blueprint.input_var_kwargs] == {"z": 4}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {}, "'call' is missing its input 'a'"),
        ([1], {"a": 2}, "'call' got its input 'a' twice"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, message):
    with pytest.raises(cs.ArgumentError, match=message):
        Frame(template_of(call), args, kwargs)


def test_again_keeps_what_is_not_named_and_the_registers():
    """R5: the frame is reused."""
    frame = Frame(template_of(call), [1, 20, "x"], {"c": 30, "z": 5})
    registers = frame.registers
    frame.again([], {"b": 21, "y": 6})

    assert frame.registers is registers
    assert inputs(frame) == {"a": 1, "b": 21, "c": 30}
    assert registers[frame.blueprint.input_var_args] == ("x",)
    assert registers[frame.blueprint.input_var_kwargs] == {"z": 5, "y": 6}
    assert frame.looped


def test_again_replaces_surplus_positional_arguments_as_a_whole():
    frame = Frame(template_of(call), [1, 2, "x", "y"], {})
    frame.again([1, 2, "z"], {})

    assert frame.registers[frame.blueprint.input_var_args] == ("z",)


def test_entering_another_blueprint_starts_from_its_defaults():
    """M1."""

    @cs.task
    def other(x, c=100): ...

    frame = Frame(template_of(call), [1], {"c": 30})
    frame.again([], {})
    frame.enter(template_of(other), [7], {})

    assert inputs(frame) == {"x": 7, "c": 100}
    assert not frame.looped
    assert frame.pc == 0


def test_a_blueprint_is_not_changed_by_its_frames():
    """Blueprints are shared: ``**kwargs`` of one frame must not be seen in another."""
    blueprint = template_of(call)
    Frame(blueprint, [1, 2, 3], {"z": 5}).again([9, 9, 9], {"y": 1})
    frame = Frame(blueprint, [1], {})

    assert frame.registers[blueprint.input_var_kwargs] == {}
    assert frame.registers[blueprint.input_var_args] == ()


def test_a_frame_knows_what_of_the_prologue_nobody_needs():
    """M3."""
    target = call(number(), number())
    blueprint = BlueprintBuilder().build(target)
    assert blueprint.entry == 2

    assert not Frame(blueprint, target.args, {}).dead
    assert Frame(blueprint, [1, target.args[1]], {}).dead == {0}
    assert Frame(blueprint, [1, 2], {}).dead == {0, 1}


def test_what_a_condition_needs_stays_alive():
    shared = number()
    target = call(shared).run_if(shared)
    blueprint = BlueprintBuilder().build(target)

    assert not Frame(blueprint, [1], {}).dead


def test_at_root():
    blueprint = BlueprintBuilder().build(call(number()))
    frame = Frame(blueprint, [], {})

    assert not frame.at_root
    frame.pc = blueprint.entry
    assert frame.at_root
