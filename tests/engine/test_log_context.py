"""LogContext: log records of tasks have the run, the node and the attempt."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.log_context import FIELDS

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
log = logging.getLogger("tests.log_context")


class Kept(logging.Handler):
    """Keeps the fields of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append({name: record.__dict__[name] for name in FIELDS})

    def only(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(record[name] for name in names) for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    handler.addFilter(cs.LogContext())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)


@cs.task
def plain(x):
    log.info("plain")
    return x


@cs.task(mode="inline")
def inline(x):
    log.info("inline")
    return x


@cs.task
async def later(x):
    await asyncio.sleep(0)
    log.info("later")
    return x


@PATHS
@pytest.mark.parametrize("task", [plain, inline, later], ids=lambda task: task.name)
def test_a_record_knows_the_call_that_logs(task: Any, use_vm: bool, kept: Kept) -> None:
    one, mapped = task(1), task.map(x=[1, 2])
    cs.run([one, mapped], use_vm=use_vm, run_id="r")
    assert kept.records[0] == {
        "run_id": "r",
        "task": task.name,
        "node": one.number,
        "item": "-",
        "attempt": 1,
        "step": 0,
    }
    assert sorted(kept.only("item", "task")[1:]) == [(0, task.name), (1, task.name)]


@PATHS
def test_attempts_are_told_apart(use_vm: bool, kept: Kept) -> None:
    @cs.task
    def flaky():
        log.info("try")
        raise KeyError("x")

    with pytest.raises(KeyError):
        cs.run(flaky().with_retry(3), use_vm=use_vm)
    assert kept.only("attempt") == [(1,), (2,), (3,)]


@PATHS
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_steps_of_a_loop_know_their_node_also_when_it_is_compiled(
    is_async: bool, use_vm: bool, kept: Kept
) -> None:
    if is_async:

        @cs.task
        async def count(n):
            if n % 50 == 0:
                log.info("%s", n)
            return count.tail(n - 1) if n else None
    else:

        @cs.task
        def count(n):
            if n % 50 == 0:
                log.info("%s", n)
            return count.tail(n - 1) if n else None

    target = count(100)
    cs.run(target, use_vm=use_vm, run_id="r")
    assert kept.only("run_id", "task", "node") == [("r", "count", target.number)] * 3
    assert kept.only("step")[-1] == ("-",)  # by then it is compiled


def test_a_middleware_logs_for_its_call(kept: Kept) -> None:
    def logs(call):
        log.info("before")
        value = yield
        log.info("after")
        return value

    node = later(1)
    cs.run(node, middleware=[logs])
    assert kept.only("task", "node") == [("later", node.number)] * 3


def test_other_code_of_a_run_has_its_id_and_other_code_has_nothing(kept: Kept) -> None:
    @cs.task
    async def starts():
        log.info("itself")
        await asyncio.create_task(below())
        thread = threading.Thread(target=log.info, args=["thread"])
        thread.start()
        await asyncio.to_thread(thread.join)

    async def below() -> None:
        log.info("below")

    log.info("outside")
    cs.run([starts(), plain(1)], run_id="r")
    found = kept.only("run_id", "task")
    assert sorted(found) == [("-", "-"), ("-", "-"), ("r", "-"), ("r", "plain"), ("r", "starts")]


def test_what_a_record_has_already_is_kept(kept: Kept) -> None:
    @cs.task
    def own():
        log.info("x", extra={"task": "mine"})

    cs.run(own(), run_id="r")
    assert kept.only("run_id", "task") == [("r", "mine")]


def test_missing_attributes_are_what_the_program_wants() -> None:
    record = logging.makeLogRecord({})
    assert cs.LogContext(missing=None).filter(record)
    assert [getattr(record, name) for name in FIELDS] == [None] * 6
