"""Tasks as methods: attributes of objects and classes."""

import abc
import functools
import inspect
import pickle
from dataclasses import dataclass
from unittest.mock import AsyncMock

import pytest

from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.lazy_types import gather
from cascade.spec.methods import BoundTask
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.task import task


@task
def other(n):
    return n


class Scale:
    def __init__(self, factor):
        self.factor = factor

    @task(nout=2, retry=2)
    def times(self, value, *, add=0):
        return self.factor * value + add, 0

    @task
    async def later(self, value):
        return self.factor * value

    @task
    @classmethod
    def made(cls, value):
        return cls, value

    @classmethod
    @task
    def called(cls, value):
        return cls, value

    @task
    @staticmethod
    def alone(value):
        return value

    @staticmethod
    @task
    def plain(value):
        return value

    @task
    def count(self, n):
        return self.count.tail(n - 1) if n else "done"

    length = task(len)
    half = task(functools.partial(divmod, 2))
    mock = task(AsyncMock())


class Double(Scale):
    @task
    def times(self, value):
        return super().times(value)


SCALE = Scale(3)


def test_the_object_is_the_first_argument():
    lazy = SCALE.times(5, add=1)

    assert lazy.task is Scale.times
    assert lazy.args == (SCALE, 5)
    assert lazy.kwargs == {"add": 1}
    assert lazy.callsite.source == "lazy = SCALE.times(5, add=1)"
    assert lazy._calls.retry.max_attempts == 2
    assert Scale.times(SCALE, 5).args == SCALE.times(5).args


def test_lazy_arguments_are_dependencies():
    first = other(1)

    assert SCALE.times(first)._dependencies == (first,)


def test_an_object_that_is_searched_for_lazy_values_is_an_argument_as_any_other():
    @dataclass
    class Point:
        x: object

        @task
        def move(self, by):
            return self.x + by

    x = other(1)
    (point,) = Point(x).move(2)._dependencies
    assert point._dependencies == (x,)
    with pytest.raises(ArgumentError, match=r"move\.map\(\) of an object that holds lazy values"):
        Point(x).move.map(by=[1])
    assert Point(1).move.map(by=[1]).mapping_kwargs["self"].value == Point(1)


def test_map_hands_the_object_to_every_item():
    lazy = SCALE.times.map(value=[1, 2])
    items = lazy.task.func(*lazy.args)._dependencies

    assert [item.kwargs["self"].value for item in items] == [SCALE, SCALE]
    assert [item.kwargs["value"] for item in items] == [1, 2]
    assert lazy.callsite.source == "lazy = SCALE.times.map(value=[1, 2])"


def test_an_iterable_without_a_name_is_refused_with_the_names_of_the_others():
    with pytest.raises(ArgumentError, match=r"times\.map\(value=\[1\]\)"):
        SCALE.times.map([1])


def test_tail_hands_on_the_object():
    assert SCALE.count.tail(4) == TailCall((SCALE, 4), target=Scale.count)


def test_other_attributes_are_those_of_the_task():
    bound = SCALE.times

    assert type(bound) is BoundTask
    assert (bound.name, bound.nout, bound.is_async) == ("times", 2, False)
    assert bound.policies is not PLAIN_CALLS
    assert bound.func(5) == (15, 0)
    assert SCALE.later.is_async
    assert inspect.signature(bound) == inspect.signature(SCALE.times.func)
    assert repr(bound).startswith("<task times of <tests.spec.test_methods.Scale object")
    with pytest.raises(AttributeError):
        _ = bound.nowhere


def test_values_of_several_parts_can_be_unpacked():
    first, second = SCALE.times(1)

    assert first._dependencies[0].args == second._dependencies[0].args == (SCALE, 1)


def test_two_looks_give_equal_tasks():
    assert SCALE.times == SCALE.times
    assert hash(SCALE.times) == hash(SCALE.times)
    assert SCALE.times != Scale(3).times
    assert SCALE.times != SCALE.later
    assert SCALE.times != Scale.times


def test_the_class_has_the_task_itself():
    assert Scale.times.name == "times"
    assert type(Scale.times) is type(other)
    assert pickle.loads(pickle.dumps(Scale.times)) is Scale.times


def test_a_bound_task_is_pickled_with_its_object():
    found = pickle.loads(pickle.dumps(SCALE.times))

    assert found.task is Scale.times
    assert found.instance.factor == 3


def test_super_finds_the_task_of_the_base_class():
    lazy = Double(2).times(3)

    assert lazy.task is Double.__dict__["times"]
    returned = lazy.task.func(*lazy.args)
    assert returned.task is Scale.times


@pytest.mark.parametrize("of", [Scale, SCALE, Double], ids=["class", "object", "subclass"])
def test_the_task_of_a_class_method_gets_the_class(of):
    kind = of if isinstance(of, type) else type(of)

    assert of.made(1).args == (kind, 1)
    assert of.called(1).args == (kind, 1)
    assert of.made.tail(1).args == (kind, 1)
    assert of.made.map(value=[1]).mapping_kwargs["cls"].value is kind


@pytest.mark.parametrize("of", [Scale, SCALE])
def test_the_task_of_a_static_method_gets_nothing(of):
    assert of.alone(1).args == of.plain(1).args == (1,)
    assert of.alone.tail(2).args == (2,)


def test_callables_that_python_does_not_bind_are_not_bound():
    assert SCALE.length([1]).args == ([1],)
    assert SCALE.half(1).args == (1,)
    assert SCALE.mock(1).args == (1,)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match=r"task 'times': missing .*'value'"):
        SCALE.times()
    with pytest.raises(ArgumentError, match="did you mean 'value'"):
        SCALE.times(valu=1)


def test_the_task_of_an_object_is_no_argument_and_no_target():
    with pytest.raises(ArgumentError, match="the task 'times' itself was passed"):
        other(SCALE.times)
    with pytest.raises(ArgumentError, match="the task 'times' itself was passed"):
        gather([SCALE.times])
    with pytest.raises(ArgumentError, match=r"for the task of an object, return .* tail\(…\)"):
        TailCall([1], target=SCALE.times)


def test_a_dropped_tail_call_of_the_object_is_refused():
    class Flow:
        @task
        def step(self, n):
            return n

        @task
        def first(self, n):
            self.step.tail(n)

        @task
        def quiet(self, n):
            self.log.tail(n)

    with pytest.raises(DefinitionError, match=r"right:  return self\.step\.tail\(…\)"):
        Flow().first(1)
    assert Flow().quiet(1).args[1] == 1


def test_a_dropped_call_of_the_object_is_refused():
    class Flow:
        @task
        def step(self, n):
            return n

        @task
        def first(self, n):
            self.step(n)
            return n

    with pytest.raises(DefinitionError, match=r"task 'first' calls the task 'step' at .* drops"):
        Flow().first(1)


def test_an_abstract_task_is_abstract():
    class Base(abc.ABC):
        @task
        @abc.abstractmethod
        def work(self): ...

    with pytest.raises(TypeError, match="abstract"):
        Base()


# -- lazy defaults --------------------------------------------------------------------------------


def test_a_lazy_default_is_an_argument_where_it_is_left_out():
    late = other(1)

    @task
    def work(a, late=late, *, box=(late, 2)):
        return a, late, box

    lazy = work(5)
    assert lazy.args == (5,)
    assert lazy.kwargs["late"] is late
    assert late in lazy._dependencies
    (box,) = [dependency for dependency in lazy._dependencies if dependency is not late]
    assert box._dependencies == (late,)
    assert work(5, 6, box=7).kwargs == {"box": 7}
    assert work(5, 6, box=7)._dependencies == ()


def test_a_lazy_default_of_a_positional_only_parameter_is_refused():
    late = other(1)
    with pytest.raises(DefinitionError, match=r"positional-only parameter 'a' .* behind the '/'"):
        task(lambda a=late, /: a)


def test_a_literal_as_a_default_is_refused():
    literal = Literal(1)
    with pytest.raises(DefinitionError, match="write the value itself"):
        task(lambda a=literal: a)


def test_other_defaults_are_left_to_the_function():
    handlers = [other]
    made = task(lambda a=1, b=handlers, c=other: (a, b, c))

    assert made().kwargs == {}
    assert made.supplied == {}
