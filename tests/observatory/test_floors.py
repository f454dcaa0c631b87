"""The unavoidable parts of a run, by hand: rows of benchmarks."""

import asyncio
import contextvars
import threading

import pytest

from cascade.observatory.benchmarks import small_runs
from cascade.observatory.benchmarks.awaiting import KINDS, leaf
from cascade.observatory.benchmarks.floors import BegunEarly, HandOff, Watched
from cascade.observatory.benchmarks.shapes import CHAIN, TREE, WIDE


def test_a_hand_off_calls_on_a_thread_of_its_own():
    with HandOff() as thread:
        here, there = threading.get_ident(), {thread.call(threading.get_ident) for _ in range(3)}
    assert len(there - {here}) == 1


@pytest.mark.parametrize("left", [None, leaf])
def test_the_calls_of_a_run_are_handed_off(left):
    with HandOff() as thread:
        assert asyncio.run(small_runs._handed_off(thread, left)) == 3


def test_a_hand_off_is_added_to_a_run_without_threads():
    calls = []

    async def once():
        calls.append("run")
        return 3

    with HandOff() as thread:
        assert asyncio.run(small_runs._hopped(thread, once)) == 3
    assert calls == ["run"]


@pytest.mark.parametrize("system", [BegunEarly, Watched], ids=lambda system: system.name)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [WIDE, CHAIN, TREE], ids=lambda shape: shape.name)
def test_coroutines_that_are_begun_early_have_their_values(kind, shape, system):
    with system(kind.functions) as begun:
        contender = begun.contender(shape, 7)
        assert contender.run() == contender.expected


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_the_first_failure_ends_the_others_that_are_watched(waits):
    ends = []

    async def fails():
        for _ in range(waits):
            await asyncio.sleep(0)
        raise ValueError

    async def lasts():
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("lasts")

    calls = [lasts(), fails()]
    if waits:  # otherwise the level ends before it would begin
        calls.append(lasts())
    with Watched() as system, pytest.raises(ValueError, match=r"^$"):
        system.wait_for(lambda: system._level(calls))
    assert len(ends) == len(calls) - 1


def test_calls_that_are_watched_do_not_see_the_variables_of_others():
    variable = contextvars.ContextVar("variable", default=None)

    async def changes(value):
        before = variable.get()
        variable.set(value)
        if value % 2:
            await asyncio.sleep(0)
        return before, variable.get()

    with Watched() as system:
        found = system.wait_for(lambda: system._level([changes(n) for n in range(6)]))
    assert found == [(None, n) for n in range(6)]


def test_a_task_that_a_watched_call_has_kept_is_its_own():
    async def current():
        return asyncio.current_task()

    async def nothing():
        return None

    with Watched() as system:
        found = system.wait_for(lambda: system._level([current(), nothing(), current()]))
    assert found[0] is not found[2]
