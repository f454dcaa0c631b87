"""Events: those of a run, and their order."""

import asyncio
import dataclasses
import threading

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs
from cascade.runtime import events
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    NodesPlanned,
    RunFinished,
    RunStarted,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TasksFinished,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.execution.finished_tasks import FinishedTasks


@pytest.fixture
def seen(engine):
    """Every event that the engine publishes."""
    seen = []
    engine.bus.subscribe(Event, seen.append)
    return seen


@cs.task
def fail(*_):
    raise ValueError("wrong")


def names(seen):
    return [(type(e).__name__, e.task) for e in seen if isinstance(e, TaskEvent)]


ALL_EVENTS = [
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)
]


@pytest.mark.parametrize("kind", ALL_EVENTS)
def test_events_are_small_and_carry_run_and_time(kind):
    """No dict of its own: a run of a million nodes makes two million."""
    fields = dataclasses.fields(kind)
    event = kind(*(f.name for f in fields if not f.kw_only), at=1.5)

    assert [f.name for f in fields][:2] == ["run_id", "at"]
    assert (event.run_id, event.at) == ("run_id", 1.5)
    assert not hasattr(event, "__dict__")
    assert repr(event).startswith(f"{kind.__name__}(run_id='run_id', at=1.5")


@cs.task
async def add_in_turn(x, y):
    await asyncio.sleep(0)
    return x + y


@pytest.mark.parametrize("use_vm", [False, True])
@pytest.mark.parametrize("task", [add, add_async, add_in_turn], ids=lambda task: task.name)
async def test_sums_of_finished_tasks_are_complete_and_few(engine, task, use_vm):
    """Before the run is reported to end; far fewer than tasks, for they come once a turn."""
    sums, order = [], []
    for kind in (TasksFinished, RunFinished):
        engine.bus.subscribe(kind, lambda notice: order.append(type(notice)))
    engine.bus.subscribe(TasksFinished, lambda notice: sums.append(notice.count))
    total = add(task(1, 2), sum(range(3)))
    await engine.run([total, *[task(n, 1).with_retry(2) for n in range(300)]], use_vm=use_vm)

    assert sum(sums) == 302
    assert all(count > 0 for count in sums)
    assert len(sums) < 302
    assert order[-1] is RunFinished


async def test_sums_make_no_events_and_all_events_bring_no_sums(engine, monkeypatch):
    """Who subscribes to all events would get each task twice."""
    made = []
    for name in ("publish", "publish_later"):
        monkeypatch.setattr(MessageBus, name, lambda bus, notice: made.append(type(notice)))
    cancel = engine.bus.subscribe(TasksFinished, made.append)
    await engine.run([add(n, 1) for n in range(20)])
    assert set(made) == {TasksFinished}

    made.clear()
    cancel()
    engine.bus.subscribe(Event, made.append)
    await engine.run([add(n, 1) for n in range(20)])
    assert TasksFinished not in made
    assert made.count(TaskFinished) == 20


async def test_sums_are_counted_from_many_threads_without_a_loss(engine):
    """Threads that all count at once."""
    counted = FinishedTasks("1", engine.bus, lambda: None)
    sums = []
    engine.bus.subscribe(TasksFinished, lambda notice: sums.append(notice.count))
    gate = threading.Barrier(4)

    def work():
        gate.wait()
        for _ in range(5_000):
            counted.one_more()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads):
        counted.tell()
    counted.tell()
    counted.tell()

    assert sum(sums) == 20_000


def test_events_are_compared_by_identity():
    """Two tasks that finish alike are two events, and both can be in a set."""
    first, second = (TaskFinished("1", "x", 7, 0.5, at=1.0) for _ in range(2))

    assert first != second
    assert len({first, second}) == 2


def test_an_event_keeps_the_time_at_which_it_was_made():
    first, second = RunStarted("1", "x", "graph"), RunStarted("1", "x", "graph")

    assert first.at <= second.at


async def test_a_run_begins_and_ends_with_events_of_its_own(run, seen, use_vm):
    target = add(1, 2)
    await run(target)

    assert isinstance(seen[0], RunStarted)
    assert (seen[0].target, seen[0].strategy) == ("add", "vm" if use_vm else "graph")
    assert isinstance(seen[-1], RunFinished)
    assert (seen[-1].status, seen[-1].error) == ("succeeded", None)
    assert seen[-1].duration >= 0
    assert {e.run_id for e in seen} == {seen[0].run_id}
    assert [e.at for e in seen] == sorted(e.at for e in seen)


async def test_a_task_starts_and_finishes_once(run, seen):
    inner = add(1)
    target = add_async(inner, 1)
    await run(target)

    tasks = [e for e in seen if isinstance(e, TaskEvent)]
    assert names(seen) == [
        ("TaskStarted", "add"),
        ("TaskFinished", "add"),
        ("TaskStarted", "add_async"),
        ("TaskFinished", "add_async"),
    ]
    assert [e.node for e in tasks] == [inner.number, inner.number, target.number, target.number]
    assert all(e.duration >= 0 for e in tasks if isinstance(e, TaskFinished))


async def test_a_loop_of_tail_calls_starts_and_finishes_once(run, seen):
    @cs.task
    def loop(n):
        return loop.tail(n - 1) if n else "end"

    await run(add(1).after(loop(5)))
    await run(loop(5))

    assert names(seen) == [
        ("TaskStarted", "loop"),
        ("TaskFinished", "loop"),
        ("TaskStarted", "add"),
        ("TaskFinished", "add"),
        ("TaskStarted", "loop"),
        ("TaskFinished", "loop"),
    ]


async def test_a_returned_lazy_starts_and_finishes_too(run, seen):
    @cs.task
    def outer():
        return add_async(1)

    await run(outer())

    assert sorted(names(seen)) == sorted(
        (kind, name) for name in ("outer", "add_async") for kind in ("TaskStarted", "TaskFinished")
    )


async def test_nodes_added_by_cascade_have_no_events(run, seen):
    """Containers, maps, routers and parameters are no tasks."""
    target = [
        cs.Router(selector=cs.Param("key"), routes={"a": add(1)}),
        add.map(a=[1, 2]),
        {"x": add_async(3)},
    ]
    await run(target, {"key": "a"})

    assert {name for _, name in names(seen)} == {"add", "add_async"}
    assert len([e for e in seen if isinstance(e, TaskStarted)]) == 4
    assert len([e for e in seen if isinstance(e, TaskFinished)]) == 4


async def test_the_nodes_planned_are_the_tasks_that_start_or_are_skipped(run, seen):
    """So that a progress bar comes to its end."""

    @cs.task
    def outer():
        return [1, 2, 3]

    @cs.task
    def nested(n):
        return add(add(n))

    @cs.task
    def no():
        return False

    skipped = add(1).run_if(no())
    await run([nested.map(n=outer()), add(1).after(skipped)])

    planned = sum(e.count for e in seen if isinstance(e, NodesPlanned))
    ended = [e for e in seen if isinstance(e, (TaskFinished, TaskSkipped))]
    assert planned == len(ended)
    assert len([e for e in seen if isinstance(e, TaskStarted)]) == planned - 1


async def test_a_failure_is_told_of_the_task_and_of_the_run(run, seen):
    target = add(fail(add(1)))
    with pytest.raises(ValueError, match="wrong") as caught:
        await run(target)

    (failed,) = [e for e in seen if isinstance(e, TaskFailed)]
    assert (failed.task, failed.error) == ("fail", caught.value)
    assert failed.duration >= 0
    assert (seen[-1].status, seen[-1].error) == ("failed", caught.value)
    assert names(seen) == [
        ("TaskStarted", "add"),
        ("TaskFinished", "add"),
        ("TaskStarted", "fail"),
        ("TaskFailed", "fail"),
    ]


async def test_a_skip_is_told_with_its_condition(run, seen):
    condition = add(0)
    skipped = add_async(1).run_if(condition)
    with pytest.raises(cs.errors.DependencyMissingError):
        await run(fail(skipped))

    told = [(e.task, e.node, e.condition) for e in seen if isinstance(e, TaskSkipped)]
    assert told[0] == ("add_async", skipped.number, "add")
    assert told[1][0] == "fail"
    assert seen[-1].status == "failed"


async def test_a_cancel_is_told(engine, use_vm, seen):
    begun = asyncio.Event()

    @cs.task
    async def wait():
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(engine.run(wait(), use_vm=use_vm))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert seen[-1].status == "cancelled"


async def test_handlers_are_called_in_the_loops_thread(run, engine):
    threads = []
    engine.bus.subscribe(Event, lambda event: threads.append(threading.get_ident()))

    @cs.resource
    def tool():
        yield

    @cs.resource(thread_bound=True)
    def bound():
        yield

    @cs.task
    def use(_, tool=cs.inject(tool)): ...

    @cs.task
    def use_bound(_, bound=cs.inject(bound)): ...

    await run([use(add(1)), use_bound(add_async(1)), add.map(a=[1, 2])])

    assert set(threads) == {threading.get_ident()}


@cs.resource
def shared():
    yield "shared"


@cs.resource(scope="task")
def own():
    yield "own"


def tasks_that_append_to(log):
    """Kind → a target; its task appends "ran" to ``log``. The first ones are for the loop."""

    @cs.task
    async def coroutine(tool=None):
        log.append("ran")
        await asyncio.sleep(0)

    @cs.task
    async def coroutine_loop(n):
        log.append("ran")
        return coroutine_loop.tail(n - 1) if n else n

    @cs.task(mode="inline")
    def inline(tool=None):
        log.append("ran")

    @cs.task(mode="inline")
    def inline_loop(n):
        log.append("ran")
        return inline_loop.tail(n - 1) if n else n

    @cs.task
    def plain(tool=None):
        log.append("ran")

    @cs.task
    def loop(n):
        log.append("ran")
        return loop.tail(n - 1) if n else n

    loops = {"coroutine loop": coroutine_loop, "inline loop": inline_loop, "loop": loop}
    calls = {"coroutine": coroutine, "inline": inline, "plain": plain}
    ways = {
        "": lambda task: task(),
        " with a retry": lambda task: task().with_retry(3),
        " with a timeout": lambda task: task().with_timeout(60),
        " with a capacity": lambda task: task().with_capacity(gpu=1),
        " with a cache": lambda task: task().with_cache(cs.LRUCache()),
        " with a resource": lambda task: task(cs.inject(shared)),
        " with a resource of its own": lambda task: task(cs.inject(own)),
        " in a map": lambda task: task.map(tool=[1, 2]),
    }
    return {
        **{name + way: make(task) for name, task in calls.items() for way, make in ways.items()},
        **{name: task(30) for name, task in loops.items()},
    }


KINDS = list(tasks_that_append_to([]))
#: A timeout takes an inline function to a worker.
IN_THE_LOOP = [
    kind
    for kind in KINDS
    if kind.startswith(("coroutine", "inline")) and kind != "inline with a timeout"
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_at_once_sees_a_start_before_anything_that_the_task_does(use_vm, kind):
    log = []
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        engine.bus.subscribe(TaskStarted, lambda event: log.append("started"), at_once=True)
        await engine.run(tasks_that_append_to(log)[kind], use_vm=use_vm)
    assert log[0] == "started"
    assert log.count("started") == (2 if kind.endswith("map") else 1)


@pytest.mark.parametrize("kind", IN_THE_LOOP)
async def test_a_handler_sees_a_start_before_anything_that_a_task_does_in_the_event_loop(
    use_vm, kind
):
    log = []
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        engine.bus.subscribe(TaskStarted, lambda event: log.append("started"))
        await engine.run(tasks_that_append_to(log)[kind], use_vm=use_vm)
    assert log[0] == "started"


async def test_a_handler_at_once_is_called_in_the_thread_of_the_task(run, engine):
    threads = {}

    @cs.task
    def work():
        threads["task"] = threading.get_ident()

    engine.bus.subscribe(
        TaskStarted, lambda event: threads.update(at_once=threading.get_ident()), at_once=True
    )
    engine.bus.subscribe(TaskStarted, lambda event: threads.update(later=threading.get_ident()))
    await run(work())
    assert threads["at_once"] == threads["task"] != threads["later"] == threading.get_ident()


async def test_all_events_of_a_run_have_come_when_it_ends(run, engine):
    """Also events that other threads publish."""
    for _ in range(20):
        count = []
        cancel = engine.bus.subscribe(TaskFinished, count.append)
        await run(add.map(a=range(10)))
        assert len(count) == 10
        cancel()


@pytest.mark.parametrize("kind", [TaskStarted, TaskFinished, TaskFailed, TaskSkipped])
async def test_one_subscription_is_enough(run, engine, kind):
    seen = []
    engine.bus.subscribe(kind, seen.append)

    @cs.task
    def no():
        return False

    target = [add(1), add(1).after(add(2).run_if(no())), fail()]
    with pytest.raises(ValueError, match="wrong"):
        await run([*target[:2], fail().after(*target[:2])])

    assert {type(event) for event in seen} == {kind}


async def test_subscribers_may_come_after_runs_and_programs(engine, use_vm):
    """The parts that the engine lends to its runs are kept from one run to the next."""
    program = engine.compile(add(1))
    assert await engine.run(add(1), use_vm=use_vm) == 1
    assert await program.run() == 1
    seen = []
    engine.bus.subscribe(TaskFinished, seen.append)
    assert await engine.run(add(1), use_vm=use_vm) == 1
    assert await program.run() == 1
    assert [event.task for event in seen] == ["add", "add"]


async def test_a_subscriber_that_comes_during_a_run_gets_nodes_from_the_next_run_on(engine, use_vm):
    seen = []

    @cs.task
    async def subscribe():
        engine.bus.subscribe(Event, seen.append)

    await engine.run(add(1).after(subscribe()), use_vm=use_vm)
    assert [type(event) for event in seen] == [RunFinished]
    await engine.run(add(1), use_vm=use_vm)
    assert names(seen) == [("TaskStarted", "add"), ("TaskFinished", "add")]


def test_the_bus_of_an_engine_stays_the_same():
    """Runs, limits and resources hold it."""
    bus = MessageBus()
    assert cs.Engine(bus=bus).bus is bus
    with pytest.raises(AttributeError, match="bus"):
        cs.Engine().bus = bus
