"""Workers that are killed or stand still while they execute many runs (D2–D6)."""

import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine.durable.drawing import BOOKINGS
from tests.engine.durable.kill_points import POINTS
from tests.engine.durable.loads import Load, loaded
from tests.engine.durable.nursery import Nursery
from tests.engine.durable.trials import trials

pytestmark = pytest.mark.thorough


@pytest.fixture(params=["sqlite", "postgres"])
def database(
    request: pytest.FixtureRequest, store_url: Callable[[str], str], tmp_path: Path
) -> tuple[str, Any]:
    """The URL of a store, and a function that gives all bookings in its database."""
    url = store_url(request.param)

    def connect() -> Any:
        if request.param == "sqlite":
            return sqlite3.connect(tmp_path / "runs.db")
        import psycopg

        return psycopg.connect(url)

    def rows() -> Any:
        with closing(connect()) as connection:
            return connection.execute("SELECT run, n, value FROM bookings").fetchall()

    with closing(connect()) as connection:
        connection.execute(BOOKINGS)
        connection.commit()
    return url, rows


@trials(10, first=0)
def test_runs_go_on_when_their_workers_are_killed(
    trial: int, database: tuple[str, Any], tmp_path: Path, nursery: Nursery
) -> None:
    """Of two or three workers, one after the other is killed, at any time or at a named point."""
    chance, (url, rows) = random.Random(trial), database
    # Those of killed workers are over at once. One that lives, and gets no turn for longer than a
    # lease on a busy machine, would rightly lose its runs, as if it had stood still.
    with loaded(url, tmp_path, nursery, LEASE="30") as load:
        load.enqueue(chance.randint(1, 6), chance.randint(5, 20))
        for _ in range(chance.randint(2, 3)):
            load.start(**_orders(chance))
        go = chance.randrange(10)
        for kill in range(10):
            load.until_calls(chance.randint(1, 40))
            if kill == go:
                load.say_go()
            if load.has_ended():
                break
            time.sleep(chance.random() * 0.02)
            load.kill(chance.choice(load.workers))
            load.start(**_orders(chance))
        load.close()  # some may still have orders to kill themselves
        load.start()
        load.say_go()
        load.finish()
        load.check()
        load.check_bookings(rows())


def _orders(chance: random.Random) -> dict[str, str]:
    orders = {"VM": "1"} if chance.random() < 0.5 else {}
    if chance.random() < 0.5:
        orders["KILL_AT"] = f"{chance.choice(POINTS)}:{chance.randint(0, 60)}"
    return orders


@trials(20, first=0)
def test_runs_go_on_when_their_workers_stand_still(
    trial: int, database: tuple[str, Any], tmp_path: Path, nursery: Nursery
) -> None:
    """For longer than a lease: what they do afterwards is not written (D6)."""
    chance, (url, rows) = random.Random(trial), database
    with loaded(url, tmp_path, nursery, 3) as load:
        load.enqueue(4, 15)
        for _ in range(3):
            load.until_calls(chance.randint(1, 40))
            _stand_still(load, chance)
        load.say_go()
        load.finish()
        load.check()
        load.check_bookings(rows())


def _stand_still(load: Load, chance: random.Random) -> None:
    worker = chance.choice(load.workers)
    worker.stop()
    load.zombies.add(worker.pid)
    time.sleep(chance.uniform(0.5, 3))
    worker.send_signal(signal.SIGCONT)
