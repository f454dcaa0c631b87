"""Engines that are broken on purpose: a series of trials with one of them has to find faults."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cascade.adapters.stores import sqlite_rows, transitions
from cascade.adapters.stores.sqlite import SQLiteStore
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.kept import Kept


def _forget_an_outcome() -> None:
    """A resumed run does not know the first outcome in its store."""
    load = Kept.load

    def loaded(kept: Kept, chunks: Any) -> Any:
        result = load(kept, chunks)
        for key in [*kept.done][:1]:
            kept.done.pop(key)
        return result

    setattr(Kept, "load", loaded)  # noqa: B010


def _do_not_wait() -> None:
    """Calls begin before what they depend on is committed."""
    setattr(Journal, "holds", lambda *_, **__: False)  # noqa: B010
    goes_on = Journal.goes_on

    def going_on(*args: Any, **more: Any) -> bool:
        goes_on(*args, **more)
        return False

    setattr(Journal, "goes_on", going_on)  # noqa: B010


def _write_without_a_lease() -> None:
    """A process that has lost a run writes nevertheless (D6)."""
    commit = SQLiteStore.commit

    def committed(store: SQLiteStore, batch: Any, *, seconds: float) -> Any:
        with store._reading() as connection:
            epochs = dict(connection.execute("SELECT number, epoch FROM cascade_runs"))
        batch = [each._replace(epoch=epochs[each.run]) for each in batch]
        return commit(store, batch, seconds=seconds)

    setattr(SQLiteStore, "commit", committed)  # noqa: B010
    setattr(SQLiteStore, "commit_at_once", lambda *_, **__: None)  # noqa: B010
    setattr(SQLiteStore, "_fence", lambda *_: None)  # noqa: B010


def _keep_signals() -> None:
    """A signal that was taken stays in the inbox."""
    setattr(Desk, "take", lambda *_: None)  # noqa: B010


def _keep_records() -> None:
    """Records of finished loops stay in the store."""
    setattr(Desk, "drop_record", lambda *_: None)  # noqa: B010


def _commit_apart() -> None:
    """The outcome of a transaction is not kept with its effects."""
    from cascade.adapters.stores import sqlite

    setattr(sqlite._Transaction, "keep", lambda *_: None)  # noqa: B010


def _skip_rows() -> None:
    """Deleting a run leaves its journal."""
    delete = sqlite_rows.delete

    def deleted(connection: Any, numbers: Any, *, trim: bool = False) -> None:
        rows = connection.execute("SELECT * FROM cascade_journal").fetchall()
        delete(connection, numbers, trim=trim)
        connection.executemany("INSERT OR IGNORE INTO cascade_journal VALUES (?, ?, ?)", rows)

    setattr(sqlite_rows, "delete", deleted)  # noqa: B010


def _send_in_parts() -> None:
    """A signal is counted first, and written by a transaction of its own."""

    def send(store: SQLiteStore, run_id: str, name: str, body: bytes) -> int:
        with store._writing() as connection:
            run = transitions.signalled(store._named(connection, run_id), time.time())
            sqlite_rows.update(connection, run)
        with store._writing(news=True) as connection:
            row = run.number, run.inbox, name, body
            connection.execute("INSERT INTO cascade_signals VALUES (?, ?, ?, ?)", row)
        return run.inbox

    setattr(SQLiteStore, "send", send)  # noqa: B010


#: Name → breaks the engine; and a part of what is said of it.
BREAKS: dict[str, tuple[Callable[[], None], str]] = {
    "forgets an outcome": (_forget_an_outcome, "made again (D2)"),
    "does not wait": (_do_not_wait, "(D4)"),
    "writes without a lease": (_write_without_a_lease, "had other arguments before (D4)"),
    "keeps signals": (_keep_signals, "has left"),
    "keeps records": (_keep_records, "left in the store"),
    "commits apart": (_commit_apart, "(D5)"),
    "sends in parts": (_send_in_parts, "not all runs have ended"),
    "skips rows": (_skip_rows, "rows in journal"),
}
