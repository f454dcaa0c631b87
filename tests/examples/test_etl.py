"""examples/etl.py: files into SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from examples import etl

import cascade as cs
from cascade.runtime.bus import MessageBus

ROWS = "SELECT day, shop, item, cents FROM sales ORDER BY 1, 2, 3, 4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    etl.make_files(tmp_path / "sales", days=20)
    return tmp_path / "sales"


def cleaned(folder: Path, run: Callable[[MessageBus], Any]) -> int:
    """How many files a load parses."""
    bus, started = MessageBus(), Counter[str]()
    bus.subscribe(cs.events.TaskStarted, lambda event: started.update([event.task]))
    run(bus)
    return started["clean"]


def test_each_row_is_in_both_databases_once_however_often_it_is_loaded(
    folder: Path, postgres_url: str
) -> None:
    psycopg = pytest.importorskip(
        "psycopg", reason="needs psycopg: pip install 'cascade-engine[postgres]'"
    )
    files = sorted(folder.glob("*.csv"))
    for file in files[:2]:
        file.write_text(f"{file.read_text('utf-8')}Oslo,a,?\n", encoding="utf-8")
    urls = {"SQLite": f"{folder}/sales.db", "PostgreSQL": postgres_url}

    told = [cs.run(etl.load(files, urls)) for _ in range(2)]

    assert told[0] == told[1]
    assert told[0] == (
        "1,000 rows into SQLite, 1,000 rows into PostgreSQL; 2 lines refused, among them "
        "000.csv:52, 001.csv:52"
    )
    with closing(sqlite3.connect(urls["SQLite"])) as database:
        rows = database.execute(ROWS).fetchall()
    with psycopg.connect(postgres_url) as server:
        assert sorted(server.execute(ROWS).fetchall()) == sorted(rows)
    assert len(rows) == 1_000
    assert len({day for day, *_ in rows}) == 20


def test_files_that_have_not_changed_are_not_parsed_again(folder: Path) -> None:
    files = sorted(folder.glob("*.csv"))

    def load(bus: MessageBus) -> None:
        target = etl.load(files, {"SQLite": f"{folder}/sales.db"})
        cs.run(target, cache=f"sqlite:///{folder}/cache.db", bus=bus)

    assert cleaned(folder, load) == 20
    assert cleaned(folder, load) == 0
    files[3].write_text("shop,item,price\nOslo,a,1.25\n", encoding="utf-8")
    assert cleaned(folder, load) == 1
    with closing(sqlite3.connect(folder / "sales.db")) as database:
        replaced = database.execute("SELECT * FROM sales WHERE day = '003'").fetchall()
    assert replaced == [("003", "Oslo", "a", 125)]


def test_a_day_that_cannot_be_written_is_left_as_it_was(folder: Path) -> None:
    file = folder / "000.csv"
    urls = {"SQLite": f"{folder}/sales.db"}
    cs.run(etl.load([file], urls))
    with closing(sqlite3.connect(folder / "sales.db")) as database:
        before = database.execute(ROWS).fetchall()
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON sales WHEN NEW.cents = 777 "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    file.write_text("shop,item,price\nOslo,a,1\nOslo,a,7.77\n", encoding="utf-8")

    with pytest.raises(sqlite3.IntegrityError, match="the disk is full"):
        cs.run(etl.load([file], urls))
    with closing(sqlite3.connect(folder / "sales.db")) as database:
        assert database.execute(ROWS).fetchall() == before
