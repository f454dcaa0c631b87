"""The contract of TaskExecutor, held by whole runs: what a program means does not depend on it.

The engine's own threads, and calls in the event loop's thread, pass the same tests.
"""

import asyncio
import multiprocessing
import os
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests import remote_tasks as tasks

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.spec.errors import (
    ArgumentError,
    DeadlineError,
    DependencyMissingError,
    StepLimitError,
    TaskCancelledError,
    TaskStopIterationError,
    TaskTimeoutError,
)
from cascade.spec.protocols import Executor, TaskExecutor


def process(method):
    return lambda: cs.ProcessExecutor(2, start_method=method)


def futures():
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))
    return cs.FuturesExecutor(pool)


def loky():
    from loky import ProcessPoolExecutor as LokyPool

    return cs.FuturesExecutor(LokyPool(2))


#: Name → maker. Those that are slow to start are for the thorough tests.
MAKERS: dict[str, Any] = {
    "threads": lambda: None,
    "inline": InlineExecutor,
    "forkserver": process("forkserver"),
    "futures": futures,
    "spawn": process("spawn"),
    "loky": loky,
}
THOROUGH = {"spawn", "loky"}
#: Name → fixture with what the executor is made of.
CLUSTERS = {
    "dask": ("dask_cluster", cs.DaskExecutor),
    "ray": ("ray_cluster", cs.RayExecutor),
}


def way(kind, use_vm):
    is_thorough = kind in THOROUGH or (kind in CLUSTERS and use_vm)
    marks = [pytest.mark.thorough] if is_thorough else []
    return pytest.param((kind, use_vm), marks=marks, id=f"{kind}-{'vm' if use_vm else 'graph'}")


WAYS = [way(kind, use_vm) for kind in (*MAKERS, *CLUSTERS) for use_vm in (False, True)]


@pytest.fixture(scope="session")
def executors(request):
    """Name → executor, which all tests share."""
    made = {}

    def executor(name):
        if name not in made:
            if name in CLUSTERS:
                fixture, make = CLUSTERS[name]
                made[name] = make(request.getfixturevalue(fixture))
            else:
                made[name] = MAKERS[name]()
        return made[name]

    yield executor
    for one in made.values():
        if one is not None:
            one.shutdown()
        if isinstance(one, cs.FuturesExecutor):
            one._pool.shutdown()


@pytest.fixture(params=WAYS)
def chosen(request):
    return request.param


@pytest.fixture
def executor(chosen, executors):
    return executors(chosen[0])


@pytest.fixture
def use_vm(chosen):
    return chosen[1]


@pytest.fixture
def run(executor, use_vm):
    """``run(target, **options)``: its value."""

    def run(target, **options):
        return cs.run(target, executor=executor, use_vm=use_vm, **options)

    return run


def is_remote(executor):
    return isinstance(executor, TaskExecutor)


def test_it_is_an_executor(executor):
    assert executor is None or isinstance(executor, (TaskExecutor, Executor))


def test_calls_give_their_values(run):
    assert run(tasks.add(1, b=2)) == 3
    assert run(tasks.add(tasks.add(1), tasks.add(2, tasks.same(3)))) == 7
    assert run([tasks.same(x) for x in (None, "ä", 2.5, (1, [2]), {"a": {3}})]) == [
        None,
        "ä",
        2.5,
        (1, [2]),
        {"a": {3}},
    ]


def test_where_calls_are_made(executor, run):
    """Plain functions elsewhere, coroutines in the driver."""
    own = run(tasks.where()) == multiprocessing.current_process().pid
    assert own != is_remote(executor)
    assert run(tasks.double(tasks.add(1))) == 4


def test_maps(run):
    assert run(tasks.add.map(a=range(100))) == [*range(1, 101)]
    assert run(tasks.add.map(a=tasks.same.map(x=tasks.same([1, 2, 3])))) == [2, 3, 4]
    assert run(tasks.reciprocal.map(x=[1, 0], return_exceptions=True))[0] == 1


def test_conditions_and_fallbacks_are_decided_by_the_run(run, path):
    skipped = tasks.effect(path).run_if(tasks.same(0))
    assert run(skipped.or_else(tasks.add(1))) == 2
    with pytest.raises(DependencyMissingError):
        run(tasks.same(skipped))
    assert run(tasks.fails(1).catch(ValueError, 5)) == 5
    assert tasks.lines(path) == []


def test_loops(run):
    assert run(tasks.collatz(27)) == 111
    assert run(tasks.ping(9)) == 0
    assert run(tasks.adds_lazily(4)) in (0, 1, -1)
    with pytest.raises(StepLimitError):
        run(tasks.collatz(6), max_steps=7)
    assert run(tasks.collatz(6), max_steps=8) == 8
    with pytest.raises(StepLimitError):
        run(tasks.collatz(6), max_rounds=7)


def test_each_step_of_a_loop_is_made_once(run, path):
    assert run(tasks.counts_down(40, path)) == 0
    assert tasks.lines(path) == [str(n) for n in range(40, -1, -1)]


def test_returned_lazy_values_go_on(run):
    assert run(tasks.goes_on(1)) == 3
    assert run(tasks.gives_list(2)) == [3, {"twice": 4}]
    assert run(tasks.gives_map(3)) == [1, 2, 3]


def test_an_error_is_itself_with_its_frames_and_one_note(run):
    with pytest.raises(ValueError, match="no 1") as caught:
        run(tasks.fails(1))
    frames = traceback.extract_tb(caught.value.__traceback__)
    own = [(frame.name, frame.line) for frame in frames if frame.filename == tasks.__file__]
    assert own == [
        ("fails", "inner(x)"),
        ("inner", 'raise ValueError(f"no {x}")  # FAILS HERE'),
    ]
    (note,) = caught.value.__notes__
    assert "in task 'fails', called at" in note
    assert Path(__file__).name in note


def test_errors_of_any_class(run):
    with pytest.raises(tasks.OddError) as caught:
        run(tasks.fails_from(1))
    assert (caught.value.url, caught.value.code) == ("http://x", 404)
    assert repr(caught.value.__cause__) == "ValueError('no 1')"
    with pytest.raises(ExceptionGroup) as group:
        run(tasks.fails_in_group())
    assert [type(error) for error in group.value.exceptions] == [tasks.OddError, KeyError]


def test_errors_that_futures_cannot_carry(run):
    with pytest.raises(TaskStopIterationError):
        run(tasks.stops())
    with pytest.raises(TaskCancelledError):
        run(tasks.cancels())


def test_all_errors_of_a_run_that_goes_on(run, path):
    with pytest.raises(ExceptionGroup) as group:
        run([tasks.fails(1), tasks.effect(path), tasks.reciprocal(0)], fail_fast=False)
    assert {type(error) for error in group.value.exceptions} == {ValueError, ZeroDivisionError}
    assert tasks.lines(path) == ["x"]


def test_wrong_arguments_of_a_tail_call(run):
    with pytest.raises(ArgumentError, match="the tail call of task 'pong' to 'ping'"):
        run(cs.task(name="pong")(tasks.bad_tail)(1))


def test_retries(run, path):
    assert run(tasks.flaky(path, 2).with_retry(3)) == 3
    with pytest.raises(ConnectionError, match="attempt 5"):
        run(tasks.flaky(path, 9).with_retry(2))
    assert len(tasks.lines(path)) == 5


def test_without_a_retry_a_call_is_made_once(run, path):
    with pytest.raises(ConnectionError):
        run(tasks.flaky(path, 9))
    assert len(tasks.lines(path)) == 1


def test_caches(run, path):
    cache = cs.LRUCache()
    for _ in range(2):
        assert run(tasks.effect(path, "once").with_cache(cache)) == "once"
    assert tasks.lines(path) == ["once"]


def test_capacities_hold(run, path):
    calls = [tasks.naps(0.01, path).with_capacity(seat=1) for _ in range(4)]
    assert run(calls, capacities={"seat": 1}) == ["rested"] * 4
    assert tasks.lines(path) == ["begun", "ended"] * 4


def test_a_timeout_ends_the_attempt_and_nothing_else(run, path, executor):
    if isinstance(executor, InlineExecutor):
        pytest.skip("nothing can end a call in the event loop's thread in time")
    run(tasks.where())  # the workers have started
    nap, is_ended = 0.4, is_remote(executor) and executor.capabilities.stops
    with pytest.raises(TaskTimeoutError, match="an attempt of task 'naps' took longer"):
        run(tasks.naps(nap, path).with_timeout(0.05))
    assert run(tasks.add(1)) == 2
    assert run(tasks.add(1).with_timeout(60)) == 2
    time.sleep(nap)
    found = tasks.lines(path)
    if isinstance(executor, cs.FuturesExecutor) and not found:
        return  # the pool has not begun it within the timeout
    assert found == (["begun"] if is_ended else ["begun", "ended"])


def test_a_deadline(run, executor):
    if isinstance(executor, InlineExecutor):
        pytest.skip("nothing can end a call in the event loop's thread in time")
    with pytest.raises(DeadlineError):
        run(tasks.naps(0.4), deadline=0.1)
    assert run(tasks.add(1)) == 2


async def test_a_cancel_waits_for_calls_that_have_begun(executor, use_vm, path):
    if isinstance(executor, InlineExecutor):
        pytest.skip("nothing can end a call in the event loop's thread in time")
    async with cs.Engine(executor=executor) as engine:
        calls = [tasks.naps(0.1, path) for _ in range(64)]
        work = asyncio.ensure_future(engine.run(calls, use_vm=use_vm))
        await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        done = tasks.lines(path)
        assert done.count("begun") == done.count("ended") < 64
        await asyncio.sleep(0.15)
        assert tasks.lines(path) == done


async def test_programs(executor):
    async with cs.Engine(executor=executor) as engine:
        program = engine.compile(tasks.add(tasks.add(cs.Param("x", type=int)), 1))
        assert [await program.run(x=n) for n in range(5)] == [2, 3, 4, 5, 6]
        loop = engine.compile(tasks.collatz(27))
        assert await loop.run(n=7) == 16


def test_a_resource_of_the_engine_is_opened_once_in_each_process(run, executor, path):
    @cs.resource(scope="engine")
    def model():
        tasks.note(path, f"open {os.getpid()}")
        yield {"of": os.getpid()}

    @cs.task
    def use(x, model=cs.inject(model)):
        return os.getpid(), model["of"]

    made = [*run(use.map(x=range(40))), run(use(1).with_timeout(60)), run(use(1).with_retry(2))]
    assert all(pid == of for pid, of in made)
    if is_remote(executor):
        assert os.getpid() not in dict(made)
        assert sorted(tasks.lines(path)) == sorted(f"open {pid}" for pid in dict(made))


def test_a_resource_of_a_call_is_closed_with_it(run, path):
    @cs.resource(scope="task")
    def file():
        tasks.note(path, "open")
        try:
            yield path
        finally:
            tasks.note(path, "close")

    @cs.task
    def use(fails, file=cs.inject(file)):
        tasks.note(file, "use")
        return 1 / (not fails)

    assert run(use(False)) == 1
    with pytest.raises(ZeroDivisionError):
        run(use(True).with_retry(2))
    assert tasks.lines(path) == ["open", "use", "close"] * 3


def test_a_resource_that_fails_to_open_is_tried_again(run, path):
    @cs.resource(scope="engine")
    def model():
        if tasks.note(path) < 2:
            raise ConnectionError("no model")
        yield "a model"

    @cs.task
    def use(model=cs.inject(model)):
        return model

    with pytest.raises(ConnectionError, match="no model") as caught:
        run(use())
    assert "while opening the resource 'model'" in caught.value.__notes__
    assert run(use()) == "a model"


def test_loops_with_a_resource(run):
    @cs.resource(scope="engine")
    def rates():
        yield {"down": 1}

    @cs.task
    def counts(n, made=0, rates=cs.inject(rates)):
        return made if n <= 0 else counts.tail(n - rates["down"], made + 1)

    assert run(counts(300)) == 300
    assert run(counts(5).with_retry(1)) == 5
    with pytest.raises(StepLimitError):
        run(counts(9), max_steps=7)


def test_many_calls_are_made_once_each(run, path):
    count = 200
    assert run(tasks.effect.map(path=cs.literal(path), text=range(count))) == [*range(count)]
    assert sorted(map(int, tasks.lines(path))) == [*range(count)]


def test_large_values(run):
    value = bytes(1 << 22)
    assert run(tasks.same(tasks.same(value))) == value
