"""The options of runs and engines: spelt once, known everywhere, and named when misspelt."""

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.bus import MessageBus
from cascade.runtime.control.plane_options import PlaneOptions, PlaneSettings
from cascade.runtime.engine_options import (
    EngineOptions,
    EngineSettings,
    ScriptOptions,
    WatchOptions,
    WatchSettings,
)
from cascade.runtime.events import RunStarted
from cascade.runtime.options import ProgramOptions, RunOptions, RunSettings, takes

FORMS = [
    (RunOptions, RunSettings),
    (WatchOptions, WatchSettings),
    (EngineOptions, EngineSettings),
    (PlaneOptions, PlaneSettings),
]


@cs.task
def add(a, b=1):
    return a + b


@cs.task
def fail(text):
    raise ValueError(text)


@cs.task
def count(n):
    return count.tail(n - 1) if n else "end"


def names(function):
    return {
        p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY
    }


@pytest.mark.parametrize(("options", "settings"), FORMS)
def test_both_forms_of_options_have_the_same_names_types_and_texts(options, settings):
    types = {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()}
    assert types == {field.name: field.type for field in fields(settings)}
    for name in types:
        assert f"\n    {name}: " in inspect.getdoc(settings)  # Python 3.13 has it without indent


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (cs.run, ScriptOptions),
        (cs.run_async, ScriptOptions),
        (cs.Engine, EngineOptions),
        (cs.ControlPlane, PlaneOptions),
        (cs.Engine.run, RunOptions),
        (cs.Engine.start, RunOptions),
        (cs.Engine.compile, ProgramOptions),
    ],
)
def test_help_shows_each_option_with_its_default_and_text(function, options):
    known = options.__optional_keys__
    own = {cs.Engine.compile: {"params"}, cs.Engine.start: {"on", "summary"}}
    assert names(function) - own.get(function, set()) == known
    text = inspect.getdoc(function.__init__ if isinstance(function, type) else function)
    assert text.count("Options:") == 1
    for name in known:
        assert f"\n    {name}: " in text
    defaults = inspect.signature(function).parameters
    if "deadline" in known:
        assert defaults["deadline"].default is None
        assert defaults["fail_fast"].default is True


def test_a_function_without_a_docstring_takes_options():
    @takes(RunOptions, RunSettings)
    def function(**options):
        """"""

    assert names(function) == RunOptions.__optional_keys__


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (cs.run, {"deadlin": 1}, "run() has no option 'deadlin' (did you mean 'deadline'?)"),
        (cs.run, {"name": "Ada"}, "goes into params:  params={'name': …}"),
        (cs.run_async, {"use_wm": 1}, "run_async() has no option 'use_wm' (did you mean"),
        (cs.Engine().run, {"use_wm": 1}, "run() has no option 'use_wm' (did you mean 'use_vm'?)"),
        (
            cs.Engine().compile,
            {"colour": "red"},
            "compile() has no option 'colour'; it has deadline, fail_fast, max_rounds, max_steps",
        ),
        (cs.run, {"run_id": ""}, "run_id must be non-empty text, but is ''"),
        (cs.run, {"run_id": 7}, "run_id must be non-empty text, but is 7"),
        (cs.run, {"use_vm": "no"}, "use_vm must be True or False, but is 'no'"),
        (cs.run, {"fail_fast": 0}, "fail_fast must be True or False, but is 0"),
        (cs.run, {"progress": "yes"}, "progress must be True or False, but is 'yes'"),
        (cs.run, {"threads": 0}, "threads must be an int ≥ 1, but is 0"),
        (cs.run, {"threads": 1.5}, "threads must be an int ≥ 1, but is 1.5"),
        (
            cs.run,
            {"threads": 1, "executor": LocalExecutor()},
            "an engine takes threads= or executor=, but not both",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_the_call(call, options, message):
    with pytest.raises(cs.errors.ArgumentError) as caught:
        value = call(add(1), **options)
        asyncio.run(value)

    assert message in str(caught.value)


def test_a_misspelt_option_of_a_control_plane_is_refused(engine):
    options = {"pattern": 1}
    with pytest.raises(cs.errors.ArgumentError, match=r"^ControlPlane\(\) has no option 'pattern'"):
        cs.ControlPlane(engine, MemoryConnector(MemoryBroker()), **options)


def test_a_misspelt_option_of_an_engine_is_refused():
    options = {"thread": 1}
    with pytest.raises(
        cs.errors.ArgumentError, match=r"^Engine\(\) has no option 'thread' \(did you mean"
    ):
        cs.Engine(**options)


# -- threads ----------------------------------------------------------------------------------


@cs.task
def thread():
    return threading.current_thread().name


async def test_a_number_of_threads_is_how_many_calls_run_at_once():
    most, under_way, lock, both = 0, 0, threading.Lock(), threading.Barrier(2)

    @cs.task(mode="blocking")
    def work(n):
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        both.wait(10)
        with lock:
            under_way -= 1

    async with cs.Engine(threads=2) as engine:
        await engine.run(work.map(n=range(8)))

    assert most == 2


@pytest.mark.parametrize("option", ["threads", "executor"])
async def test_threads_and_executor_take_what_lends_threads(option):
    with ThreadPoolExecutor(1, thread_name_prefix="lent") as pool:
        async with cs.Engine(**{option: pool}) as engine:
            assert (await engine.run(thread())).startswith("lent")
        assert pool.submit(int).result() == 0  # the engine's end is not the pool's


@pytest.mark.parametrize("option", ["threads", "executor"])
def test_the_wrong_kind_is_refused_by_the_name_of_the_option(option):
    with pytest.raises(
        cs.errors.ExecutorError, match=rf"^Engine\({option}=…\) is a builtins\.str, which"
    ):
        cs.Engine(**{option: "threads"})


def test_run_takes_the_options_of_its_engine():
    bus, seen = MessageBus(), []
    bus.subscribe(RunStarted, lambda event: seen.append(event.run_id))
    with ThreadPoolExecutor(1, thread_name_prefix="lent") as pool:
        assert cs.run(thread(), threads=pool, bus=bus, run_id="mine").startswith("lent")
    assert seen == ["mine"]


# -- programs ---------------------------------------------------------------------------------


async def test_the_options_of_a_program_hold_for_each_of_its_runs(engine):
    done = []
    note = cs.task(lambda n: done.append(n), name="note")
    both = engine.compile(add(fail("no"), note(1)), fail_fast=False)
    limited = engine.compile(count(0), max_steps=3)

    for _ in range(2):
        with pytest.raises(ExceptionGroup) as caught:
            await both.run()
        assert [str(error) for error in caught.value.exceptions] == ["no"]
        assert await limited.run(n=3) == "end"
        with pytest.raises(cs.errors.StepLimitError):
            await limited.run(n=4)
    assert done == [1, 1]


async def test_a_program_has_a_deadline(engine, held):
    wait = cs.task(lambda: held.wait(10), name="wait")
    program = engine.compile(add(wait()), deadline=0.01)

    with pytest.raises(cs.errors.DeadlineError):
        await program.run()
