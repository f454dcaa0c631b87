"""``engine.serve()``: workers claim what is due, take over from the dead, and hand over."""

import asyncio
import importlib
import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.engine.durable import flows_served as flows
from tests.engine.durable.nursery import Child, Nursery
from tests.engine.durable.tasks import add, calls

import cascade as cs
from cascade.graph.codec import Codec
from cascade.runtime import durable_methods
from cascade.runtime.durable.stored_options import stored_options
from cascade.spec.errors import (
    ArgumentError,
    DeadlineError,
    RunCancelledError,
    RunConflictError,
    RunError,
    StepLimitError,
    TaskNotImportedError,
)
from cascade.spec.run_rows import Lease, RunStatus


@cs.task
def fragile(n: int) -> int:
    calls["fragile"] += 1
    raise ValueError(f"no {n}")


gates: dict[str, asyncio.Event] = {}


@cs.task
async def gated(n: int) -> int:
    """Tell that it has begun, and wait until it may go on."""
    calls[f"gated {n}"] += 1
    gates["begun"].set()
    await gates["go on"].wait()
    return n


@pytest.fixture(autouse=True)
def new_gates():
    gates.update({"begun": asyncio.Event(), "go on": asyncio.Event()})


@asynccontextmanager
async def serving(store, count=1, **options):
    """So many engines that serve, until the end of the block."""
    stop = asyncio.Event()
    engines = [cs.Engine(store=store) for _ in range(count)]
    works = [asyncio.ensure_future(engine.serve(stop=stop, **options)) for engine in engines]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.gather(*works)
        for engine in engines:
            await engine.close()


async def test_a_notebook_shows_what_the_store_knows_of_a_run(store):
    handle = cs.enqueue(store, fragile(1), run_id="run")
    shown = handle._repr_mimebundle_()
    assert shown["text/plain"] == repr(handle) == "<StoredRun run of 'fragile'>"
    assert shown["text/html"].startswith("<p>fragile, run run: enqueued, created ")
    async with serving(store):
        with pytest.raises(ValueError, match="no 1"):
            await handle.result()
    html = handle._repr_mimebundle_()["text/html"]
    assert html.startswith("<p>fragile, run run: failed after ")
    assert "<br>ValueError: no 1<br>cascade: in task &#x27;fragile&#x27;, called at " in html
    other = type(handle)(store, handle._codec, "another", "fragile")
    assert "has no run &#x27;another&#x27;" in other._repr_mimebundle_()["text/html"]


async def test_a_worker_executes_what_was_enqueued_before_and_after(store):
    before = cs.enqueue(store, add(1, 2))
    async with serving(store):
        assert await before.result() == 3
        after = await cs.enqueue_async(store, add(add(1, 2), 4), run_id="sum")
        assert await after.result() == 7
    assert (after.run_id, after.target, after.status) == ("sum", "add", "succeeded")
    assert calls["add"] == 3


async def test_of_several_workers_one_gets_each_run(store):
    handles = [cs.enqueue(store, add(n, n)) for n in range(40)]
    async with serving(store, 3, max_runs=4):
        assert [await handle.result() for handle in handles] == [2 * n for n in range(40)]
    assert calls["add"] == 40


async def test_a_second_enqueue_of_an_id_creates_nothing(store):
    """D1."""
    first = cs.enqueue(store, add(1, 2), run_id="sum")
    second = cs.enqueue(store, add(1, 2), run_id="sum")
    async with serving(store):
        assert await first.result() == await second.result() == 3
    assert calls["add"] == 1
    with pytest.raises(cs.errors.RunConflictError, match="'add' has other arguments"):
        cs.enqueue(store, add(1, 3), run_id="sum")


async def test_parameters_are_part_of_the_run(store):
    target = add(cs.Param("n", type=int), 1)
    handle = cs.enqueue(store, target, run_id="sum", params={"n": 4})
    with pytest.raises(cs.errors.RunConflictError, match=r"other parameters: \{'n': 4\}"):
        cs.enqueue(store, target, run_id="sum", params={"n": 5})
    async with serving(store):
        assert await handle.result() == 5


async def test_a_run_waits_for_its_time(store):
    cs.enqueue(store, add(1, 2), run_id="late", at=4e9)
    soon = cs.enqueue(store, add(1, 2), run_id="soon", at=1.0)
    async with serving(store):
        await soon.result()
    assert store.find("late").status is RunStatus.ENQUEUED


async def test_runs_begin_by_priority(store):
    order = []

    def note(event):
        order.append(event.run_id)

    low = cs.enqueue(store, add(1, 2), run_id="low", priority=-5)
    high = cs.enqueue(store, add(1, 3), run_id="high", priority=5)
    async with cs.Engine(store=store) as engine:
        engine.bus.subscribe(cs.events.RunStarted, note)
        stop = asyncio.Event()
        work = asyncio.ensure_future(engine.serve(max_runs=1, stop=stop))
        await low.result()
        await high.result()
        stop.set()
        await work
    assert order == ["high", "low"]


async def test_the_error_of_a_run_is_that_of_its_handle(store, caplog):
    handle = cs.enqueue(store, fragile(7), run_id="one")
    async with serving(store):
        with pytest.raises(ValueError, match="no 7"):
            await handle.result()
        async with asyncio.timeout(20):
            while "run 'one' of 'fragile' failed: ValueError: no 7" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the store knew it first
    assert handle.status == "failed"


async def test_a_run_is_cancelled_by_its_handle(store):
    waiting = cs.enqueue(store, gated(1), run_id="waiting")
    async with serving(store, max_runs=1):
        await gates["begun"].wait()
        queued = cs.enqueue(store, add(1, 2), run_id="queued")
        assert queued.cancel()
        assert queued.status == "cancelled"
        assert waiting.cancel()
        for handle in (queued, waiting):
            with pytest.raises(RunCancelledError, match=f"'{handle.run_id}' was cancelled"):
                await handle.result()
            assert not handle.cancel()
    assert calls == {"gated 1": 1}


async def test_a_stopped_worker_hands_its_runs_over(store):
    handle = cs.enqueue(store, add(gated(1), add(1, 1)), run_id="one")
    async with serving(store):
        await gates["begun"].wait()
    run = store.find("one")
    assert (run.status, run.epoch, run.owner) == (RunStatus.ENQUEUED, 1, None)
    gates["go on"].set()
    async with serving(store):
        assert await handle.result() == 3
    assert store.find("one").epoch == 2
    assert calls["gated 1"] == 2


async def test_a_cancelled_worker_hands_its_runs_over(store):
    cs.enqueue(store, gated(1), run_id="one")
    async with cs.Engine(store=store) as engine:
        work = asyncio.ensure_future(engine.serve())
        await gates["begun"].wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert store.find("one").status is RunStatus.ENQUEUED


async def test_the_end_of_the_engine_stops_its_worker(store):
    cs.enqueue(store, gated(1), run_id="one")
    async with cs.Engine(store=store) as engine:
        work = asyncio.ensure_future(engine.serve())
        await gates["begun"].wait()
    assert store.find("one").status is RunStatus.ENQUEUED
    await work


async def test_a_run_that_waits_for_a_signal_leaves_its_worker(store):
    """D10."""
    news = asyncio.Event()
    loop = asyncio.get_running_loop()
    unsubscribe = store.subscribe(lambda: loop.call_soon_threadsafe(news.set))
    handle = cs.enqueue(store, add(add(1, 2), cs.wait_for("more")), run_id="one")
    async with serving(store, max_runs=1):
        while handle.status != "suspended":
            await news.wait()
            news.clear()
        # It takes no place, and the call before the wait is not made again.
        assert await cs.enqueue(store, add(10, 20)).result() == 30
        cs.signal(store, "one", "more", 4)
        assert await handle.result() == 7
    unsubscribe()
    assert calls["add"] == 3
    assert store.find("one").epoch == 2


async def test_a_run_whose_lease_is_over_is_taken_over(store):
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    store.claim_run("one", Lease("elsewhere", 0))
    async with serving(store):
        assert await handle.result() == 3
    assert store.find("one").epoch == 2


@pytest.fixture(scope="module")
def dead_owner() -> str:
    """The name of a process that has ended."""
    program = "from cascade.adapters.processes import own_name; print(own_name())"
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return died.stdout.decode().strip()


async def test_the_lease_of_a_process_that_has_died_is_over_at_once(store, dead_owner):
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    store.claim_run("one", Lease(dead_owner, 3600))
    async with serving(store):
        assert await handle.result() == 3


async def test_a_run_that_makes_no_progress_is_dead(store, caplog):
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    for _ in range(3):
        store.claim_run("one", Lease("elsewhere", 0))
    async with serving(store, max_recoveries=3):
        with pytest.raises(RunConflictError, match="was claimed 3 times without any progress"):
            await handle.result()
    assert handle.status == "dead"
    assert calls["add"] == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder with a module that nothing has imported."""
    (tmp_path / "unknown_to_a_worker.py").write_text(
        "import cascade as cs\n\n@cs.task\ndef order(n):\n    return 2 * n\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("unknown_to_a_worker", None)
    yield tmp_path
    sys.modules.pop("unknown_to_a_worker", None)


async def _logged(text, caplog):
    """Runs may be claimed together, and a worker that stops hands over those not yet refused."""
    async with asyncio.timeout(20):
        while text not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("folder")
async def test_a_run_of_an_unknown_module_is_left_to_others(store, caplog):
    import unknown_to_a_worker as orders  # type: ignore[import-not-found]

    skipped = [cs.enqueue(store, orders.order(n), run_id=f"skipped {n}") for n in range(3)]
    del sys.modules["unknown_to_a_worker"]
    async with serving(store):
        assert await cs.enqueue(store, add(1, 2), priority=-100).result() == 3
        await _logged("are left to other", caplog)
    assert [handle.status for handle in skipped] == ["enqueued"] * 3
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "all that need the module 'unknown_to_a_worker', are left to other" in told[0].message
    async with serving(store, modules=["unknown_to_a_worker"]):
        assert [await handle.result() for handle in skipped] == [0, 2, 4]


@cs.task
def plan(n: int):
    return importlib.import_module("unknown_to_a_worker").slow_order(n)


async def test_a_run_whose_record_names_an_unknown_module_is_left_to_others(store, folder, caplog):
    file = folder / "unknown_to_a_worker.py"
    slow = "import asyncio\n\n@cs.task\nasync def slow_order(n):\n    {}\n    return 2 * n\n"
    text = file.read_text()
    file.write_text(text + slow.format("begun.set()\n    await asyncio.sleep(3600)"))
    orders = importlib.import_module("unknown_to_a_worker")
    orders.begun = asyncio.Event()
    async with cs.Engine(store=store) as engine:
        run = asyncio.ensure_future(engine.run(plan(3), run_id="one"))
        await orders.begun.wait()
        run.cancel()
        await asyncio.wait([run])
    file.write_text(text + slow.format("pass") + "# another size\n")
    importlib.invalidate_caches()
    del sys.modules["unknown_to_a_worker"]
    async with serving(store):
        assert await cs.enqueue(store, add(1, 2), priority=-100).result() == 3
        told = "all that need the module 'unknown_to_a_worker', are left to other"
        await _logged(told, caplog)
    assert store.find("one").status is RunStatus.ENQUEUED
    async with cs.Engine(store=store) as engine:
        with pytest.raises(TaskNotImportedError):
            await engine.resume("one")
    assert store.find("one").status is RunStatus.ENQUEUED
    async with serving(store, modules=["unknown_to_a_worker"]):
        async with asyncio.timeout(20):
            while store.find("one").status is not RunStatus.SUCCEEDED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


held: dict[str, asyncio.Event] = {}


@cs.task
async def endless(n: int):
    if n == 0 and not held["first"].is_set():
        held["first"].set()
        await asyncio.sleep(3600)
    return endless.tail(n + 1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_steps": 50}, StepLimitError),
        ({"max_rounds": 50}, StepLimitError),
        ({"deadline": 3600}, DeadlineError),
    ],
)
async def test_options_hold_for_the_worker_that_takes_a_run_over(
    store, options, error, monkeypatch
):
    """Of the deadline, what is left since the run was created."""
    held["first"] = asyncio.Event()
    async with cs.Engine(store=store) as engine:
        work = engine.run(endless(0), run_id="one", use_vm=True, **options)
        run = asyncio.ensure_future(work)
        await held["first"].wait()
        run.cancel()
        await asyncio.wait([run])
    monkeypatch.setattr(durable_methods, "time", lambda: time.time() + 7200)
    async with serving(store):
        async with asyncio.timeout(20):
            while store.find("one").status is not RunStatus.FAILED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    loaded = store.load(store.find("one").number)
    assert isinstance(Codec().loads(loaded.result), error)
    assert stored_options(loaded.code) == {"use_vm": True, **options}


async def test_old_runs_are_deleted_by_who_serves(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(add(1, 2), run_id="old")
        with pytest.raises(ValueError, match="no 1"):
            await engine.run(fragile(1), run_id="old failure")
    async with cs.Engine(store=store, retention={"succeeded": 0, "failed": "1d"}) as engine:
        stop = asyncio.Event()
        work = asyncio.ensure_future(engine.serve(stop=stop))
        while store.find("old") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stop.set()
        await work
    assert store.find("old failure") is not None


@pytest.mark.parametrize(
    ("retention", "said"),
    [
        ({"succeded": "7d"}, r"no status 'succeded' \(did you mean 'succeeded'\?\)"),
        ({"running": "7d"}, "no status 'running'; it has cancelled, dead, failed, succeeded"),
        ({"failed": "soon"}, "retention of failed runs takes an age such as '12h'"),
        ("7d", "takes ages by status"),
    ],
)
def test_a_wrong_retention_is_refused(retention, said):
    with pytest.raises(ArgumentError, match=said):
        cs.Engine(retention=retention)


def test_what_other_processes_cannot_read_is_not_enqueued(store):
    @cs.task
    def local() -> int:
        return 1

    with pytest.raises(cs.errors.SerializationError, match="node 'local'"):
        cs.enqueue(store, local())
    assert store.runs() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at": "tomorrow"}, "at takes a datetime with a time zone"),
        ({"priority": 1.5}, "priority takes an int"),
        ({"prioritty": 1}, "has no option 'prioritty' .did you mean 'priority'"),
        ({"params": {"n": 1}}, "no Param|no parameter"),
    ],
)
def test_wrong_options_are_refused(store, options, said):
    with pytest.raises(cs.CascadeError, match=said):
        cs.enqueue(store, add(1, 2), **options)
    assert store.runs() == []


async def test_an_engine_without_a_store_cannot_serve():
    async with cs.Engine() as engine:
        with pytest.raises(RunError, match=r"engine\.serve\(\) needs a store"):
            await engine.serve()


# -- processes ------------------------------------------------------------------------------------


class Place:
    """A folder with the store, the file of calls, and the file that lets tasks go on."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.url = f"sqlite:///{folder}/runs.db?synchronous=normal"
        self.calls = folder / "calls"
        self.go = folder / "go"
        self.env = {"CALLS": str(self.calls), "GO": str(self.go)}
        self.workers: list[Child] = []
        self._nursery = nursery

    def worker(self) -> Child:
        worker = self._nursery.start(flows.__name__, self.url, env=self.env)
        self.workers.append(worker)
        return worker

    def lines(self) -> list[tuple[int, str]]:
        text = self.calls.read_text() if self.calls.exists() else ""
        split = [line.partition(" ") for line in text.splitlines()]
        return [(int(pid), called) for pid, _, called in split]

    async def until(self, *wanted: str) -> None:
        """Wait until these calls were made."""
        while not {called for _, called in self.lines()}.issuperset(wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path, nursery: Nursery) -> Iterator[Place]:
    place = Place(tmp_path, nursery)
    yield place
    for worker in place.workers:
        worker.kill()
        worker.communicate()


async def test_a_worker_goes_on_where_another_was_killed(place: Place):
    """D2, D3: only the call in flight is made again."""
    handle = cs.enqueue(place.url, flows.wait(flows.load(1)), run_id="one")
    first = place.worker()
    await place.until("wait 1")
    second = place.worker()
    first.kill()
    first.wait()
    place.go.touch()
    assert await handle.result() == 2
    assert [line for line in place.lines() if line[1] != "serves"] == [
        (first.pid, "load 1"),
        (first.pid, "wait 1"),
        (second.pid, "wait 1"),
    ]


async def test_sigterm_hands_the_runs_over(place: Place):
    handle = cs.enqueue(place.url, flows.wait(flows.load(1)), run_id="one")
    first = place.worker()
    await place.until("wait 1")
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    assert (first.pid, "stopped") in place.lines()
    assert handle.status == "enqueued"
    second = place.worker()
    place.go.touch()
    assert await handle.result() == 2
    assert (second.pid, "wait 1") in place.lines()
    assert Counter(called for _, called in place.lines())["load 1"] == 1


async def test_a_run_that_kills_its_workers_is_dead_at_last(place: Place):
    handle = cs.enqueue(place.url, flows.die(1), run_id="poison")
    for _ in range(3):
        place.worker().wait()
    deaths = [pid for pid, called in place.lines() if called == "die 1"]
    assert deaths == [worker.pid for worker in place.workers]
    place.worker()
    with pytest.raises(RunConflictError, match="was claimed 3 times without any progress"):
        await handle.result()


async def test_a_run_whose_code_has_changed_is_left_to_other_workers(
    store, folder, monkeypatch, caplog
):
    """D9: with ``on_code_change="refuse"`` it would be refused at each claim."""
    import unknown_to_a_worker as orders

    cs.enqueue(store, orders.order(1), run_id="old")
    store.claim_run("old", Lease("a worker that has died", 0))
    file = folder / "unknown_to_a_worker.py"
    file.write_text(file.read_text().replace("2 * n", "n + 1000"))
    importlib.reload(orders)
    claims = []
    claim = store.claim

    def noted(*args, **options):
        found = claim(*args, **options)
        claims.extend(run.run_id for run in found)
        return found

    monkeypatch.setattr(store, "claim", noted)
    stop = asyncio.Event()
    async with cs.Engine(store=store, on_code_change="refuse") as engine:
        worker = asyncio.ensure_future(engine.serve(stop=stop))
        async with asyncio.timeout(20):
            while "is not for this worker" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        later = cs.enqueue(store, orders.order(2), run_id="new")
        assert await later.result() == 1002
        stop.set()
        await worker
    assert claims == ["old", "new"]
    assert store.find("old").status is RunStatus.ENQUEUED
    assert "run 'old' of 'order' is not for this worker: run 'old' began with other" in caplog.text
