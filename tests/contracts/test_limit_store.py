"""The contract of LimitStore, for every implementation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cascade.adapters.stores import open_store
from cascade.spec.errors import StoreError
from cascade.spec.limit_store import LimitStore, Revised, SharesLimits


@pytest.fixture
def limits(store):
    limits = store.limits()
    yield limits
    limits.close()


@pytest.fixture
def another(store):
    """The same limits, opened once more."""
    another = store.limits()
    yield another
    another.close()


def one_more(body, _now):
    return Revised(b"%d" % (int(body or 0) + 1))


def test_a_store_keeps_limits(store, limits, kind):
    assert isinstance(store, SharesLimits)
    assert isinstance(limits, LimitStore)
    assert limits.local is (kind == "memory")


def test_what_a_revision_returns_is_read_by_all(limits, another):
    assert limits.read("a")[0] is None
    limits.revise("a", one_more)
    another.revise("a", one_more)

    assert limits.read("a")[0] == another.read("a")[0] == b"2"
    assert limits.read("b")[0] is None


def test_a_revision_may_leave_a_document_as_it_is(limits):
    limits.revise("a", lambda _body, _now: None)
    assert limits.read("a")[0] is None
    limits.revise("a", one_more)
    limits.revise("a", lambda _body, _now: None)
    assert limits.read("a")[0] == b"1"


def test_nothing_is_written_by_a_revision_that_raises(limits):
    limits.revise("a", one_more)

    def fail(_body, _now):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        limits.revise("a", fail)
    assert limits.read("a")[0] == b"1"
    limits.revise("a", one_more)
    assert limits.read("a")[0] == b"2"


def test_revisions_come_one_after_the_other(limits, another):
    """Each has the time after the wait for those before."""
    times = []

    def revision(body, now):
        times.append(now())
        return one_more(body, now)

    def count(number):
        for _ in range(20):
            (limits, another)[number % 2].revise("a", revision)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert limits.read("a")[0] == b"80"
    assert times == sorted(times)
    assert len(times) == 80
    assert limits.read("a")[1] >= times[-1]


def test_a_revision_is_made_of_what_others_have_written_meanwhile(limits, another):
    """Also by a process that has long been alone, and guesses what the document is."""
    seen = []

    def revision(body, _now):
        seen.append(body)
        return one_more(body, _now)

    for _ in range(4):
        limits.revise("a", revision)
    another.revise("a", one_more)
    limits.revise("a", revision)
    assert seen[-1] == b"5"
    another.revise("a", lambda *_: None)
    for _ in range(3):
        limits.revise("a", revision)
    another.revise("a", one_more)
    limits.revise("a", lambda body, _now: seen.append(body))
    assert seen[-1] == b"10"
    assert limits.read("a")[0] == b"10"


def test_the_refusal_of_a_revision_is_about_what_others_have_written(limits, another):
    def refuse(body, _now):
        raise KeyError(body)

    for _ in range(3):
        limits.revise("a", one_more)
    another.revise("a", one_more)
    with pytest.raises(KeyError, match="4"):
        limits.revise("a", refuse)


@pytest.mark.thorough
def test_revisions_of_four_processes_come_one_after_the_other(url, kind, limits):
    if kind == "memory":
        pytest.skip("a store in memory is not shared by processes")
    program = (
        "import sys\nfrom cascade.adapters.stores import open_store\n"
        "from cascade.spec.limit_store import Revised\n"
        "limits = open_store(sys.argv[1]).limits()\nsys.stdin.read()\n"
        "def one_more(body, _): return Revised(b'%d' % (int(body or 0) + 1))\n"
        "for _ in range(50): limits.revise('a', one_more)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    assert limits.read("a")[0] == b"200"


@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
def test_a_local_store_tells_of_each_revision(limits, another):
    told = []
    end = limits.subscribe(lambda: told.append(limits.read("a")[0]))
    another.revise("a", one_more)
    another.revise("a", lambda _body, _now: None)
    end()
    end()
    another.revise("a", one_more)

    assert told == ([b"1"] if limits.local else [])


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_store_tells_other_processes_of_news(limits, another):
    told = threading.Semaphore(0)
    end = limits.subscribe(told.release)
    assert told.acquire(timeout=20)  # it listens
    another.revise("a", lambda *_: Revised(b"1", news=False))
    another.revise("a", lambda *_: Revised(b"2"))
    assert told.acquire(timeout=20)
    another.revise("a", lambda *_: None)
    another.revise("a", lambda *_: Revised(b"3", news=False, lasting=False))
    another.revise("a", lambda *_: Revised(b"4", lasting=False))
    assert told.acquire(timeout=20)
    end()
    assert not told.acquire(blocking=False)
    assert limits.read("a")[0] == b"4"


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
@pytest.mark.parametrize("is_alone", [True, False])
def test_what_has_to_last_waits_for_the_disk_of_the_server(is_alone, limits, another, monkeypatch):
    """And nothing else does; a process that is alone writes in another way."""
    reason = "needs psycopg: pip install 'cascade-engine[postgres]'"
    psycopg, statements = pytest.importorskip("psycopg", reason=reason), []
    execute = psycopg.Connection.execute

    def watched(connection, statement, *args, **options):
        statements.append(statement)
        return execute(connection, statement, *args, **options)

    for _ in range(3):
        limits.revise("a", one_more)
    monkeypatch.setattr(psycopg.Connection, "execute", watched)
    for lasting in (True, False):
        if not is_alone:
            another.revise("a", one_more)
        statements.clear()
        limits.revise("a", lambda *_, lasting=lasting: Revised(b"1", lasting=lasting))
        assert any("synchronous_commit" in each for each in statements) is not lasting
        assert ("COMMIT" in statements) is not is_alone


def test_closed_limits_are_refused(limits, kind):
    limits.close()
    limits.close()
    if kind == "memory":
        limits.revise("a", one_more)  # others may use it
        return
    with pytest.raises(StoreError, match="closed"):
        limits.read("a")
    with pytest.raises(StoreError, match="closed"):
        limits.revise("a", one_more)


def test_a_fork_cannot_use_limits(limits, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(StoreError, match="opened by process"):
        limits.read("a")
    with pytest.raises(StoreError, match="opened by process"):
        limits.revise("a", one_more)


def test_a_closed_store_has_no_limits(store):
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.limits()


def test_limits_in_sqlite_do_not_wait_for_transactions_of_tasks(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/runs.db?timeout=5")
    limits = store.limits()
    with store._writing():
        limits.revise("a", one_more)
    assert limits.read("a")[0] == b"1"
    limits.close()
    store.close()


def test_what_was_written_before_the_last_boot_is_forgotten(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/runs.db")
    limits = store.limits()
    limits._boot = "before"
    limits.revise("a", one_more)
    limits._boot = "now"
    assert limits.read("a")[0] is None
    limits.revise("a", one_more)
    assert limits.read("a")[0] == b"1"
    limits.close()
    store.close()
