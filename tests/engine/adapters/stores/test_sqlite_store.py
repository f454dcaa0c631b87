"""SQLiteStore: what its file is, and what happens when the file or its disk fails."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from cascade.adapters.stores import SQLiteStore
from cascade.adapters.stores.sqlite_files import SQLiteFile, check_local
from cascade.spec.errors import RunConflictError, StoreError
from cascade.spec.limit_store import Revised
from cascade.spec.run_rows import (
    Blob,
    Change,
    Chunk,
    Commit,
    Lease,
    NewRun,
    Record,
    RunStatus,
)

OURS = Lease("us", 3600.0)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs.db")


@pytest.fixture
def store(path):
    store = SQLiteStore(path, timeout=0.2)
    yield store
    store.close()


@pytest.fixture
def stranger(path, store):
    """Another program's connection to the file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def begun(store, run_id="a"):
    (made,) = store.create([NewRun(run_id, "f", b"r", b"p")], lease=OURS)
    return made.run


def chunk(run, number=1, body=b"x"):
    return [Commit(run.number, run.epoch, chunks=[Chunk(number, body)])]


# -- the file --------------------------------------------------------------------------------------


def test_the_file_has_a_write_ahead_log_and_can_shrink(store, stranger):
    assert stranger.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stranger.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_commits_are_as_synchronous_as_asked_for(path, synchronous, level):
    """Read from the store's own connection, through the transaction that a task gets."""
    store = SQLiteStore(path, synchronous=synchronous)
    run = begun(store)
    with store.transaction(run.number, run.epoch) as transaction:
        assert transaction.connection.execute("PRAGMA synchronous").fetchone() == (level,)
    store.close()


def test_tables_of_users_may_be_in_the_same_file(path):
    with sqlite3.connect(path) as users:
        users.execute("CREATE TABLE runs (mine TEXT)")
    users.close()
    store = SQLiteStore(path)
    begun(store)
    store.close()
    users = sqlite3.connect(path)

    tables = {name for (name,) in users.execute("SELECT name FROM sqlite_master")}
    assert users.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert all("cascade_" in name for name in tables - {"runs"} - {"sqlite_sequence"})
    users.close()


def test_a_sweep_gives_space_back_to_the_system(store, path, stranger):
    for number in range(20):
        run = begun(store, f"{number}")
        blobs = [Blob(b"%d" % n, b"x" * 20_000) for n in range(5)]
        change = Change(RunStatus.SUCCEEDED)
        store.commit([Commit(run.number, run.epoch, blobs=blobs, change=change)], seconds=1)
    stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = os.path.getsize(path)
    assert store.sweep([RunStatus.SUCCEEDED], 1e12) == 20
    stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert full > 2_000_000
    assert os.path.getsize(path) < 200_000


def test_an_endless_loop_keeps_the_file_small(path, stranger):
    store = SQLiteStore(path, synchronous="normal")
    run = begun(store)
    for step in range(1, 1001):
        rows = {"records": [Record(b"loop", "loop", step, b"x" * 500)]}
        rows |= {"chunks": [Chunk(step, b"y" * 500)], "drop_chunks": [step - 1]}
        store.commit([Commit(run.number, run.epoch, **rows)], seconds=1)
    store.close()
    stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert os.path.getsize(path) < 200_000


@pytest.mark.parametrize("content", [b"this is no database, but text" * 100, b"\x00" * 4096])
def test_a_file_that_is_no_database_is_refused(path, content):
    Path(path).write_bytes(content)
    with pytest.raises(StoreError, match="file is not a database"):
        SQLiteStore(path)
    assert Path(path).read_bytes() == content


def test_a_file_on_another_machine_is_refused(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw\n"
        "31 30 8:2 / /home/local\\040disk rw - xfs /dev/sdb1 rw\n"
        "32 22 0:41 / /mnt rw - fuse.sshfs me@host: rw\n"
    )
    check_local("/srv/runs.db", mounts)
    check_local("/homes/runs.db", mounts)
    check_local("/home/local disk/runs.db", mounts)
    check_local("/srv/runs.db", tmp_path / "none")
    for path, kind in (("/home/me/runs.db", "nfs4 at '/home'"), ("/mnt/runs.db", "fuse.sshfs")):
        with pytest.raises(StoreError, match=f"network file system .{kind}.* use a local disk"):
            check_local(path, mounts)


def test_no_statement_reads_a_whole_table(path, monkeypatch):
    """The cost of a commit or a claim must not grow with the number of runs that are kept."""
    statements = set()
    connect = SQLiteFile.connect

    def traced(self):
        connection = connect(self)
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(SQLiteFile, "connect", traced)
    store = SQLiteStore(path)
    runs, batch = prepared(store)
    store.commit(batch, seconds=1)
    store.claim(OURS, dead=["them"])
    store.load(runs[0].number)
    store.blobs(runs[0].number, [b"new"])
    store.signals(runs[0].number)
    store.cancel("b")
    with contextlib.suppress(RunConflictError):
        store.claim_run("a", OURS)
    store.owners()
    store.sweep([RunStatus.SUCCEEDED], 1e12, keep_results=True)
    store.delete("a")
    store.close()

    explaining = sqlite3.connect(path)
    plans = [
        (statement, plan)
        for statement in statements
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
        for *_, plan in explaining.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    explaining.close()
    whole = [each for each in plans if re.match("SCAN cascade_(?!runs USING INDEX)", each[1])]
    assert len(plans) > 30
    assert whole == []


# -- failures --------------------------------------------------------------------------------------


def test_a_short_write_lock_of_a_stranger_is_waited_for(path, stranger):
    store = SQLiteStore(path, timeout=20)
    run = begun(store)
    stranger.execute("BEGIN IMMEDIATE")
    receipts = []
    writer = threading.Thread(target=lambda: receipts.extend(store.commit(chunk(run), seconds=1)))
    writer.start()
    writer.join(0.1)  # the commit waits, however long this is
    assert receipts == []
    assert store.find("a").recoveries == 1  # readers do not wait
    stranger.execute("COMMIT")
    writer.join(20)

    assert [receipt.held for receipt in receipts] == [True]
    store.close()


def test_a_long_write_lock_is_an_error_that_passes(store, stranger):
    run = begun(store)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        StoreError, match=r"locked \(another program .* longer than 0.2 s"
    ) as caught:
        store.commit(chunk(run), seconds=1)
    assert caught.value.transient
    stranger.execute("COMMIT")

    assert store.commit(chunk(run), seconds=1)[0].held


def test_claims_of_idle_workers_do_not_wait_for_writers(store, stranger):
    stranger.execute("BEGIN IMMEDIATE")

    assert store.claim(OURS) == []


def everything(run, change):
    return Commit(
        run.number,
        run.epoch,
        chunks=[Chunk(2, b"new"), Chunk(3, b"new")],
        records=[Record(b"k", "loop", 2, b"new")],
        blobs=[Blob(b"new", b"new")],
        drop_chunks=[1],
        drop_records=[b"old"],
        drop_blobs=[b"old"],
        drop_outcomes=[b"old"],
        taken=[1],
        progress=3,
        change=change,
    )


def prepared(store):
    """Two runs with rows, and a batch that changes all of these."""
    runs = [begun(store, run_id) for run_id in "ab"]
    for run in runs:
        store.send(run.run_id, "go", b"1")
        rows = {"chunks": [Chunk(1, b"old")], "blobs": [Blob(b"old", b"old")]}
        rows["records"] = [Record(b"k", "loop", 1, b"old"), Record(b"old", "graph", 0, b"old")]
        store.commit([Commit(run.number, run.epoch, **rows)], seconds=1)
    changes = [Change(RunStatus.SUCCEEDED, b"value"), Change(RunStatus.SUSPENDED)]
    return runs, [everything(run, change) for run, change in zip(runs, changes, strict=True)]


def state(store, runs):
    return [(store.load(run.number), store.blobs(run.number, [b"old", b"new"])) for run in runs]


class Interrupted(SQLiteStore):
    """Its writer can be told what to do after a number of steps of SQLite's machine."""

    def after(self, steps, action):
        """``action()`` breaks the statement off if it returns something true."""
        if self._writer is None:
            self._writer = self._file.connect()
        left = iter(range(steps))
        self._writer.set_progress_handler(lambda: next(left, None) is None and action(), 1)


def test_a_batch_is_all_or_nothing_wherever_it_is_broken_off(path):
    store = Interrupted(path, synchronous="normal")
    runs, batch = prepared(store)
    before = state(store, runs)
    for steps in range(0, 100_000, 11):
        store.after(steps, lambda: True)
        with contextlib.suppress(StoreError):
            receipts = store.commit(batch, seconds=1)
            break
        assert state(store, runs) == before, f"after {steps} steps"

    assert steps > 500  # it was broken off in each of the statements
    assert [receipt.held for receipt in receipts] == [True, True]
    after = state(store, runs)
    assert [loaded.run.status for loaded, _ in after] == ["succeeded", "suspended"]
    assert [loaded.chunks for loaded, _ in after] == [[Chunk(2, b"new"), Chunk(3, b"new")]] * 2
    assert [len(loaded.records) for loaded, _ in after] == [1, 1]
    assert [blobs for _, blobs in after] == [{b"new": b"new"}] * 2
    store.close()


KILLED = """
import os, pickle, signal, sys
from cascade.adapters.stores import SQLiteStore

path, steps, batch = pickle.load(sys.stdin.buffer)
store = SQLiteStore(path)
store._writer = store._file.connect()
left = iter(range(steps))

def step():
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)

store._writer.set_progress_handler(step, 1)
store.commit(batch, seconds=1)
"""


@pytest.mark.posix
@pytest.mark.parametrize("steps", [3, 150, 450])
def test_a_batch_is_nothing_when_the_process_is_killed_in_it(path, steps):
    store = SQLiteStore(path)
    runs, batch = prepared(store)
    before = state(store, runs)
    told = pickle.dumps((path, steps, batch))
    killed = subprocess.run([sys.executable, "-c", KILLED], input=told, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert state(store, runs) == before
    assert store.commit(chunk(runs[0], 4), seconds=1)[0].held  # the lock died with its owner
    store.close()


def test_a_full_disk_is_an_error_after_which_the_store_can_be_used(store, full_disk):
    run = begun(store)
    with full_disk(), pytest.raises(StoreError, match="the disk is full or broken") as caught:
        store.commit(chunk(run, 1, b"x" * 1_000_000), seconds=1)
    assert not caught.value.transient
    assert store.load(run.number).chunks == []

    assert store.commit(chunk(run, 1, b"x" * 1_000_000), seconds=1)[0].held
    assert len(store.load(run.number).chunks[0].body) == 1_000_000


def test_a_database_that_may_not_grow_is_an_error_too(store):
    run = begun(store)
    store._writer.execute("PRAGMA max_page_count=10")
    with pytest.raises(StoreError, match="the disk is full, or a quota is reached"):
        store.commit(chunk(run, 1, b"x" * 1_000_000), seconds=1)

    assert store.commit(chunk(run), seconds=1)[0].held


@pytest.fixture
def unprivileged():
    """A folder that a user without privileges owns, who then is the user of this process."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such users")
    folder = tempfile.mkdtemp(prefix="cascade-store-")
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield Path(folder)
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_a_store_that_may_only_be_read(unprivileged):
    path = unprivileged / "runs.db"
    store = SQLiteStore(str(path))
    run = begun(store)
    store.close()
    path.chmod(0o444)
    store = SQLiteStore(str(path))
    with pytest.raises(StoreError, match="may not write to the file or its folder") as caught:
        store.commit(chunk(run), seconds=1)
    assert not caught.value.transient

    assert store.find("a") == run
    store.close()


def test_a_folder_that_may_only_be_read(unprivileged):
    unprivileged.chmod(0o555)
    with pytest.raises(StoreError, match="this process must be allowed to use it"):
        SQLiteStore(str(unprivileged / "runs.db"))
    unprivileged.chmod(0o755)


def test_shared_limits_lie_beside_the_file_whatever_the_working_directory_is(tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with contextlib.closing(SQLiteStore("runs.db")) as store:
        monkeypatch.chdir(tmp_path / "there")
        with contextlib.closing(store.limits()) as limits:
            limits.revise("gpu", lambda _known, _now: Revised(b"2"))
    monkeypatch.chdir(tmp_path / "here")
    with (
        contextlib.closing(SQLiteStore("runs.db")) as store,
        contextlib.closing(store.limits()) as limits,
    ):
        assert limits.read("gpu")[0] == b"2"
    assert not list((tmp_path / "there").iterdir())
