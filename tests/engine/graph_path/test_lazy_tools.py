"""Agents whose tail calls have one lazy argument, the answer of a tool (M2)."""

import asyncio
import gc
import weakref

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor

STEPS = 40


class Value:
    """Can be referred to weakly."""


@cs.task
async def ask(n):
    await asyncio.sleep(0)
    return n - 1


@cs.task
def ask_plainly(n):
    return n - 1


@pytest.fixture
def submitted(monkeypatch):
    """The calls that were sent to a thread."""
    calls = []
    original = LocalExecutor.submit

    def submit(self, func, *args, **kwargs):
        calls.append(func)
        return original(self, func, *args, **kwargs)

    monkeypatch.setattr(LocalExecutor, "submit", submit)
    return calls


async def test_a_coroutine_tool_of_a_coroutine_agent_needs_no_thread(run, submitted):
    @cs.task
    async def agent(n):
        return agent.tail(ask(n)) if n else "end"

    assert await run(agent(STEPS)) == "end"
    assert submitted == []


@pytest.mark.parametrize("tool", [ask, ask_plainly])
@pytest.mark.parametrize("by_name", [True, False])
async def test_the_agent_gets_the_answer(run, tool, by_name):
    made = []

    @cs.task
    async def agent(n, note=""):
        made.append(n)
        if not n:
            return "end"
        return agent.tail(n=tool(n)) if by_name else agent.tail(tool(n), "x")

    assert await run(agent(STEPS)) == "end"
    assert made == list(range(STEPS, -1, -1))


@pytest.mark.parametrize("way", ["closure", "kept"])
async def test_an_answer_that_may_be_needed_again_is_kept(run, way):
    """R3, M21."""
    calls, hidden = [], []

    @cs.task
    def count(n):
        calls.append(n)
        return n

    named = count(2)

    @cs.task
    async def agent(n):
        if n == 3:
            hidden.append(named if way == "closure" else count(2).keep())
            return agent.tail(hidden[0])
        return [n, hidden[0], named if way == "closure" else 2]

    assert await run(agent(3)) == [2, 2, 2]
    assert calls == [2]


async def test_a_released_answer_is_not_computed_again(run):
    """M21."""
    hidden = []

    @cs.task
    async def agent(n):
        if n == 4:  # the run looks for what its tasks can name
            return agent.tail(ask(n))
        if n == 3:
            hidden.append(ask(n))
            return agent.tail(hidden[0])
        return [n, hidden[0]]

    with pytest.raises(cs.errors.ReleasedValueError, match="ask"):
        await run(agent(4))


async def test_an_answer_is_released_when_the_agent_has_it(run):
    """M21."""
    alive = weakref.WeakSet()

    @cs.task
    async def load(n):
        value = Value()
        alive.add(value)
        return value

    asked = []

    @cs.task
    async def agent(n, value):
        del value
        gc.collect()
        assert len(alive) <= 2
        if not n:
            return "end"
        asked.append(load(n))  # the run forgets the value although the lazy value lives
        return agent.tail(n - 1, asked[-1])

    assert await run(agent(10, None)) == "end"
    del asked[:]


async def test_an_error_of_the_tool_names_it_and_its_agent(run):
    @cs.task
    async def fail(n):
        raise ValueError("no answer")

    @cs.task
    async def agent(n):
        return agent.tail(fail(n)) if n == 3 else agent.tail(ask(n))

    with pytest.raises(ValueError, match="no answer") as caught:
        await run(agent(5))
    assert "in task 'fail'" in caught.value.__notes__[0]


async def test_a_skipped_tool_skips_the_agent(run):
    @cs.task
    def false():
        return False

    @cs.task
    async def agent(n):
        return agent.tail(ask(n).run_if(false())) if n == 3 else agent.tail(ask(n))

    with pytest.raises(cs.errors.DependencyMissingError, match="'ask'"):
        await run(agent(5))
