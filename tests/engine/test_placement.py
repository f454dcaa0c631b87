"""M6: where plain functions run, and how many calls of one may keep the event loop."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.diagnostics.usage import Usage
from cascade.runtime.execution.placement import SLOW, Durations, Place, Placement, may_start_loop
from cascade.spec.operation import Operation


@pytest.fixture
def loop_thread():
    return threading.get_ident()


@pytest.fixture
def take_long(monkeypatch):
    """Called by a function that should take long; no other call takes any time."""
    now = [time.perf_counter()]
    rooms = (
        "execution.placement",
        "execution.fairness",
        "program",
        "straightline.straight",
        "straightline.chunks",
    )
    for room in (
        *rooms,
        "graph_path.compiled_loops.loop_batches",
        "graph_path.compiled_loops.loop_driver",
    ):
        monkeypatch.setattr(f"cascade.runtime.{room}.perf_counter", lambda: now[0])
    monkeypatch.setattr(Usage, "blame", lambda _usage, _began, seconds: seconds)

    def take_long():
        now[0] += 10 * SLOW

    return take_long


def place(function, durations=None, **details):
    mode = details.pop("mode", "auto")
    in_time = details.pop("in_time", False)
    placement = Placement(durations)
    placement.in_time = in_time
    return placement.place(cs.task(mode=mode)(function), **details)


def plain():
    pass


def known(seconds):
    durations = Durations()
    durations.note(plain, seconds)
    return durations


@pytest.mark.parametrize(
    ("expected", "details"),
    [
        (Place.WORKER, {}),
        (Place.INLINE, {"mode": "inline"}),
        (Place.WORKER, {"mode": "inline", "timeout": 1.0}),
        (Place.BOUND, {"mode": "inline", "bound": True}),
        (Place.BOUND, {"mode": "blocking", "bound": True, "short": True}),
        (Place.INLINE, {"short": True}),
        (Place.WORKER, {"short": True, "timeout": 1.0}),
        (Place.WORKER, {"short": True, "mode": "blocking"}),
        (Place.WORKER, {"short": True, "alone": False}),
        (Place.WORKER, {"short": True, "durations": known(2 * SLOW)}),
        (Place.INLINE, {"short": True, "durations": known(SLOW / 2)}),
        (Place.INLINE, {"mode": "inline", "durations": known(2 * SLOW)}),
        (Place.WORKER, {"short": True, "in_time": True, "durations": Durations()}),
        (Place.INLINE, {"short": True, "in_time": True, "durations": known(SLOW / 2)}),
        (Place.WORKER, {"short": True, "in_time": True, "durations": known(2 * SLOW)}),
        (Place.INLINE, {"mode": "inline", "in_time": True, "durations": Durations()}),
    ],
)
def test_a_call_has_one_place(expected, details):
    assert place(plain, **details) is expected


def test_a_coroutine_is_awaited_in_the_event_loop():
    async def work(): ...

    for short in (False, True):
        assert place(work, short=short) is Place.LOOP


def test_a_function_that_was_slow_once_stays_so():
    durations = known(2 * SLOW)
    durations.note(plain, SLOW / 2)

    assert durations.is_slow(cs.task(plain))
    assert durations.version == 1


def test_durations_keep_no_function_alive():
    durations = Durations()

    def make():
        def local(): ...

        durations.note(cs.task(local), 1.0)
        return weakref.ref(local)

    local = make()
    gc.collect()

    assert local() is None


def test_callables_that_cannot_be_weak_keys_are_known_by_their_task():
    class Callable:
        __slots__ = ()
        __hash__ = None

        def __call__(self): ...

    slow, other = cs.task(Callable()), cs.task(Callable())
    durations = Durations()
    durations.note(slow, 1.0)

    assert durations.is_slow(slow)
    assert not durations.is_slow(other)


def test_an_operator_is_known_by_its_place_in_a_graph():
    @cs.task
    def one():
        return 1

    first, second = one() + 1, one() + 1
    durations = Durations()
    durations.note(first.task, 1.0)

    assert durations.is_slow(first.task)
    assert not durations.is_slow(second.task)


def test_operations_added_by_cascade_never_count_as_slow():
    durations = Durations()
    Placement(durations).note(cs.gather(1).task, 1.0)

    assert durations.version == 0


# -- at most one call of each function keeps the event loop ---------------------------------------


def blocking_loop(threads, gate, take_long):
    """A loop of long steps; all but the first wait for an event that the event loop sets."""

    @cs.task
    def step(n):
        threads.append(threading.get_ident())
        take_long()
        came = len(threads) == 1 or gate.wait(20)
        return step.tail(n - 1) if n else came

    return step


@pytest.mark.parametrize("tier", ["auto", "generated"])
async def test_at_most_one_step_of_a_loop_keeps_the_event_loop(tier, loop_thread, take_long):
    threads, gate = [], threading.Event()
    step = blocking_loop(threads, gate, take_long)
    async with cs.Engine(tier=tier) as engine, asyncio.timeout(20):
        running = asyncio.ensure_future(engine.run(step(3), use_vm=True))
        while not threads:  # noqa: ASYNC110 - set in a thread
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set()

        assert await running is True
        assert threads.count(loop_thread) == 1
        assert threads[0] == loop_thread

        assert await engine.run(step(2), use_vm=True) is True  # it is remembered
        assert threads.count(loop_thread) == 1


async def test_another_engine_knows_nothing_of_it(loop_thread, take_long):
    threads = []

    @cs.task
    def step(n):
        threads.append(threading.get_ident())
        take_long()
        return step.tail(n - 1) if n > 1 else n

    for _ in range(2):
        async with cs.Engine() as engine:
            await engine.run(step(1), use_vm=True)
            await engine.run(step(1), use_vm=True)

    assert [thread == loop_thread for thread in threads] == [True, False] * 2


async def test_a_program_calls_a_slow_function_on_a_worker(engine, loop_thread, take_long):
    slow_threads = []

    @cs.task
    def slow(n):
        slow_threads.append(threading.get_ident())
        take_long()
        return n

    @cs.task
    def quick(value):
        return threading.get_ident()

    assert await engine.compile(quick(quick(1))).run() == loop_thread
    for target in (quick(slow(1)), slow(quick(1)), slow(slow(1))):
        program = engine.compile(target)
        await program.run()
        await program.run()

    assert slow_threads.count(loop_thread) == 1
    assert await engine.compile(quick(quick(1))).run() == loop_thread


@pytest.mark.parametrize("outcome", ["value", "error", "lazy"])
async def test_a_slow_function_of_a_program_moves_whatever_it_gives(
    engine, outcome, loop_thread, take_long
):
    calls = []

    @cs.task
    def first(n):
        calls.append(("first", threading.get_ident() == loop_thread))
        return n

    @cs.task
    def slow(n):
        calls.append(("slow", threading.get_ident() == loop_thread))
        take_long()
        if outcome == "error":
            raise ValueError
        return n if outcome == "value" else first(n)

    program = engine.compile(slow(first(1)))
    for _ in range(2):
        calls.clear()
        with contextlib.suppress(ValueError):
            await program.run()

    assert calls[0][0] == "first"
    assert calls[1] == ("slow", False)


async def test_a_continuation_of_a_node_keeps_no_event_loop(engine, loop_thread, take_long):
    threads = []

    @cs.task
    def slow(n):
        threads.append(threading.get_ident())
        if len(threads) == 8:
            take_long()
        return n

    @cs.task
    def step(n):
        return go_on(slow(n)) if n else "done"

    @cs.task
    def go_on(n):
        return step.tail(n - 1)

    await engine.run(step(20), use_vm=True)

    assert len(threads) == 20
    assert loop_thread not in threads


@pytest.mark.parametrize("tier", ["auto", "generated", "interpreted"])
async def test_mode_inline_never_moves(tier, loop_thread, take_long):
    threads = set()

    @cs.task(mode="inline")
    def step(n):
        threads.add(threading.get_ident())
        take_long()
        return step.tail(n - 1) if n else "done"

    async with cs.Engine(tier=tier) as engine:
        await engine.run(step(3), use_vm=True)

    assert threads == {loop_thread}


def test_in_virtual_time_the_machines_speed_decides_nothing(take_long):
    threads = []

    @cs.task
    def step(n):
        threads.append(threading.get_ident())
        take_long()
        return step.tail(n - 1) if n else "done"

    @cs.task
    def linger(n):
        take_long()
        return n

    async def main():
        async with cs.Engine(threads=LocalExecutor()) as engine:
            await engine.run(step(3), use_vm=True)
            await engine.compile(linger(linger(1))).run()
            assert engine.durations.version == 0

    run_virtually(main())
    assert set(threads) == {threading.get_ident()}


# -- deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["loop", "graph", "list"])
async def test_with_a_deadline_the_first_call_of_a_function_keeps_no_event_loop(shape):
    """It is abandoned (M8); it waits for an event that is set after the deadline."""
    gate, began = threading.Event(), []

    @cs.task
    def step(n):
        began.append(n)
        gate.wait(20)
        return step.tail(n - 1) if shape == "loop" and n else n

    target = [step(3), step(4)] if shape == "list" else step(3)
    async with cs.Engine() as engine:
        while not began:  # a busy machine may take longer to begin
            with pytest.raises(cs.errors.DeadlineError):
                await engine.run(target, use_vm=True, deadline=0.05)
        assert set(engine.abandoned) == {"step"}
        gate.set()
        while engine.abandoned:  # noqa: ASYNC110 - changed in a thread
            await asyncio.sleep(0)

    assert sorted(set(began)) == ([3, 4] if shape == "list" else [3])  # it makes no more steps


async def test_with_a_deadline_a_function_that_is_known_to_be_quick_runs_inline(engine):
    @cs.task
    def where(n):
        return where.tail(n - 1) if n else threading.get_ident()

    first = await engine.run(where(1), use_vm=True, deadline=20)
    second = await engine.run(where(1), use_vm=True, deadline=20)

    assert first != threading.get_ident()
    assert second == threading.get_ident()


# -- plain functions and event loops of their own -------------------------------------------------


async def answer():
    await asyncio.sleep(0)
    return 42


def ask(n=0):
    return asyncio.run(answer()) + n


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("tier", ["auto", "generated", "interpreted"])
async def test_a_plain_function_may_run_an_event_loop(use_vm, tier):
    @cs.task
    def step(n):
        got = ask()
        return step.tail(n - 1) if n else got

    async with cs.Engine(tier=tier) as engine:
        plain_ask = cs.task(ask)
        assert await engine.run(plain_ask(), use_vm=use_vm) == 42
        assert await engine.run([plain_ask(1), plain_ask(2)], use_vm=use_vm) == [43, 44]
        assert await engine.run(step(3), use_vm=use_vm) == 42
        assert asyncio.current_task() is not None  # this loop runs as before


async def test_a_programs_function_may_run_an_event_loop(engine):
    plain_ask = cs.task(ask)
    program = engine.compile(plain_ask(plain_ask(1)))

    assert [await program.run() for _ in range(3)] == [85, 85, 85]
    assert asyncio.current_task() is not None


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("loops", [False, True], ids=["call", "loop"])
async def test_mode_inline_says_why_it_may_not(engine, use_vm, loops):
    @cs.task(mode="inline")
    def step(n):
        work = answer()
        try:
            got = asyncio.run(work)
        finally:
            work.close()
        return step.tail(n - 1) if loops else got

    with pytest.raises(cs.errors.RunError, match=r'mode="blocking"') as found:
        await engine.run(step(1), use_vm=use_vm)

    assert "task 'step' starts an event loop, but has mode='inline'" in str(found.value)
    assert isinstance(found.value.__cause__, RuntimeError)


def helper():
    return ask()


def harmless(n):
    return len(str(n)) + SLOW


def mutual(n):
    return mutual(n - 1) if n else harmless(n)


def test_functions_that_name_only_builtins_start_no_loop():
    def outer(n):
        return sum(len(str(k)) for k in range(n))

    assert not may_start_loop(outer)
    assert not may_start_loop(len)
    assert may_start_loop(ask)
    assert may_start_loop(lambda: helper())
    assert not may_start_loop(lambda n: harmless(n))
    assert not may_start_loop(mutual)
    assert not may_start_loop(lambda n: cs.TailCall(n))
    assert may_start_loop(lambda text: text.upper())
    assert may_start_loop(lambda: [ask() for _ in range(3)])
    assert not Operation(outer, "outer").is_async
