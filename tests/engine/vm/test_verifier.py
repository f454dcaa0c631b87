"""``verify``: executable blueprints pass, and faults are reported with their place."""

import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential import strategies
from tests.differential.build import Build
from tests.differential.test_corpus import CASES, Ground
from tests.graph.programs import programs

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder, template_of
from cascade.runtime.blueprint import Blueprint, Call, Literal, Register, TailCall
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.vm import VirtualMachine
from cascade.spec.lazy_types import LazyResult


def double(x):
    return 2 * x


@cs.task
def pair(a, b=2):
    return a, b


@cs.task
def number():
    return 1


@cs.task
def collect(first, *rest, **named): ...


R0, R1, R2, R3, R9 = (Register(i) for i in (0, 1, 2, 3, 9))


def one(*args, output=R1, **options):
    """A blueprint of one instruction over two registers, the first an input."""
    return Blueprint([Call(double, output, args or (R0,), **options)], 2, input_kwargs={"x": 0})


def loop(*calls, **options):
    """A blueprint with an input ``x`` and three other registers."""
    return Blueprint(calls, 4, input_kwargs={"x": 0}, **options)


# -- blueprints that pass ---------------------------------------------------------------------


@settings(deadline=None)
@given(programs(amounts=True), st.booleans())
def test_whatever_the_builder_makes_passes(program, template):
    cs.verify(BlueprintBuilder().build(program[-1], template=template), strict=True)
    for lazy in program:
        if isinstance(lazy.task, cs.Task):
            cs.verify(template_of(lazy.task), strict=True)


def compiled(made):
    """The blueprints of a program of the differential tests; empty if it is refused before."""
    try:
        lazies = [made.target(), *made.blueprints.values()]
        blueprints = [
            BlueprintBuilder().build(lazy, template=template)
            for lazy in lazies
            if isinstance(lazy, LazyResult)
            for template in (True, False)
        ]
        return [blueprint for blueprint in blueprints if blueprint.instructions]
    except cs.CascadeError:
        return []


@settings(deadline=None)
@given(strategies.programs(strategies.Profile(fails=5)))
def test_programs_of_all_kinds_of_tasks_pass(program):
    for blueprint in compiled(Build(program, cs)):
        cs.verify(blueprint, strict=True)


@pytest.mark.parametrize("meaning", CASES)
def test_the_programs_of_the_corpus_pass(meaning):
    for blueprint in compiled(Ground(CASES[meaning], cs)):
        cs.verify(blueprint, strict=True)


def looping(n): ...


HAND_MADE = {
    "a loop": Blueprint([Call(looping, R1, kwargs={"n": R0})], 2, input_kwargs={"n": 0}),
    "by position": Blueprint([Call(looping, R1, [R0])], 2, input_args=[0]),
    "inputs in another order": Blueprint([Call(max, R9, [R3, R1, R2])], 10, input_args=[3, 1, 2]),
    "the root writes an input": Blueprint(
        [Call(double, R1, [R0]), Call(double, R2, [R1]), Call(pair.func, R0, [R2], {"b": R1})],
        3,
        input_args=[0],
        entry=2,
    ),
    "an output is written twice": Blueprint(
        [Call(number.func, R0), Call(double, R0, [R0]), Call(double, R0, [R0])], 1, entry=2
    ),
    "a loop that replaces what only the prologue reads": loop(
        Call(number.func, R1),
        Call(double, R2, [R1]),
        Call(number.func, R1),
        Call(max, R3, [R2, R1]),
        entry=2,
    ),
    "a prologue": Blueprint(
        [Call(number.func, R1), Call(pair.func, R2, [R0], {"b": R1})], 3, [0], entry=1
    ),
    "conditions and predecessors": Blueprint(
        [
            Call(number.func, R0, conditions=[Literal(False)]),
            Call(number.func, R1, after=[R0], conditions=[R0]),
        ],
        2,
        entry=1,
    ),
    "amounts": Blueprint(
        [
            Call(number.func, R0),
            Call(number.func, R1, amounts={"gpu": R0, "disk": Literal(0.5)}),
        ],
        2,
        entry=1,
    ),
    "an instruction between the entry and the root": loop(
        Call(number.func, R1), Call(double, R2, [R1]), Call(max, R3, [R0, R2]), entry=1
    ),
    "registers that nobody uses": Blueprint([Call(number.func, R0)], 7),
    "what is not known of a function": Blueprint(
        [Call(print, R0, [Literal(1)], {"x": R0})], 1, [0]
    ),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_blueprints_made_by_hand_pass(name):
    cs.verify(HAND_MADE[name], strict=True)


async def test_a_verified_blueprint_is_executed_as_before():
    blueprint = HAND_MADE["the root writes an input"]
    cs.verify(blueprint, strict=True)

    assert await VirtualMachine().execute(blueprint, [1]) == (4, 2)


# -- blueprints that are refused --------------------------------------------------------------

_FITS = BlueprintBuilder().build(pair(number()))
_COLLECTS = template_of(collect)
#: Fault → the blueprint, the message, and the index of the instruction.
REFUSED = {
    "no instructions": (Blueprint(), "it has no instructions, so it has no value", None),
    "no number of registers": (
        replace(one(), register_count=-1),
        "register_count is -1, where an int ≥ 0 was expected",
        None,
    ),
    "an entry behind the end": (
        replace(one(), entry=1),
        "entry is 1, where the index of one of its instructions was expected",
        None,
    ),
    "an entry that is no int": (
        replace(one(), entry=True),
        "entry is True, where the index of one of its instructions was expected",
        None,
    ),
    "no call": (replace(one(), instructions=["x"]), "instruction 0 ('x'): it is not a Call", 0),
    "nothing to call": (
        replace(one(), instructions=[Call(3, R1, [R0])]),
        "instruction 0 (3): it calls 3, which cannot be called",
        0,
    ),
    "an argument out of range": (
        one(R0, R9),
        "instruction 0 (double): its argument 1 is r9, where one of r0 to r1 was expected",
        0,
    ),
    "a negative register": (
        one(kwargs={"x": Register(-1)}),
        "instruction 0 (double): its argument 'x' is r-1, where one of r0 to r1 was expected",
        0,
    ),
    "a register that is no int": (
        one(Register("x")),  # type: ignore[arg-type]
        "instruction 0 (double): its argument 0 is 'x', where one of r0 to r1 was expected",
        0,
    ),
    "an argument that is no operand": (
        one([1]),
        "instruction 0 (double): its argument 0 is [1], where a Register or a Literal was expected",
        0,
    ),
    "a name that is no str": (
        one(kwargs={3: R0}),
        "instruction 0 (double): the name 3 of an argument is not a str",
        0,
    ),
    "an output out of range": (
        one(output=R2),
        "instruction 0 (double): its output is r2, where one of r0 to r1 was expected",
        0,
    ),
    "an output that is no register": (
        one(output=1),
        "instruction 0 (double): its output is 1, where a Register was expected",
        0,
    ),
    "a condition out of range": (
        one(conditions=[R9]),
        "instruction 0 (double): its condition 0 is r9, where one of r0 to r1 was expected",
        0,
    ),
    "a predecessor that is no register": (
        one(after=[Literal(1)]),
        "instruction 0 (double): its predecessor 0 is Literal(value=1), where a Register was "
        "expected",
        0,
    ),
    "surplus arguments out of range": (
        one(var_kwargs=R9),
        "instruction 0 (double): its var_kwargs is r9, where one of r0 to r1 was expected",
        0,
    ),
    "no registers at all": (
        Blueprint([Call(number.func, R0)]),
        "instruction 0 (number): its output is r0, where there are no registers",
        0,
    ),
    "an input out of range": (
        replace(one(), input_kwargs={"x": 0, "y": 2}),
        "the input 'y' is r2, where one of r0 to r1 was expected",
        None,
    ),
    "an input without a name": (
        replace(one(), input_kwargs={"x": 0, 3: 1}),
        "the name 3 of an input is not a str",
        None,
    ),
    "two inputs in one register": (
        replace(one(), input_kwargs={"x": 0, "y": 0}),
        "the inputs 'x' and 'y' are both r0",
        None,
    ),
    "two positional inputs in one register": (
        replace(one(), input_args=[0, 0]),
        "the inputs #0 and #1 are both r0",
        None,
    ),
    "surplus in the register of an input": (
        replace(one(), input_var_args=0, input_defaults={0: ()}),
        "the inputs 'x' and * are both r0",
        None,
    ),
    "surplus without a default": (
        replace(_COLLECTS, input_defaults={1: ()}),
        "the input ** has no default: input_defaults={2: {}}",
        None,
    ),
    "a default of no input": (
        replace(one(), input_defaults={1: 5}),
        "input_defaults names r1, which is not an input",
        None,
    ),
    "a source of no input": (
        replace(_FITS, input_sources={**_FITS.input_sources, 2: 2}),
        "input_sources names r2, which is not an input",
        None,
    ),
    "a source that the prologue does not write": (
        replace(_FITS, input_sources={0: 3}),
        "the source of the input 'a' is r3, which no instruction before the entry writes",
        None,
    ),
    "a source out of range": (
        replace(_FITS, input_sources={0: 9}),
        "the source of the input 'a' is r9, where one of r0 to r3 was expected",
        None,
    ),
    "an instruction that writes an input": (
        loop(Call(double, R0, [R0]), Call(double, R1, [R0])),
        "instruction 0 (double): it writes r0, which is the input 'x'; only the last instruction "
        "may write to an input",
        0,
    ),
    "a register that nothing writes": (
        one(R0, R1, output=R0),
        "instruction 0 (double): it reads r1, which nothing writes",
        0,
    ),
    "a register that is written later": (
        loop(Call(double, R1, [R2]), Call(number.func, R2)),
        "instruction 0 (double): it reads r2, but only instruction 1 (number) writes it",
        0,
    ),
    "a condition that is written later": (
        loop(Call(double, R1, [R0], conditions=[R2]), Call(number.func, R2)),
        "instruction 0 (double): it reads r2, but only instruction 1 (number) writes it",
        0,
    ),
    "its own output": (
        one(R1),
        "instruction 0 (double): it reads r1, but only instruction 0 (double) writes it",
        0,
    ),
    "an input that comes at the entry": (
        loop(
            Call(number.func, R1),
            Call(double, R2, [R0]),
            Call(double, R3, [R0]),
            input_sources={0: 1},
            entry=2,
        ),
        "instruction 1 (double): it reads r0, the input 'x', before the entry, where it gets its "
        "value",
        1,
    ),
    "a value of the prologue that the loop replaces": (
        loop(
            Call(number.func, R1),
            Call(double, R2, [R1]),
            Call(double, R1, [R2]),
            Call(max, R3, [R0, R1]),
            entry=1,
        ),
        "instruction 1 (double): it reads r1, which instruction 2 (double) changes for later turns",
        1,
    ),
    "an argument too many": (
        Blueprint([Call(number.func, R1, [R0], task=number)], 2, [0]),
        "instruction 0 (number): its arguments do not fit: task 'number': too many positional "
        "arguments; its signature is number()",
        0,
    ),
    "an argument missing": (
        Blueprint([Call(pair.func, R1, kwargs={"b": R0}, task=pair)], 2, [0]),
        "instruction 0 (pair): its arguments do not fit: task 'pair': missing a required argument: "
        "'a'; its signature is pair(a, b=2)",
        0,
    ),
    "an unknown argument beside surplus ones": (
        Blueprint(
            [Call(pair.func, R1, kwargs={"c": Literal(1)}, var_args=R0, task=pair)],
            2,
            input_var_args=0,
            input_defaults={0: ()},
        ),
        "instruction 0 (pair): its arguments do not fit: task 'pair': got an unexpected keyword "
        "argument 'c'; its signature is pair(a, b=2)",
        0,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_faulty_blueprint_is_refused_with_its_only_fault(what):
    blueprint, fault, place = REFUSED[what]
    with pytest.raises(cs.errors.BlueprintError) as caught:
        cs.verify(blueprint, strict=True)

    head, line = str(caught.value).split("\n")
    assert re.fullmatch("the blueprint '.*' has 1 fault:", head)
    assert line == f"    {fault}"
    assert caught.value.instruction == place


def test_all_faults_are_told_at_once():
    blueprint = Blueprint([Call(double, R1, [R9]), Call(3, R0, [R2])], 3, entry=2)
    with pytest.raises(cs.errors.BlueprintError) as caught:
        cs.verify(blueprint, strict=True)

    assert str(caught.value).splitlines() == [
        "the blueprint '3' has 3 faults:",
        "    instruction 0 (double): its argument 0 is r9, where one of r0 to r2 was expected",
        "    instruction 1 (3): it calls 3, which cannot be called",
        "    entry is 2, where the index of one of its instructions was expected",
    ]
    assert caught.value.instruction == 0


def test_of_very_many_faults_some_are_told():
    with pytest.raises(cs.errors.BlueprintError) as caught:
        cs.verify(Blueprint([None] * 1000, 1), strict=True)

    lines = str(caught.value).splitlines()
    assert lines[0] == "the blueprint '(unnamed)' has 1000 faults:"
    assert lines[-2:] == ["    instruction 19 (None): it is not a Call", "    … and 980 more"]


@pytest.mark.parametrize("thing", [None, number(), number, "blueprint", [R0]])
def test_something_else_than_a_blueprint_is_refused(thing):
    with pytest.raises(cs.errors.DefinitionError, match=r"^verify\(\) takes a Blueprint, but got "):
        cs.verify(thing)


_steps = st.lists(
    st.tuples(st.lists(st.integers(0, 3), max_size=2), st.integers(0, 3)), min_size=1, max_size=5
)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(_steps, st.integers(0, 4))
def test_verified_instructions_read_written_registers_in_every_turn(steps, entry):
    """Each instruction returns its place, so that a read value tells its writer."""
    last = len(steps) - 1
    seen: list[tuple[int, tuple]] = []

    def step(place):
        def func(*args):
            seen.append((place, args))
            is_first = [p for p, _ in seen].count(last) == 1
            return TailCall() if place == last and is_first else place

        return func

    calls = [
        Call(step(place), Register(output), [Register(register) for register in reads])
        for place, (reads, output) in enumerate(steps)
    ]
    blueprint = Blueprint(calls, 4, input_args=[0], entry=min(entry, last))
    try:
        cs.verify(blueprint, strict=True)
        passes = True
    except cs.errors.BlueprintError:
        passes = False
    asyncio.run(VirtualMachine().execute(blueprint, ["input"]))
    is_right = len(set(seen)) == len(steps) and not any(UNSET in args for _, args in seen)

    if any(output == 0 for _, output in steps[:-1]):
        assert not passes  # even if no instruction reads the input again
    else:
        assert passes == is_right


_strange = st.sampled_from([None, -1, 0, 1, 2, 99, True, "x", [1], R0, R9, Literal(0), number])
_strange_call = st.builds(
    Call,
    st.sampled_from([double, 3, None]),
    _strange,
    st.lists(_strange, max_size=2),
    st.dictionaries(st.sampled_from(["x", 3]), _strange, max_size=1),
    _strange,
    _strange,
    st.lists(_strange, max_size=1),
    st.lists(_strange, max_size=1),
    task=st.sampled_from([None, pair, number]),
)
_keys = st.sampled_from([None, -1, 0, 1, "x", (1,)])


@settings(deadline=None)
@given(
    st.builds(
        Blueprint,
        st.lists(st.one_of(_strange_call, _strange), max_size=3),
        st.one_of(st.just(2), _strange),
        st.lists(_strange, max_size=2),
        st.dictionaries(_keys, _strange, max_size=2),
        _strange,
        _strange,
        st.dictionaries(_keys, _strange, max_size=2),
        st.dictionaries(_keys, _strange, max_size=2),
        _strange,
    )
)
def test_whatever_stands_in_a_blueprint_the_answer_is_a_clear_one(blueprint):
    told = "the blueprint '' has no fault"
    try:
        cs.verify(blueprint, strict=True)
    except cs.errors.BlueprintError as error:
        told = str(error)

    assert re.match("the blueprint '.*' has (no|1|[0-9]+) faults?", told)


def test_a_long_blueprint_is_verified_too(many):
    lazy = number()
    for _ in range(many):
        lazy = pair(lazy)
    cs.verify(BlueprintBuilder().build(lazy), strict=True)
