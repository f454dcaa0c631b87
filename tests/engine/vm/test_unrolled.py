"""Unrolled loops make the same steps as the fused loops that they come from, and count them."""

import asyncio
import importlib.util
import random
import threading
import traceback

import pytest

import cascade as cs
from cascade.runtime.graph_path.compiled_loops.loop_batches import Steps
from cascade.runtime.loops import fused, unrolled
from cascade.runtime.loops.fused import fuse, is_traced
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.loops.unrolled import Unrolled

pytestmark = pytest.mark.skipif(
    is_traced(), reason="a debugger or coverage traces lines, so nothing is fused"
)


@cs.task
def count_down(n):
    return count_down.tail(n - 1) if n else "end"


@cs.task
def divide(n, by=3):
    share = 100 // by
    if n > 0:
        return divide.tail(n - 1, by - share * 0 - (n < 8))
    return share


@cs.task
def first(n, step=1):
    if n <= 0:
        return ("first", n, step)
    if n % 5 == 0:
        return first.tail(n - step)
    return second.tail(n - 1)


@cs.task
def second(n, total=7):
    total += n
    if n <= 0:
        return ("second", n, total)
    if total % 2:
        return third.tail(total, n=n - 1)
    return second.tail(n - 1, total=total)


@cs.task
def third(total, n, ratio=2):
    if n <= 0:
        return ("third", n, total)
    half = total // (n % 7)
    return first.tail(n - 1, step=1 + half % 2)


@cs.task
def unbound(n):
    if n > 4:
        left = n - 1
    return unbound.tail(left)


@cs.task
def left(n):
    share = 10 // (n - 4)
    return right.tail(n - 1 + share * 0)


@cs.task
def right(n):
    share = 10 // (n - 4)
    return left.tail(n - 1 + share * 0)


@cs.task
def calls_something(n):
    return calls_something.tail(n - 1) if abs(n) else "end"


@cs.task
def multiplies(n, by):
    return multiplies.tail(n - 1, n * by) if n else by


@pytest.fixture
def entered(monkeypatch):
    """The unrolled loops that batches of any length enter."""
    seen = []
    made = Steps.__init__

    def making(self, count, unrolled=None):
        made(self, count, unrolled)
        seen.append(self.unrolled)

    monkeypatch.setattr(fused, "LONG", 1)
    monkeypatch.setattr(fused, "VERY_LONG", 1)
    monkeypatch.setattr(Steps, "__init__", making)
    return seen


def unrolled_of(task, *values):
    found = fuse(task).unrolled_for(values, fused.VERY_LONG)
    assert isinstance(found, Unrolled)
    return found


# -- step for step --------------------------------------------------------------------------------


def made_by(items, each, enter):
    """The result of a loop, or its error with its place, and the number of items taken."""
    steps = iter([None] * items)
    try:
        found = enter(steps)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = (frame.lineno, frame.end_lineno, frame.colno, frame.end_colno)
        return error, (type(error), str(error), *place), (items - steps.__length_hint__()) * each
    return None, found, (items - steps.__length_hint__()) * each


def assert_alike(task, state, values, most):
    """Both loops agree at any number of items up to ``most``."""
    loop = fuse(task)
    turns = loop.unrolled_for(values, fused.VERY_LONG)
    plain = loop.loop_for(values)
    for items in range(1, most + 1):
        error, expected, steps = made_by(
            items * turns.steps, 1, lambda taken: plain(taken, state, *values)
        )
        other, found, most_steps = made_by(
            items, turns.steps, lambda taken: turns.loop(taken, state, *values)
        )
        if error is None:
            assert other is None
            value, place, *arguments = found
            unmade, last = turns.place_of(place)
            assert (value, last, *arguments) == expected
        else:
            assert other is not None
            assert found[:2] == expected[:2]
            if not isinstance(error, UnboundLocalError):  # whose column depends on earlier calls
                assert found == expected
            unmade, last = turns.failed_at(other, state)
            assert last == loop.state_at(error, state) == loop.state_at(other, state)
        assert most_steps - unmade == steps


@pytest.mark.parametrize("n", range(12))
@pytest.mark.parametrize("task", [count_down, divide, first, second, third, unbound, multiplies])
def test_any_number_of_steps_gives_the_same(task, n):
    values = {
        count_down: [n],
        divide: [n, 3],
        unbound: [n],
        multiplies: [n, 1 << 70],
    }.get(task)
    loop = fuse(task)
    if values is None:
        values = [{"n": n, "step": 1, "total": n, "ratio": 2}[name] for name in loop.parameters]
    assert_alike(task, loop.state_of(task), values, 8)


def test_tasks_that_share_a_loop_follow_each_other():
    loop = fuse(first)
    assert set(loop.tasks) == {first, second, third}
    assert unrolled_of(first, 1, 1, 1, 1).steps > 1


def test_a_value_that_is_no_atom_enters_the_fused_loop():
    assert fuse(multiplies).unrolled_for([3, [1]], fused.VERY_LONG) is None
    assert fuse(multiplies).unrolled_for([3, 1.5], fused.VERY_LONG) is not None


def test_steps_that_may_call_something_are_not_unrolled():
    assert fuse(calls_something).unrolled_for([3], fused.VERY_LONG) is None


def test_short_batches_make_no_unrolled_loop():
    task = cs.task(count_down.func)
    assert fuse(task) is fuse(task)
    assert fuse(count_down).unrolled_for([3], fused.LONG - 1) is None


class Writer:
    """Writes modules of one to three tasks that compute, and continue as each other."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def module(self):
        self._tasks = ["f", "g", "h"][: self._random.randint(1, 3)]
        lines = ["import cascade as cs", ""]
        for name in self._tasks:
            lines += ["@cs.task", f"def {name}(n, a=1, b=2):", *self._body(name, 1), ""]
        return "\n".join(lines)

    def _body(self, name, depth):
        pad = "    " * depth
        lines = []
        for _ in range(self._random.randint(0, 2)):
            target = self._random.choice("abx" if lines else "ab")
            lines.append(f"{pad}{target} = {self._sum()}")
        lines.append(f"{pad}if n <= 0:")
        lines.append(f"{pad}    return ({name!r}, a, b)")
        lines.append(f"{pad}if {self._sum()} % {self._random.randint(2, 4)}:")
        lines.append(f"{pad}    return {self._tail()}")
        if self._random.random() < 0.3:
            lines.append(f"{pad}return {self._tail()} if {self._sum()} > 3 else {self._sum()}")
        elif self._random.random() < 0.8:
            lines.append(f"{pad}return {self._tail()}")
        return lines

    def _tail(self):
        given = [f"n - {self._random.randint(1, 2)}"]
        if self._random.random() < 0.5:
            given.append(f"b={self._sum()}")
        if self._random.random() < 0.5:
            given.append(f"a={self._sum()}")
        return f"{self._random.choice(self._tasks)}.tail({', '.join(given)})"

    def _sum(self):
        one, other = (self._random.choice(["n", "a", "b", "2", "3"]) for _ in range(2))
        return f"({one} {self._random.choice(['+', '-', '*', '//', '%'])} {other})"


def of_modules(folder, seeds):
    """Compare the loops of random modules; the number of those that were unrolled."""
    count = 0
    for seed in seeds:
        path = folder / f"computing_{seed}.py"
        path.write_text(Writer(seed).module())
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loop = fuse(module.f)
        if not isinstance(loop, fused.Fused):
            continue
        for values in ([9, 1, 2], [4, -3, 5], [7, 2, 0]):
            if loop.unrolled_for(values, fused.VERY_LONG) is not None:
                count += 1
                for state in range(len(loop.tasks)):
                    assert_alike(module.f, state, values, 3)
    return count


@pytest.fixture
def of_any_size(monkeypatch):
    """Long steps are unrolled, too."""
    monkeypatch.setattr(unrolled, "_MOST_NODES", 2_000)


@pytest.mark.usefixtures("of_any_size")
def test_random_steps_that_compute_give_the_same(tmp_path):
    assert of_modules(tmp_path, range(60)) > 60


@pytest.mark.thorough
@pytest.mark.usefixtures("of_any_size")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(4))
def test_thousands_of_random_steps_that_compute_give_the_same(tmp_path, part):
    assert of_modules(tmp_path, range(300 * part, 300 * (part + 1))) > 300


# -- counted, limited, ended ----------------------------------------------------------------------


@pytest.mark.parametrize("use_vm", [True, False])
@pytest.mark.parametrize("limit", [16, 17, 18, 19, 20, 99, 500, 501, 502, 503])
async def test_just_as_many_steps_as_are_allowed(entered, limit, use_vm):
    async with cs.Engine() as engine:
        assert await engine.run(count_down(limit), use_vm=use_vm, max_steps=limit) == "end"
        with pytest.raises(cs.errors.StepLimitError, match="count_down"):
            await engine.run(count_down(limit + 1), use_vm=use_vm, max_steps=limit)
    assert any(entered) or limit < 64


@pytest.mark.parametrize("steps", [100, 101, 102, 103])
async def test_all_steps_are_counted(entered, steps):
    told = []
    async with cs.Engine(step_interval=1e-9) as engine:
        engine.bus.subscribe(cs.events.StepsMade, told.append)
        await engine.run(count_down(steps), use_vm=True)
    assert any(entered)
    assert told[-1].steps == steps


@pytest.mark.parametrize("use_vm", [True, False])
@pytest.mark.parametrize("n", range(60, 68))
async def test_an_error_is_that_of_its_task_and_comes_after_its_steps(entered, n, use_vm):
    async def told(tier):
        seen = []
        async with cs.Engine(tier=tier) as engine:

            def look(event):
                (run,) = engine.runs()
                seen.append((event.task, run.steps))

            engine.bus.subscribe(cs.events.TaskFailed, look)
            with pytest.raises(ZeroDivisionError) as caught:
                await engine.run(left(n), use_vm=use_vm)
        frame = traceback.extract_tb(caught.value.__traceback__)[-1]
        return seen, caught.value.__notes__, frame.lineno, frame.colno

    found = await told("auto")
    assert any(entered)
    assert found == await told("interpreted")
    ((_, steps),), *_ = found
    assert steps == n - 4


async def test_runs_count_the_steps_that_are_certain(entered):
    """A turn that is under way counts as its first step, so that the count never falls."""
    seen = []
    stop = threading.Event()

    async with cs.Engine() as engine:

        def look():
            while not stop.is_set():
                seen.extend(run.steps for run in engine.runs())

        looking = threading.Thread(target=look)
        looking.start()
        try:
            await engine.run(count_down(300_000), use_vm=False)
        finally:
            stop.set()
            looking.join()
    assert any(entered)
    assert seen == sorted(seen)


async def test_a_cancel_ends_an_unrolled_loop(entered):
    async with cs.Engine() as engine:
        handle = engine.start(count_down(1 << 62), use_vm=True)
        while not any(entered):  # noqa: ASYNC110  # a turn of the event loop is what is wanted
            await asyncio.sleep(0)
        handle.cancel()
        with pytest.raises(cs.errors.RunCancelledError):
            await handle.result()


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("ended", [False, True])
def test_the_steps_that_are_left_and_those_made_are_all(taken, ended):
    steps = Steps(43, unrolled_of(count_down, 1))
    assert steps.unrolled.steps == 4
    for _ in range(taken):
        next(steps.items)
    assert steps.made == max(4 * taken - 3, 0)
    assert steps.made + steps.left == 40
    if ended:
        steps.end()
        assert steps.made == max(4 * taken - 3, 0)
        assert next(steps.items, PAUSED) is PAUSED
        assert steps.left == (3 if taken else 0)


def test_too_few_steps_for_a_turn_are_made_one_by_one():
    steps = Steps(3, unrolled_of(count_down, 1))
    assert steps.unrolled is None
    assert steps.left == 3
