"""Straight-line code for graphs of any size: chunks, which mean the same as one function."""

import asyncio
import contextvars
import gc
import math
import random
import threading
import weakref
from collections import Counter
from itertools import pairwise

import pytest

import cascade as cs
from cascade.runtime import program as programs
from cascade.runtime.execution import fairness
from cascade.runtime.execution.contexts import held_in
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.program import ProgramExecution
from cascade.runtime.semantics.outcomes import RELEASED
from cascade.runtime.straightline import chunks
from cascade.runtime.straightline.stops import Bailout, Pause
from cascade.runtime.straightline.straight import StraightLine
from cascade.runtime.straightline.walks import walk

colour = contextvars.ContextVar("colour", default="none")


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Small graphs get many chunks, and calls with more than four arguments are wide."""
    monkeypatch.setattr(chunks, "MOST_CALLS", 3)
    monkeypatch.setattr(programs, "MOST_CALLS", 3)
    monkeypatch.setattr(chunks, "_WIDE", 4)


class Limit:
    """Ends each turn after so many calls."""

    began = 0.0

    def __init__(self, calls=math.inf):
        self.calls = self.left = calls

    @property
    def until(self):
        self.left -= 1
        if self.left > 0:
            return math.inf
        self.left = self.calls
        return -math.inf


def entered(target, calls=math.inf, kept=()):
    """The code of a target, and its first result."""
    found = walk(target, whole=True, most=math.inf)
    context = contextvars.copy_context()
    straight = StraightLine(found, kept)
    return straight, straight.enter(context, held_in(context), Limit(calls), found.values)


@cs.task
def add(*values, more=0):
    return sum(values) + more


def graph(size, seed):
    """A random graph: calls of few or many arguments, names, containers, plain values between."""
    rng = random.Random(seed)
    nodes = [add(1)]
    for n in range(size):
        count = rng.choice([1, 1, 2, 3, 5, 9])
        given = [rng.choice(nodes) if rng.random() < 0.7 else n for _ in range(count)]
        kind = rng.randrange(4)
        if kind == 0:
            nodes.append(add(*given, more=rng.choice(nodes)))
        elif kind == 1:
            nodes.append(add(n, more=total([given, nodes[-1]])))
        elif kind == 2:
            nodes.append(rng.choice(nodes) % 1000 + nodes[-1] % 1000)
        else:
            nodes.append(add(*given) % 10_000)
    return total(nodes)


@cs.task
def total(values):
    return sum(sum(v) if isinstance(v, list) else v for v in values)


@pytest.mark.parametrize("seed", range(20))
async def test_chunks_give_the_same_as_a_run(seed):
    target = graph(25, seed)
    async with cs.Engine(tier="interpreted") as engine:
        expected = await engine.run(target)

    straight, value = entered(target)

    assert len(straight._chunks) > 5
    assert value == expected


@pytest.mark.parametrize("calls", [1, 2, 3, 5, 7])
def test_they_go_on_from_every_place(calls):
    target = graph(20, calls)
    _, expected = entered(target)

    straight, outcome = entered(target, calls)
    places = []
    while type(outcome) is Pause:
        places.append(outcome.place)
        assert outcome.is_clean
        outcome = straight.go_on(outcome)

    assert outcome == expected
    assert places == list(range(calls, calls * len(places) + 1, calls))


@pytest.mark.parametrize("calls", [1, 2, 4, 5, 8])
def test_a_pause_has_the_results_so_far(calls):
    nodes = [add(1)]
    for _ in range(9):
        nodes.append(add(nodes[-1], nodes[0]))

    _, pause = entered(nodes[-1], calls)

    values = [1 + n for n in range(calls)]
    shared, last = values[0], values[-1]
    middle = [RELEASED] * (calls - 2)
    assert pause.paused
    assert pause.place == calls
    assert pause.done == ([shared, *middle, last] if calls > 1 else [1])


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyboardInterrupt, RuntimeError])
def test_they_stop_at_an_error(place, error):
    raised = error("no")

    @cs.task
    def work(n, *_after):
        if n == place:
            raise raised
        return n

    node = work(0)
    for n in range(1, 8):
        node = work(n, node)
    _, stopped = entered(node)

    assert type(stopped) is Bailout
    assert stopped.done == ([*[RELEASED] * (place - 1), place - 1] if place else [])
    assert stopped.result is UNSET
    assert stopped.error is raised


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("value", [add(1), cs.TailCall((1,))], ids=["lazy", "tail call"])
def test_they_stop_at_a_value_that_goes_on(place, value):
    @cs.task
    def work(n, *_after):
        return value if n == place else n

    node = work(0)
    for n in range(1, 8):
        node = work(n, node)
    _, stopped = entered(node)

    assert type(stopped) is Bailout
    assert len(stopped.done) == place
    assert stopped.result is value
    assert stopped.error is None


def test_an_error_of_a_task_that_looks_like_a_replaced_one_stays():
    """A RuntimeError with a StopIteration as its cause, raised by the task itself."""

    @cs.task
    def work(*_after):
        try:
            next(iter(()))
        except StopIteration as end:
            raise RuntimeError("mine") from end

    _, stopped = entered(work(add(add(add(add(1))))))

    assert str(stopped.error) == "mine"


def test_ctrl_c_between_two_calls_is_not_lost():
    class Interrupted(Limit):
        @property
        def until(self):
            raise KeyboardInterrupt

    found = walk(add(add(add(add(add(1))))))
    context = contextvars.copy_context()
    with pytest.raises(KeyboardInterrupt):
        StraightLine(found).enter(context, held_in(context), Interrupted(), found.values)


# -- values -----------------------------------------------------------------------------------


class Block:
    """A value that is counted while it lives."""

    alive = most = 0

    def __init__(self):
        Block.alive += 1
        Block.most = max(Block.most, Block.alive)

    def __del__(self):
        Block.alive -= 1


@cs.task
def block(*_before):
    return Block()


def test_values_are_released_when_their_last_user_has_them():
    Block.most = 0
    node = block()
    for _ in range(30):
        node = block(node)
    _, value = entered(add(more=count([node])))

    assert value == 1
    assert Block.most <= 3


@cs.task
def count(values):
    return len(values)


def test_values_for_a_wide_call_are_released_after_it():
    Block.most = 0
    node = count([block() for _ in range(20)])
    for _ in range(5):
        node = count([block(node) for _ in range(20)])
    entered(node)

    assert Block.most <= 21


def test_kept_values_are_not_released():
    first = add(1)
    node = first
    for _ in range(9):
        node = add(node)

    _, pause = entered(node, 8, kept={first})

    assert pause.done[0] == 1
    assert pause.done[1:-1] == [RELEASED] * 6


def test_a_pause_that_is_dropped_frees_its_values():
    node = block()
    for _ in range(9):
        node = block(node)
    found = walk(node)
    context = contextvars.copy_context()
    pause = StraightLine(found).enter(context, held_in(context), Limit(5), found.values)
    value = weakref.ref(pause.done[4])
    pause.done = []
    gc.collect()

    assert value() is None


# -- their text -------------------------------------------------------------------------------


def test_chunks_that_look_alike_are_compiled_once():
    chunks._compiled.cache_clear()

    entered(count([add(n) for n in range(300)]))

    assert chunks._compiled.cache_info().misses <= 4


def test_no_chunk_grows_with_its_graph():
    straight, _ = entered(graph(300, 1))

    assert max(len(chunk.calls) for chunk in straight._chunks) == 3


# -- programs ---------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The time, which only a task lets pass."""
    now = [100.0]
    for module in (fairness, programs, chunks):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    monkeypatch.setattr("cascade.runtime.straightline.straight.perf_counter", lambda: now[0])
    return now


@pytest.fixture
def handed_over(monkeypatch):
    """The number of calls made by the time a graph run takes over."""
    places = []
    original = ProgramExecution.execute

    async def execute(self, target, run):
        machine = self._machine

        def make(run):
            places.append(self._begun and self._begun.stopped.place)
            return machine(run)

        self._machine = make
        return await original(self, target, run)

    monkeypatch.setattr(ProgramExecution, "execute", execute)
    return places


@cs.task
def echo(*values):
    return values[0]


async def test_a_long_program_stays_straight_and_lets_the_event_loop_turn(
    engine, clock, handed_over
):
    """M9."""
    log = []

    @cs.task
    def work(n, _after=None):
        log.append(n)
        clock[0] += 0.001
        return n

    node = work(0)
    for n in range(1, 30):
        node = work(n, node)
    program = engine.compile(node)

    async def others():
        while len(log) < 30:
            log.append("turn")
            await asyncio.sleep(0)

    ticking = asyncio.create_task(others())
    assert await program.run() == 29
    await ticking
    turns = [place for place, entry in enumerate(log) if entry == "turn"]

    assert [n for n in log if n != "turn"] == list(range(30))
    assert handed_over == []
    assert max(b - a for a, b in pairwise(turns)) <= 7
    assert engine.runs() == []


async def test_calls_that_are_worth_a_worker_leave_straight_line_code(engine, clock, handed_over):
    @cs.task
    def work(n, _after=None):
        clock[0] += 0.003
        return n

    node = work(0)
    for n in range(1, 30):
        node = work(n, node)

    assert await engine.compile(node).run() == 29
    assert handed_over == [2]


@pytest.mark.usefixtures("clock")
async def test_a_variable_set_in_a_chunk_is_seen_by_no_other_call(engine, handed_over):
    """M12."""
    seen = []

    @cs.task
    def paint(n, _after=None):
        seen.append(colour.get())
        if n == 13:
            colour.set("red")
        return n

    node = paint(0)
    for n in range(1, 30):
        node = paint(n, node)

    assert await engine.compile(node).run() == 29
    assert seen == ["none"] * 30
    assert handed_over == [14]


async def test_a_cancel_arrives_between_two_turns(engine, clock):
    log = []

    @cs.task
    def work(n, _after=None):
        log.append(n)
        clock[0] += 0.001
        if n == 17:
            running.cancel()
        return n

    node = work(0)
    for n in range(1, 40):
        node = work(n, node)
    running = asyncio.create_task(engine.compile(node).run())

    with pytest.raises(asyncio.CancelledError):
        await running
    assert 17 <= log[-1] < 24
    assert engine.runs() == []


async def test_a_function_that_proves_slow_leaves_for_a_worker(engine, clock, handed_over):
    """M6."""
    threads = []

    @cs.task
    def work(n, _after=None):
        threads.append(threading.get_ident())
        clock[0] += 0.02 if n == 12 else 0.0001
        return n

    node = work(0)
    for n in range(1, 20):
        node = work(n, node)

    assert await engine.compile(node).run() == 19
    here = threading.get_ident()
    assert threads[:13] == [here] * 13
    assert here not in threads[13:]


@pytest.mark.parametrize("place", [0, 1, 4, 7, 8])
async def test_an_error_names_its_task_and_the_path_to_it(engine, place):
    @cs.task
    def work(n, _after=None):
        if n == place:
            raise ValueError("no")
        return n

    node = work(0)
    for n in range(1, 9):
        node = work(n, node)
    notes = []
    for way in (engine.compile(node).run, lambda: engine.run(node)):
        with pytest.raises(ValueError, match="no") as caught:
            await way()
        notes.append(caught.value.__notes__)

    assert notes[0] == notes[1]


async def test_each_node_is_called_once_wherever_the_code_stops(engine, clock):
    """R3."""
    for place in range(12):
        calls = Counter()

        @cs.task
        def later(n):
            return n

        @cs.task
        def work(n, *_after, calls=calls, place=place, later=later):
            calls[n] += 1
            clock[0] += 0.001
            return later(n) if n == place else n

        nodes = [work(0)]
        for n in range(1, 12):
            nodes.append(work(n, nodes[-1], nodes[n // 2]))

        assert await engine.compile(count(nodes)).run() == 12
        assert set(calls.values()) == {1}


async def test_inputs_and_parameters_reach_every_chunk(engine):
    node = add(cs.Param("p", type=int))
    for n in range(20):
        node = add(node, n, cs.Param("q", default=1, type=int))
    program = engine.compile(echo(node, 1, 2))

    for given in ({"p": 1}, {"p": 2, "q": 3}):
        assert await program.run(**given) == await engine.run(echo(node, 1, 2), given)
