"""RunHandle.summary(): the figures of a run, by task."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import Any

import pytest

import cascade as cs
from cascade.command.json_forms import json_form
from cascade.runtime.events import TaskFinished
from cascade.runtime.telemetry.summary import RunSummary


@cs.task
async def take(seconds, error=None):
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return seconds


@cs.task
def plain(x):
    return x


@cs.task
def count(n):
    return count.tail(n - 1) if n else n


async def summed(engine: cs.Engine, target: Any, **options: Any) -> RunSummary:
    """The summary of a run that has ended, also of one that has failed."""
    handle = engine.start(target, summary=True, **options)
    with suppress(Exception):
        await handle.result()
    return handle.summary()


async def test_it_counts_the_outcomes_of_each_task(engine, use_vm):
    failing = take.map(seconds=[0.0, 0.0], error=[None, OSError("no disk")], return_exceptions=True)
    skipped = plain(1).run_if(plain(0)).or_else(2)
    cached = plain(3).with_cache(cache := cs.LRUCache())
    await engine.run(plain(3).with_cache(cache))
    found = await summed(engine, [failing, skipped, cached], use_vm=use_vm)

    by_task = {one.task: one for one in found.tasks}
    assert set(by_task) == {"take", "plain"}
    assert (by_task["take"].finished, by_task["take"].failed) == (1, 1)
    assert [getattr(by_task["plain"], n) for n in ("finished", "skipped", "cached")] == [1, 1, 1]
    assert found.failures == {"take": {"OSError: no disk": 1}}
    assert (found.status, found.ended, found.planned) == ("succeeded", 5, 5)


async def test_it_sums_durations_and_knows_the_slowest_nodes(engine, use_vm):
    found = await summed(engine, take.map(seconds=[0.03, 0.0, 0.05]), use_vm=use_vm)
    (figures,) = found.tasks
    assert 0.08 <= figures.seconds < 1
    assert 0.05 <= figures.longest < figures.seconds
    assert figures.mean == pytest.approx(figures.seconds / 3)
    assert [node.item for node in found.slowest] == [2, 0, 1]
    assert found.seconds >= 0.05


async def test_of_many_nodes_it_keeps_the_ten_slowest(engine):
    seconds = [0.05 if n in (7, 123) else 0.0 for n in range(150)]
    found = await summed(engine, take.map(seconds=seconds))
    assert len(found.slowest) == 10
    assert {node.item for node in found.slowest[:2]} == {7, 123}


async def test_it_counts_retries_and_waits(engine, use_vm):
    errors = [OSError(), OSError(), None]

    @cs.task(retry=cs.Retry(3, delay=0.02))
    def flaky():
        error = errors.pop(0)
        if error is not None:
            raise error

    found = await summed(engine, flaky(), use_vm=use_vm)
    (figures,) = found.tasks
    assert (figures.retries, figures.finished, figures.failed) == (2, 1, 0)
    assert 0.04 <= figures.waited < 1


async def test_it_counts_the_steps_of_loops(engine, use_vm):
    found = await summed(engine, [count(40), count(100)], use_vm=use_vm)
    assert found.steps == 140
    assert [(one.task, one.finished) for one in found.tasks] == [("count", 2)]


async def test_of_a_failed_run_it_has_the_error(engine, use_vm):
    found = await summed(engine, take(0.0, ValueError("no")), use_vm=use_vm)
    assert (found.status, found.error) == ("failed", "ValueError: no")


async def test_it_knows_how_far_a_run_is(engine, use_vm):
    go = asyncio.Event()

    @cs.task
    async def waits(x):
        await go.wait()
        return x

    handle = engine.start([plain.map(x=[1, 2]), waits(1)], summary=True, use_vm=use_vm)
    two = asyncio.Event()
    engine.bus.subscribe(TaskFinished, lambda _: two.set() if handle.summary().ended == 2 else None)
    await two.wait()
    found = handle.summary()
    assert (found.status, found.planned, found.ended) == ("running", 3, 2)
    assert str(found).startswith(f"gather, run {handle.run_id}: running for ")
    go.set()
    await handle.result()
    assert found.ended == 2  # a summary does not change
    assert handle.summary().ended == 3
    await asyncio.sleep(0.02)
    assert handle.summary().seconds == handle.summary().seconds


async def test_other_runs_of_the_engine_do_not_count(engine):
    handle = engine.start(take(0.02), summary=True)
    await engine.run(plain.map(x=[1, 2, 3]))
    await handle.result()
    assert [one.task for one in handle.summary().tasks] == ["take"]


async def test_nothing_listens_after_the_end(engine):
    handle = engine.start(take(0.0), summary=True)
    assert not engine.bus.is_silent
    await handle.result()
    assert engine.bus.is_silent
    cancelled = engine.start(take(0.0), summary=True)
    cancelled.cancel()  # before it has begun
    with pytest.raises(cs.errors.RunCancelledError):
        await cancelled.result()
    await asyncio.sleep(0)
    assert engine.bus.is_silent
    assert cancelled.summary().status == "cancelled"


async def test_without_the_option_it_has_what_the_handle_knows(engine):
    handle = engine.start(take(0.0, ValueError("no")))
    assert engine.bus.is_silent
    with pytest.raises(ValueError, match="no"):
        await handle.result()
    found = handle.summary()
    assert (found.status, found.error, found.planned, found.tasks) == (
        "failed",
        "ValueError: no",
        None,
        (),
    )
    assert "start(target, summary=True)" in str(found)


async def test_many_different_errors_are_counted_together(engine):
    errors = [ValueError(str(n)) for n in range(50)]
    target = take.map(seconds=[0.0] * 50, error=errors, return_exceptions=True)
    found = await summed(engine, target)
    assert len(found.failures["take"]) == 21
    assert found.failures["take"]["other errors"] == 30


async def test_it_prints_tables_in_text_and_in_rich(engine):
    console = pytest.importorskip(
        "rich.console", reason="needs rich: pip install 'cascade-engine[cli]'"
    )

    @cs.task(name="odd[red]\nname")
    def odd():
        raise ValueError("[bold]no[/bold]")

    target = [odd().catch(ValueError), count(3), take(0.002)]
    found = await summed(engine, target, run_id="one")
    out = io.StringIO()
    console.Console(file=out, width=120).print(found)
    for text in (str(found), out.getvalue()):
        first, *lines = text.splitlines()
        assert first.startswith("gather, run one: succeeded after ")
        assert first.endswith(", 3 of 3 tasks, 3 steps")
        header = next(line for line in lines if line.startswith("task"))
        assert header.split() == ["task", "finished", "failed", "mean", "longest", "total"]
        assert any(line.startswith("odd[red]") and "1" in line for line in lines)
        assert any(line.startswith("take #") for line in lines)
        assert "ValueError: [bold]no[/bold]" in text
    assert "\nname" not in str(found)


async def test_it_is_plain_data_for_json(engine):
    found = await summed(engine, take.map(seconds=[0.0, 0.001]), run_id="one")
    data = json.loads(json.dumps(found.as_data()))
    assert data["run_id"] == "one"
    assert data["tasks"][0]["finished"] == 2
    assert data["slowest"][0]["task"] == "take"
    assert json.loads(json.dumps(found, default=json_form)) == data
