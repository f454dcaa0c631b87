"""``disassemble``: a blueprint as a listing, to the letter."""

import pytest
from hypothesis import given
from tests.graph.flows import join, load, mixed, pair
from tests.graph.programs import programs

from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.disassemble import disassemble
from cascade.spec.blueprint import Blueprint, Call, Literal, Register
from cascade.spec.operators import eq


def listing(target, **options):
    return disassemble(BlueprintBuilder().build(target, **options)).splitlines()


def test_a_template_shows_inputs_prologue_and_entry():
    assert listing(mixed(load("x"), 5, c=1)) == [
        "blueprint mixed: 8 registers",
        "  input  r0  #0  = r6 (prologue)",
        "  input  r1  b",
        "  input  r2  c",
        "  input  r3  d  = 4",
        "  input  r4  *  = ()",
        "  input  r5  **  = {}",
        "     0  r6 = load('x')",
        "entry:",
        "     1  r7 = mixed(r0, r1, *r4, c=r2, d=r3, **r5)",
    ]


def test_without_a_prologue_there_is_no_entry_to_show():
    assert listing(pair(1)) == [
        "blueprint pair: 3 registers",
        "  input  r0  a",
        "  input  r1  b  = 2",
        "     0  r2 = pair(r0, b=r1)",
    ]


def test_conditions_and_order_stand_behind_the_call():
    """R6."""
    ready, first = eq(load(), 3), load("first")
    target = pair(1).run_if(ready).run_if(first).after(first)

    assert listing(target, template=False) == [
        "blueprint pair: 4 registers",
        "     0  r0 = load()",
        "     1  r1 = eq(r0, 3)",
        "     2  r2 = load('first')",
        "entry:",
        "     3  r3 = pair(1)  if r1 and r2  after r2",
    ]


def test_capacities_are_listed_behind_the_call():
    target = pair(1).with_capacity(gpu=load(), disk=0.5).with_timeout(3).with_priority(2)

    assert listing(target, template=False) == [
        "blueprint pair: 2 registers",
        "     0  r0 = load()",
        "entry:",
        "     1  r1 = pair(1)  timeout 3 s  takes 0.5 disk, r0 gpu  priority 2",
    ]


def test_a_blueprint_made_by_hand():
    blueprint = Blueprint([Call(max, Register(1), [Register(0), Literal(3)])], 2, [0])

    assert disassemble(blueprint).splitlines() == [
        "blueprint max: 2 registers",
        "  input  r0  #0",
        "     0  r1 = max(r0, 3)",
    ]


def test_an_empty_blueprint():
    assert disassemble(Blueprint()) == "blueprint (empty): 0 registers"


def test_one_register_is_counted_in_the_singular():
    assert listing(load(), template=False)[0] == "blueprint load: 1 register"


def test_an_invalid_operand_is_listed_by_its_repr():
    """A listing helps to find faults in a handwritten blueprint."""
    blueprint = Blueprint([Call(max, Register(0), [3])], 1)

    assert disassemble(blueprint).endswith("  r0 = max(3)")


@pytest.mark.parametrize("value", ["x" * 1_000, list(range(1_000_000)), {"k": "v" * 100}])
def test_a_long_literal_is_cut(value):
    (_, line) = listing(load(value), template=False)

    assert len(line) <= 100


def test_a_deep_literal_is_cut():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]

    assert len(listing(pair(deep), template=False)[-1]) <= 100


def test_a_deep_default_is_cut():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    blueprint = Blueprint([Call(abs, Register(1))], 2, [0], input_defaults={0: deep})

    assert len(disassemble(blueprint).splitlines()[1]) <= 100


def test_a_chain_of_many_is_listed(many):
    lazy = load()
    for _ in range(many - 1):
        lazy = pair(lazy)

    assert listing(lazy)[-1].split() == [str(many - 1), f"r{many + 1}", "=", "pair(r0,", "b=r1)"]


def test_many_arguments_are_listed(many):
    lines = listing(join(*range(many)), template=False)

    assert lines[-1].endswith(f"{many - 2}, {many - 1})")


@given(programs(amounts=True))
def test_every_instruction_and_input_has_a_line(program):
    blueprint = BlueprintBuilder().build(program[-1])
    registers = {*blueprint.input_args, *blueprint.input_kwargs.values()}
    registers |= {blueprint.input_var_args, blueprint.input_var_kwargs} - {None}
    size = 1 + len(registers) + len(blueprint.instructions) + (blueprint.entry > 0)

    assert len(disassemble(blueprint).splitlines()) == size
