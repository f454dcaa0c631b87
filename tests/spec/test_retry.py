"""``cascade.spec.retry`` and ``LazyResult.with_retry`` (rule R10)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from cascade.spec.errors import ArgumentError, LazyUseError
from cascade.spec.lazy_types import gather
from cascade.spec.retry import Retry
from cascade.spec.task import task


@task
def fetch(url):
    return url


def wait(error, attempt):
    return error.seconds * attempt


async def later(error, attempt):
    return 1


class Busy(Exception):
    def __init__(self, seconds):
        self.seconds = seconds


def test_the_delay_grows_by_the_backoff_up_to_the_cap():
    retry = Retry(6, delay=1.5, backoff=2, max_delay=8)
    assert [retry.pause(n, OSError()) for n in range(1, 7)] == [1.5, 3, 6, 8, 8, None]


def test_a_delay_too_large_for_a_float_is_the_cap():
    assert Retry(10_000, delay=1, backoff=10, max_delay=60).pause(9_000, OSError()) == 60


def test_a_function_computes_the_delay_of_the_error_and_the_attempt():
    retry = Retry(5, delay=wait, max_delay=100)
    assert [retry.pause(n, Busy(20)) for n in range(1, 5)] == [20, 40, 60, 80]
    assert retry.pause(2, Busy(90)) == 100


def test_a_function_that_returns_none_ends_the_attempts():
    retry = Retry(5, delay=lambda error, attempt: None if error.seconds > 60 else error.seconds)
    assert retry.pause(1, Busy(60)) == 60
    assert retry.pause(1, Busy(61)) is None


def test_the_function_is_asked_only_if_another_attempt_may_follow():
    asked = []
    retry = Retry(2, delay=lambda error, attempt: asked.append(error) or 0, on=OSError)
    assert retry.pause(1, ValueError()) is None
    assert retry.pause(2, OSError()) is None
    assert asked == []


def test_jitter_is_added_to_the_delay_of_a_function():
    retry = Retry(2, delay=lambda error, attempt: 10, jitter=0.5)
    pauses = [retry.pause(1, OSError()) for _ in range(200)]
    assert all(10 <= pause <= 15 for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "3", True, timedelta(1)])
def test_a_function_must_return_seconds(seconds):
    def compute(error, attempt):
        return seconds

    with pytest.raises(ArgumentError, match=r"the function '.*compute', must return seconds ≥ 0"):
        Retry(delay=compute).pause(1, OSError())


def test_a_coroutine_in_place_of_seconds_is_refused_and_closed():
    made = []

    def compute(error, attempt):
        made.append(later(error, attempt))
        return made[0]

    with pytest.raises(ArgumentError, match="after attempt 1 it returned <coroutine object later"):
        Retry(delay=compute).pause(1, OSError())
    assert made[0].cr_frame is None


@pytest.mark.parametrize("function", [max, partial(wait), lambda *given: 3])
def test_other_callables_of_two_arguments_compute_delays_too(function):
    assert Retry(delay=function).delay is function


def test_jitter_adds_up_to_its_fraction():
    retry = Retry(2, delay=10, jitter=0.5)
    pauses = [retry.pause(1, OSError()) for _ in range(200)]
    assert all(10 <= pause <= 15 for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize(
    ("on", "retried", "given_up"),
    [
        (OSError, [OSError(), FileNotFoundError()], [ValueError()]),
        ((OSError, KeyError), [OSError(), KeyError()], [ValueError()]),
        (lambda error: "again" in str(error), [ValueError("again")], [ValueError("no")]),
    ],
)
def test_only_the_errors_of_the_condition_are_retried(on, retried, given_up):
    retry = Retry(on=on)
    assert [retry.pause(1, error) for error in retried] == [0.0] * len(retried)
    assert [retry.pause(1, error) for error in given_up] == [None] * len(given_up)


def test_keyboard_interrupt_is_never_retried():
    assert Retry(on=BaseException).pause(1, KeyboardInterrupt()) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be an int ≥ 1, but is 0"),
        ({"max_attempts": 2.5}, r"max_attempts must be an int ≥ 1, but is 2\.5"),
        ({"max_attempts": True}, "max_attempts must be an int ≥ 1, but is True"),
        ({"max_attempts": "3"}, "max_attempts must be an int ≥ 1, but is '3'"),
        ({"delay": -1}, "delay must be a number ≥ 0 or a function, but is -1"),
        ({"delay": float("nan")}, "delay must be a number ≥ 0 or a function, but is nan"),
        ({"delay": "x"}, "delay must be a number ≥ 0 or a function, but is 'x'"),
        ({"delay": True}, "delay must be a number ≥ 0 or a function, but is True"),
        ({"backoff": 0.5}, r"backoff must be a number ≥ 1, but is 0\.5"),
        ({"max_delay": None}, "max_delay must be a number ≥ 0, but is None"),
        ({"jitter": -0.1}, r"jitter must be a number ≥ 0, but is -0\.1"),
        ({"delay": int}, "≥ 0 or a plain function, but is <class 'int'>"),
        ({"delay": fetch}, "≥ 0 or a plain function, but is <task fetch>"),
        ({"delay": fetch("u")}, "≥ 0 or a plain function, but is <lazy fetch"),
        ({"delay": later}, "≥ 0 or a plain function, but is <function later"),
        ({"delay": lambda error: 1}, r"'<lambda>' does not take two arguments"),
        ({"delay": wait, "backoff": 2}, "backoff=2 multiplies a delay in seconds, but delay is a"),
        ({"delay": wait, "backoff": 0.5}, r"backoff must be a number ≥ 1, but is 0\.5"),
        ({"on": "OSError"}, "on takes types of exceptions or a function of the error"),
        ({"on": (OSError, 3)}, "but got 3"),
        ({"on": fetch}, "or a function of the error, but got <task fetch>"),
        ({"on": fetch("u")}, "or a function of the error, but got <lazy fetch"),
    ],
)
def test_numbers_and_types_that_make_no_sense_are_refused_at_once(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        fetch("u").with_retry(**arguments)


def test_the_lazy_value_itself_is_changed_and_returned():
    """M17."""
    lazy = fetch("u")
    assert lazy.with_retry(5, 1.0) is lazy
    assert lazy._calls.retry.max_attempts == 5


def test_each_item_of_a_map_gets_the_retries():
    mapped = fetch.map(url=["a", "b"]).with_retry(7)
    items = mapped.task.func(*mapped.args)._dependencies
    assert [item._calls.retry.max_attempts for item in items] == [7, 7]


def test_a_node_that_calls_no_task_refuses_them():
    with pytest.raises(LazyUseError, match=r"'gather' .* calls no task"):
        gather(fetch("u")).with_retry()
