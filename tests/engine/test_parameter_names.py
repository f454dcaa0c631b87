"""A parameter may have any name, also one that Cascade's own functions use."""

import importlib.util
import inspect

import pytest

import cascade as cs
from cascade.runtime.program import Program
from cascade.spec.task import Task

#: Names of parameters and locals of the functions that make, map, compile and call tasks.
NAMES = [
    *("self", "cls", "task", "func", "fn", "function", "args", "kwargs", "name", "mode", "nout"),
    *("target", "params", "values", "unnamed", "iterables", "amounts", "named", "code"),
    *("lasti", "frame", "context", "clean", "stop", "work", "item", "call", "run", "step", "steps"),
    *(
        "inputs",
        "result",
        "error",
        "current",
        "kind",
        "deadline",
        "max_steps",
        "use_vm",
        "a0",
        "v0",
    ),
]

SOURCE = """
import cascade as cs

@cs.task
def down({name}, n=0):
    return down.tail({name}={name}, n=n - 1) if n else {name}

@cs.task
def other({name}, n=0):
    return down.tail({name}={name}, n=n)

@cs.task
def by_hand({name}, n=0):
    return cs.TailCall(kwargs={{"{name}": {name}, "n": n - 1}}) if n else {name}

@cs.task
async def waits({name}, n=0):
    return waits.tail({name}={name}, n=n - 1) if n else {name}

@cs.task
def surplus(**given):
    return given["{name}"]
"""


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tasks(name, tmp_path_factory):
    file = tmp_path_factory.mktemp("tasks") / f"tasks_with_{name}.py"
    file.write_text(SOURCE.format(name=name), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(tasks, name):
    seven = cs.Param("seven", type=int)
    return [
        make({name: seven, "n": n})
        for n in (0, 1, 5)
        for make in (
            lambda given: tasks.down(**given),
            lambda given: tasks.other(**given),
            lambda given: tasks.by_hand(**given),
            lambda given: tasks.waits(**given),
            lambda given: tasks.surplus(**given),
        )
    ]


async def test_a_task_is_called_and_continues_by_that_name(tasks, name, run):
    targets = made(tasks, name)
    assert await run(targets, {"seven": 7}) == [7] * len(targets)


async def test_a_task_is_mapped_over_a_parameter_of_that_name(tasks, name, run):
    assert await run(tasks.down.map(**{name: [7, 8]}, n=cs.literal(3))) == [7, 8]


async def test_a_program_takes_an_input_of_that_name(tasks, name, engine):
    program = engine.compile(tasks.down(**{name: 1, "n": 3}))
    assert await program.run(**{name: 7}) == 7


async def test_a_param_may_have_that_name(tasks, name, engine, use_vm):
    target = tasks.down(cs.Param(name, type=int))
    assert await engine.run(target, {name: 7}, use_vm=use_vm) == 7
    assert await engine.compile(target).run(**{name: 7}) == 7


async def test_a_capacity_may_have_that_name(tasks, name, use_vm):
    async with cs.Engine(capacities={name: 2}) as engine:
        target = tasks.down(7).with_capacity(**{name: 1})
        assert await engine.run(target, use_vm=use_vm) == 7


@pytest.mark.parametrize(
    "method",
    [Task.__call__, Task.tail, Task.map, cs.LazyResult.with_capacity, Program.run],
    ids=lambda method: method.__qualname__,
)
def test_a_method_that_takes_names_of_users_takes_itself_by_position_only(method):
    first, *_ = inspect.signature(method).parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_ONLY
