"""One tree of errors, each also the builtin that people catch (M18)."""

import pytest

from cascade.spec import errors

BUILTINS = {
    "DefinitionError": TypeError,
    "LazyUseError": TypeError,
    "LazyAttributeError": AttributeError,
    "ArgumentError": TypeError,
    "CycleError": ValueError,
    "BlueprintError": ValueError,
    "SerializationError": TypeError,
    "TaskNotImportedError": ImportError,
    "ParameterError": ValueError,
    "ResourceNotFoundError": NameError,
    "ResourceError": RuntimeError,
    "ResourceTimeoutError": TimeoutError,
    "DependencyMissingError": LookupError,
    "RouteError": LookupError,
    "UnpackError": ValueError,
    "CapacityError": ValueError,
    "TaskTimeoutError": TimeoutError,
    "DeadlineError": TimeoutError,
    "StepLimitError": RuntimeError,
    "TierError": TypeError,
    "UnknownBlueprintError": LookupError,
    "TaskStopIterationError": RuntimeError,
    "RunError": RuntimeError,
    "ExecutorError": RuntimeError,
    "ConnectorError": ConnectionError,
    "StalledError": RuntimeError,
    "InternalError": RuntimeError,
}
PUBLIC = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
}


def test_the_table_has_every_error():
    assert set(PUBLIC) == {"CascadeError", *BUILTINS}


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_an_error_is_a_cascade_error_and_the_builtin(name, builtin):
    assert issubclass(PUBLIC[name], errors.CascadeError)
    assert issubclass(PUBLIC[name], builtin)
    assert PUBLIC[name].__doc__


@pytest.mark.parametrize("name", BUILTINS)
def test_the_modules_docstring_draws_the_tree(name):
    assert f"─ {name} ({BUILTINS[name].__name__})" in (errors.__doc__ or "")


def test_the_root_is_an_ordinary_exception():
    assert errors.CascadeError.__mro__[1] is Exception


def test_what_an_error_is_about_can_be_read_from_it():
    assert errors.CycleError("m", ["a", "b", "a"]).cycle == ("a", "b", "a")
    assert errors.CycleError("m").cycle == ()
    assert errors.BlueprintError("m", 3).instruction == 3
    assert errors.BlueprintError("m").instruction is None
    assert errors.ParameterError("m", "region").name == "region"
    assert errors.DependencyMissingError("m", "ready").condition == "ready"
    assert errors.CapacityError("m", "gpu").capacity == "gpu"
    assert errors.ResourceTimeoutError("m", 1.5).seconds == 1.5
    assert errors.TaskTimeoutError("m", 1.5).seconds == 1.5
    assert errors.DeadlineError("m", 1.5).seconds == 1.5
    assert errors.StepLimitError("m", 7).limit == 7


def test_messages_are_shown_as_written():
    """A LookupError is no KeyError, whose ``str`` is the repr of its message."""
    for name, error in PUBLIC.items():
        extra = {
            "TaskNotImportedError": ("flows",),
            "ParameterError": ("n",),
            "DependencyMissingError": ("c",),
            "CapacityError": ("gpu",),
            "ResourceTimeoutError": (1.5,),
            "TaskTimeoutError": (1.5,),
            "DeadlineError": (1.5,),
            "StepLimitError": (7,),
        }.get(name, ())
        assert str(error("it's so", *extra)) == "it's so"
