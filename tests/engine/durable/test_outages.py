"""Stores that are away, full, locked or copied while runs are executed (D2–D6)."""

import asyncio
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.engine.durable import drawing
from tests.engine.durable.drawing import BOOKINGS
from tests.engine.durable.loads import Load, loaded
from tests.engine.durable.notes import note
from tests.engine.durable.nursery import Nursery
from tests.engine.durable.trials import MANY, trials
from tests.services import Postgres, running_postgres

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.adapters.stores.sqlite import SQLiteStore
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import RunStatus

psycopg: Any = pytest.importorskip(
    "psycopg", reason="needs psycopg: pip install 'cascade-engine[postgres]'"
)

Mode = Literal["fast", "immediate", "kill"]
_THOROUGH = [pytest.mark.thorough, pytest.mark.timeout(0)]


# -- a server that is restarted --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "each", "length", "modes"),
    [
        pytest.param(1, 2, 12, ["immediate", "kill"], id="some"),
        *(
            pytest.param(
                3,
                12,
                40,
                random.Random(seed).choices(["fast", "immediate", "kill"], k=12),
                id=f"many {seed}",
                marks=_THOROUGH,
            )
            for seed in range(max(MANY // 50, 1))
        ),
    ],
)
def test_runs_go_on_when_their_server_is_restarted(
    workers: int, each: int, length: int, modes: list[Mode], tmp_path: Path, nursery: Nursery
) -> None:
    chance = random.Random(str(modes))
    with running_postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute(BOOKINGS)
        with loaded(server.url, tmp_path, nursery, workers) as load:
            load.enqueue(each, length)
            for mode in modes:
                load.until_calls(chance.randint(10, 40))
                _restart(server, mode, away=chance.random() * 0.3)
            load.say_go()
            load.finish()
            load.check()
        with psycopg.connect(server.url) as connection:
            rows = connection.execute("SELECT run, n, value FROM bookings").fetchall()
        load.check_bookings(rows)


def _restart(server: Postgres, mode: Mode, away: float) -> None:
    server.stop(mode)
    time.sleep(away)
    server.start()


# -- a disk that is full ---------------------------------------------------------------------------

calls: list[int] = []


@cs.task
def page(n: int, _before: str = "") -> str:
    calls.append(n)
    return f"{n}" + 20_000 * "x"


def _pages(count: int) -> Any:
    """Each is 20 kB, and is committed before the next one is made."""
    made = page(1)
    for n in range(2, count + 1):
        made = page(n, made)
    return made


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_full_disk_interrupts_a_run_which_goes_on_when_there_is_space(
    use_vm: bool, tmp_path: Path, full_disk: Any
) -> None:
    calls.clear()
    url = f"sqlite:///{tmp_path}/runs.db"
    with closing(open_store(url)):
        pass  # the tables are there
    with full_disk(), pytest.raises(StoreError, match="the disk is full or broken") as caught:
        cs.run(_pages(30), run_id="pages", store=url, use_vm=use_vm)
    assert not caught.value.transient
    made = len(calls)
    assert 1 < made < 30
    # The lease holds for some seconds yet, but this process knows that it does not execute the run.
    assert cs.run(_pages(30), run_id="pages", store=url, use_vm=use_vm).startswith("30x")
    assert Counter(calls) - Counter(range(1, 31)) <= Counter([made])  # the call under way


@cs.task
def sheet(n: int, _before: str = "", tx: Any = cs.inject(cs.transaction)) -> str:
    """Writes 20 kB."""
    calls.append(n)
    try:
        tx.execute("INSERT INTO sheets VALUES (?, ?)", (n, 20_000 * "x"))
    except sqlite3.Error as error:
        raise RuntimeError(f"sheet {n} is lost") from error
    return f"sheet {n}"


def test_a_full_disk_in_a_transaction_of_a_task_interrupts_the_run(
    tmp_path: Path, full_disk: Any
) -> None:
    """The error is none of the task, whose run would have failed."""
    calls.clear()
    url, file = f"sqlite:///{tmp_path}/runs.db", tmp_path / "runs.db"
    with closing(open_store(url)), closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE sheets (n, text)")
    target = sheet(1)
    for n in range(2, 21):
        target = sheet(n, target).with_retry(3)
    with full_disk(), pytest.raises(StoreError, match="the disk is full or broken"):
        cs.run(target, run_id="sheets", store=url)
    made = len(calls)
    assert 1 < made < 20
    with closing(open_store(url)) as store:
        run = store.find("sheets")
        assert run is not None
        assert run.status is RunStatus.RUNNING
    assert cs.run(target, run_id="sheets", store=url) == "sheet 20"
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT n FROM sheets ORDER BY n").fetchall()
    assert rows == [(n,) for n in range(1, 21)]
    assert Counter(calls) - Counter(range(1, 21)) == Counter([made])  # the call under way


@trials(10, first=0)
def test_workers_on_a_full_disk_say_so_and_lose_nothing(
    trial: int, tmp_path: Path, nursery: Nursery
) -> None:
    chance = random.Random(trial)
    with loaded(_with_bookings(tmp_path), tmp_path, nursery) as load:
        load.enqueue(4, 20)
        for space in sorted(chance.randint(100_000, 1_000_000) for _ in range(3)):
            worker = load.start(FILE_SIZE=str(space), **chance.choice([{}, {"VM": "1"}]))
            until = time.monotonic() + 5
            while worker.poll() is None and time.monotonic() < until and not load.has_ended():
                time.sleep(0.02)
            if worker.poll() is not None:
                assert "the disk is full or broken" in load.log()
            load.kill(worker)
        load.start()
        load.say_go()
        load.finish()
        load.check()
        _check_bookings(load, tmp_path)


def _with_bookings(folder: Path) -> str:
    """A store in a file that has the table of bookings too."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute(BOOKINGS)
    return f"sqlite:///{folder}/runs.db?synchronous=normal"


def _check_bookings(load: Load, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        load.check_bookings(connection.execute("SELECT run, n, value FROM bookings").fetchall())


# -- a file that is locked -------------------------------------------------------------------------


@pytest.mark.parametrize("use_vm", [False, True])
async def test_a_run_waits_while_another_program_holds_the_lock(
    use_vm: bool, tmp_path: Path
) -> None:
    """Longer than the timeout: the commit is tried again, and nothing else of the run is."""
    calls.clear()
    loop, refused = asyncio.get_running_loop(), asyncio.Event()

    class Watched(SQLiteStore):
        failures = 0

        def commit(self, *args: Any, **options: Any) -> Any:
            try:
                return super().commit(*args, **options)
            except StoreError:
                self.failures += 1
                if self.failures == 2:
                    loop.call_soon_threadsafe(refused.set)
                raise

    store = Watched(str(tmp_path / "runs.db"), timeout=0.05)
    stranger = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    async with cs.Engine(store=store) as engine:
        run = engine.start(_pages(60), run_id="pages", use_vm=use_vm)
        while len(calls) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stranger.execute("BEGIN IMMEDIATE")
        await refused.wait()
        with pytest.raises(StoreError, match=r"another program has held .* longer than 0\.05 s"):
            await engine.run(page(1), run_id="another")
        assert len(calls) < 60
        stranger.execute("ROLLBACK")
        assert (await run.result()).startswith("60x")
        assert await engine.run(page(1), run_id="another") == page.func(1)
    assert Counter(calls[:-2]) == Counter(range(1, 61))
    stranger.close()
    store.close()


@pytest.mark.parametrize("end", ["goes on", pytest.param("is killed", marks=_THOROUGH)])
def test_a_process_that_stands_still_in_a_transaction_holds_up_all_others(
    end: str, tmp_path: Path, nursery: Nursery
) -> None:
    """They say so, and go on when it does, or is killed."""
    url = f"{_with_bookings(tmp_path)}&timeout=0.2"
    with loaded(url, tmp_path, nursery) as load:
        load.enqueue(2, 6)
        worker = load.start(STOP_AT="buyer-0 4")
        load.until_noted("stop")
        try:
            with pytest.raises(StoreError, match=r"another program has held .* longer than 0\.2 s"):
                cs.enqueue(url, drawing.add(1, 2), run_id="late")
            if end == "is killed":
                load.start()
                _until_logged(load, "the store cannot be used, trying again")
                load.kill(worker)
        finally:
            worker.send_signal(signal.SIGCONT)
        load.say_go()
        load.finish()
        load.check()
        if end == "goes on":
            _check_bookings(load, tmp_path)


def _until_logged(load: Load, text: str) -> None:
    while text not in load.log():
        time.sleep(0.01)


# -- a file that is copied -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["backup", "files"])
@pytest.mark.parametrize(
    "moment", [20, *(pytest.param(n, marks=_THOROUGH) for n in range(1, 1 + MANY // 2))]
)
async def test_a_copy_that_is_made_at_any_moment_goes_on(
    how: str, moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a loss of power, or from a backup."""
    first, second = _load(tmp_path / "a"), _load(tmp_path / "b")
    use_vm = bool(moment % 2)
    still = threading.Lock()  # while the copy is made: it has nothing that is not noted

    def note_unless_still(text: str) -> None:
        with still:
            note(text)

    def copy() -> None:
        with still:
            shutil.copy(first.folder / "calls", second.folder)
            _copy(first.folder, second.folder, how)

    monkeypatch.setattr(drawing, "note", note_unless_still)
    monkeypatch.setenv("CALLS", str(first.folder / "calls"))
    async with cs.Engine(store=first.url) as engine:
        work = asyncio.gather(*_started(engine, use_vm))
        while len(first.lines()) < 2 * moment and not work.done():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        await asyncio.to_thread(copy)
        await work
    first.check()

    monkeypatch.setenv("CALLS", str(second.folder / "calls"))
    with closing(sqlite3.connect(second.folder / "runs.db")) as connection, connection:
        connection.execute("UPDATE cascade_runs SET lease_until = 0")
    async with cs.Engine(store=second.url) as engine:
        await asyncio.gather(*_started(engine, not use_vm))
    second.check()


def _load(folder: Path) -> Load:
    folder.mkdir()
    load = Load(f"sqlite:///{folder}/runs.db", folder)
    load.ids = ["agent-0", "sleeper-0", "plan-0"]
    return load


def _started(engine: cs.Engine, use_vm: bool) -> Iterator[Awaitable[Any]]:
    for kind in ("agent", "sleeper", "plan"):
        target = drawing.TARGETS[kind](f"{kind}-0", 8)
        yield engine.run(target, run_id=f"{kind}-0", use_vm=use_vm)


def _copy(source: Path, target: Path, how: str) -> None:
    if how == "files":  # nothing is moved from one to the other yet
        for name in ("runs.db", "runs.db-wal"):
            shutil.copy(source / name, target)
        return
    with (
        closing(sqlite3.connect(source / "runs.db")) as old,
        closing(sqlite3.connect(target / "runs.db")) as new,
    ):
        old.backup(new, pages=1)
