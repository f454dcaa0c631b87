"""Run: contexts (M12), cancellation at every point (R9, M8), events from any thread."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

import cascade as cs
from cascade.runtime.events import RunStarted, TaskStarted
from cascade.runtime.execution.carried_errors import guarded
from cascade.runtime.run import current_run

colour = contextvars.ContextVar("colour", default="none")


def turns(count):
    """Let everything that is ready in the loop have ``count`` turns."""

    async def wait():
        for _ in range(count):
            await asyncio.sleep(0)

    return wait()


async def reached(event):
    """Wait for a threading.Event without holding the loop."""
    assert await asyncio.to_thread(event.wait, 10)


async def until(condition):
    """Let the loop turn until ``condition`` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — what is waited for happens in other threads
            await asyncio.sleep(0)


# -- contexts (M12) ---------------------------------------------------------------------------


@cs.resource
def palette():
    yield colour.get()


@cs.resource(thread_bound=True)
def bound_palette():
    yield colour.get()


@cs.resource
async def async_palette():
    yield colour.get()


@cs.task
def see():
    return colour.get()


@cs.task
async def see_async():
    return colour.get()


@cs.task
def see_with(resource=cs.inject(palette)):
    return resource, colour.get()


@cs.task
def see_bound(resource=cs.inject(bound_palette)):
    return resource, colour.get()


@cs.task
async def see_with_async(resource=cs.inject(async_palette)):
    return resource, colour.get()


@cs.task
def see_tail(n):
    return see_tail.tail(n - 1) if n else colour.get()


@cs.task
def see_later():
    return see()


async def test_the_callers_context_is_seen_on_all_lanes(run):
    token = colour.set("red")
    try:
        seen = await run(
            [see(), see_async(), see_with(), see_bound(), see_with_async(), see_tail(2)]
        )
        later = await run([see_later(), see()])
    finally:
        colour.reset(token)

    assert seen == ["red", "red", *[("red", "red")] * 3, "red"]
    assert later == ["red", "red"]


@cs.task
def paint(name):
    before = colour.get()
    colour.set(name)
    return before


@cs.task
async def paint_async(name):
    before = colour.get()
    colour.set(name)
    return before


@cs.task
def paint_with(name, resource=cs.inject(palette)):
    before = colour.get()
    colour.set(name)
    return before


@cs.task
def paint_bound(name, resource=cs.inject(bound_palette)):
    before = colour.get()
    colour.set(name)
    return before


@pytest.mark.parametrize("painter", [paint, paint_async, paint_with, paint_bound])
async def test_context_variables_set_by_a_task_are_invisible_to_other_tasks(run, painter):
    first = painter("red")
    second = painter("green").after(first)
    third = see().after(second)

    assert await run([first, second, third]) == ["none"] * 3


@pytest.mark.parametrize("painter", [paint, paint_async, paint_with, paint_bound])
async def test_context_variables_set_by_a_task_are_invisible_to_the_caller(run, painter):
    await run(painter("red"))

    assert colour.get() == "none"


async def test_context_variables_set_by_a_provider_are_visible_only_to_its_closing(run):
    seen = []

    @cs.resource
    def plain():
        colour.set("red")
        yield
        seen.append(colour.get())

    @cs.resource
    async def coroutine():
        colour.set("green")
        yield
        seen.append(colour.get())

    @cs.task
    def use(a=cs.inject(plain), b=cs.inject(coroutine)):
        return colour.get()

    assert await run(use()) == "none"
    assert seen == ["green", "red"]
    assert colour.get() == "none"


async def test_a_run_is_known_to_its_tasks_only(run):
    @cs.task
    def here():
        return current_run.get().id

    first, second = await run([here(), here()])

    assert first == second
    assert current_run.get(None) is None


async def test_each_run_has_an_id_of_its_own(run):
    @cs.task
    def here():
        return current_run.get().id

    assert await run(here()) != await run(here())


# -- cancellation at every await point (R9) ---------------------------------------------------


class Ledger:
    """Open resources and running calls, from any thread."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.inside = 0
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.inside += 1

    def __exit__(self, *_):
        with self._lock:
            self.inside -= 1

    def is_quiet(self):
        return not self.inside

    def check(self):
        assert self.inside == 0
        assert sorted(self.opened) == sorted(self.closed)


def busy_program(ledger):
    """Everything that can be under way at once: lanes, scopes, nesting, loops, maps."""

    @cs.resource
    async def connection():
        await asyncio.sleep(0)  # a cancel here opens nothing
        ledger.opened.append("connection")
        try:
            yield "connection"
        finally:
            await asyncio.sleep(0)
            ledger.closed.append("connection")

    @cs.resource(scope="task")
    def cursor(connection=cs.inject(connection)):
        ledger.opened.append("cursor")
        yield "cursor"
        assert "connection" not in ledger.closed
        ledger.closed.append("cursor")

    @cs.resource(thread_bound=True)
    def file():
        ledger.opened.append("file")
        yield "file"
        ledger.closed.append("file")

    @cs.task
    def sync(x, cursor=cs.inject(cursor)):
        with ledger:
            return x

    @cs.task
    def bound(x, file=cs.inject(file)):
        with ledger:
            return x

    @cs.task
    async def coroutine(x, connection=cs.inject(connection)):
        with ledger:
            await asyncio.sleep(0)
            return x

    @cs.task
    async def loop(n, cursor=cs.inject(cursor)):
        with ledger:
            await asyncio.sleep(0)
            return loop.tail(n - 1) if n else 1

    @cs.task
    def plain(x):
        with ledger:
            return x

    @cs.task
    def total(*parts):
        return sum(parts)

    return total(
        sync(1), bound(1), coroutine(1), loop(2), plain(1), total(coroutine(1), sync(plain(1)))
    )


async def test_a_cancel_after_any_number_of_turns_leaves_nothing_behind(engine, use_vm):
    """R9: whatever a run is waiting for when it is cancelled."""
    before = asyncio.all_tasks()
    # One by one, then further apart: under load the loop turns often while threads get little done.
    for count in [*range(100), *(100 * 2**n for n in range(14))]:
        ledger = Ledger()
        running = asyncio.ensure_future(engine.run(busy_program(ledger), use_vm=use_vm))
        await turns(count)
        cancelled = running.cancel()
        await asyncio.wait([running])

        ledger.check()
        assert asyncio.all_tasks() == before
        if not cancelled:
            assert running.result() == 7
            break
        if not running.cancelled():  # it was past the last point where a cancel could reach it
            assert running.result() == 7
    else:
        pytest.fail("the run never ended by itself")


async def test_two_cancels_in_a_row_leave_nothing_behind(engine, use_vm):
    before = asyncio.all_tasks()
    for count in range(60):
        ledger = Ledger()
        running = asyncio.ensure_future(engine.run(busy_program(ledger), use_vm=use_vm))
        await turns(count)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert asyncio.all_tasks() == before
        await until(ledger.is_quiet)  # calls that were abandoned come to their end

        ledger.check()


async def test_a_timeout_around_a_run_ends_it(engine, use_vm):
    forever = asyncio.Event()
    ended = []

    @cs.task
    async def wait():
        try:
            await forever.wait()
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await engine.run(wait(), use_vm=use_vm)

    assert ended == [True]


async def test_a_cancel_ends_a_loop_of_plain_tail_calls(engine, use_vm):
    """The tick: a loop that never awaits is cancelled all the same."""
    begun = threading.Event()

    @cs.task
    def spin(n):
        begun.set()
        return spin.tail(n + 1)

    running = asyncio.ensure_future(engine.run(spin(0), use_vm=use_vm))
    await until(begun.is_set)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancel_ends_a_loop_of_returned_lazies(engine, use_vm):
    begun = threading.Event()

    @cs.task
    def spin(n):
        begun.set()
        return spin(n + 1)

    running = asyncio.ensure_future(engine.run(spin(0), use_vm=use_vm))
    await until(begun.is_set)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancel_ends_a_coroutine_loop_that_swallows_it(engine, use_vm):
    begun = asyncio.Event()
    forever = asyncio.Event()

    @cs.task
    async def stubborn(n):
        begun.set()
        try:
            await forever.wait()
        except asyncio.CancelledError:
            return stubborn.tail(n + 1)

    running = asyncio.ensure_future(engine.run(stubborn(0), use_vm=use_vm))
    await begun.wait()
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=5)
    if not done:
        running.cancel()
        pytest.fail("the loop went on after the cancel")


async def test_a_cancelled_run_waits_for_the_plain_call_that_runs(engine, held):
    """M8: nothing can stop a thread, so the run does not end before it does."""
    begun = threading.Event()
    log = []

    @cs.resource(scope="task")
    def tool():
        yield
        log.append("closed")

    @cs.task
    def work(tool=cs.inject(tool)):
        begun.set()
        held.wait(10)
        log.append("worked")

    running = asyncio.ensure_future(engine.run(work()))
    await reached(begun)
    running.cancel()
    await turns(20)
    assert not running.done()
    held.set()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["worked", "closed"]


@pytest.mark.parametrize("with_resource", [False, True])
async def test_a_second_cancel_abandons_the_plain_call_that_runs(engine, held, with_resource):
    """M8."""
    begun = threading.Event()
    ended = threading.Event()

    @cs.resource
    def tool():
        yield

    def work(tool=None):
        begun.set()
        held.wait(10)
        ended.set()

    task = cs.task(work)
    target = task(cs.inject(tool)) if with_resource else task()
    running = asyncio.ensure_future(engine.run(target))
    await reached(begun)
    running.cancel()
    await turns(20)
    assert not running.done()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert not ended.is_set()
    held.set()
    await reached(ended)
    await until(lambda: len(asyncio.all_tasks()) == 1)  # its resources are closed


async def test_a_cancel_before_the_run_begins_opens_nothing(engine, use_vm):
    opened = []

    @cs.resource
    def tool():
        opened.append(True)
        yield

    @cs.task
    def use(tool=cs.inject(tool)): ...

    running = asyncio.ensure_future(engine.run(use(), use_vm=use_vm))
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert not opened


@pytest.mark.parametrize("kind", ["plain", "bound", "async"])
@pytest.mark.parametrize("scope", ["run", "task"])
def test_a_loop_that_shuts_down_under_a_run_closes_its_resources(use_vm, kind, scope):
    """asyncio.run cancels all tasks at its end, the owners of resources too."""
    log = []
    begun = None

    @cs.resource(scope=scope)
    async def base():
        log.append("open base")
        yield
        log.append("close base")

    def plain(base=cs.inject(base)):
        log.append("open top")
        yield
        log.append("close top")

    async def coroutine(base=cs.inject(base)):
        log.append("open top")
        yield
        log.append("close top")

    if kind == "async":
        top = cs.resource(scope=scope)(coroutine)
    else:
        top = cs.resource(scope=scope, thread_bound=kind == "bound")(plain)

    @cs.task
    def use(top=cs.inject(top)):
        begun.set()
        return wait()

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    async def main():
        nonlocal begun
        begun = threading.Event()
        background = asyncio.create_task(engine.run(use(), use_vm=use_vm))
        await reached(begun)
        return background

    engine = cs.Engine()
    assert asyncio.run(main()).cancelled()
    asyncio.run(engine.close())
    assert log == ["open base", "open top", "close top", "close base"]


def test_a_loop_that_shuts_down_in_the_middle_of_an_attempt_closes_its_resources(use_vm):
    log = []

    @cs.resource
    def base():
        log.append("open base")
        yield
        log.append("close base")

    @cs.resource(scope="task")
    def top(base=cs.inject(base)):
        log.append("open top")
        yield
        log.append("close top")

    async def main():
        begun = asyncio.Event()

        @cs.task
        async def use(top=cs.inject(top)):
            begun.set()
            await asyncio.Event().wait()

        background = asyncio.create_task(engine.run(use(), use_vm=use_vm))
        await begun.wait()
        return background

    engine = cs.Engine()
    assert asyncio.run(main()).cancelled()
    asyncio.run(engine.close())
    assert log == ["open base", "open top", "close top", "close base"]


# -- guarded calls (M13) ----------------------------------------------------------------------


def test_a_stop_iteration_becomes_an_error_that_names_the_function():
    """M13."""

    def first(items):
        return next(iter(items))

    with pytest.raises(
        cs.errors.TaskStopIterationError, match=r"first' raised StopIteration"
    ) as caught:
        guarded(first, ([],), {})
    assert isinstance(caught.value.__cause__, StopIteration)
    assert guarded(first, ([7],), {}) == 7


# -- events -----------------------------------------------------------------------------------


async def test_events_of_threads_arrive_in_the_loops_thread_in_order(engine):
    here = threading.get_ident()
    threads, numbers = set(), []
    engine.bus.subscribe(TaskStarted, lambda e: threads.add(threading.get_ident()))
    engine.bus.subscribe(TaskStarted, lambda e: numbers.append(e.node))

    @cs.task
    def step(x):
        return x + 1

    lazy = first = step(0)
    for _ in range(200):
        lazy = step(lazy)
    await engine.run(lazy)

    assert threads == {here}
    assert numbers == list(range(first.number, lazy.number + 1))


async def test_a_run_that_is_over_is_not_kept_alive(engine, use_vm):
    """A long-living engine does not collect its runs."""

    class Big:
        pass

    kept = []

    @cs.task
    def make():
        big = Big()
        kept.append(weakref.ref(big))
        return big

    @cs.task
    def drop(big):
        return None

    engine.bus.subscribe(RunStarted, lambda e: None)
    await engine.run(drop(make()), use_vm=use_vm)

    async with asyncio.timeout(10):
        while kept[0]() is not None:
            gc.collect()
            await asyncio.sleep(0)


async def test_a_second_cancel_abandons_a_plain_call_on_the_vm(engine, held):
    """M8, where a plain function runs on a worker because a coroutine is under way (M6)."""
    begun, ended = threading.Event(), threading.Event()

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    @cs.task
    def work():
        begun.set()
        held.wait(10)
        ended.set()

    running = asyncio.ensure_future(engine.run([wait(), work()], use_vm=True))
    await reached(begun)
    running.cancel()
    await turns(20)
    assert not running.done()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert not ended.is_set()
    held.set()
    await reached(ended)
