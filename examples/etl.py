"""Load files of sales into SQLite and, if there is one, PostgreSQL.

    python examples/etl.py build/sales
    python examples/etl.py build/sales --postgres postgresql://user@host/database

Makes 200 files in the folder if it is empty. Each file is loaded as soon as it is read, by a
transaction that replaces the rows of its day, so a load that was interrupted can be repeated. Files
that have not changed since the last load are not parsed again: their rows come from a cache.
"""

from __future__ import annotations

import argparse
import csv
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cascade as cs

CREATE = "CREATE TABLE IF NOT EXISTS sales (day TEXT, shop TEXT, item TEXT, cents INTEGER)"


@cs.task(pure=True)
def clean(file: cs.FileContent) -> dict[str, Any]:
    """The rows of a file, and the numbers of the lines that make no sense."""
    rows, bad = [], []
    with open(file, newline="", encoding="utf-8") as text:
        for number, line in enumerate(csv.DictReader(text), start=2):
            try:
                rows.append((line["shop"], line["item"], round(float(line["price"]) * 100)))
            except ValueError:
                bad.append(number)
    return {"day": Path(file).stem, "rows": rows, "bad": bad}


@cs.task
def save(table: dict[str, Any], db: Any) -> int:
    """Replace the rows of a day, all or none of them."""
    day, rows = table["day"], table["rows"]
    mark = "?" if isinstance(db, sqlite3.Connection) else "%s"
    cursor = db.cursor()
    try:
        cursor.execute(f"DELETE FROM sales WHERE day = {mark}", (day,))
        marks = ", ".join([mark] * 4)
        cursor.executemany(f"INSERT INTO sales VALUES ({marks})", [(day, *row) for row in rows])
        db.commit()
    except BaseException:
        db.rollback()
        raise
    return len(rows)


@cs.task
def faults(table: dict[str, Any]) -> list[str]:
    return [f"{table['day']}.csv:{number}" for number in table["bad"]]


@cs.task
def report(loaded: dict[str, list[int]], bad: list[list[str]]) -> str:
    counts = ", ".join(f"{sum(rows):,} rows into {name}" for name, rows in loaded.items())
    refused = [place for places in bad for place in places]
    return f"{counts}; {len(refused)} lines refused, among them {', '.join(refused[:3])}"


def database(name: str, url: str) -> Any:
    """A resource: a connection that is opened at its first use and closed when the run ends."""

    @cs.resource(name, thread_bound=True)  # one thread uses it, one call after the other
    def connection() -> Iterator[Any]:
        if name == "PostgreSQL":
            import psycopg

            db: Any = psycopg.connect(url)
        else:
            db = sqlite3.connect(url)
        db.execute(CREATE)
        db.commit()
        yield db
        db.close()

    return connection


def load(files: Sequence[Path], urls: dict[str, str]) -> Any:
    """The graph: read each file once, and save it in each database."""
    tables = clean.map(file=[cs.FileContent(file) for file in files])
    loaded = {n: save.map(table=tables, db=cs.inject(database(n, urls[n]))) for n in urls}
    return report(loaded, faults.map(table=tables))


def make_files(folder: Path, days: int = 200) -> None:
    chance = random.Random(7)
    folder.mkdir(parents=True)
    for day in range(days):
        lines = ["shop,item,price"]
        for _ in range(50):
            price = "?" if chance.random() < 0.001 else f"{chance.uniform(1, 90):.2f}"
            lines.append(f"{chance.choice(['Oslo', 'Pune'])},{chance.choice('abc')},{price}")
        (folder / f"{day:03}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Load files of sales into databases.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--postgres", metavar="URL")
    options = parser.parse_args()
    if not options.folder.exists():
        make_files(options.folder)
    urls = {"SQLite": f"{options.folder}/sales.db", "PostgreSQL": options.postgres}
    target = load(sorted(options.folder.glob("*.csv")), {n: u for n, u in urls.items() if u})
    print(cs.run(target, cache=f"sqlite:///{options.folder}/cache.db", progress=None))


if __name__ == "__main__":
    main()
