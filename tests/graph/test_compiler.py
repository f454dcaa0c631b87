"""BlueprintBuilder: the compiled form of programs, and that it keeps their meaning.

The blueprints are executed here by ``execute``, the reduction rules of ``cascade.spec.blueprint``
written down once more, so that this layer is tested without the one above it.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.graph.flows import countdown, join, load, mixed, named_only, pair, query
from tests.graph.programs import meaning, programs

from cascade.graph.compiler import BlueprintBuilder
from cascade.spec.blueprint import Blueprint, Call, Literal, Register, literal
from cascade.spec.containers import fill
from cascade.spec.errors import CycleError, DefinitionError
from cascade.spec.lazy_types import LazyResult, gather
from cascade.spec.operators import eq
from cascade.spec.params import Param
from cascade.spec.resource import inject
from cascade.spec.routing import Router
from cascade.spec.task import task


@task
def add_one(x: int) -> int:
    return x + 1


@task
def add(a: int, b: int) -> int:
    return a + b


def build(target: Any, **options: Any) -> Blueprint:
    return BlueprintBuilder().build(target, **options)


_ABSENT: Any = object()


def execute(blueprint: Blueprint, args: Any = (), kwargs: Any = {}) -> Any:  # noqa: B006
    """The value of a blueprint; lazy values in between are evaluated (R4)."""
    frame = [_ABSENT] * blueprint.register_count

    def value(operand: Any) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        assert frame[operand.index] is not _ABSENT, f"{operand} is read before it is written"
        return frame[operand.index]

    def run(call: Call) -> None:
        assert frame[call.output.index] is _ABSENT, f"{call.output} is written twice"
        for waited in (*call.conditions, *call.after):
            value(waited)
        arguments = [value(operand) for operand in call.args]
        named = {name: value(operand) for name, operand in call.kwargs.items()}
        arguments += value(call.var_args) if call.var_args else ()
        named |= value(call.var_kwargs) if call.var_kwargs else {}
        result = call.func(*arguments, **named)
        frame[call.output.index] = meaning(result) if isinstance(result, LazyResult) else result

    inputs = dict(zip(blueprint.input_args, args, strict=False))
    surplus = tuple(args[len(blueprint.input_args) :])
    if surplus:
        assert blueprint.input_var_args is not None
        inputs[blueprint.input_var_args] = surplus
    extra = {}
    for name, argument in kwargs.items():
        if name in blueprint.input_kwargs:
            inputs[blueprint.input_kwargs[name]] = argument
        else:
            extra[name] = argument
    if extra:
        assert blueprint.input_var_kwargs is not None
        inputs[blueprint.input_var_kwargs] = extra
    for call in blueprint.instructions[: blueprint.entry]:
        run(call)
    prologue = {i: frame[source] for i, source in blueprint.input_sources.items()}
    for register, argument in {**blueprint.input_defaults, **prologue, **inputs}.items():
        frame[register] = argument
    for call in blueprint.instructions[blueprint.entry :]:
        run(call)
    return frame[blueprint.instructions[-1].output.index]


def check(blueprint: Blueprint) -> None:
    """The invariants of every blueprint."""
    collecting = (blueprint.input_var_args, blueprint.input_var_kwargs)
    inputs = {*blueprint.input_args, *blueprint.input_kwargs.values()}
    inputs |= {register for register in collecting if register is not None}
    outputs = [call.output.index for call in blueprint.instructions]
    assert len(outputs) == len(set(outputs))
    assert not inputs & set(outputs)
    assert sorted([*inputs, *outputs]) == list(range(blueprint.register_count))
    assert {*blueprint.input_defaults, *blueprint.input_sources} <= inputs
    assert not set(blueprint.input_defaults) & set(blueprint.input_sources) - {
        blueprint.input_var_args,
        blueprint.input_var_kwargs,
    }
    written = set(outputs[: blueprint.entry])
    assert set(blueprint.input_sources.values()) <= written
    known: set[int] = set()
    for place, call in enumerate(blueprint.instructions):
        if place == blueprint.entry:
            known |= inputs
        operands = [*call.args, *call.kwargs.values(), *call.conditions, *call.after]
        operands += [r for r in (call.var_args, call.var_kwargs) if r]
        read = {operand.index for operand in operands if isinstance(operand, Register)}
        assert read <= known, "a register is read before it is written"
        known.add(call.output.index)


# -- as the seeds describe it ---------------------------------------------------------------------


def test_the_roots_arguments_become_input_registers():
    """R0 is the input ``x``, R1 the result."""
    blueprint = build(add_one(x=10))

    assert blueprint.register_count == 2
    assert len(blueprint.instructions) == 1
    assert blueprint.input_kwargs["x"] == 0
    (call,) = blueprint.instructions
    assert isinstance(call, Call)
    assert call.func == add_one.func
    assert call.output.index == 1
    assert "x" in call.kwargs
    assert isinstance(call.kwargs["x"], Register)
    assert call.kwargs["x"].index == 0


def test_without_a_template_the_arguments_are_baked_in():
    blueprint = build(add_one(x=10), template=False)

    assert blueprint.register_count == 1
    assert (blueprint.input_args, blueprint.input_kwargs) == ((), {})
    (call,) = blueprint.instructions
    assert call.func == add_one.func
    assert call.output == Register(0)
    assert call.kwargs == {"x": Literal(10)}
    assert execute(blueprint) == 11


def test_a_template_can_be_entered_with_other_values():
    """The blueprint of ``recursive_countdown(count=0)`` counts down from wherever it is entered."""
    blueprint = build(countdown(count=0))

    assert "count" in blueprint.input_kwargs
    assert execute(blueprint, kwargs={"count": 0}) == "done"
    assert execute(blueprint, kwargs={"count": 5}).kwargs == {"count": 4}


def test_a_chain_is_compiled_inputs_first():
    blueprint = build(add_one(add_one(add_one(1))), template=False)

    assert [call.func for call in blueprint.instructions] == [add_one.func] * 3
    assert [call.args for call in blueprint.instructions] == [
        (Literal(1),),
        (Register(0),),
        (Register(1),),
    ]
    assert execute(blueprint) == 4


def test_a_shared_node_is_compiled_once():
    """R3."""
    shared = add_one(1)
    blueprint = build(add(shared, add(shared, shared)), template=False)

    assert len(blueprint.instructions) == 3
    assert execute(blueprint) == 6


def test_one_builder_builds_many_blueprints():
    builder = BlueprintBuilder()
    first = builder.build(add_one(x=1))
    builder.build(add(add_one(1), 2))

    assert builder.build(add_one(x=1)) == first
    assert len(first.instructions) == 1


# -- inputs ---------------------------------------------------------------------------------------


def test_positional_and_keyword_arguments_meet_in_one_register():
    """M1: ``f(10)`` and a later ``TailCall(kwargs={"x": 9})``."""
    blueprint = build(add_one(10))

    assert blueprint.input_args == (0,)
    assert blueprint.input_kwargs == {"x": 0}
    assert execute(blueprint, args=[1]) == execute(blueprint, kwargs={"x": 1}) == 2


def test_parameters_with_defaults_get_registers_after_the_given_ones():
    """M1."""
    blueprint = build(mixed(1, c=3))

    names = blueprint.input_names()
    assert {r: names.get(r) for r in range(4)} == {0: "#0", 1: "c", 2: "b", 3: "d"}
    assert (blueprint.input_args, blueprint.input_kwargs) == ((0, 2), {"b": 2, "c": 1, "d": 3})
    assert blueprint.input_defaults == {2: 2, 3: 4, 4: (), 5: {}}
    assert (blueprint.input_var_args, blueprint.input_var_kwargs) == (4, 5)
    assert blueprint.register_count == 7


def test_a_given_argument_does_not_become_a_default():
    """M3: a missing input is an error; a template does not remember its original arguments."""
    blueprint = build(pair(1))

    assert blueprint.input_defaults == {1: 2}
    assert all(Literal(1) not in call.args for call in blueprint.instructions)


def test_arguments_go_to_the_call_as_they_were_given():
    assert build(pair(1, 2)).instructions[-1].args == (Register(0), Register(1))
    assert build(pair(1, b=2)).instructions[-1].kwargs == {"b": Register(1)}
    assert build(pair(b=1, a=2)).instructions[-1].kwargs == {"a": Register(0), "b": Register(1)}
    assert build(pair(b=1, a=2)).input_kwargs == {"a": 0, "b": 1}


def test_a_positional_only_default_goes_by_position():
    @task
    def f(a, b=2, /, c=3):
        return a, b, c

    blueprint = build(f(1))

    assert blueprint.input_kwargs == {"c": 2}
    assert execute(blueprint, args=[7]) == (7, 2, 3)
    assert execute(blueprint, args=[7, 8], kwargs={"c": 9}) == (7, 8, 9)


def test_surplus_arguments_have_a_register_each_kind():
    blueprint = build(join(1, 2, k=3))

    assert blueprint.input_args == ()
    assert (blueprint.input_var_args, blueprint.input_var_kwargs) == (0, 1)
    assert blueprint.input_defaults == {0: (), 1: {}}
    assert execute(blueprint, [1, 2], {"k": 3}) == join.func(1, 2, k=3)
    assert execute(blueprint, [4]) == join.func(4)


def test_surplus_values_are_accepted_although_the_template_had_no_surplus():
    blueprint = build(mixed(1, c=2))

    assert execute(blueprint, [1, 2, 3, 4], {"c": 5, "z": 6}) == mixed.func(1, 2, 3, 4, c=5, z=6)


def test_keyword_only_inputs_have_no_position():
    blueprint = build(named_only(a=1))

    assert blueprint.input_args == ()
    assert blueprint.input_kwargs == {"a": 0, "b": 1}


def test_an_injection_is_an_input_like_any_other():
    blueprint = build(query("q"))

    assert list(blueprint.input_kwargs) == ["sql", "db", "log"]
    assert build(query("q"), template=False).instructions[0].kwargs == {
        name: Literal(query.parameters.injections[name]) for name in ("db", "log")
    }


# -- the prologue ---------------------------------------------------------------------------------


def test_a_lazy_argument_of_the_root_is_computed_by_the_prologue():
    """M3."""
    blueprint = build(add(add_one(1), 2))

    assert blueprint.entry == 1
    assert blueprint.input_args == (0, 1)
    assert blueprint.input_sources == {0: 2}
    prologue, root = blueprint.instructions
    assert (prologue.func, prologue.args) == (add_one.func, (Literal(1),))
    assert (root.func, root.args) == (add.func, (Register(0), Register(1)))
    assert execute(blueprint, kwargs={"b": 2}) == 4


def test_an_explicit_initial_argument_overrides_its_prologue():
    """M3."""
    assert execute(build(add(add_one(1), 2)), kwargs={"a": 10, "b": 2}) == 12


def test_a_container_with_lazy_values_is_computed_by_the_prologue():
    """R2."""
    blueprint = build(pair([add_one(1), (add_one(2), 5)]))

    assert blueprint.entry == 3
    assert blueprint.instructions[2].func is fill
    assert execute(blueprint) == pair.func([2, (3, 5)])


def test_surplus_arguments_that_are_lazy_are_put_together_by_the_prologue():
    blueprint = build(join(1, add_one(1), k=add_one(2), n=3))

    assert blueprint.entry == 4
    assert set(blueprint.input_sources) == {blueprint.input_var_args, blueprint.input_var_kwargs}
    assert execute(blueprint) == join.func(1, 2, k=3, n=3)


def test_surplus_arguments_are_not_searched_beyond_literals():
    """R2."""
    hidden = [add_one(1)]
    blueprint = build(join(literal(hidden), add_one(1)))
    seen = []
    collecting = task(lambda *parts: seen.extend(parts))
    execute(build(collecting(literal(hidden), add_one(1))))

    assert blueprint.entry == 2
    assert seen[0] is hidden


def test_surplus_injections_are_left_to_the_call():
    """An injection is an argument of its own, also as one of ``*args``."""
    database = inject("db")
    plain = build(join(database, k=inject("log")))
    assert plain.entry == 0
    assert plain.input_sources == {}

    seen = []
    collecting = task(lambda *parts, **named: seen.extend([*parts, *named.values()]))
    blueprint = build(collecting(database, add_one(1), k=add_one(2), n=database))
    check(blueprint)
    execute(blueprint)
    assert seen == [database, 2, 3, database]


def test_conditions_and_predecessors_come_before_the_root_and_are_asked_on_entry():
    """R6."""
    blueprint = build(add_one(1).run_if(eq(load(), 1)).after(load("b")))

    assert blueprint.entry == 3
    root = blueprint.instructions[-1]
    assert root.conditions == (Register(2),)
    assert root.after == (Register(3),)
    assert root.conditions[0] == blueprint.instructions[1].output
    assert root.after[0] == blueprint.instructions[2].output


def test_conditions_and_predecessors_of_an_inner_node():
    """R6."""
    ready, first = load("ready"), load("first")
    blueprint = build(pair(load().run_if(ready).after(first)), template=False)
    inner = blueprint.instructions[2]

    assert inner.conditions == (Register(0),)
    assert inner.after == (Register(1),)


def test_a_younger_edge_is_compiled_before_its_user():
    first, second = load("first"), load("second")
    first.after(second)
    blueprint = build(pair(first, second))

    check(blueprint)
    assert [call.args for call in blueprint.instructions[:2]] == [
        (Literal("second"),),
        (Literal("first"),),
    ]


# -- inner nodes ----------------------------------------------------------------------------------


def test_a_call_knows_its_task_and_its_lazy_value():
    inner = load()
    target = pair(inner)
    blueprint = build(target)

    assert blueprint.task is pair
    assert [call.task for call in blueprint.instructions] == [load, pair]
    assert blueprint.instructions[0].source is inner


def test_a_literal_is_one_operand():
    """R2."""
    shield = literal([add_one(1)])

    assert build(pair(shield), template=False).instructions[0].args == (shield,)


@pytest.mark.parametrize(
    "root",
    [
        gather(load()),
        pair.map(a=[1, 2]),
        Router(selector="s", routes={"s": load()}),
        Param("p", default=3),
    ],
)
def test_a_root_without_a_task_has_no_inputs(root):
    blueprint = build(root)

    check(blueprint)
    assert (blueprint.input_args, blueprint.input_kwargs) == ((), {})
    assert blueprint == build(root, template=False)
    assert execute(blueprint) == meaning(root)


def test_unchosen_routes_are_not_compiled():
    """R7."""
    router = Router(selector=load(), routes={"s": pair(1), "l": pair(2)})

    assert len(build(router).instructions) == 2


# -- build_task -----------------------------------------------------------------------------------


def test_a_task_as_such_has_all_its_parameters_as_inputs():
    blueprint = BlueprintBuilder().build_task(mixed)

    check(blueprint)
    assert len(blueprint.input_args) == 2
    assert set(blueprint.input_kwargs) == {"b", "c", "d"}
    assert None not in (blueprint.input_var_args, blueprint.input_var_kwargs)
    assert blueprint.input_sources == {}
    assert blueprint.entry == 0
    assert execute(blueprint, [1, 2, 3], {"c": 4, "z": 5}) == mixed.func(1, 2, 3, c=4, z=5)


def test_a_task_as_such_starts_from_its_defaults():
    """M1."""
    assert execute(BlueprintBuilder().build_task(pair), [1]) == pair.func(1)
    assert execute(BlueprintBuilder().build_task(named_only), kwargs={"a": 1}) == named_only.func(
        a=1
    )


# -- build_all ------------------------------------------------------------------------------------


def test_several_are_built_under_their_ids():
    """Lazy values as templates, tasks as such."""
    blueprints = BlueprintBuilder().build_all({"b": pair(load()), "a": pair, "c": gather(1)})

    assert list(blueprints) == ["b", "a", "c"]
    assert blueprints["a"] == BlueprintBuilder().build_task(pair)
    assert blueprints["b"] == build(pair(load()))
    for blueprint in blueprints.values():
        check(blueprint)


@pytest.mark.parametrize("targets", [{}, None, [countdown(1)], countdown, "even"])
def test_without_anything_to_build_all_is_refused(targets):
    with pytest.raises(
        DefinitionError,
        match=r"^build_all\(\) takes a dict of id → lazy value or task, with at",
    ):
        BlueprintBuilder().build_all(targets)


@pytest.mark.parametrize("target", [3, None, countdown.func, "even", build(countdown(1)), [load()]])
def test_build_all_names_the_id_of_an_invalid_target(target):
    with pytest.raises(
        DefinitionError, match=r"^the target of 'odd' must be a lazy value or a task, but is "
    ):
        BlueprintBuilder().build_all({"even": countdown, "odd": target})


def test_an_id_is_a_str():
    with pytest.raises(DefinitionError, match=r"^the id of a blueprint must be a str, but is 3$"):
        BlueprintBuilder().build_all({3: countdown})


# -- all programs ---------------------------------------------------------------------------------


def arguments_of(target: LazyResult) -> tuple[list[Any], dict[str, Any]]:
    """The inputs that an engine gives a template: the root's plain arguments."""
    parameters = target.task.parameters  # type: ignore[attr-defined]
    named = parameters.bind(target.args, target.kwargs)
    surplus = [parameters.var_positional, parameters.var_keyword]
    plain = {
        name: value.value if isinstance(value, Literal) else value
        for name, value in named.items()
        if not isinstance(value, LazyResult) and name not in surplus
    }
    args = [plain[n] for n in parameters.positional if n in plain and n not in parameters.keyword]
    return args, {n: v for n, v in plain.items() if n in parameters.keyword}


@given(programs(), st.booleans())
def test_every_program_becomes_a_well_formed_blueprint(program, template):
    check(build(program[-1], template=template))


@given(programs())
def test_a_baked_blueprint_gives_the_value_of_the_program(program):
    assert execute(build(program[-1], template=False)) == meaning(program[-1])


@given(programs())
def test_a_template_entered_with_its_own_arguments_gives_the_value_of_the_program(program):
    target = program[-1]
    parameters = target.task.parameters
    values = {
        name: meaning_of(v) for name, v in parameters.bind(target.args, target.kwargs).items()
    }
    args, kwargs = parameters.spread(parameters.complete(values))

    assert execute(build(target), args, kwargs) == meaning(target)
    assert execute(BlueprintBuilder().build_task(target.task), args, kwargs) == meaning(target)


def meaning_of(value: Any) -> Any:
    """Of an argument, or of the tuple or dict of surplus ones."""
    if isinstance(value, LazyResult):
        return meaning(value)
    if isinstance(value, Literal):
        return value.value
    if type(value) is tuple:
        return tuple(map(meaning_of, value))
    if type(value) is dict:
        return {name: meaning_of(item) for name, item in value.items()}
    return value


@given(programs())
def test_the_prologue_alone_supplies_the_lazy_arguments(program):
    """M3: only arguments that were plain have to be given."""
    target = program[-1]
    if target.task is join or target.task is mixed:
        return  # their surplus is all or nothing
    args, kwargs = arguments_of(target)

    assert execute(build(target), args, kwargs) == meaning(target)


# -- size and misuse ------------------------------------------------------------------------------


def test_a_chain_of_many(many):
    lazy = load()
    for _ in range(many - 1):
        lazy = pair(lazy)
    blueprint = build(lazy)

    assert len(blueprint.instructions) == many
    assert blueprint.entry == many - 1


def test_many_arguments(many):
    blueprint = build(join(*(load() for _ in range(many))))

    assert len(blueprint.instructions) == many + 2
    assert len(build(join(*range(many))).instructions) == 1


@pytest.mark.parametrize("target", [3, None, [load()], load, "load"])
def test_only_a_lazy_value_is_compiled(target):
    with pytest.raises(TypeError) as caught:
        build(target)

    assert type(caught.value) is DefinitionError


def test_a_cycle_is_refused():
    a, b = load(), load()
    a.after(b)
    b.after(a)
    with pytest.raises(CycleError):
        _ = build(pair(a)).instructions


def test_a_thread_that_finds_a_blueprint_compiled_by_another_keeps_its_parts():
    """It looks for a part, is overtaken by a thread that compiles, and asks what compiles it."""
    blueprint = BlueprintBuilder().build(add(1, 2))
    instructions = blueprint.instructions

    assert Blueprint.__getattr__(blueprint, "instructions") is instructions
    assert len(instructions) == 1
    assert blueprint.register_count > 0
