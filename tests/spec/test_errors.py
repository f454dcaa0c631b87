"""One tree of errors, each also the builtin that people catch (M18)."""

import copy
import copyreg
import dataclasses
import importlib
import inspect
import pickle
import pkgutil

import pytest

import cascade
from cascade.spec import errors
from cascade.spec.pickled_errors import keep_own_pickling

BUILTINS = {
    "DefinitionError": TypeError,
    "LazyUseError": TypeError,
    "LazyAttributeError": AttributeError,
    "ArgumentError": TypeError,
    "CycleError": ValueError,
    "BlueprintError": ValueError,
    "SerializationError": TypeError,
    "DrawingError": RuntimeError,
    "TaskNotImportedError": ImportError,
    "NotStorableError": TypeError,
    "ParameterError": ValueError,
    "ResourceNotFoundError": NameError,
    "ResourceError": RuntimeError,
    "ResourceTimeoutError": TimeoutError,
    "DependencyMissingError": LookupError,
    "ReleasedValueError": LookupError,
    "RouteError": LookupError,
    "UnpackError": ValueError,
    "CapacityError": ValueError,
    "TaskTimeoutError": TimeoutError,
    "DeadlineError": TimeoutError,
    "StepLimitError": RuntimeError,
    "TierError": TypeError,
    "UnknownBlueprintError": LookupError,
    "TaskStopIterationError": RuntimeError,
    "RunCancelledError": RuntimeError,
    "TaskCancelledError": RuntimeError,
    "RunError": RuntimeError,
    "StoredError": RuntimeError,
    "ExecutorError": RuntimeError,
    "SendError": TypeError,
    "WorkerLostError": RuntimeError,
    "ValueLostError": RuntimeError,
    "RemoteError": RuntimeError,
    "ConnectorError": ConnectionError,
    "StoreError": OSError,
    "RunNotFoundError": LookupError,
    "RunConflictError": ValueError,
    "RunLeasedError": RuntimeError,
    "LeaseLostError": RuntimeError,
    "CodeChangedError": RuntimeError,
    "StalledError": RuntimeError,
    "InternalError": RuntimeError,
}
PUBLIC = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
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


def test_errors_have_attributes_for_their_subject():
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
    """Not a KeyError, whose ``str`` is the repr of its message."""
    for name, error in PUBLIC.items():
        extra = {
            "TaskNotImportedError": ("flows",),
            "NotStorableError": ("[0]",),
            "ParameterError": ("n",),
            "DependencyMissingError": ("c",),
            "CapacityError": ("gpu",),
            "ResourceTimeoutError": (1.5,),
            "TaskTimeoutError": (1.5,),
            "DeadlineError": (1.5,),
            "RunCancelledError": ("mine",),
            "SendError": ("argument 'x' of task 'score'",),
            "WorkerLostError": ("score", 3),
            "ValueLostError": ("score",),
            "RemoteError": ("shop:StockError",),
            "StepLimitError": (7,),
            "RunNotFoundError": ("order-17",),
            "RunConflictError": ("order-17",),
            "RunLeasedError": ("order-17", "host", 1.5),
            "LeaseLostError": ("order-17",),
            "CodeChangedError": ("pay",),
            "StoredError": ("flows:Failed", "Traceback"),
        }.get(name, ())
        assert str(error("it's so", *extra)) == "it's so"


# -- pickle and copy ----------------------------------------------------------------------------


def all_errors():
    """Every class of the tree, whichever module declares it."""
    for module in pkgutil.walk_packages(cascade.__path__, "cascade."):
        if ".observatory" not in module.name and not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("cascade"):  # not the library of an extra
                    raise
    found, todo = [], [errors.CascadeError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith("cascade."):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__qualname__)


def an_error(kind):
    """One with a value for each parameter of ``__init__``, and a different one for each."""
    if kind.__init__ in (Exception.__init__, OSError.__init__, NameError.__init__) or not hasattr(
        kind.__init__, "__code__"
    ):
        return kind("what happened")
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    return kind("what happened", *[f"the {name}" for name in names[1:]])


def in_a_pickle(error):
    return pickle.loads(pickle.dumps(error))


WAYS = [in_a_pickle, copy.copy, copy.deepcopy]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickle_and_copy_with_its_attributes(kind, way):
    error = an_error(kind)
    error.add_note("a note")
    error.extra = ["what a user put there"]
    error.__context__ = ValueError("before")
    error.__cause__ = KeyError("why")

    again = way(error)

    assert type(again) is kind
    assert again is not error
    assert str(again) == str(error) == "what happened"
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert again.__notes__ == ["a note"]
    assert repr(again.__cause__) == "KeyError('why')"
    assert repr(again.__context__) == "ValueError('before')"
    assert again.__suppress_context__ is True


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_error_without_a_cause_shows_its_context(way):
    error = errors.RunError("m")
    error.__context__ = ValueError("before")
    assert way(error).__suppress_context__ is False


@pytest.mark.parametrize("way", WAYS)
def test_the_name_that_a_name_error_is_about_is_kept(way):
    assert way(errors.ResourceNotFoundError("m", name="database")).name == "database"


class TooFewArguments(Exception):
    """Cannot be unpickled: ``__init__`` wants more than ``args`` has."""

    def __init__(self, one, two):
        super().__init__(one)


@dataclasses.dataclass(frozen=True)
class FrozenMisfit(errors.CascadeError):
    """A subclass that takes no attributes by assignment."""

    place: str


class Slotted(errors.ArgumentError):
    __slots__ = ("place",)


def test_a_cause_that_cannot_be_pickled_is_replaced_by_its_text():
    error = errors.RunError("m")
    error.__cause__ = TooFewArguments("the reason", 2)

    again = in_a_pickle(error)

    assert "TooFewArguments: the reason (it cannot be pickled: " in str(again.__cause__)
    assert copy.copy(error).__cause__ is error.__cause__


def test_a_long_chain_of_errors_is_pickled_in_proportion_to_its_length():
    def chain(length):
        error = errors.RunError("first")
        for number in range(length):
            try:
                try:
                    raise error
                except errors.CascadeError as before:
                    raise errors.RunError(str(number)) from before
            except errors.CascadeError as after:
                error = after
        return error

    assert len(pickle.dumps(chain(24))) < 3 * len(pickle.dumps(chain(12)))
    again = in_a_pickle(chain(3))
    assert again.__context__ is again.__cause__


def test_errors_that_are_each_others_cause_can_be_pickled():
    one, other = errors.RunError("one"), errors.RunError("other")
    one.__cause__, other.__cause__ = other, one
    assert str(in_a_pickle(one).__cause__) == "other"


@pytest.mark.parametrize("way", WAYS)
def test_subclasses_of_users_survive_too(way):
    frozen = FrozenMisfit("here")
    slotted = Slotted("m")
    slotted.place = "there"

    assert way(frozen) == frozen
    assert way(slotted).place == "there"
    assert str(way(slotted)) == "m"


def test_another_way_to_pickle_errors_can_be_undone():
    """tblib registers one for every class, and it cannot replace a cause by its text."""

    def as_tblib(error):
        return type(error), error.args, {"__cause__": error.__cause__}

    copyreg.pickle(errors.RunError, as_tblib)
    keep_own_pickling(errors.CascadeError)
    error = errors.RunError("no")
    error.__cause__ = TooFewArguments("the reason", 2)

    again = pickle.loads(pickle.dumps(error))

    assert "TooFewArguments: the reason (it cannot be pickled: " in str(again.__cause__)
