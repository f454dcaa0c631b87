"""Waits for times and signals: ``cs.sleep`` and ``cs.wait_for`` (D10, D11)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine.durable import flows
from tests.engine.durable.nursery import Child, Nursery
from tests.engine.durable.tasks import calls

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime.durable.programs import wanted
from cascade.runtime.durable.starting import value_of_run
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.events import RunFinished, TaskFinished, TaskStarted, TaskWaiting
from cascade.runtime.execution.waiting import Waiting
from cascade.spec.errors import (
    ArgumentError,
    LazyUseError,
    NotStorableError,
    RunConflictError,
    RunNotFoundError,
    TaskTimeoutError,
)
from cascade.spec.run_rows import Lease, RunRecord, RunStatus
from cascade.spec.run_store import RunStore
from cascade.testing import VirtualTime

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, store_url: Callable[[str], str]) -> Iterator[RunStore]:
    store = open_store(store_url(request.param))
    yield store
    store.close()


@pytest.fixture
def memory() -> Iterator[RunStore]:
    store = open_store("memory:")
    yield store
    store.close()


@cs.task
def pair(a: Any, b: Any) -> tuple[Any, Any]:
    calls["pair"] += 1
    return a, b


@cs.task
def number(n: float) -> float:
    calls["number"] += 1
    return n


@cs.task
async def watch(n: int, log: tuple[int, ...] = ()) -> Any:
    """Sleep an hour between two steps (M2)."""
    calls["watch"] += 1
    return log if n == 0 else watch.tail(n - 1, cs.sleep(3600, then=(*log, n)))


@cs.task
def later(x: int) -> Any:
    calls["later"] += 1
    return cs.sleep(60, then=x)


@cs.task
def asks(name: str) -> Any:
    calls["asks"] += 1
    return pair(name, cs.wait_for(name))


@cs.task
async def chat(said: tuple[str, ...] = ()) -> Any:
    """Take one signal in each step."""
    calls["chat"] += 1
    if said and said[-1] == "bye":
        return said
    return chat.tail(_joined(said, cs.wait_for("said")))


@cs.task
def _joined(said: tuple[str, ...], word: str) -> tuple[str, ...]:
    return (*said, word)


looks: list[Callable[[], None]] = []


@cs.task
def look(n: int) -> int:
    looks[-1]()
    return n


@cs.task
async def loop(n: int) -> Any:
    return n if n == 0 else loop.tail(cs.sleep(1, then=look(n - 1)))


def found(store: RunStore, run_id: str) -> RunRecord:
    run = store.find(run_id)
    assert run is not None
    return run


async def waits(engine: cs.Engine, count: int = 1) -> None:
    """Return when so many nodes of an engine wait for a signal or a time."""
    while sum(_is_timed(waiting) for waiting in engine.waiting(inputs=False)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def _is_timed(waiting: Waiting) -> bool:
    return waiting.reason.startswith(("signal", "sleep"))


async def cut_off(engine: cs.Engine, store: RunStore, run_id: str, target: Any) -> None:
    """Begin a run, and take it over from its process when it waits, as after a crash."""
    running = asyncio.ensure_future(engine.run(target, run_id=run_id))
    await waits(engine)
    await committed(store, run_id)
    owner = found(store, run_id).owner
    assert owner is not None
    store.claim_run(run_id, Lease("other", 0), dead=[owner])
    running.cancel()
    with pytest.raises((asyncio.CancelledError, cs.errors.LeaseLostError)):
        await running


async def committed(store: RunStore, run_id: str) -> None:
    """Return when a wait of a run is recorded."""
    while not is_waiting(store, run_id):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


# -- without a store ------------------------------------------------------------------------------


@PATHS
def test_a_sleep_takes_its_time_and_has_a_value(use_vm: bool) -> None:
    clock = VirtualTime()
    assert clock.run(pair(cs.sleep(3600), cs.sleep(60, then=7)), use_vm=use_vm) == (None, 7)
    assert clock.elapsed == 3600


@PATHS
def test_a_loop_sleeps_between_two_steps(use_vm: bool) -> None:
    clock = VirtualTime()
    assert clock.run(watch(3), use_vm=use_vm) == (3, 2, 1)
    assert clock.elapsed == 3 * 3600


@PATHS
def test_a_task_may_return_a_sleep(use_vm: bool) -> None:
    clock = VirtualTime()
    assert clock.run(number(later(2)), use_vm=use_vm) == 2
    assert clock.elapsed == 60


@PATHS
def test_the_time_and_the_value_may_be_computed(use_vm: bool) -> None:
    clock = VirtualTime()
    assert clock.run(cs.sleep(number(30), then=[number(1), 2]), use_vm=use_vm) == [1, 2]
    assert clock.elapsed == 30


@PATHS
def test_sleeps_of_a_map_overlap(use_vm: bool) -> None:
    clock = VirtualTime()
    assert clock.run(cs.sleep.map(seconds=[5, 10, 15]), use_vm=use_vm) == [None] * 3
    assert clock.elapsed == 15


@PATHS
def test_a_skipped_sleep_takes_no_time(use_vm: bool) -> None:
    clock = VirtualTime()
    skipped = cs.sleep(60).run_if(number(0)).or_else("not tired")
    assert clock.run(skipped, use_vm=use_vm) == "not tired"
    assert clock.elapsed == 0


def test_a_program_may_sleep() -> None:
    clock = VirtualTime()

    async def main() -> Any:
        async with cs.Engine() as engine:
            program = engine.compile(pair(number(1), cs.sleep(60, then=2)))
            return [await program.run(), await program.run()]

    assert clock.run(main) == [(1, 2), (1, 2)]
    assert clock.elapsed == 120


def test_thousands_of_sleeps_need_neither_tasks_nor_threads() -> None:
    clock = VirtualTime()
    most = 0

    async def main() -> Any:
        nonlocal most
        async with cs.Engine() as engine:
            before = threading.active_count()
            handle = engine.start([cs.sleep(60 + n) for n in range(5000)])
            await asyncio.sleep(30)
            most = len(asyncio.all_tasks())
            assert len(engine.waiting(inputs=False)) == 5000
            assert threading.active_count() <= before + 1
            return await handle.result()

    assert clock.run(main) == [None] * 5000
    assert most <= 3


def test_a_deadline_ends_a_sleep() -> None:
    clock = VirtualTime()
    with pytest.raises(cs.errors.DeadlineError):
        clock.run(cs.sleep(3600), deadline=60)
    assert clock.elapsed == 60


@PATHS
def test_signals_are_taken_in_their_order(use_vm: bool) -> None:
    """D11: each once, and they may come before the wait."""

    async def main() -> Any:
        async with cs.Engine() as engine:
            handle = engine.start(chat(), use_vm=use_vm)
            for word in ("one", "two", "bye"):
                await engine.signal(handle.run_id, "said", word)
            await engine.signal(handle.run_id, "other", 1)
            return await handle.result()

    assert VirtualTime().run(main) == ("one", "two", "bye")


@PATHS
def test_nodes_get_the_signals_of_a_name_in_the_order_of_their_waits(use_vm: bool) -> None:
    first, second = cs.wait_for("go").named("first"), cs.wait_for("go").named("second")

    async def main() -> Any:
        async with cs.Engine() as engine:
            handle = engine.start([first, second.after(cs.sleep(1))], use_vm=use_vm)
            await asyncio.sleep(2)
            await engine.signal(handle.run_id, "go", 1)
            await engine.signal(handle.run_id, "go", 2)
            return await handle.result()

    assert VirtualTime().run(main) == [1, 2]


@PATHS
def test_a_wait_without_a_signal_has_its_default(use_vm: bool) -> None:
    clock = VirtualTime()
    waits = [cs.wait_for("a", timeout=60, default=None), cs.wait_for("b", timeout=30, default=0)]
    assert clock.run(waits, use_vm=use_vm) == [None, 0]
    assert clock.elapsed == 60


@PATHS
def test_a_wait_without_a_signal_or_a_default_is_an_error(use_vm: bool) -> None:
    with pytest.raises(TaskTimeoutError, match="no signal 'a' came within 60 s") as caught:
        VirtualTime().run(pair(cs.wait_for("a", timeout=60), 1), use_vm=use_vm)
    assert caught.value.seconds == 60
    assert "in task 'wait_for'" in caught.value.__notes__[0]
    never = cs.wait_for("a", timeout=60).catch(TaskTimeoutError, "nobody")
    assert VirtualTime().run(never, use_vm=use_vm) == "nobody"


@PATHS
def test_a_wait_may_be_tried_again(use_vm: bool) -> None:
    clock = VirtualTime()
    with pytest.raises(TaskTimeoutError):
        clock.run(cs.wait_for("a", timeout=60).with_retry(3, delay=10), use_vm=use_vm)
    assert clock.elapsed == 60 + 10 + 60 + 10 + 60


def test_a_signal_for_nobody_is_an_error_of_its_sender() -> None:
    async def main() -> None:
        async with cs.Engine() as engine:
            with pytest.raises(RunNotFoundError, match="'nobody'"):
                await engine.signal("nobody", "a")
            handle = engine.start(number(1))
            await handle.result()
            with pytest.raises(RunNotFoundError):
                await engine.signal(handle.run_id, "a")

    VirtualTime().run(main)


bad_sleep: Any = cs.sleep


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cs.sleep(-1), "seconds ≥ 0, but is -1"),
        (lambda: bad_sleep("1"), "seconds ≥ 0, but is '1'"),
        (lambda: cs.sleep(float("inf")), "but is inf"),
        (lambda: bad_sleep(), "missing a required argument: 'seconds'"),
        (lambda: cs.wait_for(""), "a text that is not empty, but got ''"),
        (lambda: cs.wait_for("a", timeout=-1), "the timeout of wait_for"),
        (lambda: cs.wait_for("a", 60), "too many positional arguments"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@PATHS
def test_wrong_computed_arguments_are_errors_of_the_node(use_vm: bool) -> None:
    with pytest.raises(ArgumentError, match="but is -1") as caught:
        VirtualTime().run(cs.sleep(number(-1)), use_vm=use_vm)
    assert "in task 'sleep'" in caught.value.__notes__[0]


def test_policies_of_calls_are_refused() -> None:
    with pytest.raises(LazyUseError, match="with_timeout"):
        cs.wait_for("a").with_timeout(60)
    with pytest.raises(LazyUseError, match="with_capacity"):
        cs.sleep(60).with_capacity(gpu=1)
    with pytest.raises(LazyUseError, match="with_checkpoint"):
        cs.sleep(60).with_checkpoint(False)
    with pytest.raises(LazyUseError, match="with_timeout"):
        cs.sleep.map(seconds=[60, 70]).with_timeout(5)


def test_waits_that_ended_early_are_forgotten() -> None:
    """Not only when their time is over, which may be weeks away."""

    async def main() -> int:
        async with cs.Engine() as engine:
            handle = engine.start(patient(), run_id="one")
            for _ in range(500):
                await engine.signal("one", "go")
                await asyncio.sleep(0.01)
            (run,) = engine._runs.active
            left = len(run.locate.args[0].waits._times)  # type: ignore[attr-defined]
            handle.cancel()
            return left

    assert VirtualTime().run(main) < 100


@cs.task
async def patient(last: Any = None) -> Any:
    return patient.tail(cs.wait_for("go", timeout=10**6))


def test_a_run_that_ends_while_it_waits_takes_no_more_time() -> None:
    @cs.task
    async def fails() -> None:
        await asyncio.sleep(60)
        raise ValueError("enough")

    clock = VirtualTime()
    with pytest.raises(ValueError, match="enough"):
        clock.run([fails(), cs.sleep(3600), cs.wait_for("never")])
    assert clock.elapsed == 60


@PATHS
def test_events_and_waiting_tell_what_a_run_waits_for(use_vm: bool) -> None:
    events: list[Any] = []

    async def main() -> None:
        async with cs.Engine() as engine:
            for kind in (TaskStarted, TaskWaiting, TaskFinished):
                engine.bus.subscribe(kind, events.append)
            handle = engine.start(cs.wait_for("approval", timeout=60, default=1), use_vm=use_vm)
            await asyncio.sleep(20)
            (waiting,) = engine.waiting()
            assert (waiting.task, waiting.reason) == ("wait_for", "signal approval")
            assert waiting.seconds == pytest.approx(40)
            await handle.result()
            handle = engine.start(cs.sleep(60), use_vm=use_vm)
            await asyncio.sleep(1)
            (waiting,) = engine.waiting()
            assert waiting.reason.startswith("sleep until 20")
            await handle.result()
            assert engine.waiting() == []

    VirtualTime().run(main)
    assert [type(event) for event in events] == [TaskStarted, TaskWaiting, TaskFinished] * 2
    assert events[1].reason == "signal approval"
    assert events[1].seconds == 60
    assert events[2].waited > 0
    assert events[2].duration < events[2].waited + 1  # real time, of which hardly any passed


# -- with a store ---------------------------------------------------------------------------------


@PATHS
def test_a_durable_sleep_goes_on_after_a_crash(memory: RunStore, use_vm: bool) -> None:
    """D10: for the rest of its time, and without the call before it."""
    clock = VirtualTime()

    async def crash() -> None:
        async with cs.Engine(store=memory) as engine:
            await cut_off(engine, memory, "one", pair(number(1), cs.sleep(3600, then=2)))

    async def resume() -> Any:
        await asyncio.sleep(1000)  # meanwhile
        async with cs.Engine(store=memory) as engine:
            target = pair(number(1), cs.sleep(3600, then=2))
            return await engine.run(target, run_id="one", use_vm=use_vm)

    clock.run(crash)
    begun = clock.now
    assert clock.run(resume) == (1, 2)
    assert clock.elapsed == pytest.approx(3600, abs=1)
    assert begun < 1
    assert calls == {"number": 1, "pair": 1}
    assert memory.load(found(memory, "one").number).records == []


@pytest.mark.parametrize("target", [later(3), number(later(3))])
@PATHS
def test_a_sleep_that_a_task_returned_goes_on_after_a_crash(
    memory: RunStore, target: Any, use_vm: bool
) -> None:
    clock = VirtualTime()

    async def crash() -> None:
        async with cs.Engine(store=memory) as engine:
            await cut_off(engine, memory, "one", target)

    async def resume() -> Any:
        await asyncio.sleep(30)
        async with cs.Engine(store=memory) as engine:
            return await engine.run(target, run_id="one", use_vm=use_vm)

    clock.run(crash)
    assert clock.run(resume) == 3
    assert clock.elapsed == pytest.approx(60, abs=1)
    assert calls["later"] == 1
    assert memory.load(found(memory, "one").number).records == []


@PATHS
def test_a_sleep_may_continue_as_a_lazy_value(memory: RunStore, use_vm: bool) -> None:
    seen: list[int] = []
    looks.append(lambda: seen.append(len(memory.load(found(memory, "one").number).records)))

    async def main() -> Any:
        async with cs.Engine(store=memory) as engine:
            target = cs.sleep(60, then=cs.literal(look(number(1))))
            return await engine.run(target, run_id="one", use_vm=use_vm)

    assert VirtualTime().run(main) == 1
    assert seen == [1]  # what it continues as, and not until when it waits


@PATHS
def test_a_loop_goes_on_with_the_sleep_that_it_was_in(memory: RunStore, use_vm: bool) -> None:
    clock = VirtualTime()

    async def crash() -> None:
        async with cs.Engine(store=memory) as engine:
            await cut_off(engine, memory, "one", watch(2))

    async def resume() -> Any:
        async with cs.Engine(store=memory) as engine:
            return await engine.run(watch(2), run_id="one", use_vm=use_vm)

    clock.run(crash)
    assert clock.run(resume) == (2, 1)
    assert clock.elapsed == pytest.approx(7200, abs=1)
    assert calls["watch"] == 3  # each step once
    assert memory.load(found(memory, "one").number).records == []


def test_the_storage_of_a_loop_that_sleeps_is_flat(memory: RunStore) -> None:
    sizes: list[int] = []

    def look() -> None:
        loaded = memory.load(found(memory, "one").number)
        sizes.append(len(loaded.records) + len(loaded.chunks))

    looks.append(look)

    async def main() -> None:
        async with cs.Engine(store=memory) as engine:
            await engine.run(loop(40), run_id="one")

    VirtualTime().run(main)
    assert len(sizes) == 40
    assert max(sizes) <= 5


async def test_a_signal_comes_from_another_program(store: RunStore) -> None:
    async with cs.Engine(store=store) as engine:
        handle = engine.start(pair(cs.wait_for("approval"), number(1)), run_id="one")
        await waits(engine)
        await asyncio.to_thread(cs.signal, store, "one", "approval", {"by": "ada"})
        assert await handle.result() == ({"by": "ada"}, 1)
    loaded = store.load(found(store, "one").number)
    assert loaded.signals == []


async def test_a_signal_may_come_before_the_wait_and_before_the_process(store: RunStore) -> None:
    """D11: signals are kept, in their order; none is taken twice."""
    async with cs.Engine(store=store) as engine:
        engine.start(chat(), run_id="one")
        await engine.signal("one", "said", "one")
        await waits(engine, 1)
    for word in ("two", "three", "bye"):
        cs.signal(store, "one", "said", word)
    async with cs.Engine(store=store) as engine:
        assert await engine.run(chat(), run_id="one") == ("one", "two", "three", "bye")
    assert store.load(found(store, "one").number).signals == []


async def test_a_signal_to_a_finished_or_unknown_run_is_an_error_of_its_sender(
    store: RunStore,
) -> None:
    async with cs.Engine(store=store) as engine:
        await engine.run(number(1), run_id="one")
        with pytest.raises(RunConflictError):
            await engine.signal("one", "a")
        with pytest.raises(RunNotFoundError):
            await engine.signal("two", "a")
        with pytest.raises(RunConflictError):
            cs.signal(store, "one", "a")
        with pytest.raises(NotStorableError):
            await engine.signal("one", "a", object())
        with pytest.raises(ArgumentError, match="the name of a signal"):
            cs.signal(store, "one", "")


async def test_the_taking_of_a_signal_and_the_outcome_are_one_commit(memory: RunStore) -> None:
    """D11: no commit has the one without the other."""
    commits: list[Any] = []
    commit = memory.commit

    def committing(batch: Any, *, seconds: float) -> Any:
        commits.extend(batch)
        return commit(batch, seconds=seconds)

    memory.commit = committing  # type: ignore[method-assign]
    async with cs.Engine(store=memory) as engine:
        handle = engine.start([cs.wait_for(f"s{n}") for n in range(50)], run_id="one")
        await waits(engine, 50)
        for n in range(50):
            await engine.signal("one", f"s{n}", f"value {n}")
        await handle.result()
    taken = 0
    for batch in commits:
        values = b"".join(chunk.body for chunk in batch.chunks).count(b'"value ')
        assert values == len(batch.taken)
        taken += values
    assert taken == 50


async def test_a_returned_wait_and_its_signal_are_one_commit(memory: RunStore) -> None:
    async with cs.Engine(store=memory) as engine:
        handle = engine.start(asks("go"), run_id="one")
        await waits(engine)
        await engine.signal("one", "go", 1)
        assert await handle.result() == ("go", 1)
        assert await engine.run(asks("go"), run_id="one") == ("go", 1)
    assert calls["asks"] == 1


async def test_a_run_that_only_waits_may_leave_its_process(store: RunStore) -> None:
    """D10: it is suspended, and due when its first time is over."""
    finished: list[RunFinished] = []
    target = pair(number(1), cs.wait_for("go", timeout=3600, default="never"))
    async with cs.Engine(store=store) as engine:
        engine.bus.subscribe(RunFinished, finished.append)
        with pytest.raises(Suspended) as caught:
            await unloading(engine, target, "one", 60)
    run = found(store, "one")
    assert run.status is RunStatus.SUSPENDED
    assert run.due is not None
    assert run.due == pytest.approx(caught.value.due)
    assert [event.status for event in finished] == ["suspended"]
    cs.signal(store, "one", "go", "now")
    due = found(store, "one").due
    assert due is not None
    assert due < run.due
    async with cs.Engine(store=store) as engine:
        assert await unloading(engine, target, "one", 60) == (1, "now")
    assert calls == {"number": 1, "pair": 1}


async def test_a_run_that_waits_for_signals_alone_is_due_when_one_comes(store: RunStore) -> None:
    async with cs.Engine(store=store) as engine:
        with pytest.raises(Suspended):
            await unloading(engine, cs.wait_for("go"), "one", 60)
    assert found(store, "one").due is None
    cs.signal(store, "one", "other")  # not what it waits for: it looks, and goes on waiting
    assert found(store, "one").due is not None
    async with cs.Engine(store=store) as engine:
        with pytest.raises(Suspended):
            await unloading(engine, cs.wait_for("go"), "one", 60)
    assert found(store, "one").due is None


async def test_a_run_with_a_call_under_way_stays_in_its_process(memory: RunStore) -> None:
    go_on = asyncio.Event()

    @cs.task
    async def busy() -> str:
        await go_on.wait()
        return "done"

    target = pair(busy(), cs.wait_for("go"))
    async with cs.Engine(store=memory) as engine:
        running = asyncio.ensure_future(unloading(engine, target, "one", 0))
        await waits(engine)
        await asyncio.sleep(0)
        assert not running.done()
        go_on.set()
        with pytest.raises(Suspended):
            await running


def test_a_short_wait_stays_in_its_process(memory: RunStore) -> None:
    async def main() -> Any:
        async with cs.Engine(store=memory) as engine:
            return await unloading(engine, cs.sleep(59, then=1), "one", 60)

    assert VirtualTime().run(main) == 1


async def unloading(engine: cs.Engine, target: Any, run_id: str, unload: float) -> Any:
    """The value of a run that may leave its process, as a worker executes it."""
    durable, how = engine._durable, engine._how("run", {"run_id": run_id})
    assert durable is not None

    new = wanted(durable.codec, run_id, target, {})
    return await value_of_run(durable, new, engine._beginning(how), unload=unload)


# -- real processes -------------------------------------------------------------------------------


def test_a_wait_goes_on_after_kill_9(tmp_path: Path, nursery: Nursery) -> None:
    """D10, D11: the calls before it are not made again, and the signal is not lost."""
    url, calls_made = f"sqlite:///{tmp_path}/r.db", tmp_path / "calls"

    def started() -> Child:
        environment = {"CALLS": str(calls_made)}
        return nursery.start(flows.__name__, url, "one", "asks", env=environment)

    with closing(open_store(url)) as store:
        process = started()
        while not is_waiting(store, "one"):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert found(store, "one").status is RunStatus.RUNNING
        cs.signal(store, "one", "go", 40)
        assert started().communicate() == ("42\n", "")
    assert calls_made.read_text().split("\n") == ["double 1", "add 2 40", ""]


def is_waiting(store: RunStore, run_id: str) -> bool:
    run = store.find(run_id)
    return run is not None and any(r.kind == "wait" for r in store.load(run.number).records)
