"""BlueprintRegistry: blueprints by id."""

import pytest

import cascade as cs
from cascade.runtime.blueprint import Blueprint, Call, Register
from cascade.runtime.vm import BlueprintRegistry


def blueprint(func=len):
    return Blueprint([Call(func, Register(1), [Register(0)])], 2, input_args=[0])


@pytest.fixture
def registry():
    return BlueprintRegistry()


def test_a_registered_blueprint_is_found(registry):
    first, second = blueprint(), blueprint(sum)
    registry.register("first", first)
    registry.register("second", second)

    assert registry.get("first", "caller") is first
    assert registry.get("second", "caller") is second


def test_a_later_registration_replaces_an_earlier_one(registry):
    registry.register("a", blueprint())
    latest = blueprint(sum)
    registry.register("a", latest)

    assert registry.get("a", "caller") is latest


def test_an_unknown_id_names_caller_known_ids_and_the_nearest(registry):
    with pytest.raises(
        cs.errors.UnknownBlueprintError, match=r"task 'caller'.*'pnog'.*none"
    ) as error:
        registry.get("pnog", "caller")
    assert isinstance(error.value, LookupError)

    registry.register("pong", blueprint())
    registry.register("ending", blueprint())
    with pytest.raises(
        cs.errors.UnknownBlueprintError, match=r"'ending', 'pong'.*did you mean 'pong'"
    ):
        registry.get("pnog", "caller")


@pytest.mark.parametrize("value", [None, len, Blueprint(), "blueprint"])
def test_blueprints_that_cannot_be_executed_are_refused(registry, value):
    with pytest.raises(cs.errors.DefinitionError, match="Blueprint with instructions"):
        registry.register("a", value)
