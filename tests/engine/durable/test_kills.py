"""Runs in processes that are really killed, stopped or copied, and go on in others (D2–D4, D6)."""

import random
import re
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.engine.durable import flows
from tests.engine.durable.kill_points import POINTS
from tests.engine.durable.leftovers import left_in
from tests.engine.durable.nursery import Child, Nursery
from tests.engine.durable.trials import trials

from cascade.adapters.stores import open_store
from cascade.spec.run_rows import RunStatus

#: Target → its value, the number of its calls, and that of different ones.
VALUES = {
    "wide": (str([4 * n + 2 for n in range(6)]), 24, 19),
    "long": ("465", 61, 61),
    "deep": ("380", 41, 40),
}
pytestmark = pytest.mark.timeout(120)


class Flow:
    """A target with a store and a file of calls."""

    def __init__(self, folder: Path, target: str, nursery: Nursery) -> None:
        self.folder, self.target = folder, target
        self._nursery = nursery
        self.file = folder / "runs.db"
        self.env: dict[str, str] = {}

    def start(self, **env: str) -> Child:
        """A process that goes on with the run."""
        calls = {"CALLS": str(self.folder / "calls")}
        url = f"sqlite:///{self.file}"
        return self._nursery.start(
            flows.__name__, url, "run", self.target, env={**calls, **self.env, **env}
        )

    def calls(self) -> Counter[str]:
        """What was called so far, by all processes."""
        file = self.folder / "calls"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def finish(self) -> str:
        """The value that a process gives which nobody kills."""
        process = self.start()
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out.strip()

    def check_rows(self) -> None:
        """Nothing is left in the store that nobody needs."""
        with closing(open_store(f"sqlite:///{self.file}")) as store:
            run = store.find("run")
            assert run is not None
            assert run.status is RunStatus.SUCCEEDED
            assert [*left_in(store, "run")] == []


def _waited(process: Child) -> bool:
    """Whether a process has ended by itself; it may have been killed."""
    _, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode == 0


def _check(flow: Flow, kills: int, most_again: int) -> None:
    value, calls, different = VALUES[flow.target]
    assert flow.finish() == value
    again = flow.calls().total() - calls
    assert 0 <= again <= kills * most_again, flow.calls()
    assert len(flow.calls()) == different, "a call with other arguments (D4)"
    flow.check_rows()


@trials()
def test_a_run_that_is_killed_at_named_points_gives_its_value(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    rng = random.Random(trial)
    target = rng.choice([*VALUES])
    flow, kills = Flow(tmp_path, target, nursery), rng.randint(1, 3)
    if rng.random() < 0.5:
        flow.env["VM"] = "1"
    killed = 0
    for _ in range(kills):
        at = f"{rng.choice(POINTS)}:{rng.randint(0, 20)}"
        if _waited(flow.start(KILL_AT=at)):
            break
        killed += 1
    _check(flow, killed, 2 if target == "long" else 24)


@trials()
def test_a_run_that_is_killed_at_any_time_gives_its_value(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    rng = random.Random(1000 + trial)
    flow = Flow(tmp_path, rng.choice([*VALUES]), nursery)
    if rng.random() < 0.5:
        flow.env["VM"] = "1"
    killed = 0
    for _ in range(3):
        process = flow.start()
        if rng.random() < 0.8:  # it has begun, whatever the speed of the machine
            _until_calls(flow, process, rng.randint(1, 20))
        time.sleep(rng.random() * 0.02)
        process.kill()
        if _waited(process):
            break
        killed += 1
    _check(flow, killed, 2 if flow.target == "long" else 24)


def _until_calls(flow: Flow, process: Child, more: int) -> None:
    """Wait until a process has made some more calls, or has ended."""
    most = flow.calls().total() + more
    while process.poll() is None and flow.calls().total() < most:
        time.sleep(0.002)


@contextmanager
def _stopped(flow: Flow, calls: int) -> Iterator[Child]:
    """A process that stands still after some calls."""
    process = flow.start()
    try:
        _until_calls(flow, process, calls)
        assert process.poll() is None
        process.stop()
        while _is_locked(flow.folder / "runs.db"):  # it stands in a transaction: nobody can write
            process.send_signal(signal.SIGCONT)
            time.sleep(0.001)
            process.stop()
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def _is_locked(file: Path) -> bool:
    connection = sqlite3.connect(file, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


def _taken_over(flow: Flow) -> str:
    """The value that another process gives, once the lease is over."""
    while True:
        process = flow.start()
        out, err = process.communicate()
        if process.returncode == 0:
            return out.strip()
        assert "RunLeasedError" in err, err
        time.sleep(0.1)


@trials(10)
def test_a_process_that_stood_still_writes_nothing_of_a_run_taken_over(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    """D6."""
    flow = Flow(tmp_path, "long", nursery)
    flow.env["LEASE"] = "0.4"
    with _stopped(flow, 3 + trial % 30) as first:
        assert _taken_over(flow) == "465"
        made = flow.calls()
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate()
        assert first.returncode == 1
        assert "LeaseLostError" in err
    # What was in flight when it stopped may still have been called.
    assert (flow.calls() - made).total() <= 1
    assert flow.finish() == "465"
    flow.check_rows()


@trials(10)
def test_a_copy_of_the_files_goes_on_elsewhere(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    """As after a loss of power: what was committed by then is there."""
    flow = Flow(tmp_path, "long", nursery)
    flow.env["LEASE"] = "0.4"
    other = Flow(tmp_path / "other", "long", nursery)
    other.folder.mkdir()
    other.env = dict(flow.env)
    with _stopped(flow, 5 + trial % 40):
        for name in ("runs.db", "runs.db-wal"):
            shutil.copy(tmp_path / name, other.folder / name)
        before = flow.calls()
        assert _taken_over(other) == "465"
    again = (before + other.calls()).total() - 61
    assert 0 <= again <= 2
    other.check_rows()


def test_of_two_processes_one_executes_a_run(tmp_path: Path, nursery: Nursery) -> None:
    flow = Flow(tmp_path, "long", nursery)
    processes = [flow.start(), flow.start()]
    ends = [process.communicate() for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes
    for code, (out, err) in zip(codes, ends, strict=True):
        assert out.strip() == "465" if code == 0 else "RunLeasedError" in err
    assert flow.calls().total() == 61


@trials(20)
def test_a_compiled_loop_goes_on_from_its_last_snapshot(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    flow = Flow(tmp_path, "counting", nursery)
    if trial % 2:
        flow.env["VM"] = "1"
    for _ in range(3 if trial else 1):
        process = flow.start()
        before = _step_of(flow)
        while process.poll() is None and _step_of(flow) <= before:
            time.sleep(0.05)
        process.kill()
        if _waited(process):
            break
        assert _step_of(flow) > before
    assert flow.finish() == "20000000"
    flow.check_rows()


def _step_of(flow: Flow) -> int:
    """How far a loop's last snapshot is; -1 without one."""
    if not flow.file.exists():
        return -1
    store = open_store(f"sqlite:///{flow.file}")
    try:
        run = store.find("run")
        records = store.load(run.number).records if run is not None else ()
        found = [re.search(rb'"total":(\d+)', record.body) for record in records]
        return max((int(match[1]) for match in found if match), default=-1)
    finally:
        store.close()
