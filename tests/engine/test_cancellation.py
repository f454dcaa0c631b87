"""The end of a run at every point of it: by cancels, failures, interrupts, and both (R9, M8).

A run in virtual time is the same each time, down to the order of its steps. So it can be ended at
the first step, at the second, and so on to the last. After each end nothing may be left of it.
"""

import asyncio
import gc
import threading
import traceback
from concurrent.futures import Future

import pytest
from tests.engine import points
from tests.engine.points import Cancel, in_loop

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.runtime.graph_path.workers.load import LOOK_EVERY

#: No run of these has more points.
ENOUGH = 5000


class Boom(Exception):
    """An error that a call or a provider raises on demand."""


class InStep:
    """An executor with threads that work only while the submitting one waits: in a fixed order."""

    max_workers = 2

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_running_or_notify_cancel()

        def work():
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=work, name="cascade-in-step", daemon=True)
        thread.start()
        thread.join()
        return future

    def shutdown(self, wait=True): ...


KINDS = {"inline": InlineExecutor(), "step": InStep()}
EXECUTORS = pytest.mark.parametrize("executor", KINDS.values(), ids=KINDS)


# -- a program with everything in it ----------------------------------------------------------


class Ledger:
    """The openings, closings and calls of a run.

    Args:
        failing: Number of the call, opening or closing that fails; by default all succeed.
        error: The error that it raises.
    """

    def __init__(self, failing=None, error=Boom):
        self._failing = failing
        self._error = error
        self.steps = 0
        self.inside = 0
        #: Instances in the order in which they were opened, and in which they were closed.
        self.opened = []
        self.closed = []

    def step(self, what):
        """Count something that may fail, and let it."""
        self.steps += 1
        if self.steps - 1 == self._failing:
            raise self._error(f"in {what}")

    def __enter__(self):
        self.inside += 1

    def __exit__(self, *_):
        self.inside -= 1

    def open(self, name, *needs):
        self.step(f"opening {name}")
        instance = Instance(name, needs)
        self.opened.append(instance)
        return instance

    def close(self, instance):
        assert instance in self.opened
        assert instance not in self.closed
        for needed in instance.needs:
            assert needed not in self.closed, f"{needed} was closed before {instance}"
        self.closed.append(instance)
        self.step(f"closing {instance}")

    def check(self):
        """Nothing runs, and everything was closed; once and in the right order, said ``close``."""
        assert self.inside == 0
        assert set(self.opened) == set(self.closed)


class Instance:
    def __init__(self, name, needs):
        self.name = name
        self.needs = needs

    def __repr__(self):
        return self.name


class Program:
    """Every kind of node, policy and resource; it takes some hours of virtual time."""

    def __init__(self):
        self.ledger = Ledger()
        self._attempts = []
        self._make = self._tasks()

    def target(self, ledger):
        """The same program for the next run, which is recorded in ``ledger``."""
        self.ledger = ledger
        self._attempts.clear()
        return self._make()

    def _tasks(self):
        attempts = self._attempts

        @cs.resource
        async def connection():
            await asyncio.sleep(1)
            instance = self.ledger.open("connection")
            try:
                yield instance
            finally:
                await asyncio.sleep(1)
                self.ledger.close(instance)

        @cs.resource
        def file(connection=cs.inject(connection)):
            instance = self.ledger.open("file", connection)
            yield instance
            self.ledger.close(instance)

        @cs.resource(thread_bound=True)
        def bound():
            instance = self.ledger.open("bound")
            yield instance
            self.ledger.close(instance)

        @cs.resource(scope="task")
        def cursor(connection=cs.inject(connection), file=cs.inject(file)):
            instance = self.ledger.open("cursor", connection, file)
            yield instance
            self.ledger.close(instance)

        @cs.resource(scope="task")
        async def lock(cursor=cs.inject(cursor)):
            instance = self.ledger.open("lock", cursor)
            try:
                yield instance
            finally:
                self.ledger.close(instance)

        @cs.task
        def plain(x, *_):
            with self.ledger:
                self.ledger.step("plain")
                return x

        @cs.task
        async def coroutine(x, pauses=1):
            with self.ledger:
                for _ in range(pauses):
                    await asyncio.sleep(0)
                self.ledger.step("coroutine")
                await asyncio.sleep(10)
                return x

        @cs.task
        def with_cursor(x, cursor=cs.inject(cursor)):
            with self.ledger:
                self.ledger.step("with_cursor")
                return x

        @cs.task
        async def with_lock(x, lock=cs.inject(lock)):
            with self.ledger:
                await asyncio.sleep(5)
                self.ledger.step("with_lock")
                return x

        @cs.task
        def with_bound(x, bound=cs.inject(bound)):
            with self.ledger:
                self.ledger.step("with_bound")
                return x

        @cs.task
        def flaky(cursor=cs.inject(cursor)):
            with self.ledger:
                self.ledger.step("flaky")
                attempts.append("flaky")
                if attempts.count("flaky") < 3:
                    raise OSError("not yet")
                return 1

        @cs.task
        def flaky_plain():
            with self.ledger:
                self.ledger.step("flaky_plain")
                attempts.append("flaky_plain")
                if attempts.count("flaky_plain") < 2:
                    raise OSError("not yet")
                return 1

        @cs.task
        async def slow(lock=cs.inject(lock)):
            with self.ledger:
                self.ledger.step("slow")
                attempts.append("slow")
                await asyncio.sleep(3600 if attempts.count("slow") == 1 else 1)
                return 1

        @cs.task
        def looked_up(x):
            with self.ledger:
                self.ledger.step("looked_up")
                return x

        @cs.task
        async def loop(n, cursor=cs.inject(cursor)):
            with self.ledger:
                await asyncio.sleep(1)
                self.ledger.step("loop")
                return loop.tail(plain(n - 1)) if n else 1

        @cs.task
        def later(n):
            with self.ledger:
                self.ledger.step("later")
                return total(later(n - 1), coroutine(0)) if n else plain(1)

        @cs.task
        def several(n):
            with self.ledger:
                return [1] * n

        @cs.task
        def total(*parts):
            return sum(sum(part) if isinstance(part, list) else part for part in parts)

        def make():
            cache = cs.LRUCache()
            return total(
                with_cursor(plain(1)),
                with_lock(1),
                with_bound(1),
                coroutine(plain(1), pauses=3),
                flaky().with_retry(4, delay=60, backoff=2),
                flaky_plain().with_retry(delay=100),
                slow().with_timeout(60).with_retry(delay=5),
                looked_up(1).with_cache(cache),
                looked_up(1).with_cache(cache),
                loop(2),
                later(2),
                coroutine.map(x=several(3)),
                with_cursor.map(x=several(2)).with_retry(),
                cs.Router(selector=plain("a"), routes={"a": coroutine(1), "b": plain(2)}),
                plain(1).run_if(coroutine(True)).after(flaky_plain().with_retry()),
            )

        return make


VALUE = 18


@pytest.fixture
def program():
    return Program()


async def nothing_is_left(engine, ledger):
    """Assert it; in virtual time also of timers."""
    ledger.check()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert engine.abandoned == ()
    assert engine.waiting() == []
    loop = asyncio.get_running_loop()
    await asyncio.sleep(2 * LOOK_EVERY)  # in which workers are looked at for the last time
    before = loop.jumps
    await asyncio.sleep(80_000)  # asyncio sleeps a day at most
    assert loop.jumps == before + 1, "a timer was left"


@pytest.fixture(autouse=True)
def nothing_complains(caplog):
    """Neither asyncio, nor futures, nor objects found only by the collector."""
    yield
    gc.collect()
    assert not caplog.records


# -- cancels ----------------------------------------------------------------------------------


@EXECUTORS
def test_the_program_by_itself(program, executor, use_vm):
    async def main():
        ledger = Ledger()
        async with cs.Engine(threads=executor) as engine:
            assert await engine.run(program.target(ledger), use_vm=use_vm) == VALUE
            await nothing_is_left(engine, ledger)

    in_loop(main)


@EXECUTORS
def test_a_cancel_at_any_point_leaves_nothing_behind(program, executor, use_vm, sample):
    """R9."""

    async def main():
        loop = asyncio.get_running_loop()
        async with cs.Engine(threads=executor) as engine:
            for point in sample(0, ENOUGH, 1 if isinstance(executor, InlineExecutor) else 3):
                ledger = Ledger()
                target = program.target(ledger)
                running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
                cancel = Cancel(running)
                loop.watch({point: cancel})
                await asyncio.wait([running])
                loop.unwatch()
                await nothing_is_left(engine, ledger)
                if not cancel.accepted:
                    assert running.result() == VALUE
                    break
                assert running.cancelled(), f"the cancel at the point {point} was lost"
            assert point > 200

    in_loop(main)


def test_a_second_cancel_at_any_later_point_leaves_nothing_behind(program, use_vm, sample):
    """M8; plain functions do not run while the loop does, so no call is abandoned here."""

    async def main():
        loop = asyncio.get_running_loop()
        async with cs.Engine() as engine:
            for first in range(0, ENOUGH, 37):
                for second in sample(first + 1 + first % 3, ENOUGH, 3):
                    ledger = Ledger()
                    target = program.target(ledger)
                    running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
                    cancel, again = Cancel(running), Cancel(running)
                    loop.watch({first: cancel, second: again})
                    await asyncio.wait([running])
                    loop.unwatch()
                    await nothing_is_left(engine, ledger)
                    if not again.accepted:
                        break
                    assert running.cancelled()
                if not cancel.accepted:
                    break
            assert first > 200

    in_loop(main)


def test_a_deadline_at_any_time_leaves_nothing_behind(program, use_vm, sample):
    async def main():
        async with cs.Engine() as engine:
            for seconds in sample(1, ENOUGH, 2):
                ledger = Ledger()
                target = program.target(ledger)
                try:
                    value = await engine.run(target, use_vm=use_vm, deadline=seconds - 0.25)
                except cs.errors.DeadlineError:
                    await nothing_is_left(engine, ledger)
                else:
                    assert value == VALUE
                    break
            assert seconds > 100

    in_loop(main)


def test_a_cancel_in_a_plain_function_that_runs_in_the_loops_thread_is_not_lost(use_vm):
    """As Ctrl-C is one, which may come at any time; and closing resources takes no notice."""

    @cs.resource
    async def tool():
        yield
        await asyncio.sleep(1)

    @cs.resource(scope="task")
    async def other():
        yield
        await asyncio.sleep(1)

    @cs.task(mode="inline")
    def work(tool=cs.inject(tool), other=None):
        running.cancel()
        return "worked"

    async def main():
        nonlocal running
        async with cs.Engine() as engine:
            for target in (work(), work(other=cs.inject(other))):
                running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
                with pytest.raises(asyncio.CancelledError):
                    await running

    running = None
    in_loop(main)


def test_a_run_in_a_task_that_was_cancelled_before_is_like_any_other(use_vm):
    """As in the ``finally`` of a coroutine: a failure there is the error, and no cancel."""

    @cs.task
    async def fail():
        await asyncio.sleep(1)
        raise Boom("cleaning up")

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    @cs.task
    def pair(*_): ...

    async def clean_up():
        try:
            await asyncio.Event().wait()
        finally:
            async with cs.Engine() as engine:
                with pytest.raises(Boom):
                    await engine.run(pair(fail(), wait()), use_vm=use_vm)
                assert await engine.run(pair(), use_vm=use_vm) is None

    async def main():
        cleaning = asyncio.ensure_future(clean_up())
        await asyncio.sleep(1)
        cleaning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cleaning

    in_loop(main)


# -- failures ---------------------------------------------------------------------------------


@EXECUTORS
@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt, SystemExit])
def test_a_failure_of_anything_that_can_fail_leaves_nothing_behind(
    program, executor, use_vm, kind, sample
):
    """R9: the error is raised, with the user's frames alone and one note on where it comes from."""

    async def main():
        async with cs.Engine(threads=executor) as engine:
            for number in sample(0, ENOUGH):
                ledger = Ledger(number, kind)
                try:
                    value = await engine.run(program.target(ledger), use_vm=use_vm)
                except kind as error:
                    is_presentable(error)
                else:  # it was tried again, or there was nothing more to fail
                    assert value == VALUE
                    assert kind is Boom or ledger.steps <= number
                await nothing_is_left(engine, ledger)
                if ledger.steps <= number:
                    break
            assert number > 40

    in_loop(main)


def is_presentable(error):
    entries = traceback.extract_tb(error.__traceback__)
    assert {entry.filename for entry in entries} <= {__file__, points.__file__}
    assert entries[0].name == "main"
    assert entries[-1].name == "step"
    notes = [note for note in error.__notes__ if note.startswith("cascade: ")]
    assert len(set(error.__notes__)) == len(error.__notes__)
    if "closing" not in str(error):
        (note,) = notes
        assert "in task '" in note
        assert "test_cancellation.py:" in note


def test_a_cancel_at_any_point_after_a_failure_leaves_nothing_behind(program, use_vm, sample):
    """The run has its error, and is cancelled while it ends."""

    async def main():
        loop = asyncio.get_running_loop()
        async with cs.Engine() as engine:
            for number in range(0, ENOUGH, 11):
                for point in sample(number % 3, ENOUGH, 3):
                    ledger = Failing(loop, number, point)
                    target = program.target(ledger)
                    running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
                    cancel = ledger.cancel = Cancel(running)
                    await asyncio.wait([running])
                    loop.unwatch()
                    await nothing_is_left(engine, ledger)
                    if not running.cancelled() and running.exception() is not None:
                        assert isinstance(running.exception(), Boom)
                    if not cancel.accepted:
                        break
                if ledger.steps <= number:
                    break
            assert number > 40

    in_loop(main)


class Failing(Ledger):
    """Fails, and cancels the run some points later."""

    def __init__(self, loop, failing, point):
        super().__init__(failing)
        self._loop = loop
        self._point = point
        self.cancel = None

    def step(self, what):
        try:
            super().step(what)
        except Boom:
            self._loop.watch({self._point: self.cancel})
            raise


# -- a second Ctrl-C --------------------------------------------------------------------------
