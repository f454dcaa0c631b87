"""Forgotten words in the code of tasks: ``return`` before a tail call."""

import functools
import inspect
from types import SimpleNamespace

import pytest

from cascade.spec.blueprint import TailCall
from cascade.spec.dropped_calls import dropped_tails
from cascade.spec.errors import DefinitionError
from cascade.spec.task import task


@task
def other(n):
    return n


def line_in(function, text):
    lines, first = inspect.getsourcelines(function)
    return next(first + at for at, line in enumerate(lines) if text in line)


def test_a_dropped_tail_call_to_itself_is_refused_at_the_declaration():
    with pytest.raises(DefinitionError, match="drops it") as caught:

        @task
        def loop(n):
            if n:
                loop.tail(n - 1)  # dropped

    here = test_a_dropped_tail_call_to_itself_is_refused_at_the_declaration
    assert f"test_dropped_calls.py:{line_in(here, '# dropped')}" in str(caught.value)
    assert "wrong:  loop.tail(n - 1)" in str(caught.value)
    assert "right:  return loop.tail(…)" in str(caught.value)


def drop(n):
    other.tail(n)


def drop_in_an_expression(n):
    n and other.tail(n)


def drop_in_a_choice(n):
    other.tail(n) if n else other.tail(0)


def drop_with_names(n):
    other.tail(n=n)


def drop_unpacked(*args, **kwargs):
    other.tail(*args, **kwargs)


async def drop_in_a_coroutine(n):
    other.tail(n)


def drop_in_a_loop(items):
    for item in items:
        other.tail(item)


def drop_over_lines(n):
    other.tail(
        n + 1 + (0 if n else 1),
    )


def drop_a_tail_call(n):
    TailCall([n])


def drop_from_a_variable(n):
    step = other.tail(n)  # noqa: F841


def drop_from_a_variable_in_one_line(n):
    step = other.tail(n); return n  # noqa: E702, F841  # fmt: skip


def drop_from_a_typed_variable(n):
    step: object = other.tail(n)  # noqa: F841
    return n


def drop_from_a_variable_in_a_choice(n):
    step = other.tail(n) if n else None  # noqa: F841


def drop_from_a_variable_in_a_loop(items):
    for item in items:
        step = other.tail(item)  # noqa: F841
    return len(items)


def drop_from_a_variable_in_a_block(n):
    try:
        step = other.tail(n)  # noqa: F841
    finally:
        print(n)


async def drop_from_a_variable_in_a_coroutine(n):
    step = other.tail(n)  # noqa: F841
    return n


def drop_from_a_deleted_variable(n):
    step = other.tail(n)
    del step


DROPS = [
    drop,
    drop_in_an_expression,
    drop_in_a_choice,
    drop_with_names,
    drop_unpacked,
    drop_in_a_coroutine,
    drop_in_a_loop,
    drop_over_lines,
    drop_a_tail_call,
]
UNREAD = [
    drop_from_a_variable,
    drop_from_a_variable_in_one_line,
    drop_from_a_typed_variable,
    drop_from_a_variable_in_a_choice,
    drop_from_a_variable_in_a_loop,
    drop_from_a_variable_in_a_block,
    drop_from_a_variable_in_a_coroutine,
    drop_from_a_deleted_variable,
]


@pytest.mark.parametrize("function", DROPS, ids=lambda function: function.__name__)
def test_dropped_tail_calls_are_refused(function):
    with pytest.raises(DefinitionError, match="drops it"):
        task(function)


@pytest.mark.parametrize("function", UNREAD, ids=lambda function: function.__name__)
def test_tail_calls_in_variables_that_are_never_read_are_refused(function):
    with pytest.raises(DefinitionError, match=r"into 'step', which is never read") as caught:
        task(function)

    assert f"test_dropped_calls.py:{line_in(function, 'tail(')}" in str(caught.value)
    assert "right:  return other.tail(…)" in str(caught.value)


@pytest.mark.parametrize(
    "wrapped",
    [functools.partial(drop, 1), functools.wraps(drop)(lambda n: drop(n))],
    ids=["partial", "wrapped"],
)
def test_the_function_inside_is_searched(wrapped):
    with pytest.raises(DefinitionError, match="drops it"):
        task(wrapped)


def test_a_callable_object_is_searched():
    class Caller:
        def __call__(self, n):
            other.tail(n)

    with pytest.raises(DefinitionError, match="drops it"):
        task(Caller())


def test_a_name_without_a_value_is_looked_up_at_the_first_call():
    @task
    def first(n):
        later.tail(n)

    later = other
    with pytest.raises(DefinitionError, match=r"right:  return later\.tail"):
        first(1)
    with pytest.raises(DefinitionError):
        first.tail(1)


def test_a_task_in_a_class_is_found():
    class Flow:
        step = other

    with pytest.raises(DefinitionError, match=r"return Flow\.step\.tail"):

        @task
        def first(n):
            Flow.step.tail(n)


def kept_in_a_variable(n):
    tail = other.tail(n)
    return tail  # noqa: RET504


def kept_in_a_variable_that_is_read_in_one_line(n):
    tail = other.tail(n); return tail  # noqa: E702, RET504  # fmt: skip


def kept_in_a_variable_of_an_inner_function(n):
    tail = other.tail(n)
    return (lambda: tail)()


def kept_in_a_variable_that_is_set_twice(n):
    tail = None
    for at in range(n):
        tail = other.tail(at)
    return tail


def kept_where_all_variables_are_read(n):
    tail = other.tail(n)
    return locals()["tail"]


def returned_from_a_choice(n):
    return other.tail(n) if n else None


def tail_of_something_else(log):
    log.tail(5)


pandas = SimpleNamespace(frame=SimpleNamespace(tail=lambda n: n))


def tail_of_an_object(n):
    pandas.frame.tail(n)


def tail_of_no_call(n):
    other.tail


def argument_of_a_dropped_call(n):
    print(other.tail(n))


@pytest.mark.parametrize(
    "function",
    [
        kept_in_a_variable,
        kept_in_a_variable_that_is_read_in_one_line,
        kept_in_a_variable_of_an_inner_function,
        kept_in_a_variable_that_is_set_twice,
        kept_where_all_variables_are_read,
        returned_from_a_choice,
        tail_of_something_else,
        tail_of_an_object,
        tail_of_no_call,
        argument_of_a_dropped_call,
    ],
    ids=lambda function: function.__name__,
)
def test_everything_else_is_allowed(function):
    assert task(function)(1).args == (1,)


def test_code_without_a_tail_is_not_taken_apart(monkeypatch):
    monkeypatch.setattr(
        "cascade.spec.dropped_calls.steps_of", lambda _code: pytest.fail("searched")
    )

    assert dropped_tails(other.func) == ()


def test_a_callable_without_code_has_none():
    assert dropped_tails(len) == ()
    assert dropped_tails(functools.partial(print, 1)) == ()


# -- calls whose lazy values are dropped -----------------------------------------------------------


def drop_a_call(n):
    other(n)
    return n


def drop_a_map(n):
    other.map(n=[n])
    return n


def drop_a_call_in_an_expression(n):
    n and other(n)
    return n


async def drop_a_call_in_a_coroutine(n):
    other(n=n)


def drop_a_call_from_a_variable(n):
    done = other(n)  # noqa: F841
    return n


@pytest.mark.parametrize(
    "function",
    [
        drop_a_call,
        drop_a_map,
        drop_a_call_in_an_expression,
        drop_a_call_in_a_coroutine,
        drop_a_call_from_a_variable,
    ],
    ids=lambda function: function.__name__,
)
def test_a_dropped_call_of_a_task_is_refused_at_the_first_call(function):
    made = task(function)
    for _ in range(2):  # each time
        with pytest.raises(DefinitionError, match="calls the task 'other'") as caught:
            made(1)
    with pytest.raises(DefinitionError):
        made.map(n=[1])

    told = str(caught.value)
    assert f"test_dropped_calls.py:{line_in(function, 'other')} and " in told
    if function is drop_a_call_from_a_variable:
        assert "puts its lazy value into 'done', which is never read, so that" in told
    else:
        assert "drops its lazy value, so that it would never run" in told
    assert "return result.after(done)" in told


def test_a_dropped_call_is_found_by_a_name_of_a_closure():
    @task
    def first(n):
        later(n)

    later = other
    with pytest.raises(DefinitionError, match=r"or:     return later\(…\)"):
        first(1)


def use_the_value(n):
    lazy = other(n)
    return lazy.after(other(0))


def call_a_function(n):
    print(n)
    print(other(n))


def change_a_policy(n):
    lazy = other(n)
    lazy.with_retry(3)
    return lazy


@pytest.mark.parametrize(
    "function",
    [use_the_value, call_a_function, change_a_policy],
    ids=lambda function: function.__name__,
)
def test_other_statements_in_code_that_names_tasks_are_allowed(function):
    assert task(function)(1).args == (1,)


def test_code_that_names_no_task_is_not_taken_apart(monkeypatch):
    monkeypatch.setattr(
        "cascade.spec.dropped_calls.steps_of", lambda _code: pytest.fail("searched")
    )

    assert task(tail_of_no_code)(1).args == (1,)


def tail_of_no_code(n):
    print(n)
