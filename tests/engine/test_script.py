"""``cs.run`` and ``cs.run_async``: a target's value in one call."""

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs


def test_run_gives_the_value(use_vm):
    assert cs.run(add(add_async(1), 2), use_vm=use_vm) == 3


async def test_run_async_gives_the_value(use_vm):
    assert await cs.run_async(add(add_async(1), 2), use_vm=use_vm) == 3


def test_params_are_passed_on(use_vm):
    target = add(cs.Param("n", type=int), 1)

    assert cs.run(target, {"n": "41"}, use_vm=use_vm) == 42
    assert cs.run(target, params={"n": 1}, use_vm=use_vm) == 2


@pytest.mark.parametrize("value", [7, None, "text", [1, [2]], {"a": (1,)}])
def test_a_plain_value_is_itself(use_vm, value):
    """R1."""
    assert cs.run(value, use_vm=use_vm) is value


def test_containers_of_lazy_values(use_vm):
    """M15."""
    assert cs.run({"a": add(1), "b": [add_async(2), 3]}, use_vm=use_vm) == {"a": 1, "b": [2, 3]}


async def test_run_in_a_running_loop_is_refused(use_vm):
    """M18."""
    with pytest.raises(cs.errors.RunError, match=r"await cs\.run_async\(target\)") as error:
        cs.run(add(1), use_vm=use_vm)
    assert isinstance(error.value, RuntimeError)


@cs.task
def nested(use_vm):
    return cs.run(add(1), use_vm=use_vm)


@cs.task
async def nested_async(use_vm):
    return cs.run(add(1), use_vm=use_vm)


@cs.resource
def tool():
    yield


@cs.resource(thread_bound=True)
def bound():
    yield


@cs.task
def nested_with(use_vm, tool=cs.inject(tool)):
    return cs.run(add(1), use_vm=use_vm)


@cs.task
def nested_bound(use_vm, bound=cs.inject(bound)):
    return cs.run(add(1), use_vm=use_vm)


@cs.task
def nested_later(use_vm):
    return nested(use_vm)


@pytest.mark.parametrize(
    "task", [nested, nested_async, nested_with, nested_bound, nested_later], ids=lambda t: t.name
)
@pytest.mark.parametrize("inner", [False, True])
def test_run_inside_of_a_task_is_refused(use_vm, task, inner):
    """M6: on both paths, wherever the task runs."""
    target = add(task(use_vm)) if inner else task(use_vm)

    with pytest.raises(cs.errors.RunError, match=r"cs\.run\(\) was called inside a task"):
        cs.run(target, use_vm=use_vm)


def test_run_works_again_after_a_refusal(use_vm):
    with pytest.raises(cs.errors.RunError):
        cs.run(nested(use_vm), use_vm=use_vm)

    assert cs.run(add(1), use_vm=use_vm) == 1


def test_an_error_of_a_task_is_raised_as_it_is(use_vm):
    @cs.task
    def fail():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        cs.run(add(fail()), use_vm=use_vm)
