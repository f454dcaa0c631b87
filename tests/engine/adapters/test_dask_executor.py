"""DaskExecutor: values that stay, calls that go together, and workers that are killed for real."""

import asyncio
import gc
import logging
import os
import signal
from pathlib import Path

import pytest
from tests import agents_elsewhere as agents
from tests import remote_tasks as tasks

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.spec.errors import (
    ArgumentError,
    CapacityError,
    ExecutorError,
    RunError,
    SendError,
    ValueLostError,
    WorkerLostError,
)


@pytest.fixture(scope="module")
def dask(dask_cluster):
    with cs.DaskExecutor(dask_cluster) as executor:
        cs.run([tasks.add(n) for n in range(20)], executor=executor)  # it is known to be short
        yield executor


@pytest.fixture
def run(dask):
    return lambda target, **options: cs.run(target, executor=dask, **options)


@pytest.fixture
def turns(dask, monkeypatch):
    """The turns that the cluster is given, as lists of calls."""
    given = []
    send = dask._send

    def sent(turn, inputs):
        given.append([*turn.calls])
        return send(turn, inputs)

    monkeypatch.setattr(dask, "_send", sent)
    return given


@pytest.fixture
def two_workers(dask):
    """Both workers are there. One that was killed starts again, slowly on a busy machine."""
    dask._client.wait_for_workers(2, timeout=280)


def own(path):
    """How often a value came to this process."""
    return tasks.lines(path).count(str(os.getpid()))


# -- values ---------------------------------------------------------------------------------------


def test_a_large_value_stays_where_the_next_call_takes_it(run, path):
    assert run(tasks.size_of(tasks.passes_on(tasks.packs(path)))) == 1 << 17
    assert own(path) == 0


def test_it_stays_for_several_calls_and_in_containers(run, path):
    parcel = tasks.packs(path)
    both = [tasks.size_of(parcel), tasks.size_of([parcel, tasks.passes_on(parcel)])]
    assert run(both) == [1 << 17, [1 << 17, 1 << 17]]
    assert own(path) == 0


def test_it_stays_in_maps_of_maps(run, path):
    parcels = tasks.packs.map(path=[path] * 3)
    assert run(tasks.size_of.map(parcel=tasks.passes_on.map(parcel=parcels))) == [1 << 17] * 3
    assert run(tasks.size_of(tasks.passes_on.map(parcel=parcels))) == [1 << 17] * 3
    assert own(path) == 0


def test_it_comes_here_for_what_needs_it_here(run, path):
    parcel = tasks.packs(path)
    assert run([tasks.size_of(parcel), tasks.size_here(parcel)]) == [1 << 17] * 2
    assert own(path) > 0
    assert run(tasks.passes_on(parcel)).nbytes == 1 << 17
    assert run(tasks.size_of(parcel).run_if(parcel)) == 1 << 17
    assert run(tasks.fails(1).catch(ValueError, tasks.packs(path))).nbytes == 1 << 17


def test_a_tail_call_to_a_task_here_takes_its_arguments_along(run, path):
    assert run(tasks.repacks(tasks.packs(path))) == 1 << 17


def test_values_that_are_recorded_come_here(run, path):
    state = InMemoryStateBackend()
    parcel = tasks.packs(path)
    assert run(tasks.size_of(parcel), state_backend=state) == 1 << 17
    assert state.get_result(parcel.id).nbytes == 1 << 17


def test_no_value_stays_if_none_should(dask_cluster, path):
    with cs.DaskExecutor(dask_cluster, keep_above=None) as executor:
        assert cs.run(tasks.size_of(tasks.packs(path)), executor=executor) == 1 << 17
    assert own(path) > 0


def test_a_value_is_released_when_nothing_needs_it(run, dask, path):
    gc.collect()  # the traceback of an error in another test may hold a value
    run(tasks.size_of(tasks.packs(path)))
    keys = dask._client.cluster.scheduler.tasks if dask._client.cluster else None
    if keys is not None:
        tasks.wait_until(lambda: not [key for key in keys if dask._key in key])


# -- calls that go together -----------------------------------------------------------------------


def chain(length, start=0):
    lazy = tasks.add(start)
    for _ in range(length - 1):
        lazy = tasks.add(lazy)
    return lazy


def test_a_chain_of_short_calls_is_one_call_there(run, turns):
    assert run(chain(40)) == 40
    assert len(turns) < 5


def test_a_chain_ends_with_its_first_error(run, path):
    with pytest.raises(TypeError) as caught:
        run(tasks.add(tasks.add(tasks.add("x", "y"), 1), 1))
    (note,) = caught.value.__notes__
    assert "in task 'add', called at" in note


def test_a_chain_goes_on_here_after_a_lazy_value(run):
    for _ in range(2):
        assert run(tasks.add(tasks.goes_on(tasks.add(1)))) == 6
        assert run(tasks.add(tasks.collatz(tasks.add(26)))) == 112


def test_short_calls_share_turns_and_long_ones_do_not(run, turns):
    run(tasks.add.map(a=range(200)))
    assert len(turns) < 50
    turns.clear()
    run([tasks.naps(0.06) for _ in range(3)])
    run([tasks.naps(0.06) for _ in range(3)])
    assert all(len(calls) == 1 for calls in turns)


# -- workers that end -----------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_workers")
def test_a_call_whose_worker_is_killed_is_a_failed_attempt(run, path):
    with pytest.raises(WorkerLostError, match="during a call of task 'dies_once'") as caught:
        run(tasks.dies_once(path))
    assert caught.value.task == "dies_once"
    assert tasks.lines(path) == ["x"]  # Dask itself would have made it again


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_workers")
def test_a_retry_makes_the_next_attempt(run, path):
    assert run(tasks.dies_once(path).with_retry(2)) == 2


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_workers")
def test_calls_that_have_not_begun_are_made_by_another_worker(run, path, tmp_path):
    other = str(tmp_path / "others")
    calls = [tasks.naps(0.01, other) for _ in range(12)]
    with pytest.raises(ExceptionGroup) as group:
        run([tasks.dies_once(path), *calls], fail_fast=False)
    assert all(isinstance(error, WorkerLostError) for error in group.value.exceptions)
    begun = tasks.lines(other).count("begun")
    assert begun == tasks.lines(other).count("ended")
    assert 12 + 1 - len(group.value.exceptions) <= begun <= 12  # those of its turn may be lost


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_workers")
def test_a_value_that_was_lost_with_its_worker_is_not_computed_again(run, dask, path):
    @cs.task
    async def kills(path):
        await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path) and not dask._active)
        os.kill(int(tasks.lines(path)[0]), signal.SIGKILL)
        await asyncio.sleep(0.1)

    with pytest.raises(ValueLostError, match="the value of task 'packs' was lost"):
        run(tasks.size_of(tasks.packs(path), kills(path)))
    assert len(tasks.lines(path)) == 1


@pytest.mark.thorough
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(5))
def test_random_kills_never_make_a_call_twice(dask, path, seed):
    import random
    import threading

    chance, ends = random.Random(seed), threading.Event()
    pids = set(dask._client.run(os.getpid).values())

    def kill():
        while not ends.wait(0.5 + chance.random()):
            for pid in chance.sample(sorted(pids), 1):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pids.update(dask._client.run(os.getpid).values())

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        calls = tasks.effect.map(path=cs.literal(path), text=range(2000), return_exceptions=True)
        values = cs.run(calls, executor=dask)
    finally:
        ends.set()
        killer.join()
    begun = tasks.lines(path)
    assert len(begun) == len(set(begun))
    for n, value in enumerate(values):
        assert value == n or isinstance(value, WorkerLostError)


def test_capacities_of_the_workers_are_allocated_there(path):
    distributed = pytest.importorskip(
        "distributed", reason="needs distributed: pip install 'cascade-engine[dask]'"
    )
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=False,
            dashboard_address=":0",
            resources={"gpu": 1},
        ) as cluster,
        cs.DaskExecutor(cluster) as executor,
    ):
        calls = [tasks.naps(0.02, f"{path}{n}").with_capacity(gpu=1) for n in range(4)]
        assert cs.run(calls, executor=executor) == ["rested"] * 4
        with pytest.raises(CapacityError, match="'gpu'"):
            cs.run(tasks.add(1).with_capacity(gpu=3), executor=executor)


# -- the rest -------------------------------------------------------------------------------------


def test_what_cannot_be_sent_is_named(run):
    with pytest.raises(SendError, match="argument 'x' of task 'same'"):
        run(tasks.same(tasks.Client()))
    with pytest.raises(SendError, match="the result of task 'gives_lock'"):
        run(tasks.gives_lock())


def test_functions_without_a_name_go_with_what_they_use(run):
    factor = 3
    assert run(cs.task(lambda x: factor * x)(2)) == 6


def test_log_records_of_tasks_come_here(run, caplog):
    run(tasks.logs("of there"))
    tasks.wait_until(lambda: "a word: of there" in caplog.text)
    (record,) = [r for r in caplog.records if r.name == "tests.remote"]
    assert record.levelno == logging.WARNING
    assert record.cascade_task == "logs"
    assert record.worker.startswith("tcp://")


def test_a_record_that_cannot_be_formatted_does_not_fail_its_task(run):
    @cs.task
    def logs_badly(x):
        logging.getLogger("tests.remote").warning("%d", x)
        return x

    assert run(logs_badly("x")) == "x"


async def test_several_engines_share_one(dask):
    async with cs.Engine(executor=dask) as one, cs.Engine(executor=dask) as other:
        calls = [engine.run(chain(5, n)) for n in range(4) for engine in (one, other)]
        assert await asyncio.gather(*calls) == [n + 5 for n in range(4) for _ in range(2)]


def test_a_scheduler_that_is_not_there_is_named():
    with pytest.raises(ExecutorError, match=r"no Dask cluster at tcp://127\.0\.0\.1:9"):
        cs.DaskExecutor("dask://127.0.0.1:9", timeout=0.2)


def test_impossible_options_are_refused():
    with pytest.raises(ArgumentError):
        cs.DaskExecutor(0)
    with pytest.raises(ArgumentError):
        cs.DaskExecutor(1, turn_seconds=-1)
    with pytest.raises(ArgumentError):
        cs.DaskExecutor(1, keep_above=-1)


@pytest.mark.thorough
def test_nothing_is_left_of_a_cluster_of_its_own(path):
    with cs.DaskExecutor(1) as executor:
        pid = cs.run(tasks.where(), executor=executor)
        assert pid != os.getpid()
    with pytest.raises(RunError, match="shut down"):
        cs.run(tasks.where(), executor=executor)
    tasks.wait_until(lambda: not Path(f"/proc/{pid}").exists())


# -- resources ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["in good order", "at once"])
def test_resources_close_with_the_executor(dask_cluster, path, ends):
    @cs.resource(scope="engine")
    def model():
        tasks.note(path, f"open {os.getpid()}")
        yield os.getpid()
        tasks.note(path, f"close {os.getpid()}")

    @cs.task
    def use(x, model=cs.inject(model)):
        return os.getpid(), model

    with cs.DaskExecutor(dask_cluster) as executor:
        made = cs.run(use.map(x=range(20)), executor=executor)
        assert all(pid == of for pid, of in made)
        opened = [f"open {pid}" for pid in dict(made)]
        assert sorted(tasks.lines(path)) == sorted(opened)
        if ends == "at once":  # as when the driver is killed
            executor._client.close()
            tasks.wait_until(lambda: len(tasks.lines(path)) == 2 * len(opened))
    assert sorted(tasks.lines(path)) == sorted([*opened, *(f"close {pid}" for pid in dict(made))])


def test_values_that_stay_are_given_to_calls_with_a_resource_there(run, path):
    @cs.resource(scope="engine")
    def scale():
        yield 2

    @cs.task
    def scaled(parcel, scale=cs.inject(scale)):
        return scale * parcel.nbytes

    assert run(scaled(tasks.packs(path))) == 2 << 17
    assert str(os.getpid()) not in tasks.lines(path)


# -- whole runs: tests/engine/test_hosting_on_clusters.py ------------------------------------------


async def test_a_run_waits_for_the_first_worker(tmp_path, path):
    distributed = pytest.importorskip(
        "distributed", reason="needs distributed: pip install 'cascade-engine[dask]'"
    )
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        cs.DaskExecutor(cluster) as executor,
    ):
        async with cs.Engine(store=f"sqlite:///{tmp_path}/runs.db") as engine:
            run = engine.start(agents.counts(path, 1), on=executor)
            await asyncio.to_thread(tasks.wait_until, lambda: executor._hosts)
            await asyncio.sleep(0.1)
            cluster.scale(1)
            assert await run.result() != os.getpid()
