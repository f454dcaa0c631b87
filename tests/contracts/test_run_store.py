"""The contract of RunStore, for every implementation.

Times: a lease of 0 seconds is over at once, one of an hour holds for the test; a time in 1970 has
come, one in the year 3000 has not. So no test has to wait.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cascade.adapters.stores import open_store
from cascade.spec.errors import (
    ArgumentError,
    LeaseLostError,
    RunConflictError,
    RunLeasedError,
    RunNotFoundError,
    StoreError,
)
from cascade.spec.run_rows import (
    FINISHED,
    Blob,
    Change,
    Chunk,
    Commit,
    Contents,
    Filter,
    Lease,
    NewRun,
    Outcome,
    Receipt,
    Record,
    RunStatus,
    Signal,
)
from cascade.spec.run_store import CommitsAtOnce, RunStore

HOUR = 3600.0
LONG_AGO, FAR_OFF = 1000.0, 32_500_000_000.0
OURS, THEIRS, OVER = Lease("us", HOUR), Lease("them", HOUR), Lease("late", 0)
SUCCESS = Change(RunStatus.SUCCEEDED, b"value")
UNFINISHED = [RunStatus.ENQUEUED, RunStatus.SUSPENDED]


def new(run_id: str = "a", **fields) -> NewRun:
    return NewRun(
        **{"run_id": run_id, "target": "flows:f", "root": b"\x01", "program": b"{}"} | fields
    )


def begun(store, run_id="a", lease=OURS, **fields):
    """A run that ``lease`` has claimed."""
    (made,) = store.create([new(run_id, **fields)], lease=lease)
    assert made.claimed
    return made.run


def done(store, run, **parts):
    """Commit something of one run; its receipt."""
    (receipt,) = store.commit([Commit(run.number, run.epoch, **parts)], seconds=HOUR)
    return receipt


def in_threads(count, function):
    """The results of calling ``function(n)`` in as many threads, all at once."""
    together = threading.Barrier(count)

    def call(number):
        together.wait(20)
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


#: For tests of what a store in memory does not have.
in_databases = pytest.mark.parametrize("kind", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def url(kind, store_url):
    """Where a store without any run is."""
    return store_url(kind)


@pytest.fixture
def another(url, kind, store):
    """The same store, as another process has opened it."""
    if kind == "memory":
        yield store
        return
    another = open_store(url)
    yield another
    another.close()


def test_it_is_a_run_store(store):
    assert isinstance(store, RunStore)


# -- creating --------------------------------------------------------------------------------------


def test_a_new_run_waits_for_a_worker(store):
    (made,) = store.create([new(parent="before", priority=3, at=LONG_AGO)])

    run = made.run
    assert (made.new, made.claimed) == (True, False)
    assert (run.run_id, run.target, run.root, run.parent) == ("a", "flows:f", b"\x01", "before")
    assert (run.status, run.priority, run.due) == (RunStatus.ENQUEUED, 3, LONG_AGO)
    assert (run.owner, run.epoch, run.recoveries, run.inbox) == (None, 0, 0, 0)
    assert run.created == run.updated
    assert store.find("a") == run


def test_a_run_is_due_when_it_is_created_if_no_time_is_given(store):
    (made,) = store.create([new()])

    assert made.run.due == made.run.created
    assert abs(made.run.due - time.time()) < HOUR


def test_an_id_that_is_there_gives_its_run(store, another):
    (first,) = store.create([new()])
    again, other = another.create([new(target="g", root=b"\x02"), new("b")])

    assert (again.run, again.new, again.claimed) == (first.run, False, False)
    assert other.new


def test_no_run_of_a_call_is_created_if_one_cannot_be(store):
    bad_ids = [new("a"), new(""), new("x" * 501), new("a\x00b"), new("a\nb"), new(7)]
    for bad in (*bad_ids, new("b", priority=0.5), new("b", target="f\x00")):
        with pytest.raises(ArgumentError):
            store.create([new("a"), bad])
    with pytest.raises(ArgumentError, match="at= takes a time"):
        store.create([new("a"), new("b", at=float("nan"))])
    assert store.runs() == []


def test_an_id_may_be_any_text_that_can_be_printed(store):
    for run_id in ("order/17 – größer", "名前", "a'; DROP TABLE runs; --", "%s {} ?", "x" * 500):
        (made,) = store.create([new(run_id)])
        assert made.new
        assert store.find(run_id) == made.run


def test_of_equal_ids_created_at_once_one_is_new(store, another):
    stores = [store, another]
    ids = [f"run-{n}" for n in range(20)]
    made = in_threads(
        6,
        lambda n: stores[n % 2].create([new(run_id) for run_id in ids], lease=Lease(str(n), HOUR)),
    )

    for each in zip(*made, strict=True):
        assert sum(one.new for one in each) == 1
        assert [one.new for one in each] == [one.claimed for one in each]
        assert len({one.run.number for one in each}) == 1


def test_the_contents_of_a_new_run_are_there_from_the_beginning(store):
    contents = Contents([Chunk(1, b"one")], [Record(b"k", "loop", 4, b"r")], [Blob(b"d", b"big")])
    (made,) = store.create([new(params=b"p", code=b"c", contents=contents)])

    loaded = store.load(made.run.number)
    assert (loaded.program, loaded.params, loaded.code) == (b"{}", b"p", b"c")
    assert (loaded.chunks, loaded.records) == (contents.chunks, contents.records)
    assert store.blobs(made.run.number, [b"d", b"e"]) == {b"d": b"big"}


def test_creating_can_claim_at_once(store):
    (made,) = store.create([new(at=FAR_OFF)], lease=OURS)

    run = made.run
    assert made.claimed
    assert (run.status, run.owner, run.epoch, run.recoveries) == (RunStatus.RUNNING, "us", 1, 1)
    assert run.due is None
    assert run.lease_until == pytest.approx(run.created + HOUR)
    assert store.find("a") == run


def test_creating_claims_a_run_that_is_there_if_it_is_free(store):
    store.create([new()])
    begun(store)

    (made,) = store.create([new()], lease=THEIRS)
    assert (made.new, made.claimed, made.run.owner) == (False, False, "us")
    (made,) = store.create([new()], lease=THEIRS, dead=["us"])
    assert (made.claimed, made.run.owner, made.run.epoch) == (True, "them", 2)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_creating_does_not_claim_a_run_that_has_ended(store, status):
    done(store, begun(store), change=Change(status))

    (made,) = store.create([new()], lease=OURS)
    assert (made.claimed, made.run.status) == (False, status)


def test_creating_does_not_claim_the_run_of_another_target(store):
    """(D1)"""
    store.create([new()])

    (made,) = store.create([new(root=b"\x02")], lease=OURS)
    assert (made.new, made.claimed, made.run.root) == (False, False, b"\x01")
    assert store.find("a").epoch == 0


# -- claiming --------------------------------------------------------------------------------------


def test_one_of_fifty_claims_wins(store, another):
    stores = [store, another]
    store.create([new()])
    claims = in_threads(50, lambda n: stores[n % 2].claim(Lease(str(n), HOUR)))

    (winner,) = [n for n, claim in enumerate(claims) if claim]
    assert store.find("a").owner == str(winner)
    assert store.find("a").epoch == 1


def test_each_claim_raises_the_epoch(store):
    """(D6)"""
    store.create([new()])

    epochs = [store.claim(OVER)[0].epoch for _ in range(3)]
    epochs += [store.claim_run("a", OVER).epoch for _ in range(2)]
    assert epochs == [1, 2, 3, 4, 5]


def test_claims_without_progress_are_counted(store):
    """(D3)"""
    store.create([new()])
    for _ in range(3):
        (run,) = store.claim(OVER)
    assert run.recoveries == 3

    assert done(store, run).held
    assert store.find("a").recoveries == 3  # renewing a lease is no progress
    assert done(store, run, chunks=[Chunk(1, b"x")]).held
    assert store.find("a").recoveries == 0


def test_a_worker_claims_nothing_where_nothing_is_due(store):
    store.create([new("later", at=FAR_OFF), new("ours", program=None)])
    begun(store, "running")
    done(store, begun(store, "ended"), change=SUCCESS)
    done(store, begun(store, "asleep"), change=Change(RunStatus.SUSPENDED, due=FAR_OFF))
    done(store, begun(store, "waits"), change=Change(RunStatus.SUSPENDED))

    assert store.claim(THEIRS, limit=10) == []


def test_a_worker_claims_what_is_due(store):
    store.create([new("new"), new("timed", at=LONG_AGO)])
    begun(store, "over", OVER)
    begun(store, "dead", Lease("corpse", HOUR))
    done(store, begun(store, "awake"), change=Change(RunStatus.SUSPENDED, due=LONG_AGO))
    done(store, begun(store, "released"), change=Change(RunStatus.ENQUEUED))
    begun(store, "ours", OVER, program=None)

    claimed = store.claim(THEIRS, limit=10, dead=["corpse"], skip=["released", "?"])
    assert {run.run_id for run in claimed} == {"new", "timed", "over", "dead", "awake"}
    assert {run.owner for run in claimed} == {"them"}
    assert {run.status for run in claimed} == {RunStatus.RUNNING}
    assert sorted(store.runs(), key=repr) == sorted(
        [*claimed, store.find("released"), store.find("ours")], key=repr
    )


def test_the_queue_is_ordered_by_priority_and_seconds_of_waiting(store):
    """(M24)"""
    at = LONG_AGO
    store.create(
        [
            new("patient", at=at - 10),
            new("urgent", at=at, priority=11),
            new("usual", at=at),
            new("first of two", at=at - 5),
            new("second of two", at=at, priority=5),
            new("low", at=at, priority=-1),
        ]
    )

    claimed = [store.claim(OURS)[0].run_id for _ in range(6)]
    assert claimed == ["urgent", "patient", "first of two", "second of two", "usual", "low"]


def test_a_claim_takes_no_more_than_its_limit(store):
    store.create([new(f"run-{n}", at=LONG_AGO + n) for n in range(5)])

    assert [run.run_id for run in store.claim(OURS, limit=2)] == ["run-0", "run-1"]
    assert [run.run_id for run in store.claim(THEIRS, limit=9)] == ["run-2", "run-3", "run-4"]


def test_a_run_can_be_claimed_by_its_id_though_no_worker_may(store):
    store.create([new(program=None, at=FAR_OFF)])

    run = store.claim_run("a", OURS)
    assert (run.owner, run.portable, run.due) == ("us", False, None)
    assert store.find("a") == run


def test_a_run_is_leased_until_the_lease_is_over(store):
    """(D1, D6)"""
    begun(store)
    with pytest.raises(RunLeasedError, match="run 'a' is executed by us, whose lease") as caught:
        store.claim_run("a", THEIRS)
    assert (caught.value.run_id, caught.value.owner) == ("a", "us")
    assert 0 < caught.value.seconds <= HOUR

    assert store.claim_run("a", OVER, dead=["us"]).epoch == 2
    assert store.claim_run("a", THEIRS).epoch == 3


def test_a_run_that_nobody_has_made_cannot_be_claimed(store):
    with pytest.raises(RunNotFoundError, match="has no run 'b'") as caught:
        store.claim_run("b", OURS)
    assert caught.value.run_id == "b"


@pytest.mark.parametrize("status", sorted(FINISHED - {RunStatus.SUCCEEDED}))
def test_a_run_that_has_ended_is_claimed_again_only_on_demand(store, status):
    """(D8)"""
    run = begun(store)
    done(store, run, chunks=[Chunk(1, b"kept")], change=Change(status, b"error"))
    with pytest.raises(RunConflictError, match=f"it is {status}; to go on with it, resume it"):
        store.claim_run("a", OURS)
    assert store.claim(OURS) == []

    again = store.claim_run("a", OURS, again=True)
    loaded = store.load(again.number)
    assert (again.status, again.epoch, again.cancelling) == (RunStatus.RUNNING, 2, False)
    assert (loaded.result, loaded.chunks) == (None, [Chunk(1, b"kept")])


def test_a_run_that_has_succeeded_is_never_claimed_again(store):
    done(store, begun(store), change=SUCCESS)

    with pytest.raises(RunConflictError, match="run 'a' has succeeded"):
        store.claim_run("a", OURS, again=True)


# -- committing ------------------------------------------------------------------------------------


def everything(run, epoch, text=b"x", **parts):
    """A commit with rows in every table."""
    return Commit(
        run,
        epoch,
        chunks=[Chunk(1, text), Chunk(2, text * 2)],
        records=[Record(b"k\x00", "loop", 7, text, b"ctx")],
        blobs=[Blob(b"d", text)],
        progress=9,
        **parts,
    )


def contents(store, run):
    """All rows of a run, but for the time of its lease and its last change."""
    loaded = store.load(run)
    record = loaded.run._replace(lease_until=0, updated=0)
    return loaded._replace(run=record), store.blobs(run, [b"d", b"e"])


def test_what_is_loaded_is_what_was_committed(store, another):
    run = begun(store)
    assert done(store, run, chunks=[Chunk(1, b"old")]).held
    (receipt,) = store.commit([everything(run.number, run.epoch)], seconds=HOUR)
    assert receipt == Receipt(True, False, 0)

    loaded = another.load(run.number)
    assert loaded.chunks == [Chunk(1, b"x"), Chunk(2, b"xx")]
    assert loaded.records == [Record(b"k\x00", "loop", 7, b"x", b"ctx")]
    assert another.blobs(run.number, [b"d"]) == {b"d": b"x"}
    assert (loaded.run.progress, loaded.run.recoveries) == (9, 0)
    assert (loaded.outcomes, loaded.signals, loaded.result) == ([], [], None)


def test_chunks_are_in_the_order_of_their_numbers(store):
    run = begun(store)
    for number in (3, 1, 10, 2):
        done(store, run, chunks=[Chunk(number, b"%d" % number)])

    assert [chunk.number for chunk in store.load(run.number).chunks] == [1, 2, 3, 10]


def test_the_bodies_of_rows_may_be_any_bytes_of_any_size(store):
    run = begun(store)
    bodies = [b"", b"\x00", bytes(range(256)), b"'\"%s{}?\\", b"\xff" * 3_000_000]
    done(store, run, chunks=[Chunk(n, body) for n, body in enumerate(bodies, 1)])

    assert [chunk.body for chunk in store.load(run.number).chunks] == bodies


def test_a_record_replaces_the_one_with_its_key(store):
    run = begun(store)
    for step in range(5):
        records = [Record(b"loop", "loop", step, b"%d" % step), Record(b"other", "graph", 0, b"g")]
        done(store, run, records=records)

    assert store.load(run.number).records == [
        Record(b"loop", "loop", 4, b"4"),
        Record(b"other", "graph", 0, b"g"),
    ]


def test_rows_can_be_dropped(store):
    run = begun(store)
    store.commit([everything(run.number, run.epoch)], seconds=HOUR)
    store.send("a", "go", b"1")
    done(
        store,
        run,
        chunks=[Chunk(3, b"new")],
        drop_chunks=[1, 2, 77],
        drop_records=[b"k\x00", b"?"],
        drop_blobs=[b"d", b"?"],
        drop_outcomes=[b"?"],
        taken=[1, 77],
    )

    loaded = store.load(run.number)
    assert (loaded.chunks, loaded.records, loaded.signals) == ([Chunk(3, b"new")], [], [])
    assert store.blobs(run.number, [b"d"]) == {}


def test_rows_of_other_runs_stay(store):
    first, second = begun(store, "a"), begun(store, "b")
    for run in (first, second):
        store.commit([everything(run.number, run.epoch)], seconds=HOUR)
    before = contents(store, second.number)
    done(store, first, drop_chunks=[1], drop_records=[b"k\x00"], drop_blobs=[b"d"])
    done(store, first, chunks=[Chunk(1, b"y")], change=SUCCESS)

    assert contents(store, second.number) == before


@pytest.fixture
def quick(kind, store):
    """A store that may commit in the thread of an event loop."""
    if kind == "postgres":
        assert not isinstance(store, CommitsAtOnce)
        pytest.skip("each commit waits for the server")
    assert isinstance(store, CommitsAtOnce)
    return store


def at_once(store, *batch):
    return store.commit_at_once(batch, seconds=HOUR)


def test_what_is_committed_at_once_is_as_any_commit(quick, another):
    run = begun(quick)
    assert at_once(quick, everything(run.number, run.epoch)) == [Receipt(True)]
    other = begun(quick, "b")
    done(quick, other, chunks=[Chunk(1, b"same")])
    found, (same, *_) = another.load(run.number), another.load(other.number).chunks
    expected = everything(run.number, run.epoch)
    assert [*found.chunks] == [*expected.chunks]
    assert [*found.records] == [*expected.records]
    assert another.find("a").progress == (expected.progress or 0)
    assert another.find("a").recoveries == 0
    assert same.body == b"same"
    later = quick.send("a", "name", b"")
    another.cancel("a")
    keys = [record.key for record in expected.records]
    receipts = at_once(quick, Commit(run.number, run.epoch, drop_records=keys))
    assert receipts == [Receipt(True, True, later)]
    assert not another.load(run.number).records


def test_a_former_owner_commits_nothing_at_once(quick, another):
    run = begun(quick, lease=OVER)
    new_owner = another.claim_run("a", THEIRS)
    held = begun(quick, "b")
    late = everything(run.number, run.epoch)
    assert at_once(quick, late) == [Receipt(False)]
    assert at_once(quick, late, Commit(held.number, 1)) == [Receipt(False), Receipt(True)]
    loaded = another.load(new_owner.number)
    assert not loaded.chunks
    assert not loaded.records


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_nothing_is_committed_at_once_that_would_wait(quick, url, another):
    """For another program that writes, for the disk, or for the listeners of all processes."""
    run = begun(quick)
    step = Commit(run.number, run.epoch, chunks=[Chunk(1, b"one")])
    path = url.removeprefix("sqlite:///").partition("?")[0]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        assert at_once(quick, step) is None
    assert not another.load(run.number).chunks
    assert at_once(quick, step) == [Receipt(True)]
    assert at_once(quick, Commit(run.number, run.epoch, change=SUCCESS)) is None
    with contextlib.closing(open_store(f"sqlite:///{path}")) as full:
        assert full.commit_at_once([step], seconds=HOUR) is None
    assert another.find("a").status is RunStatus.RUNNING


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_the_log_does_not_grow_for_ever(quick, url):
    """Some commits are left to the connection that copies the log into the database."""
    run = begun(quick)
    left = 0
    for n in range(2000):
        record = Record(b"k", "tail", n, b"x" * 2000)
        if at_once(quick, Commit(run.number, run.epoch, records=[record])) is None:
            left += 1
            done(quick, run, records=[record])
    assert left == 10
    log = Path(url.removeprefix("sqlite:///").partition("?")[0] + "-wal")
    assert log.stat().st_size < 10_000_000


def test_a_batch_commits_many_runs(store):
    """More of them than fit into one statement."""
    runs = [made.run for made in store.create([new(f"{n}") for n in range(300)], lease=OURS)]
    batch = [
        Commit(
            run.number,
            run.epoch,
            chunks=[Chunk(1, b"%d" % n)],
            records=[Record(b"k", "loop", n, b"r")],
            change=SUCCESS if n % 3 == 0 else None,
        )
        for n, run in enumerate(runs)
    ]
    receipts = store.commit(batch, seconds=HOUR)

    assert receipts == [Receipt(True)] * 300
    for n in (0, 1, 127, 128, 255, 256, 299):
        loaded = store.load(runs[n].number)
        assert loaded.chunks == [Chunk(1, b"%d" % n)]
        assert loaded.records == [Record(b"k", "loop", n, b"r")]
        assert loaded.run.status is (RunStatus.SUCCEEDED if n % 3 == 0 else RunStatus.RUNNING)
    assert len(store.runs(Filter(statuses=[RunStatus.SUCCEEDED], limit=1000))) == 100


def test_a_commit_of_a_former_owner_writes_nothing(store, another):
    """(D6)"""
    run = begun(store, lease=OVER)
    other = begun(store, "b")
    new_owner = another.claim_run("a", THEIRS)
    store.send("a", "go", b"1")
    another.commit([everything(new_owner.number, new_owner.epoch, b"theirs")], seconds=HOUR)
    before = store.load(run.number)

    late = everything(
        run.number,
        run.epoch,
        drop_chunks=[2],
        drop_records=[b"k\x00"],
        drop_blobs=[b"d"],
        taken=[1],
        change=SUCCESS,
    )
    receipts = store.commit([late, everything(other.number, other.epoch)], seconds=HOUR)
    assert receipts == [Receipt(False), Receipt(True)]
    assert store.load(run.number) == before
    assert store.blobs(run.number, [b"d"]) == {b"d": b"theirs"}
    assert store.load(other.number).chunks == [Chunk(1, b"x"), Chunk(2, b"xx")]


def test_a_commit_to_a_run_that_ended_or_was_deleted_or_never_was_writes_nothing(store):
    run = begun(store)
    done(store, run, change=SUCCESS)
    before = contents(store, run.number)
    assert not done(store, run, chunks=[Chunk(1, b"x")]).held
    assert not done(store, run, change=Change(RunStatus.FAILED, b"error")).held
    assert contents(store, run.number) == before

    store.delete("a")
    again = begun(store)
    assert again.number != run.number
    assert not done(store, run, chunks=[Chunk(1, b"x")]).held
    assert store.load(again.number).chunks == []
    assert store.commit([Commit(12345, 1)], seconds=HOUR) == [Receipt(False)]


def test_a_batch_may_be_committed_again(store):
    """Its writer does not know what became of it when the connection was lost."""
    first, second, third = (begun(store, run_id) for run_id in "abc")
    store.send("a", "go", b"1")
    batch = [
        everything(first.number, first.epoch, taken=[1], change=SUCCESS),
        everything(second.number, second.epoch),
        Commit(third.number, third.epoch, change=Change(RunStatus.SUSPENDED, due=FAR_OFF)),
    ]
    receipts = store.commit(batch, seconds=HOUR)
    before = [contents(store, run.number) for run in (first, second, third)]

    assert store.commit(batch, seconds=HOUR) == receipts
    assert [contents(store, run.number) for run in (first, second, third)] == before


def test_an_empty_commit_renews_the_lease_and_writes_nothing(store):
    run = begun(store, lease=OVER)
    before = contents(store, run.number)
    assert done(store, run) == Receipt(True)

    assert contents(store, run.number) == before
    with pytest.raises(RunLeasedError):
        store.claim_run("a", THEIRS)


def test_a_lease_that_is_over_holds_until_somebody_claims_the_run(store):
    run = begun(store, lease=OVER)

    assert done(store, run, chunks=[Chunk(1, b"late, but nobody minds")]).held


def test_a_batch_has_one_commit_of_each_run(store):
    run = begun(store)

    with pytest.raises(ArgumentError, match="at most one Commit of each run"):
        store.commit([Commit(run.number, 1), Commit(run.number, 1)], seconds=HOUR)
    assert store.commit([], seconds=HOUR) == []


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_run_that_ends_has_a_result_and_no_owner(store, status):
    run = begun(store)
    assert done(store, run, progress=4, change=Change(status, b"result")) == Receipt(True)

    loaded = store.load(run.number)
    assert (loaded.run.status, loaded.result, loaded.run.progress) == (status, b"result", 4)
    assert (loaded.run.owner, loaded.run.lease_until, loaded.run.due) == (None, 0, None)
    assert loaded.run.ended == loaded.run.updated


def test_a_released_run_is_due_at_once_or_at_the_given_time(store):
    run = begun(store)
    done(store, run, change=Change(RunStatus.ENQUEUED))
    assert store.find("a").due == store.find("a").updated

    run = store.claim_run("a", OURS)
    done(store, run, change=Change(RunStatus.ENQUEUED, due=FAR_OFF))
    assert store.find("a").due == FAR_OFF


def test_threads_commit_at_the_same_time(store):
    runs = [made.run for made in store.create([new(f"{n}") for n in range(8)], lease=OURS)]

    def write(thread):
        return [done(store, runs[thread], chunks=[Chunk(n, b"x")]) for n in range(1, 21)]

    assert in_threads(8, write) == [[Receipt(True)] * 20] * 8
    assert {len(store.load(run.number).chunks) for run in runs} == {20}


# -- signals and cancels ---------------------------------------------------------------------------


def test_signals_keep_their_order_and_are_taken_once(store, another):
    """(D11)"""
    run = begun(store)
    sent = [("go", b"1"), ("stop", b""), ("go", b"1"), ("go", b"2")]
    assert [another.send("a", *each) for each in sent] == [1, 2, 3, 4]
    waiting = [Signal(n, *each) for n, each in enumerate(sent, 1)]
    assert store.signals(run.number) == waiting
    assert store.signals(run.number, after=2) == waiting[2:]
    assert store.load(run.number).signals == waiting

    receipt = done(store, run, chunks=[Chunk(1, b"took")], taken=[1, 3])
    assert receipt == Receipt(True, False, inbox=4)
    assert store.signals(run.number) == [waiting[1], waiting[3]]
    done(store, run, taken=[2, 4])
    assert store.send("a", "go", b"3") == 5  # numbers are not used again


def test_signals_may_come_before_the_run_begins(store):
    """(D11)"""
    store.create([new()])
    assert store.send("a", "early", b"1") == 1

    run = store.claim_run("a", OURS)
    assert run.inbox == 1
    assert store.load(run.number).signals == [Signal(1, "early", b"1")]


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_signal_to_a_run_that_has_ended_is_an_error(store, status):
    """(D11)"""
    done(store, begun(store), change=Change(status))

    with pytest.raises(RunConflictError, match=f"run 'a' takes no signals: .* is {status}"):
        store.send("a", "go", b"")
    with pytest.raises(RunNotFoundError, match="has no run 'b'"):
        store.send("b", "go", b"")


@pytest.mark.parametrize("name", ["a\x00", "\udc80", b"go", None])
def test_a_name_that_not_every_database_takes_is_refused(store, name):
    begun(store)

    with pytest.raises(ArgumentError, match="the name of a signal must"):
        store.send("a", name, b"")
    with pytest.raises(ArgumentError, match="the name of a schedule must"):
        store.fire(name, 1.0, new("b"))
    assert store.send("a", "größer, 名前", b"") == 1


def test_signals_sent_at_once_are_all_there(store, another):
    run = begun(store)
    stores = [store, another]
    numbers = in_threads(8, lambda n: stores[n % 2].send("a", "go", b"%d" % n))

    assert sorted(numbers) == list(range(1, 9))
    assert [signal.number for signal in store.signals(run.number)] == sorted(numbers)


def test_a_signal_makes_a_suspended_run_due(store):
    """(D10, D11)"""
    done(store, begun(store), change=Change(RunStatus.SUSPENDED, due=FAR_OFF))
    assert store.claim(OURS) == []
    store.send("a", "go", b"")

    assert [run.run_id for run in store.claim(OURS)] == ["a"]


def test_a_signal_that_came_while_the_owner_suspended_its_run_is_not_missed(store):
    run = begun(store)
    store.send("a", "go", b"1")
    store.send("a", "go", b"2")
    done(store, run, change=Change(RunStatus.SUSPENDED, due=FAR_OFF, inbox=2))
    assert store.claim(OURS) == []

    run = store.claim_run("a", OURS)
    store.send("a", "go", b"3")
    done(store, run, change=Change(RunStatus.SUSPENDED, due=FAR_OFF, inbox=2))
    assert [run.run_id for run in store.claim(OURS)] == ["a"]


def test_a_signal_does_not_change_when_a_new_run_is_due(store):
    store.create([new(at=FAR_OFF)])
    store.send("a", "go", b"")

    assert store.claim(OURS) == []


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_run_that_nobody_executes_is_cancelled_at_once(store, status):
    done(store, begun(store), change=Change(status, due=LONG_AGO))
    run = store.cancel("a")

    assert (run.status, run.due, store.find("a")) == (RunStatus.CANCELLED, None, run)
    assert store.claim(OURS) == []


def test_a_run_whose_lease_is_over_is_cancelled_at_once_too(store):
    over, dead = begun(store, "over", OVER), begun(store, "dead", Lease("corpse", HOUR))

    assert store.cancel("over").status is RunStatus.CANCELLED
    assert store.cancel("dead").status is RunStatus.RUNNING
    assert store.cancel("dead", dead=["corpse"]).status is RunStatus.CANCELLED
    assert not done(store, over, chunks=[Chunk(1, b"x")]).held
    assert not done(store, dead).held


def test_the_owner_is_told_of_a_cancel(store, another):
    run = begun(store)
    asked = another.cancel("a")
    assert (asked.status, asked.cancelling, asked.owner) == (RunStatus.RUNNING, True, "us")

    assert done(store, run) == Receipt(True, cancelling=True)
    done(store, run, change=Change(RunStatus.CANCELLED, b"why"))
    assert store.load(run.number).result == b"why"


def test_an_owner_may_finish_a_run_that_it_is_asked_to_cancel(store):
    run = begun(store)
    store.cancel("a")
    done(store, run, change=SUCCESS)

    assert store.find("a").status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_run_that_is_released_with_a_cancel_asked_for_is_cancelled(store, status):
    run = begun(store)
    store.cancel("a")
    change = Change(status, due=FAR_OFF)

    assert done(store, run, change=change).held
    loaded = store.load(run.number)
    assert (loaded.run.status, loaded.result) == (RunStatus.CANCELLED, None)
    assert done(store, run, change=change).held  # again, as after a lost connection


def test_who_takes_a_run_over_is_told_of_the_cancel(store):
    begun(store)
    store.cancel("a")

    run = store.claim_run("a", THEIRS, dead=["us"])
    assert run.cancelling


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_cancelling_a_run_that_has_ended_changes_nothing(store, status):
    done(store, begun(store), change=Change(status))
    before = store.find("a")

    assert store.cancel("a") == before == store.find("a")


def test_a_run_that_nobody_has_made_cannot_be_cancelled(store):
    with pytest.raises(RunNotFoundError, match="has no run 'b'"):
        store.cancel("b")


# -- reading ---------------------------------------------------------------------------------------


def test_runs_are_listed_from_the_newest_on_and_by_pages(store):
    store.create([new(f"run-{n}") for n in range(7)])

    first = store.runs(Filter(limit=3))
    second = store.runs(Filter(limit=9, before=first[-1].number))
    assert [run.run_id for run in (*first, *second)] == [f"run-{n}" for n in reversed(range(7))]


def test_runs_are_listed_by_status_target_and_parent(store):
    store.create([new("a"), new("b", target="g"), new("c", target="g", parent="a")])
    begun(store, "d", target="g", parent="a")

    def ids(**where):
        return [run.run_id for run in store.runs(Filter(**where))]

    assert ids() == ["d", "c", "b", "a"]
    assert ids(target="g") == ["d", "c", "b"]
    assert ids(parent="a") == ["d", "c"]
    assert ids(statuses=[RunStatus.RUNNING, RunStatus.FAILED]) == ["d"]
    assert ids(statuses=[RunStatus.ENQUEUED], target="g", parent="a") == ["c"]
    assert ids(target="?") == []


def test_what_is_not_there_is_not_found(store):
    assert store.find("a") is None
    for read in (store.load, store.signals, lambda run: store.blobs(run, [b"d"])):
        with pytest.raises(RunNotFoundError, match="has no run 'number 5'"):
            read(5)


def test_owners_are_those_of_running_runs(store):
    for number, owner in enumerate(["us", "them", "us", "late"]):
        begun(store, f"{number}", Lease(owner, 0))
    done(store, store.claim_run("3", OVER), change=SUCCESS)

    assert store.owners() == ["them", "us"]


# -- deleting --------------------------------------------------------------------------------------


def filled(store, run_id, change=SUCCESS, at=None):
    """A run with rows in every table, which has ended."""
    run = begun(store, run_id)
    store.send(run_id, "go", b"1")
    store.commit([everything(run.number, run.epoch, change=change)], seconds=HOUR)
    return run


def test_a_run_is_deleted_with_all_of_its_rows(store):
    run, other = filled(store, "a"), filled(store, "b")
    before = contents(store, other.number)
    store.delete("a")

    assert store.find("a") is None
    with pytest.raises(RunNotFoundError):
        store.load(run.number)
    assert contents(store, other.number) == before
    with pytest.raises(RunNotFoundError):
        store.delete("a")


def test_a_run_that_somebody_executes_is_not_deleted(store):
    run = begun(store)
    with pytest.raises(RunLeasedError):
        store.delete("a")
    assert done(store, run).held

    store.delete("a", dead=["us"])
    assert not done(store, run).held


def test_a_sweep_deletes_finished_runs_of_the_given_statuses(store):
    for number, status in enumerate(sorted(FINISHED)):
        filled(store, f"{number}-{status}", Change(status))
    begun(store, "running", OVER)
    store.create([new("enqueued")])
    done(store, begun(store, "suspended"), change=Change(RunStatus.SUSPENDED))

    assert store.sweep([*RunStatus], LONG_AGO) == 0
    assert store.sweep([RunStatus.FAILED, RunStatus.DEAD], FAR_OFF) == 2
    assert store.sweep([RunStatus.ENQUEUED], FAR_OFF) == 0
    assert store.sweep([*RunStatus], FAR_OFF, limit=1) == 1
    assert store.sweep([*RunStatus], FAR_OFF) == 1
    assert {run.run_id for run in store.runs()} == {"running", "enqueued", "suspended"}


def test_a_sweep_can_keep_the_results(store):
    run = filled(store, "a")
    assert store.sweep([RunStatus.SUCCEEDED], FAR_OFF, keep_results=True) == 1
    assert store.sweep([RunStatus.SUCCEEDED], FAR_OFF, keep_results=True) == 0

    loaded = store.load(run.number)
    assert (loaded.result, loaded.run.trimmed, loaded.run.progress) == (b"value", True, 9)
    assert (loaded.program, loaded.chunks, loaded.records, loaded.signals) == (None, [], [], [])
    assert store.blobs(run.number, [b"d"]) == {}
    assert store.sweep([RunStatus.SUCCEEDED], FAR_OFF) == 1
    assert store.find("a") is None


def test_a_run_without_its_steps_cannot_go_on(store):
    """Its finished nodes would be called again (D2)."""
    filled(store, "a", Change(RunStatus.FAILED))
    store.sweep([RunStatus.FAILED], FAR_OFF, keep_results=True)

    with pytest.raises(RunConflictError, match="its steps were deleted; start a new run"):
        store.claim_run("a", OURS, again=True)


# -- schedules -------------------------------------------------------------------------------------


def test_a_schedule_fires_once_for_each_time(store, another):
    stores = [store, another]
    fired = in_threads(8, lambda n: stores[n % 2].fire("daily", 100.0, new("daily@100")))
    assert sorted(fired) == [False] * 7 + [True]

    assert store.fire("hourly", 100.0, new("hourly@100"))
    assert store.fire("daily", 200.0, new("daily@200"))
    assert not store.fire("daily", 150.0, new("daily@150"))
    assert store.fired() == {"daily": 200.0, "hourly": 100.0}
    assert {run.run_id for run in store.runs()} == {"daily@100", "daily@200", "hourly@100"}


def test_a_schedule_does_not_fire_again_when_its_run_was_deleted(store):
    store.fire("daily", 100.0, new("daily@100"))
    store.delete("daily@100")

    assert not store.fire("daily", 100.0, new("daily@100"))
    assert store.find("daily@100") is None


def test_a_schedule_whose_run_is_there_already_has_fired(store):
    store.create([new("daily@100")])

    assert not store.fire("daily", 100.0, new("daily@100"))
    assert store.fired() == {"daily": 100.0}


# -- news ------------------------------------------------------------------------------------------


def test_news_of_any_process_are_told(store, another):
    told = threading.Event()
    unsubscribe = store.subscribe(told.set)
    run = begun(another, "running")

    def news(action):
        """Until it is heard: what happens while a listener settles in may be missed."""
        for _ in range(100):
            told.clear()
            action()
            if told.wait(0.2):
                return True
        return False

    numbers = iter(range(1000))
    assert news(lambda: another.create([new(f"{next(numbers)}")]))
    assert news(lambda: another.send("running", "go", b""))
    assert news(lambda: another.cancel("running"))
    assert news(lambda: another.fire("daily", 100.0 + next(numbers), new(f"at-{next(numbers)}")))
    assert done(another, run, change=Change(RunStatus.ENQUEUED)).held
    unsubscribe()
    unsubscribe()


def test_news_that_come_before_the_first_look_are_told(store, another):
    begun(another, "running")
    told = threading.Event()
    store.subscribe(told.set)
    another.send("running", "go", b"")

    assert told.wait(20)


def test_a_listener_hears_of_our_own_news(store):
    heard = threading.Event()
    store.subscribe(heard.set)
    store.create([new()])

    assert heard.wait(20)


def test_a_listener_that_fails_does_not_keep_others_from_hearing(store, caplog):
    heard = threading.Event()

    def fails():
        raise ValueError("this listener")

    store.subscribe(fails)
    store.subscribe(heard.set)
    store.create([new()])

    assert heard.wait(20)
    assert "a listener to news of a store failed" in caplog.text


def test_nobody_is_told_after_the_end_of_a_subscription(store):
    heard, late = threading.Event(), threading.Event()
    store.subscribe(late.set)()
    store.subscribe(heard.set)
    store.create([new()])

    assert heard.wait(20)
    assert not late.is_set()


# -- the end ---------------------------------------------------------------------------------------


def test_a_closed_store_is_not_used_any_more(store):
    run = begun(store)
    store.subscribe(lambda: None)
    store.close()
    store.close()

    for use in (
        lambda: store.create([new()]),
        lambda: store.claim(OURS),
        lambda: store.claim_run("a", OURS),
        lambda: store.commit([Commit(run.number, 1)], seconds=HOUR),
        lambda: store.find("a"),
        store.runs,
        lambda: store.load(run.number),
        lambda: store.blobs(run.number, []),
        lambda: store.send("a", "go", b""),
        lambda: store.signals(run.number),
        lambda: store.cancel("a"),
        lambda: store.delete("a"),
        lambda: store.sweep([RunStatus.SUCCEEDED], FAR_OFF),
        lambda: store.fire("daily", 1.0, new()),
        store.fired,
        store.owners,
        lambda: store.transaction(run.number, 1),
        lambda: store.subscribe(lambda: None),
    ):
        with pytest.raises(StoreError, match=r"Store\(.*\) is closed"):
            use()


def test_its_repr_names_it_without_a_password(store, kind):
    assert repr(store).lower().startswith(kind + "store(")
    assert "tester" not in repr(store)


# -- transactions of tasks -------------------------------------------------------------------------


@pytest.fixture
def effects(store):
    """What a task does in the store's database: a statement, and a function that reads its rows."""
    run = begun(store, "setup")
    with store.transaction(run.number, run.epoch) as transaction:
        transaction.connection.execute("CREATE TABLE paid (amount INTEGER NOT NULL)")
    done(store, run, change=SUCCESS)

    def rows():
        run = begun(store, f"reading-{time.monotonic_ns()}")
        with store.transaction(run.number, run.epoch) as transaction:
            return transaction.connection.execute("SELECT amount FROM paid").fetchall()

    return "INSERT INTO paid VALUES (7)", rows


@in_databases
def test_effects_and_outcome_are_one_transaction(store, effects):
    """(D5)"""
    insert, rows = effects
    run = begun(store)
    with store.transaction(run.number, run.epoch) as transaction:
        transaction.connection.execute(insert)
        transaction.keep(Outcome(b"k", 0, b"old"))
        transaction.keep(Outcome(b"k", 0, b"value"))
        assert store.load(run.number).outcomes == []

    assert rows() == [(7,)]
    assert store.load(run.number).outcomes == [Outcome(b"k", 0, b"value")]
    done(store, run, drop_outcomes=[b"k"])
    assert store.load(run.number).outcomes == []


@in_databases
def test_an_error_in_a_transaction_takes_everything_back(store, effects):
    """(D5) And the error stays what it is, also one of the database."""
    insert, rows = effects
    run = begun(store)
    held = run.number, run.epoch
    with pytest.raises(ZeroDivisionError), store.transaction(*held) as transaction:
        transaction.connection.execute(insert)
        transaction.keep(Outcome(b"k", 0, b"value"))
        1 / 0
    with pytest.raises(Exception, match=r"(?i)null") as caught, store.transaction(*held) as other:
        other.connection.execute("INSERT INTO paid VALUES (NULL)")
    assert not isinstance(caught.value, StoreError)

    assert rows() == []
    assert store.load(run.number).outcomes == []


@in_databases
def test_a_transaction_of_a_former_owner_writes_nothing(store, another, effects):
    """(D5, D6)"""
    insert, rows = effects
    run = begun(store, lease=OVER)
    another.claim_run("a", THEIRS)
    lost = pytest.raises(LeaseLostError, match="was taken over by another process")
    with lost as caught, store.transaction(run.number, run.epoch) as transaction:
        transaction.connection.execute(insert)
    assert caught.value.run_id == "a"
    assert rows() == []


@in_databases
def test_a_task_may_not_end_its_transaction_itself(store, effects):
    insert, _rows = effects
    run = begun(store)
    error = pytest.raises(Exception, match=r"(?i)transaction")

    with error, store.transaction(run.number, run.epoch) as transaction:
        transaction.connection.execute(insert)
        transaction.connection.commit()


def test_a_store_in_memory_has_no_transactions():
    store = open_store("memory:")
    run = begun(store)

    with pytest.raises(StoreError, match="has no transactions for tasks; use one in SQLite"):
        store.transaction(run.number, run.epoch)


# -- processes -------------------------------------------------------------------------------------

WORKER = """
import json, sys
from cascade.adapters.stores import open_store
from cascade.spec.run_rows import *

url, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = open_store(url)  # all at once, and the first of all makes the tables
ids = [f"run-{n}" for n in range(40)]
made = store.create([NewRun(run_id, "f", b"r", b"p") for run_id in ids])
fired = [store.fire("daily", float(n), NewRun(f"daily@{n}", "f", b"r", b"p")) for n in range(5)]
mine = []
while claims := store.claim(Lease(name, 3600.0), limit=3):
    for run in claims:
        mine.append(run.run_id)
        chunks = [Chunk(1, name.encode())]
        store.commit([Commit(run.number, run.epoch, chunks=chunks)], seconds=3600.0)
    done = Change(RunStatus.SUCCEEDED, name.encode())
    batch = [Commit(run.number, run.epoch, change=done) for run in claims]
    receipts = store.commit(batch, seconds=3600.0)
    assert all(receipt.held for receipt in receipts)
store.close()
print(json.dumps({"new": sum(m.new for m in made), "fired": fired, "mine": mine}), flush=True)
"""


def started(script, *arguments):
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "ready\n"
    return process


@in_databases
def test_four_processes_share_a_store(url):
    """Each run is created once, fired once and executed once."""
    workers = [started(WORKER, url, f"worker-{n}") for n in range(4)]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate(timeout=50)[0]) for worker in workers]

    assert [worker.returncode for worker in workers] == [0] * 4
    assert sum(each["new"] for each in told) == 40
    for times in zip(*(each["fired"] for each in told), strict=True):
        assert sum(times) <= 1  # a later time may have come first
    executed = [(run_id, f"worker-{n}") for n, each in enumerate(told) for run_id in each["mine"]]
    store = open_store(url)
    runs = store.runs(Filter(limit=1000))
    assert len({run_id for run_id, _ in executed}) == len(executed) == len(runs) >= 41
    by = dict(executed)
    for run in runs:
        loaded = store.load(run.number)
        name = by[run.run_id].encode()
        assert (run.status, run.epoch) == (RunStatus.SUCCEEDED, 1)
        assert (loaded.chunks, loaded.result) == ([Chunk(1, name)], name)
    store.close()


FORKED = """
import os, sys
from cascade.adapters.stores import open_store

store = open_store(sys.argv[1])
store.find("a")
child = os.fork()
if not child:
    try:
        store.find("a")
    except OSError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
store.find("a")
store.close()
"""


def test_a_fork_does_not_use_the_connections_of_its_parent(url):
    command = [sys.executable, "-c", FORKED, url]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert "cannot be used in a fork of it: open the store in each process" in told


WRITER = """
import sys
from cascade.adapters.stores import open_store
from cascade.spec.run_rows import *

store = open_store(sys.argv[1])
(made,) = store.create([NewRun("a", "f", b"r", b"p")], lease=Lease("writer", 3600.0))
print("ready", flush=True)
for n in range(1, 1_000_000):
    rows = {"chunks": [Chunk(n, b"x" * 500)], "records": [Record(b"loop", "loop", n, b"")]}
    store.commit([Commit(made.run.number, 1, **rows)], seconds=3600.0)
    print(n, flush=True)
"""


@in_databases
def test_what_was_committed_outlives_a_killed_process(url):
    """Also the last commit, and of the one under way all or nothing."""
    with started(WRITER, url) as writer:
        for _ in range(20):
            told = int(writer.stdout.readline())
        writer.kill()
        told = int([told, *writer.stdout.read().split()][-1])

    store = open_store(url)
    run = store.claim_run("a", OURS, dead=["writer"])
    loaded = store.load(run.number)
    (record,) = loaded.records
    assert told <= record.step <= told + 1
    assert [chunk.number for chunk in loaded.chunks] == list(range(1, record.step + 1))
    store.close()
