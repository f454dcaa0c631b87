"""A cluster that is reached by ``ray://``, whose client calls back in the thread that receives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.remote_tasks import lines, wait_until
from tests.services import answers, free_port

from cascade.adapters.stores import open_store
from cascade.spec.run_rows import RunStatus

#: Ray asks for a token otherwise, which this cluster on the loopback does not need.
OPEN = {
    **os.environ,
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15, and this machine may be busy
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1",  # seconds; by default 30
}
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """That of a cluster with two CPUs, which was started from a shell."""
    reason = "pip install 'cascade-engine[ray]'"
    pytest.importorskip("ray", reason=reason)
    pytest.importorskip("grpc", reason=reason)
    port = free_port()
    options = {
        "--port": free_port(),
        "--ray-client-server-port": port,
        "--num-cpus": 2,
        "--include-dashboard": "false",
        "--object-store-memory": 128 << 20,
    }
    given = [text for name, value in options.items() for text in (name, str(value))]
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *given]
    # Of its own: programs on this machine would look for this cluster later. Short, for sockets.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**OPEN, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": folder},
            start_new_session=True,
        )
        try:
            wait_until(lambda: answers(port), 60)
            yield f"ray://127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)


PROGRAM = """
import asyncio, sys
import cascade as cs
from tests import remote_tasks as tasks

@cs.task
def large(n):
    return bytes(n)

@cs.task
def size(value):
    return len(value)

async def main(executor, path):
    async with cs.Engine(executor=executor) as engine:
        print(sum(await engine.run(tasks.add.map(a=range(40)))))
        print(await engine.run(size.map(value=large.map(n=[1 << 20] * 4))))
        print(await engine.run(tasks.reciprocal.map(x=[0, 2], return_exceptions=True)))
        try:
            await engine.run(tasks.naps(60.0).with_timeout(0.2))
        except TimeoutError as error:
            print(error)
        sleepers = tasks.naps.map(seconds=[60.0] * 6, path=cs.literal(path))
        run = asyncio.create_task(engine.run(sleepers))
        await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path))
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        print(run.cancelled(), await engine.run(tasks.add(1)))

with cs.RayExecutor(sys.argv[1], keep_above=1 << 16, turn_seconds=0) as executor:
    asyncio.run(main(executor, sys.argv[2]))
"""


def test_each_end_of_a_turn_sends_the_next_one(address: str, tmp_path: Path) -> None:
    """A process of its own, as one has one cluster at a time."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, address, tmp_path / "begun"],
        capture_output=True,
        text=True,
        env=OPEN,
        cwd=ROOT,
        timeout=100,
    )
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines() == [
        f"{sum(range(41))}",
        f"{[1 << 20] * 4}",
        "[ZeroDivisionError('division by zero'), 0.5]",
        "an attempt of task 'naps' took longer than 0.2 s",
        "True 2",
    ]


AGENTS = """
import asyncio, os, sys
import cascade as cs
from tests import agents_elsewhere as agents, remote_tasks as tasks

async def main(address, url, path, ends):
    async with cs.Engine(store=url) as engine:
        asking = engine.start(agents.asks(path), run_id="asks", on=address)
        await engine.signal("asks", "answer", 42)
        answer, pid = await asking.result()
        print(answer, pid != os.getpid())
        run = engine.start(agents.counts(path, 60), on=address)
        await asyncio.to_thread(tasks.wait_until, lambda: len(tasks.lines(path)) > 5, 100)
        first = int(tasks.lines(path)[-1].split()[0])
        os.kill(first, tasks.KILL)
        print(await run.result() != first)
        run = engine.start(agents.counts(path, 10**9), run_id="endless", on=address)
        made = len(tasks.lines(path))
        await asyncio.to_thread(tasks.wait_until, lambda: len(tasks.lines(path)) > made, 100)
        if ends == "killed":
            os.kill(os.getpid(), tasks.KILL)
    print("closed")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_whole_runs_by_the_name_of_the_cluster(address: str, tmp_path: Path, ends: str) -> None:
    """Nothing is left of them, also if their driver is killed."""
    url, path = f"sqlite:///{tmp_path}/runs.db", str(tmp_path / "effects")
    done = subprocess.run(
        [sys.executable, "-c", AGENTS, address, url, path, ends],
        capture_output=True,
        text=True,
        env=OPEN,
        cwd=ROOT,
        timeout=200,
    )
    assert done.stdout.split() == ["42", "True", "True", *(["closed"] if ends == "closed" else [])]
    pids = {int(line.split()[0]) for line in lines(path) if line != "asks"}
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)
    store = open_store(url)
    try:
        endless = store.find("endless")
        assert endless is not None
        assert endless.status in (RunStatus.ENQUEUED, RunStatus.RUNNING)
    finally:
        store.close()


NODES = """
import asyncio, os, sys
import cascade as cs
import ray
from ray.cluster_utils import Cluster
from tests import agents_elsewhere as agents, remote_tasks as tasks

def raylet_of(pid):
    return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])

def made_by(n, path):
    return [int(line.split()[0]) for line in tasks.lines(f"{path}{n}")]

async def main(url, path):
    options = {"include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **options})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    ray.init(cluster.address, log_to_driver=False, logging_level="error")
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
    with cs.RayExecutor() as executor:
        async with cs.Engine(store=url) as engine:
            runs = [engine.start(agents.counts(f"{path}{n}", 10**6), on=executor) for n in range(3)]
            pids = []
            for n in range(3):
                await asyncio.to_thread(tasks.wait_until, lambda: made_by(n, path), 150)
                pids += made_by(n, path)[:1]
            n = next(n for n in range(3) if raylet_of(pids[n]) in raylets)
            cluster.remove_node(raylets[raylet_of(pids[n])], allow_graceful=False)
            await asyncio.to_thread(tasks.wait_until, lambda: made_by(n, path)[-1] != pids[n], 150)
            for run in runs:
                run.cancel()
                await asyncio.gather(run.result(), return_exceptions=True)
    ray.shutdown()
    cluster.shutdown()
    lefts = {int(line.split()[1]) for line in tasks.lines(f"{path}{n}")}
    print("found", sorted(lefts) == [*range(min(lefts), 10**6 + 1)])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.thorough
def test_another_node_goes_on_with_a_run_when_its_node_is_lost(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'cascade-engine[ray]'")
    done = subprocess.run(
        [sys.executable, "-c", NODES, f"sqlite:///{tmp_path}/runs.db", str(tmp_path / "effects")],
        capture_output=True,
        text=True,
        env={**OPEN, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=220,
    )
    assert "found True" in done.stdout.splitlines(), done.stderr
