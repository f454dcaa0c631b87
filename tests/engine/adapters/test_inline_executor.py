"""``cascade.adapters.executors.inline``: everything in one thread, in order."""

from __future__ import annotations

import threading

import pytest

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.runtime.engine import Engine
from cascade.spec.errors import RunError


async def test_tasks_run_in_the_callers_thread_in_the_order_in_which_they_became_ready():
    seen = []

    @cs.task
    def step(name, *_):
        seen.append((name, threading.current_thread()))
        return name

    a = step("a")
    b = step("b")
    target = step("d", step("c", a), b)
    async with Engine(threads=InlineExecutor()) as engine:
        assert await engine.run(target) == "d"
        assert await engine.run([step("e"), step("f")]) == ["e", "f"]
    assert [name for name, _ in seen] == ["a", "b", "c", "d", "e", "f"]
    assert {thread for _, thread in seen} == {threading.current_thread()}


async def test_an_error_is_raised_as_on_threads():
    @cs.task
    def fails():
        raise ValueError("inline")

    async with Engine(threads=InlineExecutor()) as engine:
        with pytest.raises(ValueError, match="inline"):
            await engine.run(fails())


def test_submitting_is_calling():
    executor = InlineExecutor()
    assert executor.submit(divmod, 7, 2).result(timeout=0) == (3, 1)
    error = executor.submit(divmod, 7, 0).exception(timeout=0)
    assert isinstance(error, ZeroDivisionError)
    executor.shutdown()
    with pytest.raises(RunError, match="shut down"):
        executor.submit(int)
