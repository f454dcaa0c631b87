"""The feed asks engines for what pages show, and only while they show it; a site changes things."""

import asyncio
import json

import pytest

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.runtime.control import lookout
from cascade.spec.errors import ArgumentError
from cascade.web.model import feed as feed_module
from cascade.web.model.feed import Feed
from cascade.web.model.fleet import amounts, cards, constraint, rules, waits
from cascade.web.model.run_table import RunTable, chosen, page_of
from cascade.web.site import READ_ONLY, Site

gates: dict[str, asyncio.Event] = {}


@cs.task
async def wait(name):
    await gates[name].wait()
    return name


@cs.task
async def step(n):
    await asyncio.sleep(0)
    return step.tail(n + 1)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(lookout, "_EVERY", 0.01)
    gates.clear()
    gates.update({name: asyncio.Event() for name in "ab"})


@pytest.fixture
async def watched():
    """An engine ``e`` with a capacity, and a feed of it."""
    broker = MemoryBroker()
    async with cs.Engine(capacities={"gpu": 2}) as engine, asyncio.timeout(30):
        plane = cs.ControlPlane(engine, MemoryConnector(broker), name="e", every=0.05, telemetry=())
        async with plane:
            feed = Feed(MemoryConnector(broker))
            await feed.open()
            yield engine, feed
            await feed.close()


async def until(holds):
    while not (found := holds()):  # noqa: ASYNC110  # what is looked at has no event
        await asyncio.sleep(0.005)
    return found


async def test_an_engine_is_asked_for_its_runs_only_while_a_page_shows_them(watched):
    engine, feed = watched
    engine.start(step(0), run_id="r")
    await until(lambda: cards(feed) and cards(feed)[0].runs)
    assert feed.tables == {}
    close = feed.look(runs=True)
    row = await until(lambda: "e" in feed.tables and feed.tables["e"].rows.get("r"))
    assert (row.target, row.state) == ("step", "running")
    close()
    assert feed.tables == {}
    assert not feed._wanted


async def test_the_nodes_of_a_run_are_shown_until_its_page_is_closed_and_so_is_its_end(watched):
    engine, feed = watched
    run = engine.start([wait("a"), wait("b")], run_id="r")
    close = feed.look(run=("e", "r"))
    nodes = feed.nodes["e", "r"]
    await until(lambda: nodes.counts()["running"] == 2)
    gates["a"].set()
    await until(lambda: nodes.counts()["finished"] == 1)
    gates["b"].set()
    await run.result()
    ended = await until(lambda: nodes.ended)
    assert (ended.status, ended.engine) == ("succeeded", "e")
    assert nodes.counts()["finished"] == 3
    close()
    assert feed.nodes == {}
    later = feed.look(run=("e", "r"))
    assert feed.nodes["e", "r"].ended is ended
    later()


async def test_a_second_page_of_a_run_gets_all_nodes_that_the_first_one_had(watched):
    engine, feed = watched
    run = engine.start([wait("a"), wait("b")], run_id="r")
    first = feed.look(run=("e", "r"))
    await until(lambda: len(feed.nodes["e", "r"].nodes) == 3)
    second = feed.look(run=("e", "r"))
    first()
    await until(lambda: len(feed.nodes["e", "r"].nodes) == 3)
    second()
    run.cancel()


async def test_orders_are_answered_and_a_silent_engine_is_named(watched, monkeypatch):
    engine, feed = watched
    run = engine.start(wait("a"), run_id="r")
    site = Site(feed)
    assert await site.cancel("e", "r") == (True, "asked to end")
    with pytest.raises(cs.errors.RunCancelledError):
        await run.result()
    monkeypatch.setattr(feed_module, "_PATIENCE", 0.01)
    assert await site.cancel("gone", "r") == (False, "no answer from gone within 0.01 s")
    other = engine.start(cs.wait_for("go"), run_id="s")
    assert (await site.signal("e", "s", "go", [1]))[0]
    assert await other.result() == [1]


async def test_a_constraint_is_set_and_removed_with_the_confirmation_of_the_engine(watched):
    engine, feed = watched
    site = Site(feed)
    wanted = constraint("task:wait", "concurrency", "3")
    assert await site.set(wanted) == (True, "concurrency task:wait 3: holds for e")
    (rule,) = await until(lambda: rules(feed))
    assert (rule.scope, rule.kind, rule.value) == ("task:wait", "concurrency", "3")
    assert await site.remove(rule.scope, rule.kind) == (
        True,
        "no more concurrency task:wait: holds for e",
    )
    assert engine.constraints.active() == []
    done, said = await site.remove("tusk:x", "pause")
    assert not done
    assert "a scope is 'global' or 'task:'" in said


async def test_a_view_that_may_only_look_changes_nothing(watched):
    engine, feed = watched
    run = engine.start(wait("a"), run_id="r")
    site = Site(feed, read_only=True)
    assert await site.set(constraint("global", "pause", "")) == READ_ONLY
    assert await site.remove("global", "pause") == READ_ONLY
    assert await site.cancel("e", "r") == READ_ONLY
    assert await site.signal("e", "r", "go", 1) == READ_ONLY
    assert engine.constraints.active() == []
    gates["a"].set()
    assert await run.result() == "a"


async def test_what_waits_for_a_capacity_and_what_holds_it_are_shown(watched):
    engine, feed = watched
    run = engine.start([wait(name).with_capacity(gpu=2) for name in "ab"], run_id="r")
    (waiting,) = await until(lambda: waits(feed))
    assert (waiting.task, waiting.reason, waiting.holders) == ("wait", "capacity gpu", "wait")
    (amount,) = amounts(feed)
    assert (amount.name, amount.total, amount.available, amount.wanted) == ("gpu", 2, 0, "wait")
    assert amount.share == 1.0
    run.cancel()


async def test_messages_of_other_programs_do_no_harm(watched):
    _, feed = watched
    close = feed.look(runs=True, run=("e", "r"))
    for part in ("runs", "graph", "states", "ended", "logs", "signals", "done", "new"):
        for payload in (b"", b"{", b"[]", b"{}", b'{"rows": [1], "run": "r"}', b"[" * 100_000):
            feed._hear(f"cascade/engines/e/shown/{part}", payload)
            feed._hear(f"cascade/engines/unknown/shown/{part}", payload)
    assert cards(feed)[0].name == "e"
    close()


def table(*rows, sweep=1, first=0, of=None, into=None):
    made = into or RunTable("e")
    made.hear({"sweep": sweep, "first": first, "of": len(rows) if of is None else of, "rows": rows})
    return made


def run_row(run, rate=1.0, waits="", target="agent"):
    return [run, target, "graph", 1.0, 10, rate, None, waits]


def test_runs_that_a_whole_sweep_did_not_have_are_forgotten():
    made = table(run_row("a"), run_row("b"))
    table(run_row("a"), sweep=2, first=0, of=2, into=made)
    assert set(made.rows) == {"a", "b"}
    table(run_row("c"), sweep=2, first=1, of=2, into=made)
    assert set(made.rows) == {"a", "c"}
    assert list(made.rows["a"].rates) == [1.0, 1.0]


def test_runs_are_found_by_text_and_state_and_sorted():
    made = table(
        run_row("a", 3.0), run_row("b", 1.0, "pause global"), run_row("c", 2.0, "signal go")
    )
    rows = made.rows.values()
    assert [row.run for row in chosen(rows, sort="rate", down=True)] == ["a", "c", "b"]
    assert [row.run for row in chosen(rows, "PAUSE")] == ["b"]
    assert [row.run for row in chosen(rows, state="waiting")] == ["c"]
    assert made.rows["c"].signal == "go"
    assert made.rows["b"].state == "paused"


def test_a_page_beyond_the_end_is_the_last_one():
    rows = list(chosen(table(*(run_row(f"{n:03}") for n in range(25))).rows.values()))
    assert [row.run for row in page_of(rows, 1, 10)] == [f"{n:03}" for n in range(10, 20)]
    assert len(page_of(rows, 9, 10)) == 5
    assert page_of([], 3, 10) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("task:f", "concurrency", "many"), "the number of calls must be a whole number"),
        (("task:f", "rate_limit", "10/s", "x"), "the burst must be a whole number"),
        (("task:f", "pause", "", "", "soon"), "the number of seconds must be a number"),
        (("f", "pause", ""), "a scope is 'global' or 'task:'"),
        (("task:f", "rate_limit", "fast"), "fast"),
    ],
)
def test_a_wrong_form_is_refused_in_a_sentence(given, said):
    with pytest.raises((ArgumentError, ValueError), match=said):
        constraint(*given)


def test_a_form_gives_a_constraint():
    assert constraint(" task:f ", "rate_limit", "10/s", "5", "60") == cs.Constraint(
        "task:f", "rate_limit", "10/s", 5, 60.0
    )
    assert json.dumps(constraint("global", "pause", "ignored").value) == "null"
