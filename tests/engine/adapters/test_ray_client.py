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
from tests.remote_tasks import wait_until
from tests.services import answers, free_port

#: Ray asks for a token otherwise, which this cluster on the loopback does not need.
OPEN = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
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
