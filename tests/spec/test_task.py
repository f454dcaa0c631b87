"""``@task``, calling a task, ``tail``: results, memory, refusals."""

import asyncio
import functools
import inspect
import operator
import pickle
import re
import subprocess
import sys
from unittest.mock import AsyncMock, MagicMock

import pytest

from cascade.spec.blueprint import TailCall, literal
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject, inject, resource
from cascade.spec.task import Task, task


@task
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@task
async def fetch(url: str) -> str:
    return url


@task
def shapes(first, /, second, *rest, flag=False, **options):
    return first, second, rest, flag, options


class Scale:
    """Multiplies by a factor that it was made with."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return value * self.factor

    def method(self, value: int) -> int:
        return value + self.factor

    @task
    def as_method(self, value):
        return value * self.factor


class AsyncCall:
    async def __call__(self) -> None: ...


# -- attributes taken over from the function ------------------------------------------------------


def test_a_task_keeps_name_docs_module_and_signature():
    assert add.name == add.__name__ == "add"
    assert add.__qualname__ == "add"
    assert add.__module__ == __name__
    assert add.__doc__ == inspect.getdoc(add) == "Add two numbers."
    assert str(inspect.signature(add)) == "(a: int, b: int = 2) -> int"
    assert add.__wrapped__ is add.func


def test_the_function_itself_stays_callable():
    assert add.func(1, 5) == 6
    assert asyncio.run(fetch.func("x")) == "x"


def test_a_task_can_be_given_another_name():
    @task(name="sum of two")
    def f(a, b): ...

    assert f.name == "sum of two"
    assert f.__name__ == "f"
    assert repr(f) == "<task sum of two>"
    assert f(1, 2).name == "sum of two"


def test_empty_parentheses_may_be_left_out():
    @task()
    def f(): ...

    assert isinstance(f, Task)
    assert f.name == "f"


def test_coroutine_functions_are_known_as_such():
    assert fetch.is_async
    assert not add.is_async
    assert task(functools.partial(fetch.func, "x")).is_async
    assert task(AsyncCall()).is_async
    assert not task(Scale(2)).is_async
    assert task(functools.partial(AsyncCall())).is_async
    assert task(AsyncMock()).is_async
    assert not task(MagicMock()).is_async


def test_functions_marked_as_coroutine_functions_are_known_as_such():
    def fetched(url):
        return fetch.func(url)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(fetched)
    else:  # as frameworks do
        fetched._is_coroutine = asyncio.coroutines._is_coroutine

    assert task(fetched).is_async
    assert task(functools.partial(fetched, "x")).is_async


def test_attributes_of_a_function_do_not_hide_those_of_the_task():
    def f(x):
        return x

    for name in ("name", "func", "parameters", "tail", "map", "make", "is_async"):
        setattr(f, name, "mine")
    made = task(f)

    assert made.name == "f"
    assert made.func is f
    assert not made.is_async
    assert made.tail(1) == TailCall((1,), target=made)
    assert made.map(x=[1]).name == "f.map"
    assert made(1).args == (1,)


# -- callables that can be tasks ------------------------------------------------------------------


def test_a_lambda_is_a_task():
    double = task(lambda x: x * 2)

    assert double.name == "<lambda>"
    assert double.func(3) == 6
    assert double(3).args == (3,)


def test_a_partial_is_a_task_named_after_its_function():
    add_five = task(functools.partial(functools.partial(add.func, 5), b=1))

    assert add_five.name == "add"
    assert add_five.func() == 6
    assert add_five().args == ()
    with pytest.raises(ArgumentError, match=r"^task 'add': .*too many positional"):
        add_five(1)


def test_a_callable_object_is_a_task_named_after_its_class():
    scale = task(Scale(3))

    assert scale.name == "Scale"
    assert scale.func(2) == 6
    with pytest.raises(ArgumentError, match=r"^task 'Scale': missing a required argument: 'value'"):
        scale()


def test_a_bound_method_is_a_task():
    plus_three = task(Scale(3).method)

    assert plus_three.name == "method"
    assert plus_three(4).args == (4,)
    assert plus_three.func(4) == 7


def test_a_task_in_a_class_is_called_with_the_instance_as_an_argument():
    scale = Scale(3)

    assert Scale.as_method(scale, 5).args == (scale, 5)
    assert scale.as_method(5).args == (scale, 5)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (len, ([1, 2],)),
        (print, ("a", "b")),
        (max, (1, 2, 3)),
        (operator.add, (1, 2)),
        (int, ("7",)),
    ],
)
def test_builtins_and_classes_are_tasks(function, args):
    made = task(function)

    assert made.name == function.__name__
    assert made(*args).args == args
    assert not made.is_async


def test_a_builtin_that_tells_its_signature_is_checked():
    with pytest.raises(ArgumentError, match=r"^task 'len': .*; its signature is len\(obj, /\)$"):
        task(len)([], [])


def test_a_builtin_that_hides_its_signature_takes_anything():
    lazy = task(max)([1, 2], key=abs, default=None)

    assert lazy.kwargs == {"key": abs, "default": None}


@pytest.mark.parametrize("thing", [3, None, "f", [len], add(1)])
def test_task_refuses_objects_that_cannot_be_called(thing):
    with pytest.raises(DefinitionError, match=r"^@task takes a function, but got "):
        task(thing) if thing is not None else Task(None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": 3}, "name must be a str, but is 3"),
        (
            {"mode": "thread"},
            "mode must be 'auto', 'blocking', 'inline' or 'process', but is 'thread'",
        ),
        ({"nout": 0}, "nout must be an int ≥ 1, but is 0, as there is nothing to unpack"),
        ({"nout": True}, "nout must be an int ≥ 1, but is True"),
        ({"nout": 2.0}, "nout must be an int ≥ 1, but is 2.0"),
        ({"may_block": "yes"}, "may_block must be True, False or seconds, but is 'yes'"),
        ({"may_block": float("nan")}, "may_block must be True, False or seconds, but is nan"),
        ({"may_block": -1}, "may_block must be True, False or seconds, but is -1"),
        ({"may_block": None}, "may_block must be True, False or seconds, but is None"),
    ],
)
def test_an_invalid_option_is_refused_at_decoration(options, problem):
    with pytest.raises(DefinitionError, match=f"^task 'add': {re.escape(problem)}$"):
        task(**options)(add.func)


def test_a_task_is_not_decorated_twice():
    with pytest.raises(DefinitionError, match=r"^<task add> is a task already"):
        task(add)


def _generator():
    yield 1


async def _async_generator():
    yield 1


class GeneratorCall:
    def __call__(self):
        yield 1


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (_generator, "_generator"),
        (_async_generator, "_async_generator"),
        (functools.partial(_generator), "_generator"),
        (GeneratorCall(), "GeneratorCall"),
    ],
)
def test_generator_functions_are_refused_at_decoration(function, name):
    """M17."""
    with pytest.raises(TypeError, match=rf"^'{name}' is a generator function.*@resource$"):
        task(function)


# -- the call -------------------------------------------------------------------------------------


def test_a_call_does_not_run_the_function():
    @task
    def explode():
        raise AssertionError("ran")

    assert isinstance(explode(), LazyResult)


def test_every_call_is_a_node_of_its_own():
    """R3 is about one lazy value used twice, not about equal calls."""
    assert add(1) is not add(1)


def test_arguments_are_kept_as_they_were_given():
    lazy = shapes(1, 2, 3, 4, flag=True, other=5)

    assert lazy.args == (1, 2, 3, 4)
    assert lazy.kwargs == {"flag": True, "other": 5}
    assert lazy.task is shapes


def test_a_keyword_may_have_the_name_of_a_positional_only_parameter():
    assert shapes(1, 2, first=3).kwargs == {"first": 3}


def test_parameters_may_be_called_self_and_task():
    @task
    def odd(self, task, args, kwargs): ...

    assert odd(1, task=2, args=3, kwargs=4).kwargs == {"task": 2, "args": 3, "kwargs": 4}


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 3}, "got an unexpected keyword argument 'c'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_wrong_arguments_are_a_type_error_at_the_call_that_names_the_task(args, kwargs, problem):
    message = f"task 'add': {problem}; its signature is add(a: int, b: int = 2) -> int"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$") as caught:
        add(*args, **kwargs)

    assert type(caught.value) is ArgumentError
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_shape_of_call_that_failed_fails_again():
    for _ in range(3):
        with pytest.raises(ArgumentError):
            add()


def test_a_shape_that_fits_does_not_let_another_pass():
    """Checked shapes are remembered; ``f(1, b=2)`` must not vouch for ``f(1, c=2)``."""
    add(1, b=2)
    add(1, 2)
    with pytest.raises(ArgumentError, match="'c'"):
        add(1, c=2)
    with pytest.raises(ArgumentError, match="multiple values"):
        add(1, 2, b=2)


def test_positional_only_and_keyword_only_are_told_apart():
    @task
    def f(a, /, b, *, c): ...

    assert f(1, b=2, c=3).kwargs == {"b": 2, "c": 3}
    with pytest.raises(ArgumentError, match=r"^task 'f': "):
        f(a=1, b=2, c=3)
    with pytest.raises(ArgumentError, match="too many positional"):
        f(1, 2, 3)
    with pytest.raises(ArgumentError, match=r"missing a required .*'c'"):
        f(1, 2)


def test_many_shapes_of_call_do_not_pile_up():
    @task
    def f(*args): ...

    for size in range(1_000):
        assert len(f(*range(size)).args) == size

    assert len(f._shapes) < 100


def test_lazy_arguments_are_dependencies_in_order_and_once_for_each_use():
    """R2, R3."""
    a, b = add(1), add(2)
    lazy = shapes(a, 1, b, flag=a)

    assert lazy._dependencies == (a, b, a)
    assert not lazy._special


def test_a_hundred_thousand_arguments():
    lazies = [add(i) for i in range(100_000)]
    lazy = shapes(*lazies, **{f"k{i}": i for i in range(1_000)})

    assert lazy._dependencies == tuple(lazies)


def test_literals_and_injections_mark_the_call_as_special():
    lazy = add(literal([add(1)]), inject("db"))

    assert lazy._special
    assert lazy._dependencies == ()


# -- injection ------------------------------------------------------------------------------------


@resource
def database():
    yield "db"


@task
def query(sql, db=inject(database), *, log=inject("log")):
    return sql, db, log


def test_defaults_that_are_injections_become_arguments_of_the_call():
    lazy = query("select 1")

    assert lazy._special
    assert {name: i.resource_name for name, i in lazy.kwargs.items()} == {
        "db": "database",
        "log": "log",
    }


def test_an_argument_given_by_hand_takes_the_place_of_the_injection():
    assert set(query("q", "mine").kwargs) == {"log"}
    assert query("q", "mine", log=print).kwargs == {"log": print}
    assert query("q", db="mine").kwargs["db"] == "mine"


def test_every_call_of_one_shape_is_injected():
    for _ in range(2):
        assert isinstance(query("q").kwargs["log"], Inject)


def test_a_positional_only_parameter_cannot_be_injected():
    with pytest.raises(DefinitionError, match=r"^'f': the positional-only parameter 'db' cannot"):

        @task
        def f(db=inject("db"), /): ...


# -- tail -----------------------------------------------------------------------------------------


def test_tail_is_a_tail_call_to_the_task():
    """R5."""
    tail = add.tail(b=7)

    assert tail == TailCall(kwargs={"b": 7}, target=add)
    assert tail.target is add
    assert tail.target_blueprint_id is None


def test_tail_may_leave_arguments_out():
    assert add.tail() == TailCall(target=add)
    assert shapes.tail(1, 2, 3, other=4).args == (1, 2, 3)


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2, 3), {}), ((), {"c": 1}), ((1,), {"a": 1})])
def test_tail_refuses_arguments_that_do_not_fit_the_signature(args, kwargs):
    with pytest.raises(ArgumentError, match=r"^task 'add': .*; its signature is add\("):
        add.tail(*args, **kwargs)


# -- pickling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_task_of_a_module_is_pickled_by_reference(protocol):
    assert pickle.loads(pickle.dumps(add, protocol)) is add
    assert len(pickle.dumps(add)) < 200


def test_a_task_in_a_class_is_pickled_by_reference():
    assert pickle.loads(pickle.dumps(Scale.as_method)) is Scale.as_method


@pytest.mark.parametrize("function", [lambda: 0, len, functools.partial(int, 1), Scale(2)])
def test_a_task_that_cannot_be_imported_cannot_be_pickled(function):
    made = task(function)
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(made)


def test_importing_the_words_imports_no_other_layer():
    code = "import cascade.spec.task, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = [name for name in result.stdout.split() if name.startswith("cascade.")]

    assert loaded
    assert all(name == "cascade.spec" or name.startswith("cascade.spec.") for name in loaded)


def test_a_property_is_refused_with_the_remedy():
    with pytest.raises(DefinitionError) as caught:
        task(property(lambda self: 1))
    assert "wrong:  @cs.task above @property" in str(caught.value)
    assert "right:  a task that takes the object" in str(caught.value)


def test_a_classmethod_above_a_task_makes_nodes():
    class Shape:
        @classmethod
        @task
        def area(cls, n):
            return cls, n

    assert Shape.area(3).args == (Shape, 3)


def test_a_tail_call_of_a_task_under_classmethod_gets_the_class_or_is_refused():
    class Shape:
        @classmethod
        @task
        def area(cls, n, unit="m"):
            return cls, n, unit

    if sys.version_info < (3, 13):
        assert Shape.area.tail(3).args == (Shape, 3)
    else:
        with pytest.raises(DefinitionError, match=r"right:  @cs\.task above @classmethod"):
            Shape.area.tail(3)
