"""The Blueprint IR and TailCall as data: their contents, and that they are immutable."""

import copy
import dataclasses
import pickle
from collections import deque
from types import MappingProxyType

import pytest

from cascade.spec.blueprint import Blueprint, Call, Literal, Register, TailCall, literal
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.task import task


@task
def step(n, m=0): ...


def by_hand() -> Blueprint:
    return Blueprint(
        instructions=[
            Call(func=abs, output=Register(1), args=[Register(0)], kwargs={}),
            Call(func=max, output=Register(2), args=[Register(1), Literal(3)], kwargs={}),
        ],
        register_count=3,
        input_args=[0],
        input_kwargs={"n": 0},
    )


def test_a_blueprint_can_be_made_by_hand():
    blueprint = by_hand()

    assert blueprint.register_count == 3
    assert blueprint.input_args == (0,)
    assert blueprint.input_kwargs == {"n": 0}
    assert blueprint.entry == 0
    assert (blueprint.input_var_args, blueprint.input_var_kwargs) == (None, None)
    assert blueprint.input_defaults == blueprint.input_sources == {}
    assert blueprint.task is None


def test_the_seeds_way_of_writing_a_call_positionally():
    call = Call(abs, Register(1), [Register(0)], {"key": Literal(2)})

    assert call.args == (Register(0),)
    assert call.kwargs == {"key": Literal(2)}
    assert call.conditions == call.after == ()


def test_a_call_without_arguments():
    call = Call(dict, Register(0))

    assert (call.args, call.kwargs) == ((), {})


def test_equal_blueprints_are_equal():
    assert by_hand() == by_hand()
    assert by_hand() != dataclasses.replace(by_hand(), register_count=4)
    assert Literal(1) == Literal(1) != Literal(2)
    assert Register(1) != Literal(1)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Literal(1), "value"),
        (Register(1), "index"),
        (Call(abs, Register(0)), "func"),
        (Blueprint(), "register_count"),
    ],
)
def test_the_ir_does_not_change(thing, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, name, 5)


def test_a_blueprint_copies_the_containers_that_it_is_given():
    instructions, inputs, kwargs = [Call(abs, Register(0))], [0], {"n": 0}
    blueprint = Blueprint(instructions, 1, inputs, kwargs)
    operands: dict = {"a": Register(0)}
    call = Call(abs, Register(1), [], operands)
    for thing in (instructions, inputs, kwargs, operands):
        thing.clear()

    assert len(blueprint.instructions) == 1
    assert (blueprint.input_args, blueprint.input_kwargs) == ((0,), {"n": 0})
    assert call.kwargs == {"a": Register(0)}


def test_equal_blueprints_have_one_hash():
    assert hash(by_hand()) == hash(by_hand())
    assert len({by_hand(), by_hand(), dataclasses.replace(by_hand(), register_count=4)}) == 2
    one, other = ({"a": Register(0), "b": Literal(1)}, {"b": Literal(1.0), "a": Register(0)})
    assert Call(max, Register(1), (), one) == Call(max, Register(1), [], other)
    assert hash(Call(max, Register(1), (), one)) == hash(Call(max, Register(1), [], other))
    assert hash(Call(max, Register(1))) != hash(Call(min, Register(1)))
    assert hash(Call(max, Register(1))) != hash(Call(max, Register(2)))


class Unhashable(list):
    """A callable object that has no hash."""

    def __call__(self): ...


@pytest.mark.parametrize("value", [[1], {"a": []}, {1}, step(1), Unhashable()])
def test_a_blueprint_may_hold_unhashable_values(value):
    call = Call(Unhashable(), Register(0), [Literal(value)], {"a": Literal(value)})
    blueprint = Blueprint([call], 1, input_defaults={0: value})

    assert hash(blueprint) == hash(dataclasses.replace(blueprint))
    assert blueprint in {blueprint}


def test_values_that_are_equal_with_other_hashes_do_not_part_equal_calls():
    """A set and a frozenset may be equal, though only one of them has a hash."""
    calls = [Call(len, Register(0), [Literal(kind([1]))]) for kind in (set, frozenset)]

    assert calls[0] == calls[1]
    assert len(set(calls)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda mapping: mapping.__setitem__("n", 1),
        lambda mapping: mapping.__delitem__("n"),
        lambda mapping: mapping.__ior__({"m": 1}),
        lambda mapping: mapping.update(n=1),
        lambda mapping: mapping.setdefault("m", 1),
        lambda mapping: mapping.pop("n"),
        lambda mapping: mapping.popitem(),
        lambda mapping: mapping.clear(),
    ],
)
def test_the_mappings_of_the_ir_do_not_change(change):
    call = Call(abs, Register(0), (), {"n": Literal(1)})
    blueprint = Blueprint([call], 1, (), {"n": 0}, None, None, {"n": 1}, {"n": 0})
    fields = ("input_kwargs", "input_defaults", "input_sources")
    for mapping in (call.kwargs, *(getattr(blueprint, name) for name in fields)):
        before = dict(mapping)
        with pytest.raises(DefinitionError, match=r"^a blueprint is immutable; make a changed "):
            change(mapping)
        assert mapping == before


def test_a_blueprint_is_pickled_and_copied():
    blueprint = dataclasses.replace(by_hand(), input_defaults={0: [1]}, input_sources={0: 1})
    for other in (pickle.loads(pickle.dumps(blueprint)), copy.deepcopy(blueprint)):
        assert other == blueprint
        assert hash(other) == hash(blueprint)
        assert other.input_defaults[0] is not blueprint.input_defaults[0]
        with pytest.raises(TypeError, match="is immutable"):
            other.input_kwargs["m"] = 1


def test_names_for_people():
    assert by_hand().name == "max"
    assert Blueprint().name == "(empty)"
    assert Blueprint(task=step).name == "step"
    assert Call(abs, Register(0)).name == "abs"
    assert Call(abs, Register(0), task=step).name == "step"
    assert Call(3, Register(0)).name == "3"


def test_an_input_is_called_by_its_name_where_it_has_one():
    blueprint = Blueprint(input_args=[0, 1], input_kwargs={"b": 1, "c": 2})

    assert blueprint.input_names() == {0: "#0", 1: "b", 2: "c"}


# -- TailCall -------------------------------------------------------------------------------------


def test_a_tail_call_holds_new_arguments_and_where_to_continue():
    """R5."""
    tail = TailCall(kwargs={"n": 1})

    assert (list(tail.args), dict(tail.kwargs)) == ([], {"n": 1})
    assert (tail.target_blueprint_id, tail.target) == (None, None)
    full = TailCall([1], {"n": 2}, "other", step)
    assert (full.args, full.target_blueprint_id, full.target) == ([1], "other", step)


def test_a_tail_call_without_arguments_repeats_with_the_last_ones():
    assert TailCall() == TailCall((), {})
    assert TailCall().kwargs is not TailCall().kwargs


@pytest.mark.parametrize("args", [[1], (1,), range(1, 2), deque([1])])
def test_the_arguments_of_a_tail_call_are_any_sequence(args):
    assert list(TailCall(args).args) == [1]
    assert TailCall(kwargs=MappingProxyType({"n": 1})).kwargs["n"] == 1


@pytest.mark.parametrize("args", [3, 0, None, "ab", {1}, iter([1]), step])
def test_other_arguments_of_a_tail_call_are_refused_where_it_is_made(args):
    message = r"^TailCall takes the positional arguments in a list or tuple, but got .*\n"
    with pytest.raises(ArgumentError, match=message + r"    right:  TailCall\(\[3\]\)$"):
        TailCall(args)


def test_arguments_by_name_are_given_by_the_name_of_kwargs():
    with pytest.raises(
        ArgumentError, match=r"got {'n': 1}\n    right:  TailCall\(kwargs={'n': 3}\)$"
    ):
        TailCall({"n": 1})
    with pytest.raises(ArgumentError, match=r"keyword arguments in a dict, but got kwargs=\[1\]\n"):
        TailCall(kwargs=[1])


@pytest.mark.parametrize("target", [step.func, "step", 3, step(1), (step(1) + 1).task])
def test_a_tail_call_goes_to_a_task(target):
    message = r"^target must be a task, but is .*; decorate it with @cs\.task$"
    for _ in range(2):
        with pytest.raises(ArgumentError, match=message):
            TailCall(target=target)
    assert TailCall(target=step).target is step


def test_tail_calls_compare_by_arguments_and_target():
    assert TailCall([1], {"a": 2}) == TailCall((1,), {"a": 2})
    assert TailCall([1]) != TailCall([2])
    assert TailCall(target_blueprint_id="a") != TailCall(target_blueprint_id="b")
    assert TailCall(target=step) != TailCall()
    assert TailCall() != "TailCall()"


def test_a_tail_call_is_not_hashable():
    with pytest.raises(TypeError, match="unhashable"):
        hash(TailCall())


def test_a_tail_call_shows_itself():
    tail = TailCall([1, "x"], {"n": 2}, "other", step)

    assert repr(tail) == "TailCall(1, 'x', n=2, target_blueprint_id='other', target=step)"
    assert repr(TailCall()) == "TailCall()"


# -- literal --------------------------------------------------------------------------------------


def test_literal_holds_the_same_object():
    """R2."""
    value = [step(1)]
    held: object = literal(value)

    assert isinstance(held, Literal)
    assert held.value is value


class Unshowable:
    def __repr__(self):
        raise ValueError("no repr")

    __call__ = print


@pytest.mark.parametrize("value", [Unshowable(), "x" * 1_000_000, [Unshowable()] * 1_000])
def test_values_that_cannot_be_shown_or_are_huge_leave_reprs_short(value):
    many = [value] * 1_000
    named = {f"n{number}": value for number in range(1_000)}
    assert len(repr(Literal(value))) < 500
    assert len(repr(TailCall(many, named))) < 20_000
    call = Call(value, Register(0), [*map(Literal, many)], {n: Literal(value) for n in named})
    assert len(repr(call)) < 20_000
    assert "… 980 more" in repr(call)
