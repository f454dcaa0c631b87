"""Callables of all kinds run as tasks, on both paths."""

import functools
from unittest.mock import AsyncMock, MagicMock

import pytest

import cascade as cs


@pytest.mark.parametrize("use_vm", [False, True])
@pytest.mark.parametrize("mock", [AsyncMock, MagicMock])
def test_a_mock_is_called_and_gives_its_value(mock, use_vm):
    service = mock(return_value=3)
    fetch = cs.task(name="fetch")(service)

    assert cs.run(fetch("a", n=fetch("b")), use_vm=use_vm) == 3
    assert [call.args for call in service.call_args_list] == [("b",), ("a",)]


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_mock_that_fails_is_tried_again(use_vm):
    service = AsyncMock(side_effect=[OSError("one"), 5])

    assert cs.run(cs.task(service)().with_retry(2), use_vm=use_vm) == 5


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_mock_in_a_loop_of_tail_calls(use_vm):
    count = cs.task(name="count")(AsyncMock())
    count.func.side_effect = lambda n: count.tail(n - 1) if n else "done"

    assert cs.run(count(50), use_vm=use_vm) == "done"


@pytest.mark.parametrize("use_vm", [False, True])
def test_partials_of_callable_objects(use_vm):
    class Scale:
        async def __call__(self, factor, value):
            return factor * value

    double = cs.task(functools.partial(Scale(), 2))

    assert cs.run(double(double(5)), use_vm=use_vm) == 20
