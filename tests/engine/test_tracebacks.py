"""Tracebacks: the user's call of the run, then the task's own frames, and nothing in between."""

import asyncio
import concurrent.futures
import contextlib
import json
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

import cascade as cs
from cascade.runtime.diagnostics import tracebacks
from cascade.runtime.diagnostics.tracebacks import leave_out_machinery, own_folders
from cascade.runtime.execution.carried_errors import guarded
from cascade.spec.resource import ResourceDefinition


@pytest.fixture(autouse=True)
def not_set(monkeypatch):
    monkeypatch.delenv(tracebacks.VARIABLE, raising=False)


@pytest.fixture
def caught(use_vm):
    """The error of ``cs.run(target)``, as it reaches the caller, trimmed."""

    def caught(target, kind=ZeroDivisionError, params=None):
        with pytest.raises(kind) as raised:
            cs.run(target, params, use_vm=use_vm)
        leave_out_machinery(raised.value)
        return raised.value

    return caught


def frames(error):
    """The names of the functions in the traceback, outermost first."""
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def lines(error):
    return [entry.line for entry in traceback.extract_tb(error.__traceback__)]


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


def divide(x):
    return 1 // x


@cs.task
def sync(x):
    return divide(x)


@cs.task
async def coroutine(x):
    await asyncio.sleep(0)
    return divide(x)


@cs.task
def user(x):
    return x


# -- the traceback of a caller ----------------------------------------------------------------


@pytest.mark.parametrize("task", [sync, coroutine])
def test_the_call_of_the_run_is_followed_by_the_tasks_own_frames(caught, task):
    error = caught(task(0))

    assert frames(error) == ["caught", task.name, "divide"]
    assert lines(error) == [
        "cs.run(target, params, use_vm=use_vm)",
        "return divide(x)",
        "return 1 // x",
    ]


@pytest.mark.parametrize("task", [sync, coroutine])
def test_an_inner_node_reads_the_same(caught, task):
    assert frames(caught(user([user(1), task(0)]))) == ["caught", task.name, "divide"]


@pytest.mark.parametrize("task", [sync, coroutine])
def test_an_item_of_a_map_reads_the_same(caught, task):
    assert frames(caught(task.map(x=user([1, 0])))) == ["caught", task.name, "divide"]


@pytest.mark.parametrize("task", [sync, coroutine])
def test_a_call_that_was_tried_again_reads_the_same(caught, task):
    assert frames(caught(task(0).with_retry(2))) == ["caught", task.name, "divide"]


def test_a_step_of_a_loop_reads_the_same(caught):
    @cs.task
    def loop(n):
        return loop.tail(n - 1) if n else divide(n)

    assert frames(caught(loop(3))) == ["caught", "loop", "divide"]


@pytest.mark.parametrize("scope", ["run", "task"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_provider_reads_the_same(caught, scope, bound):
    def tool():
        yield divide(0)

    definition = ResourceDefinition(tool, scope=scope, thread_bound=bound)

    assert frames(caught(user(cs.inject(definition)))) == ["caught", "tool", "divide"]


async def test_an_engine_that_is_awaited_reads_the_same(engine, use_vm):
    with pytest.raises(ZeroDivisionError) as raised:
        await engine.run(sync(0), use_vm=use_vm)
    leave_out_machinery(raised.value)

    name = "test_an_engine_that_is_awaited_reads_the_same"
    assert frames(raised.value) == [name, "sync", "divide"]


def test_the_callers_own_event_loop_stays(use_vm):
    """asyncio's frames belong to the user where he has called it himself."""

    async def main():
        async with cs.Engine() as engine:
            await engine.run(sync(0), use_vm=use_vm)

    with pytest.raises(ZeroDivisionError) as raised:
        asyncio.run(main())
    leave_out_machinery(raised.value)

    first, *between, last, task, helper = frames(raised.value)
    assert first == "test_the_callers_own_event_loop_stays"
    assert between
    assert [last, task, helper] == ["main", "sync", "divide"]


def test_in_the_frame_that_the_user_called_nothing_of_it_is_left():
    """How an entry point uses it: a bare ``raise`` adds no frame of its own."""

    def entry_point():
        try:
            cs.run(sync(0))
        except BaseException as error:
            error.__traceback__ = error.__traceback__.tb_next  # an entry point is Cascade's own
            leave_out_machinery(error)
            raise

    with pytest.raises(ZeroDivisionError) as raised:
        entry_point()

    name = "test_in_the_frame_that_the_user_called_nothing_of_it_is_left"
    assert frames(raised.value) == [name, "sync", "divide"]


# -- frames below a task's first frame stay ---------------------------------------------------


def test_libraries_that_the_task_calls_stay(caught):
    @cs.task
    def parse(text):
        return json.loads(text)

    error = caught(parse("{"), json.JSONDecodeError)

    assert frames(error) == ["caught", "parse", "loads", "decode", "raw_decode"]


def test_a_task_that_is_a_librarys_function_stays(caught):
    error = caught(cs.task(json.loads)("{"), json.JSONDecodeError)

    assert frames(error) == ["caught", "loads", "decode", "raw_decode"]


def test_an_event_loop_that_the_task_runs_stays(caught):
    @cs.task
    def loop(x):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, coroutine.func(x)).result()

    found = frames(caught(user([loop(0)])))

    assert found[:2] == ["caught", "loop"]
    assert found[-2:] == ["coroutine", "divide"]
    assert {"result", "run_until_complete"} <= set(found)


def test_a_context_manager_that_the_task_enters_stays(caught):
    @contextlib.contextmanager
    def entered(x):
        yield divide(x)

    @cs.task
    def enter(x):
        with entered(x):
            pass

    assert frames(caught(enter(0))) == ["caught", "enter", "__enter__", "entered", "divide"]


def test_functions_of_cascade_that_the_task_calls_stay(caught):
    """A misuse in a task is the task's, down to where it was noticed."""

    @cs.task
    def misuse():
        return sync()

    found = frames(caught(misuse(), cs.errors.ArgumentError))

    assert found[:2] == ["caught", "misuse"]
    assert len(found) > 2


def test_code_of_the_users_that_cascade_calls_back_stays(caught):
    @cs.task
    def spread():
        return sync.map(x=(divide(n) for n in [1, 0]))

    found = frames(caught(spread()))

    assert found[:2] == ["caught", "spread"]
    assert found[-2:] == ["<genexpr>", "divide"]
    assert "map" in found


def test_subclasses_of_the_users_stay(use_vm):
    class Mine(cs.Engine):
        async def run(self, target, params=None, **options):
            return await super().run(target, params, **options)

    async def main():
        async with Mine() as engine:
            await engine.run(sync(0), use_vm=use_vm)

    with pytest.raises(ZeroDivisionError) as raised:
        asyncio.run(main())
    leave_out_machinery(raised.value)

    assert frames(raised.value)[-4:] == ["main", "run", "sync", "divide"]


def test_a_run_inside_of_a_task_is_left_out_too(caught, use_vm):
    """Each run reads as its call and then its task."""

    @cs.task
    async def outer():
        async with cs.Engine() as engine:
            return await engine.run(sync(0), use_vm=use_vm)

    assert frames(caught(outer())) == ["caught", "outer", "sync", "divide"]


def test_deep_recursion_in_a_task_stays(caught):
    @cs.task
    def deep(n):
        return descend(n)

    def descend(n):
        return descend(n - 1) if n else divide(n)

    assert frames(caught(deep(500))) == ["caught", "deep", *["descend"] * 501, "divide"]


# -- errors that are not a task's -------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (cs.Param("n"), cs.errors.ParameterError),
        (user(cs.inject("tool")), cs.errors.ResourceNotFoundError),
    ],
    ids=["parameter", "resource"],
)
def test_an_error_of_cascades_own_stays_as_it_is(use_vm, target, kind):
    with pytest.raises(kind) as raised:
        cs.run(target, use_vm=use_vm)
    before = raised.value.__traceback__
    leave_out_machinery(raised.value)

    assert raised.value.__traceback__ is before
    assert len(frames(raised.value)) > 3


def test_an_error_that_was_never_raised_has_no_traceback():
    error = ValueError()
    leave_out_machinery(error)

    assert error.__traceback__ is None


def test_an_error_of_other_code_stays_as_it_is():
    with pytest.raises(ZeroDivisionError) as raised:
        asyncio.run(coroutine.func(0))
    before = raised.value.__traceback__
    leave_out_machinery(raised.value)

    assert raised.value.__traceback__ is before


# -- errors linked to an error ----------------------------------------------------------------


def test_causes_are_cut_too(caught):
    @cs.task
    def exhaust():
        return next(iter([]))

    error = caught(exhaust(), cs.errors.TaskStopIterationError)

    assert frames(error.__cause__) == ["exhaust"]


def test_contexts_are_cut_too(use_vm):
    def recover():
        try:
            cs.run(sync(0), use_vm=use_vm)
        except ZeroDivisionError:
            raise KeyError("late")  # noqa: B904

    with pytest.raises(KeyError) as raised:
        recover()
    leave_out_machinery(raised.value)

    assert frames(raised.value.__context__) == ["recover", "sync", "divide"]


def test_the_members_of_groups_are_cut_too(caught):
    @cs.task
    def several():
        failures = []
        for _ in range(2):
            try:
                divide(0)
            except ZeroDivisionError as error:
                failures.append(error)
        raise ExceptionGroup("several", [failures[0], ExceptionGroup("more", failures[1:])])

    async def both():
        async with cs.Engine() as engine, asyncio.TaskGroup() as group:
            group.create_task(engine.run(sync(0)))

    error = caught(several(), ExceptionGroup)
    assert frames(error) == ["caught", "several"]
    assert frames(error.exceptions[1].exceptions[0]) == ["several", "divide"]

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(both())
    leave_out_machinery(raised.value)
    assert frames(raised.value.exceptions[0]) == ["sync", "divide"]


def test_errors_that_hang_on_each_other_come_to_an_end(caught):
    error = caught(sync(0))
    other = ValueError()
    error.__cause__, other.__context__ = other, error
    leave_out_machinery(error)

    assert frames(error) == ["caught", "sync", "divide"]


def test_an_error_that_refuses_changes_is_cut_too():
    def fail():
        raise FrozenError(7)

    with pytest.raises(FrozenError) as raised:
        guarded(fail, (), {})
    leave_out_machinery(raised.value)

    assert frames(raised.value) == ["test_an_error_that_refuses_changes_is_cut_too", "fail"]


# -- and besides ------------------------------------------------------------------------------


def test_doing_it_twice_changes_nothing(caught):
    error = caught(sync(0))
    before = error.__traceback__
    leave_out_machinery(error)

    assert error.__traceback__ is before


def test_lines_and_instructions_of_the_frames_are_kept(monkeypatch, caught):
    """Editors mark the very part of the line that failed."""

    def places():
        return [
            (entry.name, entry.lineno, entry.colno, entry.end_colno)
            for entry in traceback.extract_tb(error.__traceback__)
        ]

    monkeypatch.setenv(tracebacks.VARIABLE, "1")
    error = caught(sync(0))
    everything = places()
    monkeypatch.delenv(tracebacks.VARIABLE)
    leave_out_machinery(error)

    assert places() == [everything[0], *everything[-2:]]


@pytest.mark.parametrize(
    ("setting", "cut"), [("1", False), ("yes", False), ("0", True), ("", True)]
)
def test_a_variable_of_the_environment_keeps_everything(monkeypatch, caught, setting, cut):
    monkeypatch.setenv(tracebacks.VARIABLE, setting)

    assert (len(frames(caught(sync(0)))) == 3) is cut


def test_own_folders_are_those_of_the_layers():
    folders = [Path(folder) for folder in own_folders()]

    assert {folder.name for folder in folders} == {"spec", "graph", "runtime", "adapters"}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_a_file_beside_cascades_folders_is_the_users():
    """A folder with a name that begins like one of Cascade's is not one of them."""
    runtime = next(folder for folder in own_folders() if Path(folder).name == "runtime")
    beside = Path(runtime).with_name("runtime_of_mine") / "calls.py"
    namespace = {}
    exec(compile("def call(function): return function()", beside, "exec"), namespace)

    with pytest.raises(ZeroDivisionError) as raised:
        namespace["call"](lambda: divide(0))
    before = raised.value.__traceback__
    leave_out_machinery(raised.value)

    assert raised.value.__traceback__ is before


# -- errors that are values ------------------------------------------------------------------------


@cs.task
def divided_by(x):
    return _divided(x)


def _divided(x):
    return 1 // x


@cs.task
async def divided_by_async(x):
    return _divided(x)


@pytest.mark.parametrize("task", [divided_by, divided_by_async])
@pytest.mark.parametrize("policy", [lambda lazy: lazy, lambda lazy: lazy.with_retry(2)])
async def test_the_error_of_an_item_has_the_frames_of_the_user_only(task, policy, use_vm):
    async with cs.Engine() as engine:
        target = policy(task.map(x=[1, 0], return_exceptions=True))
        _, error = await engine.run(target, use_vm=use_vm)
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == [task.name, "_divided"]


@cs.task
def forever(n):
    return forever.tail(n + 1)


@cs.task
def forever_lazily(n):
    return forever_lazily(n + 1)


@pytest.mark.parametrize("task", [forever, forever_lazily])
def test_an_error_of_too_many_steps_carries_no_machinery(task, use_vm):
    with pytest.raises(cs.errors.StepLimitError) as caught:
        cs.run(task(0), use_vm=use_vm, max_steps=10)
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames == [__file__]
