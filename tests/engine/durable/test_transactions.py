"""Effects that happen once: ``cs.transaction`` (D5), and ``cs.idempotency_key`` (D3)."""

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.engine.durable import payments
from tests.engine.durable.nursery import Nursery
from tests.engine.durable.payments import checkout, insert, pay

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime import events
from cascade.spec.errors import (
    LeaseLostError,
    NotStorableError,
    ResourceError,
    StoreError,
    TaskTimeoutError,
)
from cascade.spec.run_rows import Lease, RunStatus
from cascade.spec.run_store import RunStore, StoreTransaction


class Database:
    """A store's database, seen from outside: its payments, and rows of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.query("CREATE TABLE payments (name TEXT, idempotency TEXT)")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        if self.url.startswith("sqlite"):
            connection: Any = sqlite3.connect(self.url.removeprefix("sqlite:///").partition("?")[0])
        else:
            import psycopg

            connection = psycopg.connect(self.url)
            statement = statement.replace("cascade_outcomes", "cascade.outcomes")
        try:
            cursor = connection.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
        finally:
            connection.close()
        return rows

    @property
    def paid(self) -> list[str]:
        return [name for (name,) in self.query("SELECT name FROM payments ORDER BY name")]

    @property
    def outcomes(self) -> int:
        return int(self.query("SELECT count(*) FROM cascade_outcomes")[0][0])


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, store_url: Callable[[str], str]) -> Database:
    return Database(store_url(request.param))


@pytest.fixture
def store(database: Database) -> Iterator[RunStore]:
    store = open_store(database.url)
    yield store
    store.close()


#: Runs ``payments.py``; gives its output, or an empty text if it was killed.
Program = Callable[..., str]


@pytest.fixture
def program(nursery: Nursery) -> Program:
    def run(url: str, calls: Path, *arguments: str, kill: tuple[str, int] | None = None) -> str:
        point, number = kill or ("", 0)
        env = {"CALLS": str(calls), "KILL_AT": point, "KILL_NUMBER": str(number)}
        child = nursery.start(payments.__name__, url, *arguments, env=env)
        out, err = child.communicate()
        assert child.returncode == (0 if kill is None else -signal.SIGKILL), err
        return out.strip()

    return run


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


#: Each case starts several processes, which takes seconds.
_OFTEN = pytest.mark.thorough

# -- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [pytest.param("one", marks=_OFTEN), "continued"])
@pytest.mark.parametrize(
    ("point", "calls"), [("in the call", 2), ("before the commit", 2), ("after the commit", 1)]
)
def test_an_effect_happens_once_wherever_the_process_is_killed(
    database: Database, tmp_path: Path, program: Program, target: str, point: str, calls: int
) -> None:
    noted = tmp_path / "calls"
    program(database.url, noted, "r", target, kill=(point, 1))
    assert database.paid == ([] if calls == 2 else ["book"])
    assert program(database.url, noted, "r", target) == "shipped, paid book"
    assert database.paid == ["book"]
    assert _lines(noted).count("pay book") == calls


@pytest.mark.parametrize(
    "point", [*(pytest.param(p, marks=_OFTEN) for p in ("in the call", "after the commit")),
              "before the commit"]
)  # fmt: skip
def test_each_step_of_an_agent_pays_once(
    database: Database, tmp_path: Path, program: Program, point: str
) -> None:
    noted = tmp_path / "calls"
    for number in (2, 1, 1):
        program(database.url, noted, "r", "steps", kill=(point, number))
    assert program(database.url, noted, "r", "steps") == "paid rent"
    assert database.paid == ["rent"] * 5
    assert len(database.query("SELECT DISTINCT idempotency FROM payments")) == 5
    assert database.outcomes == 0  # each was dropped with its step


@pytest.mark.parametrize("use_vm", [False, True])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_the_outcome_is_in_the_store_and_read_when_the_run_is_resumed(
    database: Database, store: RunStore, use_vm: bool, durability: Any
) -> None:
    fails = [True]

    @cs.task
    def later(_paid: list[str]) -> str:
        if fails.pop():
            raise ValueError("not yet")
        return "done"

    def run() -> Any:
        target = later([pay("a"), checkout("b"), *[pay.map(order=["c", "d"])]])
        return cs.run(target, run_id="r", store=store, use_vm=use_vm, durability=durability)

    with pytest.raises(ValueError, match="not yet"):
        run()
    assert database.paid == ["a", "b", "c", "d"]
    assert database.outcomes == 4
    fails.append(False)
    assert run() == "done"
    assert database.paid == ["a", "b", "c", "d"]
    assert len(database.query("SELECT DISTINCT idempotency FROM payments")) == 4


def test_a_failed_attempt_is_rolled_back_and_the_next_one_has_the_same_key(
    database: Database, store: RunStore
) -> None:
    keys: list[str] = []

    @cs.task(retry=3)
    def fragile(
        tx: Any = cs.inject(cs.transaction), key: str = cs.inject(cs.idempotency_key)
    ) -> str:
        insert(tx, "book", key)
        keys.append(key)
        if len(keys) < 3:
            raise OSError("no network")
        return "paid"

    assert cs.run(fragile(), run_id="r", store=store) == "paid"
    assert database.paid == ["book"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_an_abandoned_attempt_commits_nothing(database: Database, store: RunStore) -> None:
    abandoned, ended = threading.Event(), threading.Event()
    calls: list[int] = []

    @cs.task(retry=2, timeout=0.05)
    def slow(tx: Any = cs.inject(cs.transaction)) -> int:
        calls.append(1)
        attempt = len(calls)
        insert(tx, f"attempt {attempt}", "")
        if attempt == 1:
            assert abandoned.wait(20)
            ended.set()
        return attempt

    async def main() -> Any:
        async with cs.Engine(store=store) as engine:
            engine.bus.subscribe(events.CallAbandoned, lambda _event: abandoned.set())
            return await engine.run(slow().with_timeout(5 if calls else 0.05), run_id="r")

    try:
        value = asyncio.run(main())
    except TaskTimeoutError:  # on a busy machine the second attempt may be slow as well
        value = None
    assert ended.wait(20)
    paid = database.paid
    # An attempt that is abandoned while it commits is stored all the same, for the next process.
    assert paid == ["attempt 2"] or (value is None and not paid)


def test_an_attempt_that_is_abandoned_while_it_commits_gives_its_value_to_the_next(
    database: Database, store: RunStore
) -> None:
    abandoned = threading.Event()
    calls: list[str] = []
    begin = store.transaction

    @contextmanager
    def slow_commit(run: int, epoch: int) -> Iterator[StoreTransaction]:
        with begin(run, epoch) as opened:
            yield opened
            assert abandoned.wait(20)

    store.transaction = slow_commit  # type: ignore[method-assign]

    @cs.task(retry=2, timeout=0.3)
    def once(tx: Any = cs.inject(cs.transaction)) -> str:
        calls.append("called")
        insert(tx, "book", "")
        return "paid"

    async def main() -> Any:
        async with cs.Engine(store=store) as engine:
            engine.bus.subscribe(events.CallAbandoned, lambda _event: abandoned.set())
            return await engine.run(once(), run_id="r")

    assert asyncio.run(main()) == "paid"
    assert calls == ["called"]
    assert database.paid == ["book"]


def test_a_process_that_has_lost_the_run_commits_nothing(
    database: Database, store: RunStore
) -> None:
    begin = store.transaction

    def robbed(run: int, epoch: int) -> AbstractContextManager[StoreTransaction]:
        (owner,) = store.owners()
        store.claim_run("r", Lease("thief", 60), dead=[owner])
        return begin(run, epoch)

    store.transaction = robbed  # type: ignore[method-assign]
    with pytest.raises(LeaseLostError, match="another owner"):
        cs.run(pay("book").with_retry(3), run_id="r", store=store)
    assert database.paid == []
    assert database.outcomes == 0


@cs.task
def pays_on(n: int, tx: Any = cs.inject(cs.transaction)) -> object:
    insert(tx, str(n), "")
    return "paid" if n == 0 else pays_on.tail(n - 1)


@cs.task
def pays_then(n: int, tx: Any = cs.inject(cs.transaction)) -> object:
    insert(tx, str(n), "")
    return payments.ship(str(n))


@cs.task
def pays_object(tx: Any = cs.inject(cs.transaction)) -> object:
    insert(tx, "", "")
    return object()


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        (pays_on(2), ResourceError, "returned a tail call; nothing was committed"),
        (pays_then(2), ResourceError, "returned a lazy value; nothing was committed"),
        (pays_object(), NotStorableError, "has no stored form"),
    ],
)
def test_a_result_that_cannot_be_committed_with_the_effects_rolls_them_back(
    database: Database, store: RunStore, target: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        cs.run(target, run_id="r", store=store)
    assert database.paid == []


drops = ["first call"]


@cs.task
def pays_after_a_loss(tx: Any = cs.inject(cs.transaction)) -> str:
    insert(tx, "book", "")
    if drops:
        with tx.cursor() as cursor:
            drops.pop()
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    return "paid"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("durability", ["async", "exit"])
@pytest.mark.parametrize("target", ["steps", "continued"])
def test_an_effect_happens_once_although_the_step_before_it_is_made_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, durability: Any, target: str
) -> None:
    """The process ends before the record of that step is committed."""
    ended = threading.Event()

    @contextmanager
    def noted(run: int, epoch: int) -> Iterator[StoreTransaction]:
        with begin(run, epoch) as opened:
            yield opened
        ended.set()

    def end(*_: Any, **__: Any) -> None:
        assert ended.wait(20)
        raise StoreError("the process has ended")

    with closing(open_store(database.url)) as store, monkeypatch.context() as patch:
        begin = store.transaction
        patch.setattr(store, "transaction", noted)
        patch.setattr(store, "commit", end)
        patch.setattr(store, "commit_at_once", lambda *_, **__: None)
        with pytest.raises(StoreError, match="has ended"):
            cs.run(getattr(payments, target)(), run_id="r", store=store, durability=durability)
    paid = database.paid
    with closing(open_store(database.url)) as store:
        cs.run(getattr(payments, target)(), run_id="r", store=store, durability=durability)
    assert paid == database.paid[: len(paid)] != []
    assert len(database.paid) == (5 if target == "steps" else 1)
    assert database.outcomes == (0 if target == "steps" else 1)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_connection_that_is_lost_in_a_transaction_interrupts_the_run(
    database: Database, store: RunStore
) -> None:
    """The error is none of the task, whose run would have failed."""
    with pytest.raises(StoreError, match="was lost in the transaction of a task") as caught:
        cs.run(pays_after_a_loss(), run_id="r", store=store)
    assert caught.value.transient
    run = store.find("r")
    assert run is not None
    assert run.status is RunStatus.RUNNING
    assert cs.run(pays_after_a_loss(), run_id="r", store=store) == "paid"
    assert database.paid == ["book"]


def test_transactions_of_one_process_take_turns(database: Database, store: RunStore) -> None:
    orders = [f"order {n:02}" for n in range(20)]
    cs.run(pay.map(order=orders), run_id="r", store=store, threads=8)
    assert database.paid == orders


@cs.task
async def pays_in_loop(tx: Any = cs.inject(cs.transaction)) -> None:
    raise AssertionError


@cs.task(mode="inline")
def pays_inline(tx: Any = cs.inject(cs.transaction)) -> None:
    raise AssertionError


@cs.resource(scope="task")
def session(tx: Any = cs.inject(cs.transaction)) -> Iterator[Any]:
    yield tx


@cs.task
def uses_session(s: Any = cs.inject(session)) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (pays_in_loop(), "make it a plain function"),
        (pays_inline(), "make it a plain function"),
        (uses_session(), "needs cs.transaction, which only tasks can be given"),
    ],
)
def test_who_cannot_have_a_transaction_is_refused_before_the_run(target: Any, text: str) -> None:
    with pytest.raises(ResourceError, match=text):
        cs.run([target, payments.ship("x")], run_id="r", store="memory:")


def test_a_store_in_memory_has_no_transactions() -> None:
    with pytest.raises(StoreError, match="use one in SQLite or PostgreSQL"):
        cs.run(pay("book"), run_id="r", store="memory:")


@pytest.mark.parametrize("options", [{}, {"store": "memory:"}, {"run_id": "r"}])
def test_a_run_that_is_not_kept_has_neither(options: Any) -> None:
    with pytest.raises(ResourceError, match=r"task 'pay': cs\.transaction is for durable runs"):
        cs.run(pay("book"), **options)
    with pytest.raises(ResourceError, match=r"task 'call_tool': cs\.idempotency_key is for dur"):
        cs.run(payments.call_tool(1), **options)


def test_tests_replace_them_without_a_store() -> None:
    done: list[str] = []

    def connection() -> Iterator[Any]:
        with closing(sqlite3.connect(":memory:")) as made:
            made.execute("CREATE TABLE payments (name TEXT, idempotency TEXT)")
            yield made
            done.extend(name for (name,) in made.execute("SELECT idempotency FROM payments"))

    def key() -> Iterator[str]:
        yield "a key"

    @cs.task(mode="inline")
    def buy(tx: Any = cs.inject(cs.transaction), key: str = cs.inject(cs.idempotency_key)) -> None:
        insert(tx, "book", key)

    thread_bound = cs.resource("transaction", scope="task", thread_bound=True)(connection)
    with (
        cs.override_resource(cs.transaction, thread_bound),
        cs.override_resource(cs.idempotency_key, key),
    ):
        cs.run(buy())
    assert done == ["a key"]


def test_a_step_with_a_transaction_is_recorded_and_a_target_can_be_enqueued(
    database: Database, store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert cs.run(payments.agent(2), run_id="steps", store=store) == "paid rent"
    assert caplog.text == ""  # no warning of a step that cannot be stored

    cs.enqueue(store, pay("book"), run_id="one")

    async def resumed() -> object:
        async with cs.Engine(store=store) as engine:
            return await engine.resume("one")

    assert asyncio.run(resumed()) == "paid book"
    assert database.paid == ["book", "rent", "rent"]


# -- idempotency keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "durability", ["sync", *(pytest.param(d, marks=_OFTEN) for d in ("async", "exit"))]
)
@pytest.mark.parametrize("target", ["plain_loop", "thinking"])
def test_each_call_of_a_loop_has_the_same_key_in_every_process(
    tmp_path: Path, program: Program, target: str, durability: str
) -> None:
    """(D3)"""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    program(f"sqlite:///{tmp_path}/whole.db", whole, "r", target, durability)
    expected = _lines(whole)
    assert len({line.split()[1] for line in expected}) == len(expected) >= 10

    url = f"sqlite:///{tmp_path}/parts.db"
    for number in (3, 1, 4):
        program(url, parts, "r", target, durability, kill=("with a key", number))
    program(url, parts, "r", target, durability)
    assert set(_lines(parts)) == set(expected)
    if durability == "sync":
        again = len(_lines(parts)) - len(expected)
        assert again <= 3  # the calls that were under way


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_key_names_the_run_and_the_node(use_vm: bool) -> None:
    keys: list[str] = []

    @cs.task
    def note_key(_n: int, key: str = cs.inject(cs.idempotency_key)) -> None:
        keys.append(key)

    store = open_store("memory:")
    cs.run([note_key(1), note_key(1), note_key(2)], run_id="a", store=store, use_vm=use_vm)
    cs.run([note_key(1), note_key(1), note_key(2)], run_id="b/c", store=store, use_vm=use_vm)
    assert len(set(keys)) == 6
    assert sorted(key.removeprefix("a/") for key in keys if key.startswith("a/")) == sorted(
        key.removeprefix("b/c/") for key in keys if key.startswith("b/c/")
    )


# -- resources of loops ---------------------------------------------------------------------------


def test_an_agent_with_a_resource_is_resumed_with_a_new_one() -> None:
    opened: list[object] = []
    fails = [False, True]

    @cs.resource
    def client() -> Iterator[object]:
        opened.append(object())
        yield opened[-1]

    async def step(n: int, used: object = cs.inject(client)) -> object:
        assert used is opened[-1]
        if n == 1 and fails.pop():
            raise OSError("no network")
        return "done" if n == 0 else asker.tail(n - 1)

    step.__module__, step.__qualname__ = __name__, "asker"
    globals()["asker"] = asker = cs.task(step)
    store = open_store("memory:")
    with pytest.raises(OSError, match="no network"):
        cs.run(asker(3), run_id="r", store=store)
    assert cs.run(asker(3), run_id="r", store=store) == "done"
    assert len(opened) == 2
