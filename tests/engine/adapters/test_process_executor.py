"""ProcessExecutor: its processes, and what happens when they end. Kills are real."""

import asyncio
import gc
import importlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from tests import remote_tasks as tasks
from tests.processes import is_running

import cascade as cs
from cascade.adapters.executors.process import usable_cores
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import TaskRetrying
from cascade.spec.errors import (
    ArgumentError,
    ExecutorError,
    ResourceError,
    RunError,
    SendError,
    TaskTimeoutError,
    WorkerLostError,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pool():
    with cs.ProcessExecutor(2) as pool:
        cs.run([tasks.naps(0) for _ in range(4)], executor=pool)  # its threads start
        yield pool


@pytest.fixture
def run(pool):
    return lambda target, **options: cs.run(target, executor=pool, **options)


# -- what it is given -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_workers": 0}, "max_workers must be an int ≥ 1"),
        ({"threads_per_worker": 0}, "threads_per_worker must be an int ≥ 1"),
        ({"max_calls_per_worker": 0}, "max_calls_per_worker must be an int ≥ 1"),
        ({"start_method": "fork"}, "start_method must be 'forkserver' or 'spawn'.*but is 'fork'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        cs.ProcessExecutor(**options)


def test_no_process_is_started_before_the_first_call():
    with cs.ProcessExecutor() as pool:
        assert pool.max_workers == usable_cores()
        assert pool.pids == []


def test_an_engine_takes_threads_beside_it(pool):
    assert cs.run(tasks.add(1), executor=pool, threads=2) == 2


def test_an_unknown_name_of_an_executor_is_refused():
    with pytest.raises(ExecutorError, match="str, which has no submit"):
        cs.run(tasks.add(1), executor="dask")


def test_calls_after_the_end_are_refused():
    pool = cs.ProcessExecutor(1)
    pool.shutdown()
    with pytest.raises(RunError, match="the executor has been shut down"):
        cs.run(tasks.add(1), executor=pool)


def test_a_resource_as_argument_is_refused_before_the_run(path):
    @cs.resource
    def db():
        tasks.note(path)
        yield 1

    with pytest.raises(ResourceError, match="'process', but the resource 'db' has scope='run'"):
        cs.run(tasks.elsewhere(cs.inject(db)), resources=[db])
    assert tasks.lines(path) == []


def test_tasks_with_resources_stay_in_the_driver(pool):
    @cs.resource
    def lock():
        yield threading.Lock()

    @cs.task
    def use(x, lock=cs.inject(lock)):
        with lock:
            return os.getpid(), x

    pid, there = cs.run(use(tasks.where()), executor=pool, resources=[lock])
    assert pid == os.getpid() != there


async def test_calls_that_wait_for_a_worker_are_listed(path):
    with cs.ProcessExecutor(1) as pool:
        async with cs.Engine(executor=pool) as engine:
            run = engine.start([tasks.naps(0.3, path), tasks.same(1), tasks.same(2)])
            await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path))
            waiting = engine.waiting(inputs=False)
            await run.result()
            assert engine.waiting() == []
    assert [(one.task, one.reason, one.holders) for one in waiting] == [
        ("same", "worker process", ("naps",))
    ] * 2
    assert all(one.node and one.since is not None for one in waiting)


def test_libraries_that_the_main_module_imports_have_one_thread_as_well(tmp_path):
    """They read the variables when they are imported; threadpoolctl is hidden before."""
    pytest.importorskip("numpy", reason="needs numpy: pip install numpy")
    pytest.importorskip("threadpoolctl", reason="needs threadpoolctl: pip install threadpoolctl")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            sys.modules["threadpoolctl"] = None
            import numpy
            import cascade as cs

            @cs.task(mode="process")
            def threads():
                sys.modules.pop("threadpoolctl")
                import threadpoolctl
                return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

            if __name__ == "__main__":
                found = threads.func()
                sys.modules["threadpoolctl"] = None
                print(cs.run(threads()), len(found))
            """)
    )
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.endswith("_THREADS")},
        check=True,
    )
    found, count = done.stdout.rsplit(maxsplit=1)
    assert found == str([1] * int(count))
    assert int(count) > 0


# -- mode="process" -------------------------------------------------------------------------------


async def test_the_mode_starts_processes_for_its_tasks_only():
    async with cs.Engine() as engine:
        assert await engine.run(tasks.where()) == os.getpid()
        assert not engine._lending.elsewhere.is_started
        pids = {pid for pid, _ in await engine.run(tasks.elsewhere.map(x=range(40)))}
        assert os.getpid() not in pids
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))


async def test_the_mode_on_both_paths_and_in_programs(pool):
    async with cs.Engine(executor=pool) as engine:
        target = tasks.same(tasks.long_loop(5000))
        assert await engine.run(target) == await engine.run(target, use_vm=True) == 0
        program = engine.compile(tasks.elsewhere(cs.Param("x", type=int)))
        (pid, x) = await program.run(x=3)
        assert pid != os.getpid()
        assert x == 3
        loop = engine.compile(tasks.long_loop(10))
        assert [await loop.run(n=n) for n in (0, 5, 300)] == [0, 0, 0]


async def test_a_blueprint_that_was_written_by_hand(pool):
    async with cs.Engine(executor=pool) as engine:
        blueprint = BlueprintBuilder().build(tasks.same(tasks.elsewhere(tasks.where())))
        engine.register_blueprint("same", blueprint)
        go = cs.task(name="go", mode="inline")(lambda: cs.TailCall(target_blueprint_id="same"))
        assert {*await engine.run(go())} <= {*pool.pids}


def test_a_loop_is_made_in_the_worker(pool, path):
    """It comes back now and then, so that it can be steered and counted."""
    made = []
    original = pool._pool.submit
    pool._pool.submit = lambda call: (made.append(call), original(call))
    try:
        assert cs.run(tasks.long_loop(20_000, path), executor=pool) == 0
    finally:
        pool._pool.submit = original
    assert tasks.lines(path) == [str(n) for n in range(20_000, -1, -1000)]
    assert len(made) < 200


def test_steps_of_a_worker_count(pool):
    seen = []
    bus = MessageBus()
    bus.subscribe(cs.events.StepsMade, lambda event: seen.append(event.steps))
    cs.run(tasks.long_loop(20_000), executor=pool, bus=bus, step_interval=0.001)
    assert seen == sorted(seen)
    assert seen[-1] <= 20_000


# -- what cannot be sent --------------------------------------------------------------------------


def test_the_part_of_an_argument_that_cannot_be_sent_is_named(run):
    with pytest.raises(SendError) as caught:
        run(tasks.same({"config": [1, {"client": tasks.Client()}]}))
    place = "argument 'x' of task 'same'['config'][1]['client'].pool['main']"
    assert caught.value.place == place
    assert str(caught.value).startswith(f"{place} cannot be sent to another process: it is a _thr")
    assert isinstance(caught.value, (pickle.PicklingError, TypeError))


def test_so_is_that_of_a_result(run):
    with pytest.raises(SendError) as caught:
        run(tasks.gives_lock())
    assert caught.value.place == "the result of task 'gives_lock'['a'][0]"


def test_so_is_that_of_a_function(run):
    lock = threading.Lock()
    with pytest.raises(SendError, match="the variable 'lock' of task 'held' cannot be sent"):
        run(cs.task(name="held")(lambda: lock)())


def test_functions_without_a_name_go_with_what_they_use(run):
    by = 3
    assert run(cs.task(name="times")(lambda x: x * by)(4)) == 12


def test_local_loops_and_tasks_that_call_each_other_go_by_value(run):
    @cs.task
    def down(n, total=0):
        return total if n == 0 else down.tail(n - 1, total=total + n)

    @cs.task
    def twice(n):
        return down(n + n)

    assert run(down(300)) == 45150
    assert run(twice(3)) == 21


def test_a_module_that_the_worker_cannot_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text(
        "import cascade as cs\n@cs.task\ndef late(): return 1\n", encoding="utf-8"
    )
    message = "task 'late' cannot be read in a worker process: ModuleNotFoundError"
    with cs.ProcessExecutor(1) as pool:
        cs.run(tasks.add(1), executor=pool)
        monkeypatch.syspath_prepend(tmp_path)  # in this process only: the worker has started
        late = importlib.import_module("late_module").late

        with pytest.raises(SendError, match=message):
            cs.run(late(), executor=pool)


# -- processes that end ---------------------------------------------------------------------------


def test_a_call_whose_process_ends_is_a_failed_attempt(run, path):
    with pytest.raises(WorkerLostError, match="'dies' has ended with exit code 3") as caught:
        run(tasks.dies(path))
    assert (caught.value.task, caught.value.exit_code) == ("dies", 3)
    assert tasks.lines(path) == ["x"]  # once
    assert run(tasks.add(1)) == 2


@pytest.mark.posix
def test_a_kill_is_named(run, path):
    with pytest.raises(WorkerLostError, match="killed by SIGKILL; was the system out of memory"):
        run(tasks.dies_at(1, 1, path))
    assert tasks.lines(path) == ["1"]


def test_a_retry_makes_the_next_attempt(run, path):
    bus_events = []
    bus = MessageBus()
    bus.subscribe(TaskRetrying, bus_events.append)
    assert run(tasks.dies_once(path).with_retry(2), bus=bus) == 2
    assert [type(event.error) for event in bus_events] == [WorkerLostError]


def test_of_a_turn_of_calls_only_the_one_that_ran_is_lost(run, path):
    """Those that were done are done; those that had not begun are made by another process."""
    for _ in range(2):
        run([tasks.dies_at(n, -1, path) for n in range(50)])  # now their durations are known
    Path(path).unlink()
    values = run(
        tasks.dies_at.map(
            n=range(200), at=cs.literal(77), path=cs.literal(path), return_exceptions=True
        )
    )
    assert isinstance(values[77], WorkerLostError)
    assert [v for v in values if not isinstance(v, Exception)] == [n for n in range(200) if n != 77]
    assert sorted(map(int, tasks.lines(path))) == [*range(200)]  # each begun once


@pytest.mark.thorough
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(30))
def test_random_kills_never_make_a_call_twice(pool, path, seed):
    chance = random.Random(seed)
    ends = threading.Event()

    def kill():
        while not ends.wait(chance.random() * 0.2):
            for pid in chance.sample(pool.pids, min(1, len(pool.pids))):
                try:
                    os.kill(pid, tasks.KILL)
                except ProcessLookupError:
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        calls = tasks.elsewhere_once.map(
            path=cs.literal(path), n=range(3000), return_exceptions=True
        )
        values = cs.run(calls, executor=pool)
    finally:
        ends.set()
        killer.join()
    begun = tasks.lines(path)
    assert len(begun) == len(set(begun))
    for n, value in enumerate(values):
        assert value == n or isinstance(value, (WorkerLostError, ExecutorError))
        # An ExecutorError says that several processes were killed before they began the call; a
        # call that is lost has begun, but may not have come to its effect.
        if not isinstance(value, WorkerLostError):
            assert (str(n) in begun) == (value == n)


def test_a_process_that_is_killed_while_it_is_idle_costs_nothing(run, pool):
    run(tasks.add(1))
    for pid in pool.pids:
        os.kill(pid, tasks.KILL)
        tasks.wait_until(lambda pid=pid: not is_running(pid))
    assert run([tasks.add(n) for n in range(4)]) == [1, 2, 3, 4]


def test_a_timeout_ends_the_process_and_the_pool_works_on(run, pool, path):
    run(tasks.add(1))
    with pytest.raises(TaskTimeoutError):
        run(tasks.naps(60, path).with_timeout(0.1))
    assert tasks.lines(path) == ["begun"]
    assert run(tasks.add(1)) == 2


def test_a_timeout_with_a_retry(run, path):
    with pytest.raises(TaskTimeoutError):
        run(tasks.naps(60, path).with_timeout(0.1).with_retry(2))
    assert tasks.lines(path) == ["begun"] * 2


async def test_a_second_cancel_ends_calls_that_have_begun(pool, path):
    async with cs.Engine(executor=pool) as engine:
        work = asyncio.ensure_future(engine.run(tasks.naps(60, path)))
        await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path))
        work.cancel()
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert await engine.run(tasks.add(1)) == 2
    assert tasks.lines(path) == ["begun"]


def test_processes_are_replaced_after_some_calls(path):
    with cs.ProcessExecutor(1, max_calls_per_worker=2) as pool:
        pids = [cs.run(tasks.where(), executor=pool) for _ in range(5)]
    assert len(set(pids)) == 3


def test_modules_are_preloaded():
    with cs.ProcessExecutor(1, preload=["colorsys"]) as pool:
        assert cs.run(cs.task(name="ask")(lambda: "colorsys" in sys.modules)(), executor=pool)


# -- runs inside of workers -----------------------------------------------------------------------


def test_a_run_inside_of_a_call_is_refused_as_in_any_task(run):
    with pytest.raises(RunError, match="was called inside a task"):
        run(tasks.runs_inside())


def test_an_engine_inside_of_a_call_works_with_threads(run):
    assert run(tasks.async_inside()) == 2


def test_an_engine_inside_of_a_call_starts_no_processes_by_itself(run):
    with pytest.raises(ExecutorError, match="starts no further ones by itself"):
        run(_nested())


@cs.task
def _nested():
    return asyncio.run(cs.run_async(tasks.elsewhere(1)))


# -- durable runs ---------------------------------------------------------------------------------


async def test_durable_runs_record_what_workers_have_computed(pool, path, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    effect = tasks.effect(path, 5)
    target = tasks.add(effect, tasks.flaky(f"{path}2", 1).after(effect))
    async with cs.Engine(executor=pool, store=store) as engine:
        with pytest.raises(ConnectionError):
            await engine.run(target, run_id="one")
    async with cs.Engine(executor=pool, store=store) as engine:
        assert await engine.resume("one") == 7
        assert await engine.run(target, run_id="one") == 7
        loop = await engine.run(tasks.counts_down(20, f"{path}3"), run_id="two")
    assert loop == 0
    assert len(tasks.lines(f"{path}3")) == 21
    assert tasks.lines(path) == ["5"]


# -- programs that end ----------------------------------------------------------------------------


def script(tmp_path, text, name="script.py"):
    file = tmp_path / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


@pytest.fixture
def temporary():
    """A folder for temporary files with a short name: sockets have names of 107 bytes at most."""
    folder = tempfile.mkdtemp(dir="/tmp" if os.path.isdir("/tmp") else None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def in_process(file, *arguments, temporary):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": temporary}
    return subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


def left_of(process):
    """The processes of its session that still run."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(process.pid)], capture_output=True, text=True
    )
    return [line for line in found.stdout.splitlines() if " Z" not in line]


def shared_memory():
    folder = Path("/dev/shm")
    return set(os.listdir(folder)) if folder.exists() else set()


def _ours(names):
    return [name for name in names if name.startswith(("pym-", "sem.mp", "psm_"))]


LONG = """
    import os, sys, time
    import cascade as cs

    @cs.task(mode="process")
    def nap(path, seconds):
        with open(path, "a") as file:
            file.write("x\\n")
        time.sleep(seconds)
        return seconds

    if __name__ == "__main__":
        naps = [nap(sys.argv[1], float(sys.argv[2])) for _ in range(2)]
        cs.run(naps, executor=cs.ProcessExecutor(2))
        print("done")
"""


def test_nothing_is_left_of_a_program_that_ends(tmp_path, path, temporary):
    before = shared_memory()
    process = in_process(script(tmp_path, LONG), path, 0, temporary=temporary)
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("done\n", "")
    tasks.wait_until(lambda: not left_of(process))
    assert os.listdir(temporary) == []
    assert not _ours(shared_memory() - before)


def test_nothing_is_left_of_a_driver_that_is_killed(tmp_path, path, temporary):
    before = shared_memory()
    process = in_process(script(tmp_path, LONG), path, 600, temporary=temporary)
    tasks.wait_until(lambda: len(tasks.lines(path)) == 2)
    process.kill()
    process.wait()
    tasks.wait_until(lambda: not left_of(process))
    tasks.wait_until(lambda: os.listdir(temporary) == [])
    assert not _ours(shared_memory() - before)
    process.stdout.close()
    process.stderr.close()


@pytest.mark.posix
def test_ctrl_c_is_for_the_driver_only(tmp_path, path, temporary):
    process = in_process(script(tmp_path, LONG), path, 0.5, temporary=temporary)
    tasks.wait_until(lambda: len(tasks.lines(path)) == 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process gets it
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert err.count("KeyboardInterrupt") == 1
    tasks.wait_until(lambda: not left_of(process))


def test_a_script_without_a_guard_gets_a_clear_error(tmp_path, temporary):
    text = """
        import cascade as cs

        @cs.task(mode="process")
        def work():
            return 1

        cs.run(work())
    """
    process = in_process(script(tmp_path, text), temporary=temporary)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "RunError: the script begins a run while a worker process imports it" in err
    assert err.rstrip().splitlines()[-1].startswith("cascade: in task 'work'")
    assert "ExecutorError: a worker process ended with exit code 1 while it started" in err
    assert 'if __name__ == "__main__":' in err


def test_tasks_of_a_script_go_by_value(tmp_path, temporary):
    text = """
        import cascade as cs

        OFFSET = 5

        @cs.task(mode="process")
        def add(x, n=0):
            return x + OFFSET if n == 0 else add.tail(x + 1, n - 1)

        class Point:
            def __init__(self, x):
                self.x = x

        @cs.task(mode="process")
        def point(x):
            return Point(x)

        if __name__ == "__main__":
            print(cs.run(add(1, 40)), type(cs.run(point(2))) is Point)
    """
    process = in_process(script(tmp_path, text), temporary=temporary)
    assert process.communicate(timeout=60) == ("46 True\n", "")


def test_a_pool_that_is_dropped_ends():
    pid = cs.run(tasks.where(), executor=cs.ProcessExecutor(1))
    gc.collect()
    tasks.wait_until(lambda: not is_running(pid))


def test_shutdown_waits_for_calls_that_have_begun(path):
    pool = cs.ProcessExecutor(1)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(cs.run(tasks.naps(0.2, path), executor=pool))
    )
    thread.start()
    tasks.wait_until(lambda: tasks.lines(path))
    pool.shutdown()
    thread.join()
    assert results == ["rested"]
    assert pool.pids == []
