"""The contract of Entries, the stores of caches by code, for every implementation.

Times are numbers that a test says: no test waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from cascade.adapters.cache import group_commit, sql_entries
from cascade.adapters.cache.claim_rows import ClaimRows
from cascade.adapters.cache.claims import Claims
from cascade.adapters.cache.entries import Entry, Plan
from cascade.adapters.cache.opening import open_entries
from cascade.adapters.cache.sql_entries import LARGE
from cascade.spec.errors import ArgumentError, StoreError


def key_of(name: str | int) -> bytes:
    return str(name).encode().ljust(16, b".")


def entry(name="a", *, body=b"1", task="flows:f", code="c1", at=100.0, ends=None, value=None):
    return Entry(key_of(name), task, code, '{"x": "00"}', value, body, at, 0.5, ends)


def put(entries, *args, **fields) -> bytes:
    made = entry(*args, **fields)
    entries.put(made, lambda: f"components of {made.code}")
    entries.flush()
    return made.key


def kept(entries, *names, now=200.0):
    """The names that are hits."""
    return [name for name in names if entries.get(key_of(name), now) is not None]


in_databases = pytest.mark.parametrize("kind", ["sqlite", "postgres"], indirect=True)
in_sqlite = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)


@pytest.fixture
def entries(url):
    entries = open_entries(url)
    yield entries
    entries.close()


@pytest.fixture
def another(url, kind, entries):
    """The same cache, as another process has opened it."""
    if kind == "memory":
        yield entries
        return
    another = open_entries(url)
    yield another
    another.close()


# -- values ----------------------------------------------------------------------------------------


def test_a_key_that_was_never_put_is_a_miss(entries):
    assert entries.get(key_of("a"), 1.0) is None


@pytest.mark.parametrize("body", [b"", b"1", b"\0\xff", b"x" * LARGE, b"y" * (LARGE + 1)])
def test_a_value_is_the_bytes_that_were_put(entries, another, body):
    put(entries, "a", body=body, value=b"digest")

    assert entries.get(key_of("a"), 1.0) == (body, None, b"digest")
    assert another.get(key_of("a"), 1.0) == (body, None, b"digest")


def test_the_latest_value_replaces_the_one_before(entries):
    put(entries, "a", body=b"1" * (LARGE + 1), ends=150.0)
    put(entries, "a", body=b"2", code="c2")

    assert entries.get(key_of("a"), 500.0) == (b"2", None, None)
    assert [found.code for found in entries.of_task("flows:f", 9)] == ["c2"]


def test_a_value_is_kept_until_its_end(entries):
    put(entries, "a", ends=150.0)

    assert entries.get(key_of("a"), 149.9) == (b"1", 150.0, None)
    assert entries.get(key_of("a"), 150.0) is None


def test_a_removed_entry_is_a_miss(entries):
    put(entries, "a")
    put(entries, "b")
    entries.remove(key_of("a"))
    entries.remove(key_of("a"))

    assert kept(entries, "a", "b") == ["b"]


def test_many_threads_use_it_at_once(entries):
    together = threading.Barrier(8)
    errors = []

    def work(number):
        together.wait(20)
        try:
            for round_ in range(5):
                put(entries, round_, body=b"%d" % round_)
                assert entries.get(key_of(round_), 1.0) == (b"%d" % round_, None, None)
                entries.plans([key_of(number)], 1.0)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert kept(entries, *range(5)) == [*range(5)]


# -- claims ----------------------------------------------------------------------------------------


class Wakes:
    """Counts wakes."""

    def __init__(self):
        self.came = threading.Semaphore(0)

    def __call__(self):
        self.came.release()

    def has_come(self):
        return self.came.acquire(timeout=10)


def test_a_claim_is_given_to_one_at_a_time(entries, another):
    wakes = Wakes()
    assert entries.claim(key_of("a"), wakes)
    assert not another.claim(key_of("a"), wakes)
    assert not entries.claim(key_of("a"), wakes)
    assert entries.claim(key_of("b"), wakes)
    assert not wakes.came.acquire(blocking=False)
    entries.leave(key_of("a"))

    assert wakes.has_come()
    assert wakes.has_come()
    assert another.claim(key_of("a"), wakes)


def test_who_is_woken_finds_the_value(entries, another):
    wakes = Wakes()
    assert entries.claim(key_of("a"), wakes)
    assert not another.claim(key_of("a"), wakes)
    entries.put(entry("a"), str)
    entries.leave(key_of("a"))
    entries.flush()

    assert wakes.has_come()
    assert kept(another, "a") == ["a"]


def claimed_by(entries, owner, until):
    statement = "INSERT INTO {t}claims VALUES (?, ?, ?)"
    entries.write(lambda execute: execute(statement, [key_of("a"), owner, until]))


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_claim_of_another_machine_lasts_until_its_lease_is_over(entries):
    wakes = Wakes()
    claimed_by(entries, "elsewhere/boot/1/2/3/4", time.time() + 1e6)
    assert not entries.claim(key_of("a"), wakes)
    statement = "UPDATE {t}claims SET until = ?"
    entries.write(lambda execute: execute(statement, [time.time() - 1]))

    assert wakes.has_come()
    assert entries.claim(key_of("a"), wakes)


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_claim_of_a_process_of_this_machine_that_has_ended_is_none(entries):
    code = "from cascade.adapters.processes import own_name; print(own_name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    claimed_by(entries, done.stdout.strip(), time.time() + 1e6)

    assert entries.claim(key_of("a"), Wakes())


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_lease_is_renewed_while_a_call_is_made(entries):
    rows = ClaimRows(entries, lease=0.3)
    claims = Claims(rows)
    assert claims.take(key_of("a"), Wakes())

    def until():
        return entries.read(
            lambda execute: execute("SELECT until FROM {t}claims", []).fetchone()[0]
        )

    first = until()
    waited = threading.Event()
    for _ in range(100):
        if until() > first:
            break
        waited.wait(0.02)
    assert until() > first
    claims.leave(key_of("a"))
    assert entries.claim(key_of("a"), Wakes())


# -- files of users --------------------------------------------------------------------------------


@in_databases
def test_the_digest_of_a_file_is_kept_for_its_last_state(entries, another):
    entries.keep_file(key_of("a.csv"), "1", b"first")
    entries.keep_file(key_of("b.csv"), "1", b"other")
    entries.flush()
    entries.keep_file(key_of("a.csv"), "2", b"second")
    entries.flush()

    found = [another.file_digest(key_of("a.csv"), state) for state in "123"]
    assert found == [None, b"second", None]
    entries.clear()
    assert another.file_digest(key_of("b.csv"), "1") is None


# -- writing ---------------------------------------------------------------------------------------


@in_databases
def test_what_is_put_within_a_moment_is_written_in_one_transaction(entries, another, monkeypatch):
    writes, write = [], entries.write
    monkeypatch.setattr(entries, "write", lambda action: writes.append(1) or write(action))
    for number in range(50):
        entries.put(entry(number), str)
        assert kept(entries, number) == [number]  # this process finds it at once
    for _ in range(1_000):
        if len(kept(another, *range(50))) == 50:
            break
        time.sleep(0.01)

    assert kept(another, *range(50)) == [*range(50)]
    assert len(writes) < 10


@in_databases
def test_a_value_that_cannot_be_written_is_told_and_none(entries, monkeypatch, caplog):
    wakes, write = Wakes(), entries.write

    def fails(_action):
        raise StoreError("the disk is full")

    assert entries.claim(key_of("a"), wakes)
    assert not entries.claim(key_of("a"), wakes)
    monkeypatch.setattr(entries, "write", fails)
    entries.put(entry("a"), str)
    entries.leave(key_of("a"))
    assert wakes.has_come()
    with pytest.raises(StoreError, match="the disk is full"):
        while kept(entries, "a"):  # until the thread has tried it
            entries.flush()
        raise StoreError(caplog.text)
    monkeypatch.setattr(entries, "write", write)

    assert kept(entries, "a") == []
    assert entries.claim(key_of("a"), wakes)
    put(entries, "a")
    assert kept(entries, "a") == ["a"]


@in_databases
def test_more_than_some_values_are_written_at_once(entries, another, monkeypatch):
    monkeypatch.setattr(group_commit, "_MOST", 9)
    monkeypatch.setattr(group_commit, "GATHER", 1e6)
    for number in range(10):
        entries.put(entry(number), str)

    assert kept(another, *range(10)) == [*range(10)]


# -- plans -----------------------------------------------------------------------------------------


def test_a_plan_leads_to_an_entry_until_its_end(entries, another):
    key = put(entries, "a")
    entries.keep_plans([Plan(b"p" * 16, key, None), Plan(b"q" * 16, key, 150.0)])
    entries.flush()

    assert another.plans([b"p" * 16, b"q" * 16, b"r" * 16], 149.0) == {
        b"p" * 16: Plan(b"p" * 16, key, None),
        b"q" * 16: Plan(b"q" * 16, key, 150.0),
    }
    assert [*another.plans([b"p" * 16, b"q" * 16], 150.0)] == [b"p" * 16]


def test_the_latest_plan_replaces_the_one_before(entries):
    first, second = put(entries, "a"), put(entries, "b")
    entries.keep_plans([Plan(b"p" * 16, first, 150.0)])
    entries.flush()
    entries.keep_plans([Plan(b"p" * 16, second, None)])
    entries.flush()

    assert entries.plans([b"p" * 16], 500.0)[b"p" * 16] == Plan(b"p" * 16, second, None)


def test_a_plan_goes_with_its_entry(entries):
    key = put(entries, "a")
    entries.keep_plans([Plan(b"p" * 16, key, None), Plan(b"q" * 16, key_of("gone"), None)])
    entries.flush()
    entries.remove(key)

    assert entries.plans([b"p" * 16, b"q" * 16], 1.0) == {}


def test_a_thousand_plans_are_found_at_once(entries):
    key = put(entries, "a")
    plans = [Plan(key_of(number), key, None) for number in range(1_200)]
    entries.keep_plans(plans)
    entries.flush()

    assert len(entries.plans([plan.plan for plan in plans], 1.0)) == 1_200


# -- less of them ----------------------------------------------------------------------------------


def test_those_not_used_for_the_longest_time_go_first(entries):
    for number in range(6):
        put(entries, number, body=b"x" * 10, at=100.0 + number)
    assert kept(entries, 1, now=300.0) == [1]

    assert entries.evict(30) == 3
    assert kept(entries, *range(6)) == [1, 4, 5]


def test_nothing_goes_while_there_is_room(entries):
    put(entries, "a", body=b"x" * 10)

    assert entries.evict(10) == 0
    assert kept(entries, "a") == ["a"]


def test_more_than_one_transaction_of_them_goes(entries, monkeypatch):
    monkeypatch.setattr(sql_entries, "_REMOVED_AT_ONCE", 7)
    for number in range(30):
        put(entries, number, body=b"x" * 10, at=float(number))

    assert entries.evict(0) == 30
    assert entries.stats() == []


def test_a_use_by_another_process_counts(entries, another):
    put(entries, "a", body=b"x" * 10, at=100.0)
    put(entries, "b", body=b"x" * 10, at=101.0)
    assert kept(another, "a", now=300.0) == ["a"]
    another.flush()

    assert entries.evict(10) == 1
    assert kept(entries, "a", "b") == ["a"]


def test_the_entries_of_one_task_are_cleared(entries):
    put(entries, "a", task="flows:f")
    put(entries, "b", task="flows:g", code="c2")

    assert entries.clear("flows:f") == 1
    assert kept(entries, "a", "b") == ["b"]
    assert entries.components("c1") is None
    assert entries.components("c2") == "components of c2"


def test_those_last_used_before_a_time_are_cleared(entries):
    for number in range(3):
        put(entries, number, at=100.0 + number)

    assert entries.clear(before=102.0) == 2
    assert kept(entries, *range(3)) == [2]


def test_all_are_cleared_and_components_come_back_with_the_next(entries):
    put(entries, "a")
    assert entries.clear() == 1
    put(entries, "a")

    assert entries.components("c1") == "components of c1"


# -- what is kept ----------------------------------------------------------------------------------


def test_the_use_of_each_task_is_told(entries):
    put(entries, "a", body=b"12", at=100.0)
    put(entries, "b", body=b"345", at=110.0)
    put(entries, "c", task="flows:g", at=90.0)
    kept(entries, "a", now=300.0)

    assert [tuple(use) for use in entries.stats()] == [
        ("flows:f", 2, 5, 1.0, 300.0),
        ("flows:g", 1, 1, 0.5, 90.0),
    ]


def test_the_newest_entries_of_a_task_come_first(entries):
    for number in range(4):
        put(entries, number, at=100.0 + number)
    put(entries, "other", task="flows:g", at=500.0)

    found = entries.of_task("flows:f", 3)
    assert [each.computed for each in found] == [103.0, 102.0, 101.0]
    assert (found[0].key, found[0].args, found[0].size) == (key_of(3), '{"x": "00"}', 1)


def test_entries_are_found_by_key_after_their_end_too(entries):
    key = put(entries, "a", ends=100.0)

    (found,) = entries.find([key, key_of("b")]).values()
    assert (found.expires, found.code) == (100.0, "c1")


# -- files, processes, crashes ---------------------------------------------------------------------


def values(tmp_path):
    return sorted(path for path in (tmp_path / "store.db-values").glob("*/*"))


@in_sqlite
def test_only_values_above_64_kib_are_files(entries, tmp_path):
    put(entries, "a", body=b"x" * LARGE)
    assert values(tmp_path) == []

    put(entries, "b", body=b"x" * (LARGE + 1))
    (file,) = values(tmp_path)
    assert file.read_bytes() == b"x" * (LARGE + 1)


@in_sqlite
def test_equal_values_share_a_file_that_goes_with_the_last_of_them(entries, tmp_path):
    for name in "ab":
        put(entries, name, body=b"x" * (LARGE + 1))
    assert len(values(tmp_path)) == 1

    entries.remove(key_of("a"))
    assert len(values(tmp_path)) == 1
    entries.remove(key_of("b"))
    assert values(tmp_path) == []


@in_sqlite
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_a_value_whose_file_is_gone_or_damaged_is_a_miss(entries, tmp_path, damage):
    put(entries, "a", body=b"x" * (LARGE + 1))
    damage(values(tmp_path)[0])

    assert entries.get(key_of("a"), 1.0) is None
    assert entries.stats() == []


@in_sqlite
def test_files_that_a_crash_has_left_go_when_they_are_old(entries, tmp_path):
    put(entries, "a", body=b"x" * (LARGE + 1))
    folder = tmp_path / "store.db-values" / "ab"
    folder.mkdir()
    for name, age in (("ab-old.new", 7200), ("ab-new", 10)):
        (folder / name).write_bytes(b"left")
        past = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (past, past))

    entries.clear(before=1.0)
    assert [path.name for path in folder.iterdir()] == ["ab-new"]
    assert kept(entries, "a") == ["a"]


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("sqlite", "before the file has its name"),
        ("sqlite", "before the entry"),
        ("sqlite", "in the transaction"),
        ("postgres", "in the transaction"),
    ],
    indirect=["kind"],
)
def test_a_crash_in_a_write_leaves_no_entry(url, entries, place, nursery):
    child = nursery.start("tests.cache_processes", "crash", url, place, env={})

    assert child.wait() == 9, child.errors()
    assert entries.get(key_of("a"), 1.0) is None
    assert entries.stats() == []
    put(entries, "a", body=b"x" * 100_000)
    assert kept(entries, "a") == ["a"]


@in_databases
def test_processes_that_write_and_evict_at_once_corrupt_nothing(url, entries, tmp_path, nursery):
    begin = tmp_path / "begin"
    children = [
        nursery.start("tests.cache_processes", "writes", url, str(begin), env={}) for _ in range(2)
    ]
    begin.touch()

    assert [child.wait() for child in children] == [0, 0], [c.errors() for c in children]
    for number in range(20):
        found = entries.get(key_of(number), 1.0)
        assert found is None or found[0] == b"%d" % number * (1 + 80_000 * (number % 2))


@in_databases
def test_it_shares_the_database_with_a_store_of_runs(url, entries):
    from cascade.adapters.stores import open_store

    put(entries, "a")
    store = open_store(url)
    assert store.runs() == []
    store.close()

    assert kept(entries, "a") == ["a"]


@in_databases
def test_a_newer_cache_is_refused(url, kind, entries):
    meta = "cascade_cache_meta" if kind == "sqlite" else "cascade.cache_meta"
    change = f"UPDATE {meta} SET value = {{}} WHERE key = 'schema'"
    entries.write(lambda execute: execute(change.format(7).replace("{t}", ""), []))
    try:
        with pytest.raises(StoreError, match="has version 7 of the tables of Cascade"):
            open_entries(url)
    finally:
        entries.write(lambda execute: execute(change.format(2), []))


@in_sqlite
def test_a_closed_cache_says_so(entries):
    entries.close()

    with pytest.raises(StoreError, match=r"the cache '.*store\.db' is closed"):
        entries.get(key_of("a"), 1.0)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("cache.db", "'cache.db' names no cache; for a file: 'sqlite:///cache.db'"),
        ("sqlit:///cache.db", "the scheme 'sqlit' names no cache (did you mean 'sqlite'?)"),
        ("sqlite://cache.db", "names no file: write 'sqlite:///"),
        ("sqlite:///cache.db?timout=1", "no option 'timout' (did you mean 'timeout'?)"),
        ("memory:mine", "a cache in memory has no name: write 'memory:', not 'memory:mine'"),
    ],
)
def test_a_url_that_names_no_cache_is_refused(url, message):
    with pytest.raises(ArgumentError) as caught:
        open_entries(url)
    assert message in str(caught.value)
