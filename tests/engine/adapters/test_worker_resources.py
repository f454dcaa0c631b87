"""Resources that worker processes open for the calls that they make."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from tests import remote_tasks as tasks

import cascade as cs
from cascade.adapters.executors import process_slots
from cascade.spec.errors import DefinitionError, ResourceError, SendError


@cs.resource
def of_runs():
    yield 1


@cs.resource(scope="engine")
async def with_a_loop():
    yield 1


@cs.resource(scope="task")
def needs_a_loop(loop=cs.inject(with_a_loop)):
    yield loop


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (of_runs, "the resource 'of_runs' has scope='run'"),
        (with_a_loop, "the resource 'with_a_loop' has an async provider"),
        (needs_a_loop, "'needs_a_loop' needs another one: the resource 'with_a_loop' has an async"),
        (cs.transaction, "cs.transaction is given by the store of the run"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_resources_that_no_worker_can_open_are_refused_as_early_as_possible(wanted, reason):
    with pytest.raises(DefinitionError, match=f"'db' is injected, but .*{reason}"):

        @cs.task(mode="process")
        def query(db=cs.inject(wanted)):
            return db

    @cs.task(mode="process")
    def named(x, db=cs.inject("db")):
        raise AssertionError

    with cs.override_resource("db", wanted):
        for target in (named(1), named.map(x=[1]), tasks.elsewhere(cs.inject(wanted))):
            with pytest.raises(ResourceError, match=f"has mode='process', but .*{reason}"):
                cs.run(target)


def test_a_resource_is_refused_although_other_tasks_may_have_it():
    @cs.task
    def here(db=cs.inject(of_runs)):
        raise AssertionError

    with pytest.raises(ResourceError, match="task 'elsewhere' has mode='process', but"):
        cs.run([here(), tasks.elsewhere(cs.inject(of_runs))])


def test_a_tail_call_to_another_process_with_a_resource_of_the_run_is_refused():
    @cs.task
    def first():
        return tasks.elsewhere.tail(cs.inject(of_runs))

    with pytest.raises(ResourceError, match="has scope='run'"):
        cs.run(first())


def counted(path, scope="engine", **options):
    """A resource whose openings and closings are lines in a file."""

    @cs.resource(scope=scope, **options)
    def model():
        tasks.note(path, f"open {os.getpid()}")
        yield os.getpid()
        tasks.note(path, f"close {os.getpid()}")

    return model


def uses(resource):
    @cs.task(mode="process")
    def use(x=0, model=cs.inject(resource)):
        return os.getpid(), model

    return use


def test_resources_close_with_the_executor(path):
    use = uses(counted(path))
    with cs.ProcessExecutor(2) as pool:
        pids = {pid for _ in range(3) for pid, _ in cs.run(use.map(x=range(20)), executor=pool)}
        assert sorted(tasks.lines(path)) == sorted(f"open {pid}" for pid in pids)
    ends = [f"{kind} {pid}" for pid in pids for kind in ("open", "close")]
    assert sorted(tasks.lines(path)) == sorted(ends)


def test_resources_close_with_a_process_that_is_replaced(path):
    use = uses(counted(path))
    with cs.ProcessExecutor(1, max_calls_per_worker=1) as pool:
        pids = [cs.run(use(), executor=pool)[0] for _ in range(3)]
    assert tasks.lines(path) == [f"{kind} {pid}" for pid in pids for kind in ("open", "close")]


def test_resources_close_with_the_processes_of_an_engine(path):
    pid, _ = cs.run(uses(counted(path))())
    assert tasks.lines(path) == [f"open {pid}", f"close {pid}"]


def test_resources_close_with_the_workers_of_a_pool(path):
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as workers:
        pid, _ = cs.run(uses(counted(path))(), executor=cs.FuturesExecutor(workers))
        assert tasks.lines(path) == [f"open {pid}"]
    assert tasks.lines(path) == [f"open {pid}", f"close {pid}"]


def test_those_who_need_each_other_close_last_opened_first(path):
    @cs.resource(scope="engine")
    def files():
        tasks.note(path, "open files")
        yield 1
        tasks.note(path, "close files")

    @cs.resource(scope="engine")
    def index(files=cs.inject("files")):
        tasks.note(path, f"open index of {files}")
        yield 2
        tasks.note(path, "close index")

    @cs.resource(scope="task")
    def cursor(index=cs.inject(index), files=cs.inject(files)):
        tasks.note(path, f"open cursor of {index + files}")
        yield 3
        tasks.note(path, "close cursor")

    @cs.task(mode="process")
    def query(cursor=cs.inject(cursor)):
        tasks.note(path, f"query {cursor}")

    with cs.ProcessExecutor(1) as pool:
        cs.run([query(), query()], executor=pool, resources=[files])
    once = ["open cursor of 3", "query 3", "close cursor"]
    start, end = ["open files", "open index of 1"], ["close index", "close files"]
    assert tasks.lines(path) == [*start, *once, *once, *end]


def test_a_process_that_takes_too_long_to_close_is_killed(path, monkeypatch):
    @cs.resource(scope="engine", teardown_timeout=0.2)
    def slow():
        yield 1
        tasks.note(path, "closing")
        time.sleep(60)

    monkeypatch.setattr(process_slots, "_PATIENCE", 0.1)
    with cs.ProcessExecutor(1) as pool:
        pid, _ = cs.run(uses(slow)(), executor=pool)
    assert tasks.lines(path) == ["closing"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_opening_does_not_count_as_the_duration_of_a_call(path):
    @cs.resource(scope="engine")
    def model():
        time.sleep(0.3)
        yield 1

    use = uses(model)
    with cs.ProcessExecutor(1) as pool:
        cs.run(use(), executor=pool)
        (seconds,) = pool._pool._turns._seconds.values()
    assert seconds < 0.3


def test_an_override_travels(path):
    use = uses(counted(path))

    def fake():
        yield "a fake"

    with cs.override_resource("model", fake):
        assert cs.run(use())[1] == "a fake"
    assert tasks.lines(path) == []


def test_a_provider_that_cannot_be_sent_names_its_part():
    lock = threading.Lock()

    @cs.resource(scope="engine")
    def locked():
        yield lock

    with pytest.raises(SendError, match=r"the resource 'locked'.*cannot be sent"):
        cs.run(uses(locked)())
