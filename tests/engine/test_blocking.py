"""BlockingMonitor: a coroutine step that holds the event loop is found while it does."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import warnings
import weakref
from contextlib import nullcontext

import pytest

import cascade as cs
from cascade.runtime.clock import run_virtually
from cascade.runtime.diagnostics import blocking_calls as blocking
from cascade.runtime.diagnostics import blocking_warnings
from cascade.runtime.diagnostics import gc_pauses as collector
from cascade.runtime.diagnostics import usage as usage_module
from cascade.runtime.diagnostics.blocking_calls import BlockingMonitor, marked
from cascade.runtime.diagnostics.blocking_warnings import (
    OF_A_MAP,
    BlockedStep,
    BlockingCallWarning,
    describe,
    describe_call,
    describe_map,
    warn,
)
from cascade.runtime.diagnostics.gc_pauses import CountedPauses, HeardPauses
from cascade.runtime.diagnostics.usage import Usage
from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.coroutines import watched
from cascade.spec.callsite import CallSite

NAME = "cascade-blocking"


class Clock:
    """Stands still until it is told to move, and knows how often the monitor's thread asked."""

    def __init__(self):
        self.now = 100.0
        self._looks = 0
        self._looked = threading.Condition()

    def __call__(self):
        if threading.current_thread().name == NAME:
            with self._looked:
                self._looks += 1
                self._looked.notify_all()
        return self.now

    def wait_for_looks(self, count):
        """Hold the calling thread until the step under way was looked at that many times."""
        with self._looked:
            enough = self._looks + count
            assert self._looked.wait_for(lambda: self._looks >= enough, 10)


class Reports(list):
    """Collects them; ``wait()`` holds the calling thread until there is another one."""

    def __init__(self):
        self._another = threading.Semaphore(0)

    def __call__(self, blocked):
        self.append(blocked)
        self._another.release()

    def wait(self):
        assert self._another.acquire(timeout=10)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def monitor(clock, reports):
    """Made in the thread that it watches; looks often, in real time."""
    monitor = BlockingMonitor(reports, 0.01, clock=clock)
    yield monitor
    monitor.close()


@pytest.fixture
def drive(monitor):
    """Run a coroutine to its end on an event loop, under watch."""

    def drive(work, owner="owner", may_block=False):
        return asyncio.run(main(monitor.watch(owner, may_block), work))

    return drive


async def main(watch, work):
    return await watched(contextvars.copy_context(), work, watch, Cancels())


def the_thread():
    (thread,) = [thread for thread in threading.enumerate() if thread.name == NAME]
    return thread


def is_running():
    return any(thread.name == NAME for thread in threading.enumerate())


def hold(clock, reports, seconds=1.0):
    """Block until the monitor has found it."""
    clock.now += seconds
    reports.wait()  # here


# -- detected calls ---------------------------------------------------------------------------


def test_a_step_that_blocks_is_reported_while_it_does(drive, clock, reports):
    """The step waits for nothing but the report of itself."""

    async def block():
        hold(clock, reports, 1.5)
        return "done"

    assert drive(block(), owner=("block", 7)) == "done"

    (blocked,) = reports
    assert blocked.owner == ("block", 7)
    assert blocked.seconds == 1.5
    assert blocked.threshold == 0.01


def test_a_report_names_the_innermost_line_that_is_no_librarys(drive, clock, reports):
    async def block():
        hold(clock, reports)

    drive(block())

    assert reports[0].place.filename == __file__
    assert reports[0].place.source == "assert self._another.acquire(timeout=10)"


def test_a_stack_begins_at_the_coroutine_and_goes_on_into_libraries(drive, clock, reports):
    async def outer():
        await inner()

    async def inner():
        hold(clock, reports)

    drive(outer())

    stack = reports[0].stack
    places = ["in outer", "await inner()", "in inner", "in hold", "reports.wait()  # here"]
    assert stack.startswith(f'  File "{__file__}"')
    assert [stack.index(place) for place in places] == sorted(map(stack.index, places))
    assert "threading.py" in stack
    assert "asyncio" not in stack
    assert "blocking.py" not in stack.replace("test_blocking.py", "")


def test_a_library_that_blocks_is_reported_at_the_line_that_calls_it(clock):
    found, places = threading.Event(), []

    def report(blocked):
        places.append(blocked.place)
        found.set()

    async def block():
        clock.now += 1
        found.wait(10)  # the caller

    monitor = BlockingMonitor(report, 0.01, clock=clock)
    asyncio.run(main(monitor.watch("owner"), block()))
    monitor.close()

    assert [place.source for place in places] == ["found.wait(10)  # the caller"]


def test_a_step_is_reported_once_and_the_next_one_again(drive, clock, reports):
    async def block():
        hold(clock, reports)
        clock.now += 100
        clock.wait_for_looks(3)
        await asyncio.sleep(0)
        hold(clock, reports, 2.0)

    drive(block())

    assert [blocked.seconds for blocked in reports] == [1.0, 2.0]


def test_in_virtual_time_it_is_real_seconds_that_count(monitor, clock, reports):
    async def work():
        await asyncio.sleep(3600)
        clock.wait_for_looks(0)
        hold(clock, reports)

    run_virtually(main(monitor.watch("owner"), work()))

    assert [blocked.seconds for blocked in reports] == [1.0]


def test_a_step_that_another_one_interrupts_is_watched_to_its_end(monitor, clock, reports):
    """A task that starts eagerly has its first step inside of the one that creates it."""

    async def inner():
        return "inner"

    async def outer():
        step = watched(contextvars.copy_context(), inner(), monitor.watch("inner"), Cancels())
        with pytest.raises(StopIteration):
            step.send(None)
        hold(clock, reports)

    asyncio.run(main(monitor.watch("outer"), outer()))

    assert [blocked.owner for blocked in reports] == ["outer"]


# -- calls that are no fault ------------------------------------------------------------------


def test_a_step_that_is_quick_is_not_reported(drive, clock, reports):
    async def quick():
        clock.now += 0.009
        clock.wait_for_looks(3)

    drive(quick())

    assert not reports


def test_many_quick_steps_are_not_taken_for_a_long_one(drive, clock, reports):
    async def quick():
        for _ in range(5):
            clock.now += 0.009
            clock.wait_for_looks(1)
            await asyncio.sleep(0)

    drive(quick())

    assert not reports


def test_a_coroutine_that_waits_does_not_block(drive, clock, reports):
    async def wait():
        await asyncio.sleep(0)
        clock.now += 100
        await asyncio.sleep(0)
        clock.wait_for_looks(2)

    drive(wait())

    assert not reports


def test_a_coroutine_that_may_block_is_not_watched(monitor):
    assert monitor.watch("owner", may_block=True) is None


def test_a_coroutine_may_block_for_seconds_of_its_own(monitor, clock, reports):
    async def block(seconds):
        clock.now += seconds
        clock.wait_for_looks(3)

    asyncio.run(main(monitor.watch("short", 5.0), block(4.9)))
    assert not reports

    async def longer():
        hold(clock, reports, 5.1)

    asyncio.run(main(monitor.watch("long", 5), longer()))
    assert [(blocked.owner, blocked.threshold) for blocked in reports] == [("long", 5)]


def test_a_stop_in_a_debugger_is_not_reported(drive, clock, reports):
    namespace = {"__name__": "pdb"}
    exec("def prompt(wait): wait(3)", namespace)

    async def debugged():
        clock.now += 100
        namespace["prompt"](clock.wait_for_looks)
        clock.wait_for_looks(2)  # not after it either: the step is as old as the stop made it
        await asyncio.sleep(0)
        hold(clock, reports)

    drive(debugged())

    assert [blocked.seconds for blocked in reports] == [1.0]


# -- a coroutine under watch is an ordinary one -----------------------------------------------

colour = contextvars.ContextVar("colour", default="none")


def test_values_errors_and_cancels_pass_through(drive):
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("mine")

    async def caught():
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0)
        except TimeoutError:
            return "timeout"

    async def cancelled():
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled"

    with pytest.raises(LookupError, match="mine"):
        drive(fail())
    assert drive(caught()) == "timeout"
    assert drive(cancelled()) == "cancelled"


def test_every_step_is_in_the_context(monitor):
    async def paint():
        colour.set("red")
        await asyncio.sleep(0)
        return colour.get()

    assert asyncio.run(main(monitor.watch("owner"), paint())) == "red"
    assert colour.get() == "none"


def test_an_error_holds_no_cycle(drive):
    class Big:
        pass

    kept = []

    async def fail():
        big = Big()
        kept.append(weakref.ref(big))
        try:
            await asyncio.Event().wait()
        finally:
            del big

    async def cancel_it():
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    gc.disable()
    try:
        drive(cancel_it())
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_monitor_keeps_nothing_of_a_step_that_is_over(monitor, clock):
    class Owner:
        pass

    async def work():
        clock.wait_for_looks(1)
        return the_thread()

    owner = Owner()
    kept = weakref.ref(owner)
    thread = asyncio.run(main(monitor.watch(owner), work()))
    monitor.close()
    thread.join(10)
    del owner

    assert monitor.current is None
    assert kept() is None


# -- reports that fail ------------------------------------------------------------------------


def test_a_report_that_fails_is_logged_and_the_next_step_is_watched(clock, caplog):
    reports = Reports()

    def fail(blocked):
        reports(blocked)
        raise OSError("full")

    monitor = BlockingMonitor(fail, 0.01, clock=clock)

    async def block():
        hold(clock, reports)
        await asyncio.sleep(0)
        hold(clock, reports)

    with caplog.at_level(logging.ERROR, "cascade.blocking"):
        asyncio.run(main(monitor.watch("owner"), block()))
    monitor.close()

    assert len(reports) == 2
    assert "the report of a blocking call failed" in caplog.text
    assert "OSError: full" in caplog.text


# -- the thread -------------------------------------------------------------------------------


async def nothing():
    pass


def test_there_is_no_thread_before_the_first_step(monitor):
    seen = [is_running()]

    async def look():
        seen.append(is_running())
        return the_thread().daemon

    watch = monitor.watch("owner")
    seen.append(is_running())

    assert asyncio.run(main(watch, look()))
    assert seen == [False, False, True]


def test_closing_ends_the_thread(monitor, drive, clock):
    async def work():
        clock.wait_for_looks(1)
        return the_thread()

    thread = drive(work())
    monitor.close()
    thread.join(10)
    assert not thread.is_alive()
    monitor.close()


def test_closing_ends_the_thread_during_a_step_too(monitor, drive, clock):
    async def work():
        clock.wait_for_looks(1)
        thread = the_thread()
        monitor.close()
        thread.join(10)
        return thread

    assert not drive(work()).is_alive()


def test_a_closed_monitor_starts_no_thread(monitor, drive):
    monitor.close()
    drive(nothing())

    assert not is_running()


def test_without_steps_the_thread_ends_and_a_step_starts_another(clock, reports):
    """A monitor that is dropped without being closed leaves nothing behind."""
    monitor = BlockingMonitor(reports, 0.01, clock=clock, linger=0.01)

    async def work():
        return the_thread()

    async def block():
        hold(clock, reports)
        return the_thread()

    first = asyncio.run(main(monitor.watch("owner"), work()))
    first.join(10)
    assert not first.is_alive()
    second = asyncio.run(main(monitor.watch("owner"), block()))
    assert second is not first
    assert len(reports) == 1
    monitor.close()


def test_a_thread_that_sleeps_for_want_of_steps_wakes_for_the_next_one(monitor, drive, reports):
    """It takes the place of the event that the thread sleeps on, to know when it does."""
    asleep = threading.Event()

    class Wake(threading.Event):
        def wait(self, timeout=None):
            if timeout == blocking.LINGER:
                asleep.set()
            return super().wait(timeout)

    monitor._wake = Wake()
    monitor._linger = blocking.LINGER
    drive(nothing())
    assert asleep.wait(10)

    async def block():
        hold(monitor.clock, reports)

    drive(block())
    assert len(reports) == 1


def test_a_thread_that_cannot_start_fails_no_task(monkeypatch, monitor, drive, caplog):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with caplog.at_level(logging.WARNING, "cascade.blocking"):
        drive(nothing())
        drive(nothing())

    assert caplog.messages == ["blocking calls cannot be detected: can't start new thread"]


# -- messages ---------------------------------------------------------------------------------


@pytest.fixture
def blocked(tmp_path, monkeypatch):
    """A step that blocks in the second line of ``flow.py``."""
    monkeypatch.setattr(blocking_warnings, "_said", {})
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flow.py"
    path.write_text("async def fetch(url):\n    return requests.get(url).json()\n")
    return BlockedStep("owner", 0.1004, 0.1, CallSite(str(path), 2), "the stack")


def test_the_message_names_the_task_the_place_and_the_remedy(blocked):
    assert describe("fetch", blocked) == (
        "the coroutine task 'fetch' blocks the event loop and everything that shares it: one "
        "step has taken 0.1 s so far\n"
        "    at flow.py:2:  return requests.get(url).json()\n"
        "    make it a plain function, which runs on a thread:  @cs.task on def, not async def\n"
        "    or put the call on a thread:                         await asyncio.to_thread(…)\n"
        "    or allow it, for good or a number of seconds:        @cs.task(may_block=True)"
    )


def test_the_message_on_a_map_names_its_own_remedies(blocked):
    with pytest.warns(BlockingCallWarning) as found:
        warn("columns of a map", blocked, OF_A_MAP)
    assert str(found[0].message) == describe_map("columns of a map", blocked)
    assert str(found[0].message).startswith(
        "the event loop and everything that shares it are blocked by the columns of a map: one "
        "step has taken 0.1 s so far\n    at flow.py:2:  "
    )
    assert "@cs.task" not in str(found[0].message)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.1, "0.1"), (0.149, "0.1"), (0.28, "0.3"), (1.2, "1"), (61.7, "62")]
)
def test_seconds_are_rounded_so_that_one_place_has_one_text(seconds, shown):
    blocked = BlockedStep("owner", seconds, 0.1, CallSite("<stdin>", 1), "")

    assert f" has taken {shown} s so far" in describe("fetch", blocked)


def test_the_warning_points_to_the_line_that_blocks(blocked):
    with pytest.warns(BlockingCallWarning, match="the coroutine task 'fetch'") as found:
        warn("fetch", blocked)

    assert (found[0].filename, found[0].lineno) == blocked.place
    assert issubclass(BlockingCallWarning, RuntimeWarning)


def test_one_place_is_warned_of_once_by_default(blocked):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        warn("fetch", blocked)
        warn("fetch", blocked)

    assert len(found) == 1


def test_where_warnings_are_errors_it_is_logged_as_one(blocked, caplog):
    """It is given in the monitor's thread, where it could only end that."""
    with warnings.catch_warnings(), caplog.at_level(logging.ERROR, "cascade.blocking"):
        warnings.simplefilter("error")
        warn("fetch", blocked)

    assert caplog.messages == [describe("fetch", blocked)]


# -- plain functions in the event loop's thread -----------------------------------------------


@pytest.fixture
def told(monkeypatch):
    """Warnings and events of engines."""
    reports = Reports()
    monkeypatch.setattr("cascade.runtime.lending.warn", lambda *details: reports(details))
    return reports


@pytest.mark.parametrize("tier", ["auto", "generated"])
def test_a_plain_function_is_named_and_not_the_coroutine_around_it(tier, told):
    """A run calls it in the step of a coroutine task, and so blocks the event loop."""

    @cs.task
    def slow(x):
        told.wait()
        return slow.tail(x - 1) if x > 1 else x

    @cs.task
    async def outer(x):
        async with cs.Engine(tier=tier) as engine:
            return await engine.run(slow(x), use_vm=True)

    assert cs.run(outer(1)) == 1
    ((task, blocked, mode),) = told
    assert (task, mode) == ("slow", "auto")
    assert "in slow" in blocked.stack
    assert "in outer" not in blocked.stack


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("part", ["window of a map", "columns of a map"])
def test_the_part_of_a_map_with_a_window_is_named(part, use_vm, told):
    """It is no task of the user's, which could be made a plain function."""
    closes = part.startswith("columns")

    async def rows():
        try:
            if not closes:
                told.wait()
            yield 1
            yield 2
        finally:
            if closes:
                told.wait()

    @cs.task
    async def same(x):
        return 1 // (0 if closes else 1)

    target = same.map(x=rows(), window=1)
    with pytest.raises(ZeroDivisionError) if closes else nullcontext():
        cs.run(target, use_vm=use_vm)
    ((task, blocked, mode),) = told
    assert (task, mode) == (part, OF_A_MAP)
    assert "in rows" in blocked.stack


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
def test_a_function_with_mode_inline_is_named_on_both_paths(use_vm, told):
    @cs.task(mode="inline")
    def slow(x):
        told.wait()
        return x

    assert cs.run(slow(1), use_vm=use_vm) == 1
    assert [(task, mode) for task, _, mode in told] == [("slow", "inline")]


def test_a_batch_of_steps_ends_with_the_step_that_is_named(told):
    threads = []

    @cs.task
    def step(n):
        threads.append(threading.get_ident())
        if n == 50:
            told.wait()
        return step.tail(n - 1) if n else "done"

    assert cs.run(step(100), use_vm=True) == "done"
    assert set(threads[:51]) == {threading.get_ident()}
    assert threading.get_ident() not in threads[51:]


def test_time_of_a_call_inside_is_not_that_of_the_step_around_it(monitor, clock, reports):
    async def outer():
        clock.now += 0.005
        marked(monitor.watch_call("inner"), hold, clock, reports)
        clock.now += 0.004
        clock.wait_for_looks(2)

    asyncio.run(main(monitor.watch("outer"), outer()))

    assert [blocked.owner for blocked in reports] == ["inner"]


def test_the_message_on_a_plain_function_names_the_consequence(blocked):
    assert describe_call("fetch", "auto", blocked) == (
        "the plain task 'fetch' blocks the event loop and everything that shares it: one "
        "call has taken 0.1 s so far\n"
        "    at flow.py:2:  return requests.get(url).json()\n"
        "    it is known to be slow from now on; its next calls run on a worker\n"
        '    a thread from the first call on:  @cs.task(mode="blocking")'
    )
    assert "it has mode='inline'; give it a thread of its own\n" in describe_call(
        "fetch", "inline", blocked
    )


# -- blocked time without a fault -------------------------------------------------------------


class Slow:
    """Takes long to be collected: the collector pauses for as long as that takes."""

    def __init__(self, wait):
        self.me = self
        self.wait = wait

    def __del__(self):
        self.wait()


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="needs Python 3.12: before, a collection counts when it has ended",
)
def test_a_pause_of_the_collector_is_not_blamed_on_a_task(told):
    looks = threading.Semaphore(0)

    class Watched(BlockingMonitor):
        def _look(self):
            looks.release()
            return super()._look()

    def wait():
        # Each a hundredth of a second or more, ten times the threshold of a step.
        for _ in range(60):
            assert looks.acquire(timeout=10)

    reports = []
    monitor = Watched(reports.append, 0.02)

    async def work():
        Slow(wait)
        gc.collect()

    asyncio.run(main(monitor.watch("owner"), work()))
    monitor.close()

    assert not reports


def test_pauses_are_those_of_their_thread_and_time():
    pauses = HeardPauses()
    pauses._told("start", {})
    began = pauses._under_way[1]
    me = threading.get_ident()

    assert pauses.since(began, me) >= 0
    assert pauses.since(began + 1, me) == 0
    assert pauses.since(began, me + 1) == 0


class Heap:
    """Collections and blocks as they are told to be, at times that are told too."""

    def __init__(self, monkeypatch, blocks):
        self.now, self.collections = 1e6, 0
        monkeypatch.setattr(collector, "perf_counter", lambda: self.now)
        self.pauses = CountedPauses(lambda: self.collections, lambda: blocks)
        self.pauses.listen()

    def pass_seconds(self, seconds, collections=0):
        self.now += seconds
        self.collections += collections


def test_a_collection_that_is_counted_takes_no_longer_than_its_heap(monkeypatch):
    heap = Heap(monkeypatch, blocks=5_000_000)
    began = heap.now
    heap.pass_seconds(3)
    assert heap.pauses.since(began, 0) == 0
    heap.pass_seconds(2, collections=1)
    assert heap.pauses.since(began, 0) == pytest.approx(0.5)
    heap.pass_seconds(2, collections=2)
    assert heap.pauses.since(began, 0) == pytest.approx(1.5)
    heap.pass_seconds(0.25, collections=1)
    assert heap.pauses.since(began, 0) == pytest.approx(1.75)
    assert heap.pauses.since(heap.now - 0.1, 0) == pytest.approx(0.1)
    assert heap.pauses.since(heap.now, 0) == 0


def test_a_collection_before_a_call_is_no_pause_in_it(monkeypatch):
    heap = Heap(monkeypatch, blocks=5_000_000)
    heap.pass_seconds(60, collections=7)
    heap.pauses.check(heap.now)
    began = heap.now
    heap.pass_seconds(1)
    assert heap.pauses.since(began, 0) == 0


def test_a_collection_of_a_small_heap_excuses_nothing(monkeypatch):
    heap = Heap(monkeypatch, blocks=4_000)
    began = heap.now
    heap.pass_seconds(1, collections=1)
    assert heap.pauses.since(began, 0) == 0


@pytest.mark.parametrize("blocks", [3_000, 30_000_000])
def test_a_step_is_blamed_for_time_beyond_a_counted_collection(monkeypatch, blocks):
    heap = Heap(monkeypatch, blocks)
    monkeypatch.setattr(blocking, "pauses", heap.pauses)
    monkeypatch.setattr(blocking, "perf_counter", lambda: heap.now)
    monitor = BlockingMonitor(print, clock=blocking.perf_counter)
    watch = monitor.watch("owner")
    heap.pass_seconds(60, collections=9)  # without steps there are no looks
    watch.began = heap.now
    monitor.close()  # no thread of its own looks
    monitor.stir(watch)

    heap.pass_seconds(2, collections=1)
    assert monitor._to_blame(watch) == pytest.approx(2 if blocks == 3_000 else 0)
    heap.pass_seconds(2)
    assert monitor._to_blame(watch) == pytest.approx(4 if blocks == 3_000 else 2)


def test_a_call_is_not_blamed_for_a_collection_that_is_counted(monkeypatch):
    heap = Heap(monkeypatch, blocks=1_000_000)
    computed = [0.0]
    monkeypatch.setattr(usage_module, "pauses", heap.pauses)
    monkeypatch.setattr(usage_module, "thread_time", lambda: computed[0])
    monkeypatch.setattr(usage_module, "process_time", lambda: computed[0])
    usage = Usage()
    usage.read(heap.now)
    began = heap.now
    heap.pass_seconds(0.12, collections=1)
    computed[0] = 0.12
    assert usage.blame(began, 0.12) == pytest.approx(0.02)


def test_collections_are_really_counted():
    pauses = CountedPauses(blocks=lambda: 10**9)
    pauses.listen()
    began = time.perf_counter()
    assert pauses.since(began, 0) == 0
    gc.collect()
    assert pauses.since(began, 0) > 0
    assert pauses.since(time.perf_counter(), 0) == 0


def test_counting_adds_no_callback_which_would_disturb_the_parser_of_3_11():
    before = len(gc.callbacks)
    CountedPauses().listen()
    assert len(gc.callbacks) == before


def test_time_in_which_the_process_stood_still_counts_for_no_call(monkeypatch):
    """A look comes late, and the thread of the loop has computed nothing meanwhile."""
    now, computed = [1e9], [0.0]
    monkeypatch.setattr(blocking, "perf_counter", lambda: now[0])
    monkeypatch.setattr(blocking, "_read", lambda _clock: computed[0])
    monkeypatch.setattr(blocking, "usage", Usage())  # that of the process keeps its own clock
    monitor = BlockingMonitor(print, 0.1, clock=blocking.perf_counter)
    watch = monitor.watch("owner")
    watch.began = 1e9

    class Wake:
        def wait(self, seconds):
            now[0] += seconds + late
            computed[0] += used

    monitor._wake = Wake()
    late, used = 5.0, 0.0
    monitor._sleep(0.1)
    assert monitor._to_blame(watch) == pytest.approx(0.1, abs=1e-3)

    late, used = 3.0, 3.0  # computed without letting another thread look
    monitor._sleep(0.1)
    assert monitor._to_blame(watch) == pytest.approx(3.2, abs=1e-3)


def test_a_function_that_a_program_calls_is_named_and_not_the_coroutine_around_it(told):
    @cs.task
    def slow(x):
        told.wait()
        return x

    @cs.task
    async def outer(x):
        async with cs.Engine() as engine:
            return await engine.compile(slow(x)).run()

    assert cs.run(outer(1)) == 1
    (_, blocked, mode) = told[0]
    assert (told[0][0], mode) == ("slow", "auto")
    assert "in outer" not in blocked.stack


def test_a_call_in_a_program_that_takes_long_is_named_when_it_has_ended(monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(
        "cascade.runtime.straightline.straight.warn", lambda *details: said.append(details)
    )
    for module in ("execution.fairness", "program", "straightline.straight", "straightline.chunks"):
        monkeypatch.setattr(f"cascade.runtime.{module}.perf_counter", lambda: now[0])

    @cs.task
    def slow(x):
        now[0] += 1
        return x

    async def work():
        async with cs.Engine() as engine:
            program = engine.compile(slow(slow(1)))
            await program.run()

    asyncio.run(work())
    ((task, blocked, mode),) = said
    assert (task, mode, blocked.seconds) == ("slow", "auto", 1.0)
    assert blocked.place.filename == __file__
