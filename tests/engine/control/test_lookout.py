"""Views in other processes ask an engine to show its runs, their nodes and ends, and its log."""

import asyncio
import json
import logging
from dataclasses import dataclass

import pytest

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.runtime.control import lookout
from cascade.runtime.control.looks import (
    Look,
    Order,
    asked_topic,
    orders_topic,
    read_look,
    read_order,
    write_look,
    write_order,
)
from cascade.runtime.control.messages import RefusedMessageError
from cascade.runtime.events import ControlMessageRefused


class View:
    """What one engine shows, and waiting for it."""

    def __init__(self, connector):
        self._connector = connector
        self.shown = {}
        self._news = asyncio.Event()
        self._asking = None

    @classmethod
    async def of(cls, connector):
        view = cls(connector)
        await connector.subscribe("cascade/engines/e/shown/+", view._hear)
        return view

    def _hear(self, topic, payload):
        self.shown.setdefault(topic.rpartition("/")[2], []).append(json.loads(payload))
        self._news.set()

    def ask(self, seconds=60.0, **wants):
        self._connector.publish(
            asked_topic("cascade", "e"), write_look(Look("v", seconds, **wants))
        )

    def order(self, order):
        self._connector.publish(orders_topic("cascade", "e"), write_order(order))

    async def until(self, found):
        """The first true result of ``found()``, which is called after each message."""
        while not (result := found()):
            self._news.clear()
            await self._news.wait()
        return result

    def all(self, part, column):
        return [row for body in self.shown.get(part, ()) for row in body[column]]

    @property
    def states(self):
        return {number: state for number, state, _ in self.all("states", "changes")}

    @property
    def notes(self):
        return {number: note for number, _, note in self.all("states", "changes")}

    @property
    def nodes(self):
        return {row[0]: row for row in self.all("graph", "nodes")}


@pytest.fixture
async def shown():
    broker = MemoryBroker()
    async with (
        cs.Engine() as engine,
        cs.ControlPlane(engine, MemoryConnector(broker), name="e", every=60, telemetry=()),
        MemoryConnector(broker) as connector,
        asyncio.timeout(30),
    ):
        yield engine, await View.of(connector)


@cs.task
async def wait(name, *inputs):
    await gates[name].wait()
    return name


gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(lookout, "_EVERY", 0.01)


@pytest.fixture(autouse=True)
def closed_gates():
    gates.clear()
    gates.update({name: asyncio.Event() for name in "abc"})


async def test_an_engine_without_a_view_has_no_task_and_no_subscription_for_it(shown):
    engine, view = shown
    before = len(asyncio.all_tasks())
    assert await engine.run(wait.func is not None)
    assert engine.engine_runs.on_end is None
    assert engine.bus.is_silent
    view.ask(seconds=0.001, runs=True)
    await view.until(lambda: "runs" in view.shown)
    while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert engine.engine_runs.on_end is None
    assert engine.bus.is_silent


async def test_a_view_gets_the_nodes_of_a_run_with_their_inputs_and_each_change_of_state(shown):
    engine, view = shown
    first = wait("a")
    target = wait("b", first)
    run = engine.start(target, run_id="r")
    view.ask(run=("r",))
    await view.until(lambda: view.states.get(first.number) == "running")
    assert view.states[target.number] == "planned"
    assert view.nodes[target.number][-1] == [first.number]
    number, name, kind, site, *_ = view.nodes[first.number]
    assert (number, name, kind) == (first.number, "wait", "task")
    assert site.startswith("tests/engine/control/test_lookout.py:") or "test_lookout.py:" in site
    gates["a"].set()
    await view.until(lambda: view.states.get(target.number) == "running")
    assert view.states[first.number] == "finished"
    gates["b"].set()
    assert await run.result() == "b"


async def test_items_of_a_map_belong_to_the_node_of_the_map(shown):
    engine, view = shown

    mapped = wait.map(name=["a", "b", "c"])
    run = engine.start(mapped, run_id="r")
    view.ask(run=("r",))
    await view.until(lambda: list(view.states.values()).count("running") >= 3)
    items = [row for row in view.nodes.values() if row[5] == mapped.number]
    assert sorted(row[6] for row in items) == [
        "item 0, name='a'",
        "item 1, name='b'",
        "item 2, name='c'",
    ]
    run.cancel()


async def test_a_node_names_the_limit_that_it_waits_for_and_its_holders(shown):
    engine, view = shown
    engine.constraints.limit_concurrency("task:wait", 1)
    one, two = wait("a"), wait("b")
    run = engine.start([one, two], run_id="r")
    view.ask(run=("r",), runs=True)
    await view.until(lambda: "waiting" in view.states.values())
    held_up = next(n for n, state in view.states.items() if state == "waiting")
    assert view.notes[held_up] == "concurrency task:wait 1, held by wait"
    row = await view.until(lambda: next((r for r in view.all("runs", "rows") if r[7]), None))
    assert row[0] == "r"
    assert row[7] == "concurrency task:wait 1, held by wait"
    run.cancel()


async def test_a_run_that_fails_is_shown_with_its_traceback_and_call_site(shown):
    engine, view = shown

    @cs.task
    def breaks():
        raise ValueError("no such shop")

    view.ask(runs=True)
    await view.until(lambda: "runs" in view.shown)
    with pytest.raises(ValueError, match="no such shop"):
        await engine.run(breaks(), run_id="r")
    (ended,) = await view.until(lambda: view.all("ended", "rows"))
    assert (ended["run"], ended["status"], ended["error"]) == (
        "r",
        "failed",
        "ValueError: no such shop",
    )
    assert "in breaks\n" in ended["traceback"]
    assert "cascade: in task 'breaks', called at " in ended["traceback"]
    assert "cascade/runtime" not in ended["traceback"]


async def test_lines_that_a_task_logs_are_shown_with_the_id_of_its_run(shown):
    engine, view = shown

    @cs.task
    def warns():
        logging.getLogger("shop").warning("only %d left", 3)

    view.ask(logs=True)
    handlers = len(logging.getLogger().handlers)
    while len(logging.getLogger().handlers) == handlers:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await engine.run(warns(), run_id="r")
    row = await view.until(lambda: next(iter(view.all("logs", "rows")), None))
    assert row[1:] == ["WARNING", "shop", "r", "only 3 left"]


async def test_a_view_cancels_a_run_and_signals_another(shown):
    engine, view = shown
    run, other = (
        engine.start(wait("a"), run_id="r"),
        engine.start(cs.wait_for("go"), run_id="s"),
    )
    view.order(Order("v", 1, "cancel", "r"))
    with pytest.raises(cs.errors.RunCancelledError):
        await run.result()
    view.order(Order("v", 2, "signal", "s", "go", {"ok": True}))
    assert await other.result() == {"ok": True}
    view.order(Order("v", 3, "cancel", "nothing"))
    await view.until(lambda: len(view.shown.get("done", ())) == 3)
    assert [(body["number"], body["done"]) for body in view.shown["done"]] == [
        (1, True),
        (2, True),
        (3, False),
    ]


async def test_signals_that_a_run_waits_for_are_shown(shown):
    engine, view = shown
    node = cs.wait_for("approval")
    run = engine.start(node, run_id="r")
    view.ask(run=("r",))
    await view.until(lambda: view.all("signals", "signals"))
    assert view.all("signals", "signals")[0] == {
        "node": node.number,
        "name": "approval",
        "form": {"kind": "json"},
    }
    run.cancel()


@dataclass
class Approval:
    ok: bool


@cs.task
def publish(letter: str, approval: Approval | None) -> object:
    return approval


async def test_a_signal_has_the_form_of_the_parameter_that_gets_it_and_becomes_its_class(shown):
    engine, view = shown
    run = engine.start(publish("dear", cs.wait_for("approval")), run_id="r")
    view.ask(run=("r",))
    (signal, *_) = await view.until(lambda: view.all("signals", "signals"))
    assert signal["form"]["fields"] == [{"name": "ok", "form": {"kind": "yes or no"}}]
    view.order(Order("v", 1, "signal", "r", "approval", {"no": True}))
    (refused,) = await view.until(lambda: view.shown.get("done"))
    assert not refused["done"]
    assert "is no Approval" in refused["text"]
    view.order(Order("v", 2, "signal", "r", "approval", {"ok": True}))
    assert await run.result() == Approval(True)


async def test_a_graph_that_a_task_returned_belongs_to_its_node_and_is_taken_back_at_its_end(shown):
    engine, view = shown

    @cs.task
    def inner():
        return wait("b", wait("a"))

    @cs.task
    def last(value, other):
        return value

    outer = inner()
    run = engine.start(last(outer, wait("c")), run_id="r")
    view.ask(run=("r",))
    await view.until(lambda: sum(row[5] == outer.number for row in view.nodes.values()) == 2)
    await view.until(lambda: view.states.get(outer.number) == "running")
    segment = next(row[4] for row in view.nodes.values() if row[5] == outer.number)
    gates["a"].set()
    gates["b"].set()
    await view.until(lambda: view.states.get(outer.number) == "finished")
    assert await view.until(lambda: view.all("graph", "gone")) == [segment]
    gates["c"].set()
    assert await run.result() == "b"


async def test_a_run_that_ends_in_the_middle_of_a_look_is_looked_at_no_more(shown, caplog):
    engine, view = shown

    @cs.task
    async def last(*values):
        return len(values)

    wide = last(*[wait("a") for _ in range(1000)])
    run = engine.start(wide, run_id="r")
    view.ask(run=("r",))
    await view.until(lambda: view.nodes)  # the first slice of many
    assert len(view.nodes) < 1000
    gates["a"].set()
    assert await run.result() == 1000
    other = engine.start([wait("b")], run_id="s")
    view.ask(run=("s",))
    await view.until(lambda: "running" in view.states.values())
    assert not caplog.records
    other.cancel()


async def test_a_malformed_message_of_a_view_is_refused_with_a_reason(shown):
    engine, view = shown
    refused = asyncio.Queue()
    engine.bus.subscribe(ControlMessageRefused, refused.put_nowait)
    view._connector.publish(asked_topic("cascade", "e"), b"[]")
    assert "not a JSON object" in (await refused.get()).reason
    view._connector.publish(orders_topic("cascade", "e"), b'{"from": "v"}')
    assert "it must have do, from, number, run" in (await refused.get()).reason


@pytest.mark.parametrize(
    "payload",
    [
        b"x" * 5000,
        b"{",
        b'{"from": "v"}',
        b'{"from": "", "seconds": 1}',
        b'{"from": "v", "seconds": 1e9}',
        b'{"from": "v", "seconds": true}',
        b'{"from": "v", "seconds": 1, "runs": 1}',
        b'{"from": "v", "seconds": 1, "run": "r"}',
        b'{"from": "v", "seconds": 1, "run": ["a", "b", "c", "d", "e"]}',
        b'{"from": "v", "seconds": 1, "more": 1}',
    ],
)
def test_a_look_of_another_form_is_refused(payload):
    with pytest.raises(RefusedMessageError):
        read_look(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"from": "v", "number": 1, "do": "delete", "run": "r"}',
        b'{"from": "v", "number": "1", "do": "cancel", "run": "r"}',
        b'{"from": "v", "number": 1, "do": "signal", "run": "r"}',
        b'{"from": "v", "number": 1, "do": "cancel", "run": ""}',
    ],
)
def test_an_order_of_another_form_is_refused(payload):
    with pytest.raises(RefusedMessageError):
        read_order(payload)


def test_a_look_and_an_order_are_read_as_they_were_written():
    look = Look("v", 3.0, runs=True, run=("r",), logs=True, anew=True)
    assert read_look(write_look(look)) == look
    order = Order("v", 0, "signal", "r", "go", False)
    assert read_order(write_order(order)) == order
