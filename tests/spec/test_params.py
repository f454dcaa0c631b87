"""Param and Env: values from outside a run."""

import enum
import re
from decimal import Decimal
from pathlib import Path

import pytest

from cascade.spec.errors import DefinitionError, ParameterError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import MISSING, Env, Param, run_params
from cascade.spec.task import task


@task
def use(value): ...


class Colour(enum.Enum):
    RED = "red"


# -- Param ----------------------------------------------------------------------------------------


def test_a_param_is_a_lazy_value():
    region = Param("region", default="eu", description="where to run")
    lazy = use(region)

    assert isinstance(region, LazyResult)
    assert lazy._dependencies == (region,)
    assert region.name == "param region"
    assert region.param_name == "region"
    assert region.description == "where to run"
    assert region.type is str
    assert region._dependencies == ()
    assert region.task.structural


def test_the_runs_value_comes_before_the_default():
    region = Param("region", default="eu")

    assert region.read({"region": "us", "other": 1}) == "us"
    assert region.read({}) == "eu"


def test_the_default_is_given_as_it_is():
    default = object()

    assert Param("p", default, object).read({}) is default
    assert Param("p", default).read({}) is default
    assert Param("p", default, lambda text: text).read({}) is default
    assert Param("p", None, int).read({}) is None
    assert Param("p", "3", int).read({}) == "3"


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (int, 3),
        (int, "3"),
        (float, 2),
        (bool, False),
        (bool, "yes"),
        (Path, Path("a")),
        (Path, "a"),
        (Colour, Colour.RED),
        (Colour, "red"),
        (dict, {}),
        (Decimal, "1.5"),
        (object, "text"),
    ],
)
def test_a_default_may_be_any_value_that_could_be_given(kind, default):
    assert Param("p", default, kind).read({}) is default
    assert Param("p", type=kind).read({"p": default}) is not None


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (int, "many"),
        (int, True),
        (int, 2.5),
        (bool, 1),
        (Colour, "blue"),
        (dict, []),
        (Decimal, "much"),
        (int, Param("other")),
    ],
)
def test_a_default_that_could_not_be_given_is_refused_at_declaration(kind, default):
    """Otherwise some day it would be handed to a task that does not expect it."""
    problem = f"Param 'p': the default must be {kind.__name__}, but is {default!r} of type "
    with pytest.raises(DefinitionError, match=f"^{re.escape(problem + type(default).__name__)}$"):
        Param("p", default, kind)


def test_a_missing_param_is_named_together_with_the_given_ones():
    region = Param("region")
    message = (
        f"the parameter 'region' (at {region.callsite}) is required, but the run was given "
        "'a', 'b'; pass params={'region': …} or give a default"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$") as caught:
        region.read({"a": 1, "b": 2})

    assert type(caught.value) is ParameterError
    assert caught.value.name == "region"
    with pytest.raises(ParameterError, match="but the run was given none; "):
        region.read({})


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (str, "x", "x"),
        (int, 3, 3),
        (int, "3", 3),
        (int, " -3 ", -3),
        (float, 2, 2.0),
        (float, "2.5", 2.5),
        (bool, True, True),
        (bool, "yes", True),
        (bool, " ON ", True),
        (bool, "0", False),
        (bool, "False", False),
        (bool, "", False),
        (Path, "a/b", Path("a/b")),
        (Colour, "red", Colour.RED),
        (Colour, Colour.RED, Colour.RED),
        (dict, {"a": 1}, {"a": 1}),
        (lambda text: text.split(","), "a,b", ["a", "b"]),
        (object, 3, 3),
        (object, "text", "text"),
    ],
)
def test_values_of_the_type_and_strings_that_convert_to_it(kind, given, value):
    result = Param("p", type=kind).read({"p": given})

    assert result == value
    assert type(result) is type(value)


def test_a_value_of_the_type_is_the_same_object():
    value = [1, 2]

    assert Param("p", type=list).read({"p": value}) is value


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (int, "three"),
        (int, 3.5),
        (int, True),
        (int, None),
        (float, "x"),
        (float, True),
        (bool, "maybe"),
        (bool, 1),
        (bool, []),
        (str, 3),
        (str, None),
        (Colour, "blue"),
        (dict, "a"),
        (list, (1, 2)),
        (Decimal, "much"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(kind, given):
    region = Param("p", type=kind)
    message = (
        f"the parameter 'p' (at {region.callsite}) must be {kind.__name__}, but is {given!r} "
        f"of type {type(given).__name__}"
    )
    with pytest.raises(ParameterError, match=f"^{re.escape(message)}$") as caught:
        region.read({"p": given})

    assert caught.value.name == "p"


def test_a_huge_value_is_cut_in_the_message():
    with pytest.raises(ParameterError) as caught:
        Param("p", type=int).read({"p": "x" * 10_000})

    assert len(str(caught.value)) < 400


def test_a_runs_params_reach_the_operation_through_the_context():
    """The engine calls the operation's function with the node's arguments."""
    region = Param("region", default="eu")
    token = run_params.set({"region": "us"})
    try:
        assert region.task.func(*region.args) == "us"
    finally:
        run_params.reset(token)
    assert region.task.func(*region.args) == "eu"


@pytest.mark.parametrize("kind", ["int", 3, None, use, Param("other")])
def test_a_type_is_a_type_or_a_function(kind):
    message = r"^Param 'p': type takes a type, or a function that converts, but got "
    with pytest.raises(DefinitionError, match=message):
        Param("p", type=kind)


@pytest.mark.parametrize("kind", [Param, Env])
@pytest.mark.parametrize("name", ["", None, 3])
def test_a_source_needs_a_name(kind, name):
    with pytest.raises(DefinitionError, match=rf"^{kind.__name__} needs a name, but got "):
        kind(name)


def test_the_repr_of_a_missing_default_is_required():
    assert repr(MISSING) == "(required)"
    assert Param("p").default is MISSING


# -- Env ------------------------------------------------------------------------------------------


def test_a_variable_is_read_when_the_node_runs(monkeypatch):
    home = Env("CASCADE_TEST_HOME")
    for value in ("first", "second", ""):
        monkeypatch.setenv("CASCADE_TEST_HOME", value)
        assert home.read({}) == value
        assert home.task.func(*home.args) == value


def test_a_variable_that_is_not_set_has_the_default_or_is_an_error(monkeypatch):
    monkeypatch.delenv("CASCADE_TEST_HOME", raising=False)

    assert Env("CASCADE_TEST_HOME", default=None).read({}) is None
    assert Env("CASCADE_TEST_HOME", "x").read({"CASCADE_TEST_HOME": "not this"}) == "x"
    message = (
        r"^the environment variable 'CASCADE_TEST_HOME' \(at .*\) is not set and has no default$"
    )
    with pytest.raises(ParameterError, match=message) as caught:
        Env("CASCADE_TEST_HOME").read({})
    assert caught.value.name == "CASCADE_TEST_HOME"


def test_an_env_is_a_lazy_value():
    lazy = Env("HOME")

    assert lazy.name == "env HOME"
    assert use([lazy])._dependencies[0]._dependencies == (lazy,)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list, "[1, 2]", [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (set, "[1, 1]", {1}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
def test_a_container_is_read_from_text_as_json(kind, text, value):
    assert Param("p", type=kind).read({"p": text}) == value
    assert Param("p", type=kind).read({"p": value}) is value


@pytest.mark.parametrize("kind", [list, list[int], tuple, set[str], frozenset, dict])
@pytest.mark.parametrize("text", ["123", "abc", '"abc"', ""])
def test_a_text_is_not_taken_apart_into_a_container(kind, text):
    with pytest.raises(ParameterError, match="the parameter 'p'"):
        Param("p", type=kind).read({"p": text})


def test_the_error_names_a_generic_type_whole():
    with pytest.raises(ParameterError, match=r"must be list\[int\], but is '123' of type str"):
        Param("p", type=list[int]).read({"p": "123"})
