"""Stores that another version of Cascade has made, in SQLite and PostgreSQL."""

import sqlite3
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest

from cascade.adapters.stores import open_store
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Chunk, Commit, Lease, NewRun


class Made:
    """A store, and what a stranger to it sees and does in its database."""

    def __init__(self, url: str, tables: str, strange: Any, adapter: ModuleType) -> None:
        self.url = url
        #: What the names of its tables begin with.
        self.tables = tables
        #: Has the migrations of its tables.
        self.adapter = adapter
        self._strange = strange

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self._strange.execute(statement.format(of=self.tables))
        return cursor.fetchall() if cursor.description else []

    def migrate(self, monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
        """Let a newer Cascade have one more migration."""
        migration = tuple(statement.format(of=self.tables) for statement in statements)
        migrations = (*self.adapter.MIGRATIONS, migration)
        monkeypatch.setattr(self.adapter, "MIGRATIONS", migrations)


@pytest.fixture(params=["sqlite", "postgres"])
def made(request, store_url, tmp_path):
    url = store_url(request.param)
    with closing(open_store(url)):
        pass
    if request.param == "sqlite":
        from cascade.adapters.stores import sqlite

        with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as strange:
            yield Made(url, "cascade_", strange, sqlite)
    else:
        import psycopg

        from cascade.adapters.stores import postgres

        with psycopg.connect(url, autocommit=True) as strange:
            yield Made(url, "cascade.", strange, postgres)


def begun(store, run_id):
    (made,) = store.create([NewRun(run_id, "f", b"r", b"p")], lease=Lease("us", 3600))
    return made.run


def test_a_store_of_a_newer_cascade_is_refused(made):
    made.query("UPDATE {of}meta SET value = 1000 WHERE key = 'schema'")

    with pytest.raises(StoreError, match=r"has version 1000 of the tables .* install a newer"):
        open_store(made.url)


def test_migrations_are_applied_one_after_the_other(made, monkeypatch):
    """And an older process goes on with a store that a newer one has migrated."""
    with closing(open_store(made.url)) as store:
        run = begun(store, "a")
        made.migrate(
            monkeypatch,
            "ALTER TABLE {of}runs ADD COLUMN colour TEXT",
            "CREATE TABLE {of}more (x INTEGER)",
        )
        with closing(open_store(made.url)) as newer:
            assert newer.load(run.number).run == run
        made.query("SELECT colour FROM {of}runs")
        commit = Commit(run.number, run.epoch, chunks=[Chunk(1, b"x")])
        assert store.commit([commit], seconds=1)[0].held
        assert begun(store, "b").epoch == 1
    open_store(made.url).close()


def test_a_migration_that_fails_leaves_nothing_behind(made, monkeypatch):
    version = [(len(made.adapter.MIGRATIONS),)]
    made.migrate(
        monkeypatch,
        "CREATE TABLE {of}more (x INTEGER)",
        "CREATE TABLE {of}runs (twice INTEGER)",
    )
    with pytest.raises(StoreError, match=r"runs\"? already exists"):
        open_store(made.url)

    with pytest.raises(Exception, match=r"no such table|does not exist"):
        made.query("SELECT * FROM {of}more")
    assert made.query("SELECT value FROM {of}meta WHERE key = 'schema'") == version
