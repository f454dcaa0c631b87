"""Loops that nodes enter after some tail calls: of one task, and trampolines of several."""

import asyncio
import contextvars
import threading

import pytest

import cascade as cs
from cascade.runtime.loops.members import is_member

STEPS = 60  # of which most are made in the loop
colour = contextvars.ContextVar("colour", default="none")


@pytest.fixture(params=["alone", "in a graph"])
def place(request):
    """Where the loop is."""

    @cs.task
    def same(value):
        return value

    return (lambda lazy: lazy) if request.param == "alone" else same


def counting():
    """Tasks that count down in turns, and the arguments of their calls."""
    table, log = {}, []

    @cs.task
    def ping(n, step=1, note="-"):
        log.append(("ping", n, step, note))
        if n <= 0:
            return "end"
        if n % 5 == 0:
            return ping.tail(step=2, n=n - 1) if n % 2 else ping.tail(n - 1)
        if n % 3 == 0:
            return table["pong"].tail(n=n - 1, note=f"by {n}")
        return table["pong"].tail(n - 1, step)

    @cs.task
    def pong(n, step=3, note="none"):
        log.append(("pong", n, step, note))
        return table["ping"].tail(n - 1) if n % 2 else pong.tail(note="again", n=n - 1)

    table.update(ping=ping, pong=pong)
    return ping, log


def called_by_hand():
    """The same as plain Python."""
    log, current = [], ("ping", {"n": STEPS, "step": 1, "note": "-"})
    while True:
        task, given = current
        n, step = given["n"], given["step"]
        log.append((task, n, step, given["note"]))
        if task == "ping":
            if n <= 0:
                return log
            if n % 5 == 0:
                current = task, {**given, "n": n - 1, **({"step": 2} if n % 2 else {})}
            elif n % 3 == 0:
                current = "pong", {"n": n - 1, "step": 3, "note": f"by {n}"}
            else:
                current = "pong", {"n": n - 1, "step": step, "note": "none"}
        elif n % 2:
            current = "ping", {"n": n - 1, "step": 1, "note": "-"}
        else:
            current = task, {**given, "note": "again", "n": n - 1}


async def test_arguments_are_merged_and_defaults_filled_in_as_by_hand(run, place, entered):
    """M1: by position, by name, and left out."""
    ping, log = counting()

    assert await run(place(ping(STEPS))) == "end"
    assert log == called_by_hand()
    assert "Trampoline" in entered


async def test_a_loop_of_one_task_is_entered_on_either_path(run, place, entered):
    @cs.task
    def spin(n):
        return spin.tail(n - 1) if n else "end"

    assert await run(place(spin(STEPS))) == "end"
    assert entered == ["Fused"]


async def test_a_loop_of_a_coroutine_task_is_entered_on_either_path(run, place, entered):
    @cs.task
    async def spin(n):
        await asyncio.sleep(0)
        return spin.tail(n - 1) if n else "end"

    assert await run(place(spin(STEPS))) == "end"
    assert entered == ["Fused"]


async def test_short_loops_enter_no_trampoline(run, place, entered):
    first = turning(lambda following, n: following.tail(n - 1) if n else "end")

    assert await run(place(first(10))) == "end"
    assert not entered


def turning(step):
    """Two tasks in a table; ``step`` makes the result of a call, from the next task and ``n``."""
    table = {}

    @cs.task
    def left(n):
        return step(table["right"], n)

    @cs.task
    def right(n):
        return step(table["left"], n)

    table.update(left=left, right=right)
    return left


async def test_a_context_variable_set_by_a_step_of_a_trampoline_is_invisible_to_others(run, place):
    """M12, in each step of a trampoline."""
    seen = []

    def helper(n):
        if n == 20:
            colour.set("red")

    def step(following, n):
        seen.append(colour.get())
        helper(n)
        return following.tail(n - 1) if n else "end"

    await run(place(turning(step)(STEPS)))
    assert seen == ["none"] * (STEPS + 1)


@pytest.mark.parametrize("n", [10, 11])
async def test_an_error_names_the_task_that_ran(run, place, n):
    def step(following, left):
        if left == n:
            raise ValueError("no")
        return following.tail(left - 1)

    with pytest.raises(ValueError, match="no") as caught:
        await run(place(turning(step)(STEPS)))
    name = "left" if n % 2 == 0 else "right"
    assert f"in task '{name}'" in caught.value.__notes__[0]


async def test_a_stop_iteration_names_the_function_that_ran(run, place):
    def step(following, n):
        return following.tail(n - 1) if n > 10 else next(iter(()))

    with pytest.raises(cs.errors.TaskStopIterationError, match=r"left'"):
        await run(place(turning(step)(STEPS)))


async def test_arguments_that_do_not_fit_name_both_tasks(run, place):
    def step(following, n):
        return following.tail(n - 1) if n != 11 else cs.TailCall([1, 2], target=following)

    with pytest.raises(cs.errors.ArgumentError, match="the tail call of task 'right' to 'left'"):
        await run(place(turning(step)(STEPS)))


@cs.task
def less(n):
    return n - 1


ONE = less(2)


@cs.task
async def less_soon(n):
    await asyncio.sleep(0)
    return n - 1


@pytest.mark.parametrize("inner", [less, less_soon])
@pytest.mark.parametrize("way", ["argument", "returned"])
async def test_a_loop_hands_its_node_back_and_enters_again(run, place, entered, inner, way):
    """With a lazy argument (M2), or as a lazy value (R4)."""
    made = []

    def step(following, n):
        made.append(n)
        if n in (20, 45):
            return following.tail(inner(n)) if way == "argument" else following(inner(n))
        return following.tail(n - 1) if n > 0 else "end"

    assert await run(place(turning(step)(2 * STEPS))) == "end"
    assert made == list(range(2 * STEPS, -1, -1))
    assert entered.count("Trampoline") >= 2


async def test_a_coroutine_task_in_between_leaves_the_trampoline(run, place):
    log = []

    @cs.task
    async def soon(n):
        await asyncio.sleep(0)
        log.append(n)
        return first.tail(n - 1)

    def step(following, n):
        log.append(n)
        if n == 30:
            return soon.tail(n - 1)
        return following.tail(n - 1) if n else "end"

    first = turning(step)
    assert await run(place(first(STEPS))) == "end"
    assert log == list(range(STEPS, -1, -1))


@pytest.mark.parametrize("limit", [1, 17, 40])
async def test_steps_are_counted_exactly(engine, use_vm, place, limit):
    made = []

    def step(following, n):
        made.append(n)
        return following.tail(n + 1)

    with pytest.raises(cs.errors.StepLimitError):
        await engine.run(place(turning(step)(0)), use_vm=use_vm, max_steps=limit)
    assert len(made) == limit + 1


async def test_an_endless_ring_is_cancelled(engine, use_vm, place):
    begun = threading.Event()

    def step(following, n):
        if n == STEPS:
            begun.set()
        return following.tail(n + 1)

    running = asyncio.ensure_future(engine.run(place(turning(step)(0)), use_vm=use_vm))
    while not begun.is_set():  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_pause_holds_a_trampoline(engine, use_vm, place):
    made = []
    begun = threading.Event()

    def step(following, n):
        made.append(n)
        if n == STEPS:
            begun.set()
        return following.tail(n + 1)

    running = asyncio.ensure_future(engine.run(place(turning(step)(0)), use_vm=use_vm))
    while not begun.is_set():  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0)
    engine.constraints.pause()
    while not engine.waiting(inputs=False):  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0)
    count = len(made)
    await asyncio.sleep(0)
    assert len(made) == count
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_tasks_that_are_more_than_calls_are_on_no_trampoline():
    @cs.resource
    def tool():
        yield 1

    @cs.task
    def injected(n, tool=cs.inject(tool)): ...

    @cs.task
    def many(*n): ...

    @cs.task(mode="blocking")
    def blocks(n): ...

    @cs.task
    def lazy(n=ONE): ...

    for task in (injected, many, blocks, lazy):
        assert not is_member(task)
    assert is_member(less)
    assert is_member(less_soon)
