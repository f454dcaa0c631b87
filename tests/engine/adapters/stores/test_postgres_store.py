"""PostgresStore: its tables, and what happens when the server or the connection fails."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg
import pytest
from tests.services import free_port, running_postgres

from cascade.adapters.stores import open_store
from cascade.adapters.stores.postgres import PostgresStore
from cascade.spec.errors import ArgumentError, StoreError
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
def store(postgres_url):
    store = PostgresStore(postgres_url)
    yield store
    store.close()


@pytest.fixture
def stranger(postgres_url, store):
    """Another program's connection to the database."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def begun(store, run_id="a"):
    (made,) = store.create([NewRun(run_id, "f", b"r", b"p")], lease=OURS)
    return made.run


def chunk(run, number=1, body=b"x"):
    return [Commit(run.number, run.epoch, chunks=[Chunk(number, body)])]


# -- tables ----------------------------------------------------------------------------------------


def test_all_tables_are_in_the_schema_cascade(postgres_url, stranger):
    stranger.execute("DROP SCHEMA IF EXISTS cascade CASCADE")  # with tables of caches
    PostgresStore(postgres_url).close()

    tables = stranger.execute(
        "SELECT table_schema FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()

    assert set(tables) == {("cascade",)}
    assert len(tables) == 11


def test_renewing_leases_changes_no_index(postgres_url, stranger):
    """New versions of rows stay on their pages, or endless runs would bloat the indexes."""
    stranger.execute("DROP SCHEMA cascade CASCADE")  # with what is counted there
    store = PostgresStore(postgres_url)
    run = begun(store)
    for number in range(50):
        record = Record(b"loop", "loop", number, b"x" * 100)
        store.commit([Commit(run.number, run.epoch, records=[record], progress=1)], seconds=9)
    store.close()  # its sessions report their statistics at their end

    def counts():
        stranger.execute("SELECT pg_stat_clear_snapshot()")
        return stranger.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
            "WHERE schemaname = 'cascade' AND relname IN ('runs', 'records')"
        ).fetchall()

    until = time.monotonic() + 20
    while sum(updated for updated, _ in counts()) < 99 and time.monotonic() < until:
        time.sleep(0.01)
    assert all(hot >= updated - 3 > 40 for updated, hot in counts())


# -- URLs ------------------------------------------------------------------------------------------


def test_options_of_libpq_are_passed_on_and_ours_are_not(postgres_url):
    store = open_store(f"{postgres_url}?prepare=off&application_name=mine%20%26%20yours")
    run = begun(store)
    with store.transaction(run.number, run.epoch) as transaction:
        for _ in range(10):
            found = transaction.connection.execute("SHOW application_name").fetchone()
        assert found == ("mine & yours",)
        prepared = transaction.connection.execute("SELECT count(*) FROM pg_prepared_statements")
        assert prepared.fetchone() == (0,)
    store.close()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?prepare=never", "prepare must be 'on' or 'off', but is 'never'"),
        ("?no_such_option=1", "the URL of a PostgreSQL store is invalid"),
    ],
)
def test_a_wrong_option_is_explained(query, text):
    with pytest.raises(ArgumentError, match=text):
        open_store(f"postgresql://me:secret@127.0.0.1:1/db{query}")


def test_a_server_that_is_not_there_is_an_error_that_may_pass():
    port = free_port()
    with pytest.raises(StoreError, match=f"the store '127.0.0.1:{port}/db' cannot") as caught:
        open_store(f"postgresql://me:secret@127.0.0.1:{port}/db")
    assert caught.value.transient
    assert "secret" not in str(caught.value)


# -- failures --------------------------------------------------------------------------------------


def test_a_database_that_may_only_be_read(store, postgres_url):
    run = begun(store)
    readers = open_store(f"{postgres_url}?options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(
        StoreError, match="the server is a standby, or the database or user is set"
    ) as caught:
        readers.commit(chunk(run), seconds=1)
    assert not caught.value.transient

    assert readers.find("a") == run
    readers.close()


def test_a_user_without_privileges_is_told_what_is_missing(postgres_url, postgres, stranger):
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        stranger.execute("CREATE USER visitor")
    stranger.execute("DROP SCHEMA cascade CASCADE")
    with pytest.raises(StoreError, match="must be allowed to CREATE in the database once"):
        PostgresStore(postgres_url.replace("tester@", "visitor@"))


def prepared(store):
    """A run with rows, and a batch that changes all of these."""
    run, other = begun(store), begun(store, "b")
    store.send("a", "go", b"1")
    rows = {"chunks": [Chunk(1, b"old"), Chunk(2, b"old")], "blobs": [Blob(b"old", b"old")]}
    rows["records"] = [Record(b"k", "loop", 1, b"old"), Record(b"old", "graph", 0, b"old")]
    store.commit([Commit(run.number, run.epoch, **rows)], seconds=1)
    change = Commit(
        run.number,
        run.epoch,
        chunks=[Chunk(2, b"new"), Chunk(3, b"new")],
        records=[Record(b"k", "loop", 2, b"new")],
        blobs=[Blob(b"new", b"new")],
        drop_chunks=[1],
        drop_records=[b"old"],
        drop_blobs=[b"old"],
        taken=[1],
        progress=3,
        change=Change(RunStatus.SUCCEEDED, b"value"),
    )
    renewal = Commit(other.number, other.epoch, chunks=[Chunk(1, b"other")])
    return [run, other], [renewal, change]


def state(store, runs):
    return [(store.load(run.number), store.blobs(run.number, [b"old", b"new"])) for run in runs]


#: Each a row that the batch writes: while a stranger holds it, the batch is stuck in its midst.
HELD_ROWS = {
    "fence": "SELECT 1 FROM cascade.runs WHERE run_id = 'a' FOR UPDATE",
    "fence of another run": "SELECT 1 FROM cascade.runs WHERE run_id = 'b' FOR UPDATE",
    "chunk": "SELECT 1 FROM cascade.journal WHERE chunk = 2 FOR UPDATE",
    "dropped chunk": "SELECT 1 FROM cascade.journal WHERE chunk = 1 FOR UPDATE",
    "record": "SELECT 1 FROM cascade.records WHERE key = 'k' FOR UPDATE",
    "dropped record": "SELECT 1 FROM cascade.records WHERE key = 'old' FOR UPDATE",
    "new blob": "INSERT INTO cascade.blobs SELECT number, 'new', '' FROM cascade.runs",
    "dropped blob": "SELECT 1 FROM cascade.blobs FOR UPDATE",
    "signal": "SELECT 1 FROM cascade.signals FOR UPDATE",
    "result": "INSERT INTO cascade.results SELECT number, '' FROM cascade.runs",
}


@pytest.mark.parametrize("row", HELD_ROWS)
def test_a_batch_is_nothing_if_its_connection_ends_in_it(store, stranger, postgres_url, row):
    runs, batch = prepared(store)
    before = state(store, runs)
    holding = psycopg.connect(postgres_url)
    holding.execute(HELD_ROWS[row])
    failed = []

    def commit():
        try:
            store.commit(batch, seconds=1)
        except StoreError as error:
            failed.append(error)

    writer = threading.Thread(target=commit)
    writer.start()
    assert terminated(stranger)
    writer.join(20)
    holding.rollback()
    holding.close()

    (error,) = failed
    assert error.transient
    assert state(store, runs) == before
    assert [receipt.held for receipt in store.commit(batch, seconds=1)] == [True, True]
    assert store.load(runs[0].number).result == b"value"


def terminated(stranger):
    """Whether the session that waits for a row was ended, once there was one."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = stranger.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'cascade' AND wait_event_type = 'Lock'"
        ).fetchall()
        if found:
            return found == [(True,)]
    return False


def test_a_claim_takes_what_nobody_else_is_claiming_and_does_not_wait(store, postgres_url):
    store.create([NewRun(run_id, "f", b"r", b"p", at=float(n)) for n, run_id in enumerate("ab")])
    with psycopg.connect(postgres_url) as claiming:
        claiming.execute("UPDATE cascade.runs SET status = 'running' WHERE run_id = 'a'")

        assert [run.run_id for run in store.claim(OURS, limit=2)] == ["b"]


def test_two_batches_that_wait_for_each_other_are_both_written(store, stranger, postgres_url):
    """PostgreSQL breaks one of them off, which is then tried again."""
    # It looks for a deadlock once, after so long: by then there has to be one.
    stranger.execute("ALTER ROLE tester SET deadlock_timeout = '500ms'")
    try:
        hurried = PostgresStore(postgres_url)
        runs = [begun(hurried, run_id) for run_id in "ab"]
        holding = psycopg.connect(postgres_url)
        holding.execute("SELECT 1 FROM cascade.runs WHERE run_id = 'b' FOR UPDATE")
        both = [Commit(run.number, run.epoch, chunks=[Chunk(1, b"x")]) for run in runs]
        receipts = []
        writer = threading.Thread(target=lambda: receipts.extend(hurried.commit(both, seconds=1)))
        writer.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until = time.monotonic() + 20
        while stranger.execute(waiting).fetchone() == (0,) and time.monotonic() < until:
            time.sleep(0.001)
        holding.execute("SET deadlock_timeout = '30s'")  # the other one is to be broken off
        holding.execute("UPDATE cascade.runs SET progress = 5 WHERE run_id = 'a'")
        holding.commit()
        writer.join(20)
        holding.close()

        assert [receipt.held for receipt in receipts] == [True, True]
        assert hurried.find("a").progress == 5
        hurried.close()
    finally:
        stranger.execute("ALTER ROLE tester RESET deadlock_timeout")


def test_a_store_goes_on_when_its_server_was_restarted():
    with running_postgres() as server:
        store = PostgresStore(server.url)
        heard = threading.Event()
        store.subscribe(heard.set)
        run = begun(store)
        assert store.commit(chunk(run), seconds=3600)[0].held
        server.stop()
        with pytest.raises(StoreError) as caught:
            store.commit(chunk(run, 2), seconds=3600)
        assert caught.value.transient
        with pytest.raises(StoreError):
            store.find("a")
        server.start()

        assert store.commit(chunk(run, 3), seconds=3600)[0].held
        assert [chunk.number for chunk in store.load(run.number).chunks] == [1, 3]
        heard.clear()
        store.send("a", "go", b"")
        assert heard.wait(20)
        store.close()


def test_a_lease_is_measured_by_the_clock_of_the_server(store, stranger):
    before = stranger.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()[0]
    run = begun(store)
    after = stranger.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()[0]

    assert before <= run.created <= after
    assert run.lease_until == pytest.approx(run.created + 3600)


def test_a_task_in_a_transaction_does_not_keep_the_lease_from_being_renewed(store):
    """(D5, D6)"""
    run = begun(store)
    with store.transaction(run.number, run.epoch) as transaction:
        transaction.connection.execute("SELECT 1")
        assert store.commit(chunk(run), seconds=3600)[0].held
