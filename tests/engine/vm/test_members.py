"""Trampolines take all tasks whose steps are calls with named arguments, with their policies."""

import asyncio
import contextvars
import gc
import inspect
import threading
import weakref
from collections import Counter

import pytest

import cascade as cs
from cascade.runtime.loops.members import Member
from cascade.spec.blueprint import TailCall

STEPS = 60
colour = contextvars.ContextVar("colour", default="none")


# -- arguments --------------------------------------------------------------------------------


@cs.task
def many(a, b=2, /, c=3, *, d=4, e): ...


FORMS = [
    ((1,), {"e": 5}),
    ((1, 0), {"e": 5, "c": 7}),
    ((1, 0, 9), {"e": 5}),
    ((1,), {"d": 1, "e": 2, "c": 3}),
    ((1,), {"c": 3, "e": 2, "d": 1}),
    ((), {"c": 3}),
    ((), {"e": 3}),
    ((1,), {}),
    ((1, 2, 3), {"c": 1}),
    ((1, 2, 3, 4), {}),
    ((), {"a": 1}),
    ((1,), {"e": 1, "other": 2}),
    ((), {}),
]
LAST = (11, 12, 13, 14, 15)


@pytest.mark.parametrize(("args", "kwargs"), FORMS)
@pytest.mark.parametrize("last", [None, LAST], ids=["switch", "again"])
def test_arguments_are_those_of_the_signature(args, kwargs, last):
    """M1."""
    parameters = many.parameters
    try:
        if last is None:
            named = parameters.complete(parameters.bind_some(args, kwargs))
        else:
            named = parameters.merge(dict(zip("abcde", last, strict=True)), args, kwargs)
        expected = tuple(named[name] for name in "abcde")
    except cs.errors.ArgumentError:
        expected = None
    member = Member(many)

    for _ in range(2):  # a form that is new, and one that is known
        given = member.arguments(TailCall(args, kwargs), last)
        assert (given and tuple(given)) == expected


def test_a_member_remembers_few_forms():
    member = Member(many)
    for n in range(1000):
        assert member.arguments(TailCall((1,), {"e": 1, f"other{n}": 2}), None) is None

    assert len(member._switch) <= 64


async def test_arguments_by_name_only(run, entered):
    log, table = [], []

    @cs.task
    def left(n, *, step, note="-"):
        log.append((n, step, note))
        return table[n % 2].tail(n - 1, step=step, note=f"by {n}") if n else "end"

    @cs.task
    def right(n, *, note="+", step=5):
        log.append((n, step, note))
        return table[n % 2].tail(step=step + 1, n=n - 1) if n else "end"

    table.extend((left, right))
    assert await run(left(STEPS, step=1)) == "end"
    assert "Trampoline" in entered
    assert log[:4] == [(60, 1, "-"), (59, 1, "by 60"), (58, 1, "by 59"), (57, 2, "-")]
    assert [n for n, *_ in log] == list(range(STEPS, -1, -1))
    assert log[-1] == (0, 30, "by 1")


async def test_an_error_in_a_function_with_arguments_by_name_has_its_own_frames(run):
    @cs.task
    def left(n, *, m):
        if not n:
            raise ValueError("no")
        return [left, left][n % 2].tail(n - 1, m=m)

    with pytest.raises(ValueError, match="no") as caught:
        await run(left(STEPS, m=1))
    frames = []
    trace = caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    assert not any("<generated>" in name for name in frames)


async def test_methods_in_turns(run, entered):
    class Counter_:
        def __init__(self):
            self.log = []

        @cs.task
        def left(self, n):
            self.log.append(n)
            return self.right.tail(n - 1) if n else "end"

        @cs.task
        def right(self, n):
            self.log.append(-n)
            return self.left.tail(n=n - 1) if n else "end"

    counter = Counter_()
    assert await run(counter.left(STEPS)) == "end"
    assert "Trampoline" in entered
    assert counter.log == [n if n % 2 == 0 else -n for n in range(STEPS, -1, -1)]


# -- context variables ------------------------------------------------------------------------


async def test_steps_that_set_variables_stay_in_the_trampoline(run, entered):
    """M12."""
    seen, table = [], []

    @cs.task
    def left(n):
        seen.append(colour.get())
        colour.set(f"by {n}")
        return table[n % 2].tail(n - 1) if n else "end"

    @cs.task
    def right(n):
        seen.append(colour.get())
        colour.set(f"by {n}")
        return table[n % 2].tail(n - 1) if n else "end"

    table.extend((left, right))
    token = colour.set("mine")
    try:
        assert await run(left(STEPS)) == "end"
        assert colour.get() == "mine"
    finally:
        colour.reset(token)

    assert seen == ["mine"] * (STEPS + 1)
    assert entered == ["Trampoline"]


async def test_a_fused_loop_whose_steps_set_variables_becomes_a_trampoline(run, entered):
    seen = []

    def helper(n):
        seen.append(colour.get())
        colour.set(f"by {n}")

    @cs.task
    def spin(n):
        helper(n)
        return spin.tail(n - 1) if n else "end"

    assert await run(spin(2 * STEPS)) == "end"
    assert seen == ["none"] * (2 * STEPS + 1)
    assert entered[-1] == "Trampoline"
    assert len(entered) <= 3


# -- coroutines -------------------------------------------------------------------------------


def coroutines(step):
    """Two coroutine tasks in a table; ``step`` gives the result from the next task and ``n``."""
    table = []

    @cs.task
    async def left(n):
        await asyncio.sleep(0)
        return step(table[1], n)

    @cs.task
    async def right(n):
        return step(table[0], n)

    table.extend((left, right))
    return left


async def test_coroutines_in_turns_share_a_trampoline(run, entered):
    made = []

    def step(following, n):
        made.append(n)
        return following.tail(n=n - 1) if n else "end"

    assert await run(coroutines(step)(STEPS)) == "end"
    assert made == list(range(STEPS, -1, -1))
    assert entered == ["AsyncTrampoline"]


@pytest.mark.parametrize("n", [10, 11])
async def test_an_error_of_a_coroutine_names_its_task(run, n):
    def step(following, left):
        if left == n:
            raise ValueError("no")
        return following.tail(left - 1)

    with pytest.raises(ValueError, match="no") as caught:
        await run(coroutines(step)(STEPS))
    name = "left" if n % 2 == 0 else "right"
    assert f"in task '{name}'" in caught.value.__notes__[0]


async def test_variables_that_coroutines_set_are_seen_by_no_later_step(run):
    """M9, M12."""
    seen = []

    def step(following, n):
        seen.append(colour.get())
        colour.set(f"by {n}")
        return following.tail(n - 1) if n else "end"

    await run(coroutines(step)(STEPS))
    assert seen == ["none"] * (STEPS + 1)


async def test_the_next_step_frees_the_arguments_of_the_one_before(run):
    """M9."""
    alive, table = weakref.WeakSet(), []

    class Value:
        pass

    def step(following, n):
        value = Value()
        alive.add(value)
        gc.collect()
        assert len(alive) <= 3
        return following.tail(n - 1, value) if n else "end"

    @cs.task
    async def left(n, value):
        return step(table[1], n)

    @cs.task
    async def right(n, value):
        return step(table[0], n)

    table.extend((left, right))
    assert await run(left(STEPS, None)) == "end"


async def test_a_coroutine_that_cancels_itself_is_one_step_of_the_trampoline(run):
    """M13."""

    def step(following, n):
        if n == 10:
            asyncio.current_task().cancel()
        return following.tail(n - 1) if n else "end"

    with pytest.raises(cs.errors.TaskCancelledError) as caught:
        await run(coroutines(step)(STEPS))
    assert "in task 'left'" in caught.value.__notes__[0]


async def test_an_endless_ring_of_coroutines_is_cancelled(engine, use_vm):
    begun = asyncio.Event()

    def step(following, n):
        if n == STEPS:
            begun.set()
        return following.tail(n + 1)

    running = asyncio.ensure_future(engine.run(coroutines(step)(0), use_vm=use_vm))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# -- retries ----------------------------------------------------------------------------------


@pytest.fixture(params=["plain", "coroutine"])
def kind(request):
    """Makes a task of a plain function, perhaps as a coroutine task."""

    def make(**policies):
        def decorate(func):
            if request.param == "plain":
                return cs.task(**policies)(func)

            async def soon(*args, **kwargs):
                return func(*args, **kwargs)

            soon.__name__ = func.__name__
            soon.__signature__ = inspect.signature(func)
            return cs.task(**policies)(soon)

        return decorate

    return make


async def test_a_failed_step_of_a_loop_is_repeated_with_its_arguments(run, entered, kind):
    """R10: an attempt is one step."""
    calls, table = Counter(), []

    @kind(retry=3)
    def left(n, note):
        calls[n, note] += 1
        if n % 10 == 5 and calls[n, note] < 3:
            raise ValueError("not yet")
        return table[n % 2].tail(n - 1, note=(n,)) if n else "end"

    @kind()
    def right(n, note):
        calls[n, note] += 1
        if n == 24 and calls[n, note] < 2:
            raise ValueError("not yet")
        return table[n % 2].tail(n - 1, n) if n else "end"

    table.extend((left, right))
    assert await run(left(STEPS, "first")) == "end"
    assert [name for name in entered if name.endswith("Trampoline")]
    by_step = Counter()
    for (n, _), count in calls.items():
        by_step[n] += count
    assert by_step == Counter({n: 3 if n % 10 == 5 else 2 if n == 24 else 1 for n in range(61)})


async def test_the_last_attempt_of_a_step_fails_the_node(run, kind):
    made = []

    @kind(retry=2)
    def spin(n):
        made.append(n)
        if n == 10:
            raise ValueError(f"no {len(made)}")
        return spin_.tail(n - 1)

    spin_ = spin
    with pytest.raises(ValueError, match=f"no {STEPS - 10 + 2}") as caught:
        await run(spin(STEPS))
    assert made == [*range(STEPS, 9, -1), 10]
    assert "in task 'spin'" in caught.value.__notes__[0]


async def test_the_limit_of_steps_is_no_failure_to_repeat(engine, use_vm, kind):
    """M20."""
    made = []

    @kind(retry=5)
    def spin(n):
        made.append(n)
        return spin_.tail(n + 1)

    spin_ = spin
    with pytest.raises(cs.errors.StepLimitError, match="task 'spin' asks for another step"):
        await engine.run(spin(0), use_vm=use_vm, max_steps=STEPS)
    assert made == list(range(STEPS + 1))


async def test_a_retried_attempt_has_all_of_its_rounds_again(engine, use_vm, kind):
    """M20."""
    made = []

    @kind(retry=2)
    def spin(n):
        made.append(n)
        if n == STEPS and made.count(n) == 1:
            raise ValueError("again")
        return spin_.tail(n + 1)

    spin_ = spin
    with pytest.raises(cs.errors.StepLimitError):
        await engine.run(spin(0), use_vm=use_vm, max_rounds=STEPS + 5)
    assert len(made) == STEPS + 1 + STEPS + 6


async def test_an_iterator_for_a_step_with_retries_is_refused_in_the_loop(run, kind):
    """M23."""

    @kind(retry=2)
    def spin(n, items):
        return spin_.tail(n - 1, iter([n]) if n == 20 else [n])

    spin_ = spin
    with pytest.raises(cs.errors.ArgumentError, match="has a retry, and its argument 'items'"):
        await run(spin(STEPS, []))


# -- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 20, 40, 333])
async def test_loops_on_several_workers_share_the_steps_exactly(engine, use_vm, limit):
    """M20: as many calls as steps, and one more for each node that asks for one too many."""
    made, table = [], []

    @cs.task
    def left(n):
        made.append(n)
        return table[n % 2].tail(n + 1)

    @cs.task
    def right(n):
        made.append(n)
        return table[n % 2].tail(n + 1)

    table.extend((left, right))
    with pytest.raises(cs.errors.StepLimitError):
        await engine.run([left(0) for _ in range(4)], use_vm=use_vm, max_steps=limit)
    assert limit + 1 <= len(made) <= limit + 4


async def test_a_limit_of_steps_keeps_nodes_in_their_loops(engine, use_vm, entered):
    table = []

    @cs.task
    def left(n):
        return table[n % 2].tail(n - 1) if n else "end"

    table.extend((left, left))
    found = await engine.run(left(STEPS), use_vm=use_vm, max_steps=STEPS, max_rounds=STEPS)
    assert found == "end"
    assert entered[-1] in ("Trampoline", "Generated")


async def test_a_task_with_another_constraint_joins_no_trampoline(engine, use_vm):
    """Constraints are those of the task that runs in a step (R10)."""
    running, most, table, lock = [0], [0], [], threading.Lock()

    @cs.task
    def free(n):
        return table[n % 2].tail(n - 1) if n else "end"

    @cs.task
    def limited(n):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        for _ in range(1000):
            pass
        with lock:
            running[0] -= 1
        return table[n % 2].tail(n - 1) if n else "end"

    table.extend((free, limited))
    engine.constraints.limit_concurrency("task:limited", 1)
    assert await engine.run([free(STEPS) for _ in range(4)], use_vm=use_vm) == ["end"] * 4
    assert most == [1]
