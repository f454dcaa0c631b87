"""An engine is steered and watched over a connector: in memory, and over a real broker."""

import asyncio
import json
import threading
from collections import Counter

import aiomqtt
import pytest
from tests.services import running_mosquitto

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector, MqttConnector, MqttSettings
from cascade.runtime.control import plane as plane_module
from cascade.runtime.control.messages import payload_for, topic_for
from cascade.runtime.control.room import MOST_CONSTRAINTS
from cascade.runtime.control.status import read_status
from cascade.runtime.events import (
    ConnectorConnected,
    ConnectorDisconnected,
    ConstraintRemoved,
    ConstraintSet,
    ControlMessageRefused,
    Event,
)
from cascade.testing import VirtualTime


class Memory:
    def __init__(self):
        self.broker = MemoryBroker()

    def connector(self):
        return MemoryConnector(self.broker)

    async def lose(self, connector):
        self.broker.cut(connector)

    async def stop(self):
        self.broker.stop()

    async def start(self):
        self.broker.start()


class Mqtt:
    def __init__(self, broker):
        self.broker = broker

    def connector(self):
        settings = MqttSettings(url=self.broker.url, reconnect_min=0.01, reconnect_max=0.05)
        return MqttConnector(settings)

    async def lose(self, connector):
        """Come in under its name: a broker lets only the latest have it."""
        _, _, port = self.broker.url.rpartition(":")
        async with aiomqtt.Client("127.0.0.1", int(port), identifier=connector._client_id):
            pass

    async def stop(self):
        await asyncio.to_thread(self.broker.stop)

    async def start(self):
        await asyncio.to_thread(self.broker.start)


@pytest.fixture(params=["memory", "mqtt"])
def place(request, tmp_path):
    if request.param == "memory":
        yield Memory()
    else:
        with running_mosquitto(tmp_path) as broker:
            yield Mqtt(broker)


class Heard:
    """Messages or events, and waiting for them; of a connector, or of a bus."""

    def __init__(self):
        self.all = []
        self._changed = asyncio.Event()

    def __call__(self, *what):
        self.all.append(what[0] if len(what) == 1 else what)
        self._changed.set()

    async def until(self, holds):
        """The first thing for which this holds, from now on or before."""
        async with asyncio.timeout(20):
            while True:
                for what in self.all:
                    if holds(what):
                        return what
                self._changed.clear()
                await self._changed.wait()


def is_a(event_type, /, **parts):
    def holds(event):
        return type(event) is event_type and all(
            getattr(event, name) == value for name, value in parts.items()
        )

    return holds


steps: list[int] = []
enough = threading.Event()


@cs.task
def spin(n):
    steps.append(n)
    return n if enough.is_set() else spin.tail(n + 1)


@cs.task
async def work(n):
    await asyncio.sleep(0)
    return n


@pytest.fixture(autouse=True)
def fresh():
    steps.clear()
    enough.clear()
    yield
    enough.set()


def constrain(connector, scope, kind, value=None, **more):
    constraint = cs.Constraint(scope, kind, value, **more)
    connector.publish(topic_for("cascade", scope, kind), payload_for(constraint), retain=True)


async def made(count):
    while len(steps) < count:  # noqa: ASYNC110  # the loop is to have no other turns than these
        await asyncio.sleep(0)


async def standstill(engine):
    """Until the loop waits for a limit, and has made no more steps for a while."""
    while True:
        before = len(steps)
        for _ in range(20):
            await asyncio.sleep(0.001)
        if engine.waiting() and len(steps) == before:
            return


async def test_a_fused_loop_is_paused_slowed_and_resumed_from_outside(place):
    async with cs.Engine() as engine, place.connector() as outside:
        told = Heard()
        engine.bus.subscribe(Event, told)
        async with cs.ControlPlane(engine, place.connector(), every=0.01):
            running = asyncio.ensure_future(engine.run(spin(0), use_vm=True))
            await made(10_000)
            constrain(outside, "task:spin", "pause")
            await told.until(is_a(ConstraintSet, scope="task:spin", kind="pause"))
            await standstill(engine)
            before = len(steps)
            constrain(outside, "global", "rate_limit", "100/s")
            await told.until(is_a(ConstraintSet, kind="rate_limit"))
            outside.publish("cascade/constraints/task/spin/pause", payload_for(None), retain=True)
            await told.until(is_a(ConstraintRemoved, kind="pause"))
            await made(before + 5)
            assert len(steps) < before + 1_000
            outside.publish("cascade/constraints/global/rate_limit", b"", retain=True)
            await told.until(is_a(ConstraintRemoved, kind="rate_limit"))
            enough.set()
            assert await running == len(steps) - 1


async def test_retained_constraints_apply_to_a_new_engine(place):
    """Retained constraints are there before the first run begins."""
    async with place.connector() as outside, cs.Engine() as engine:
        constrain(outside, "task:work", "pause")
        constrain(outside, "global", "concurrency", 3)
        constrain(outside, "global", "rate_limit", "5/h", burst=7)
        outside.publish("cascade/constraints/global/rate_limit", payload_for(None), retain=True)
        await asyncio.sleep(0)
        arrived = Heard()
        await outside.subscribe("cascade/constraints/#", arrived)
        await arrived.until(lambda m: m[1] == payload_for(None))
        async with cs.ControlPlane(engine, place.connector()):
            assert {str(info.constraint) for info in engine.constraints.active()} == {
                "pause task:work",
                "concurrency global 3",
            }


async def test_a_lost_broker_stops_nothing_and_the_rules_stay(place):
    async with cs.Engine() as engine, place.connector() as outside:
        told = Heard()
        engine.bus.subscribe(Event, told)
        async with cs.ControlPlane(engine, place.connector(), every=0.01):
            constrain(outside, "task:spin", "pause")
            await told.until(is_a(ConstraintSet))
            running = asyncio.ensure_future(engine.run(spin(0), use_vm=True))
            assert await engine.run(work.map(n=[1, 2, 3])) == [1, 2, 3]
            await place.stop()
            lost = await told.until(is_a(ConnectorDisconnected))
            assert lost.constraints == 1
            assert lost.reason
            assert await engine.run(work.map(n=[4, 5])) == [4, 5]
            assert not running.done()
            assert steps == []
            told.all.clear()
            await place.start()
            await told.until(is_a(ConnectorConnected))
            constrain(outside, "global", "concurrency", 2)
            await told.until(is_a(ConstraintSet, kind="concurrency"))
            enough.set()
            engine.constraints.clear()
            assert await running == 0


async def test_retained_messages_that_come_again_change_nothing(place):
    async with cs.Engine() as engine, place.connector() as outside:
        told = Heard()
        engine.bus.subscribe(Event, told)
        connector = place.connector()
        async with cs.ControlPlane(engine, connector):
            topic = "cascade/constraints/global/pause"
            outside.publish(topic, b'{"ttl": 3600}', retain=True)
            await told.until(is_a(ConstraintSet))
            (info,) = engine.constraints.active()
            told.all.clear()
            in_step = Heard()
            await outside.subscribe("cascade/engines/+/sync", in_step)
            await place.lose(connector)
            await told.until(is_a(ConnectorConnected))
            await in_step.until(lambda _: True)  # the engine was told of it before
            outside.publish("cascade/constraints/global/concurrency", b'{"value": 9}')
            await told.until(is_a(ConstraintSet, kind="concurrency"))
            assert [e for e in told.all if is_a(ConstraintSet, kind="pause")(e)] == []
            assert engine.constraints.active()[0].seconds_left < info.seconds_left
            outside.publish(topic, b'{"ttl": 3600}', retain=True)  # said anew, it begins anew
            await told.until(is_a(ConstraintSet, kind="pause"))


class Hasty(MemoryConnector):
    """Delivers retained messages before it reports the connection, which a network may do."""

    def _open(self):
        for subscription in [] if self._is_open else self._subscriptions:
            self._deliver_retained(subscription)
        super()._open()


async def test_retained_messages_before_the_report_of_the_connection_are_not_repeated_either():
    broker = MemoryBroker()
    async with cs.Engine() as engine, MemoryConnector(broker) as outside:
        told = Heard()
        engine.bus.subscribe(Event, told)
        connector = Hasty(broker)
        async with cs.ControlPlane(engine, connector):
            constrain(outside, "global", "pause")
            await told.until(is_a(ConstraintSet))
            engine.constraints.resume()
            in_step = Heard()
            await outside.subscribe("cascade/engines/+/sync", in_step)
            broker.cut(connector)
            await in_step.until(lambda _: True)
            constrain(outside, "global", "concurrency", 9)
            await told.until(is_a(ConstraintSet, kind="concurrency"))
            assert [str(i.constraint) for i in engine.constraints.active()] == [
                "concurrency global 9"
            ]


def test_no_more_constraints_are_taken_than_an_engine_can_bear():
    """In virtual time, in which the plane need not spread its work over many seconds."""

    async def main():
        broker = MemoryBroker()
        async with cs.Engine() as engine, MemoryConnector(broker) as outside:
            told = Heard()
            engine.bus.subscribe(ControlMessageRefused, told)
            plane = cs.ControlPlane(engine, MemoryConnector(broker), telemetry=[])
            async with plane:
                for number in range(MOST_CONSTRAINTS + 1):
                    constrain(outside, f"task:t{number}", "pause")
                refused = await told.until(lambda _: True)
                assert f"takes no more than {MOST_CONSTRAINTS}" in refused.reason
                assert refused.topic == f"cascade/constraints/task/t{MOST_CONSTRAINTS}/pause"
                constrain(outside, "task:t0", "pause", ttl=60)  # one that is there may change
                for number in range(9 * MOST_CONSTRAINTS):
                    outside.publish(f"cascade/constraints/task/u{number}/pause", b"")
                outside.publish("cascade/constraints/nowhere/pause", b"")
                await told.until(lambda event: "nowhere" in event.topic)
                assert len(told.all) == 2
                assert len(engine.constraints.active()) == MOST_CONSTRAINTS
                assert len(plane._heard) <= 4 * MOST_CONSTRAINTS

    VirtualTime().run(main())


def test_many_messages_make_few_statuses():
    async def main():
        broker = MemoryBroker()
        async with cs.Engine() as engine, MemoryConnector(broker) as outside:
            heard = Heard()
            await outside.subscribe("cascade/engines/+/status", heard)
            async with cs.ControlPlane(engine, MemoryConnector(broker), every=3600):
                await heard.until(lambda _: True)
                for number in range(500):
                    constrain(outside, "global", "concurrency", number + 1)
                await heard.until(lambda m: read_status(m[1]).constraints)
                await asyncio.sleep(1)
                assert read_status(heard.all[-1][1]).constraints[0].value == 500
                return len(heard.all)

    assert VirtualTime().run(main()) <= 3


def test_a_status_that_cannot_be_told_is_not_the_last(monkeypatch, caplog):
    def broken(_status):
        raise ValueError("no such number")

    async def main():
        broker = MemoryBroker()
        async with cs.Engine() as engine, MemoryConnector(broker) as outside:
            heard = Heard()
            await outside.subscribe("cascade/engines/+/status", heard)
            with monkeypatch.context() as patched:
                patched.setattr(plane_module, "write_status", broken)
                async with cs.ControlPlane(engine, MemoryConnector(broker)):
                    await asyncio.sleep(10)
                    patched.undo()
                    await heard.until(lambda m: m[1])

    VirtualTime().run(main())
    assert caplog.text.count("cannot be read") == 1
    assert "no such number" in caplog.text


async def test_two_engines_of_a_process_have_two_names():
    async with cs.Engine() as one, cs.Engine() as other:
        broker = MemoryBroker()
        planes = [cs.ControlPlane(engine, MemoryConnector(broker)) for engine in (one, other)]
        assert len({plane.name for plane in planes}) == 2


async def test_other_messages_than_constraints_are_refused_and_change_nothing(place):
    async with cs.Engine() as engine, place.connector() as outside:
        told = Heard()
        engine.bus.subscribe(Event, told)
        async with cs.ControlPlane(engine, place.connector()):
            odd = (b"{", b"[]", b'{"value": "x"}', b"x" * 10_000, b"\x80\x04.")
            for number, payload in enumerate(odd):
                outside.publish(f"cascade/constraints/task/t{number}/concurrency", payload)
            outside.publish("cascade/constraints/nowhere/pause", b"{}")
            constrain(outside, "global", "concurrency", 5)
            await told.until(is_a(ConstraintSet))
            refused = [event for event in told.all if type(event) is ControlMessageRefused]
            assert len(refused) == 6
            assert all(event.reason and event.topic for event in refused)
            assert [str(i.constraint) for i in engine.constraints.active()] == [
                "concurrency global 5"
            ]


async def test_the_telemetry_tells_of_runs_tasks_and_steps(place):
    async with cs.Engine(step_interval=0.001) as engine, place.connector() as outside:
        heard = Heard()
        await outside.subscribe("cascade/telemetry/#", heard)
        groups = ["run", "task", "steps"]
        async with cs.ControlPlane(engine, place.connector(), every=0.01, telemetry=groups):
            assert await engine.run(work.map(n=[1, 2])) == [1, 2]
            running = asyncio.ensure_future(engine.run(spin(0), use_vm=True))
            # Not those of the map before, which has steps of its own on a busy machine.
            _, payload = await heard.until(lambda m: "/StepsMade" in m[0] and b'"spin"' in m[1])
            enough.set()
            await running
            await heard.until(
                lambda m: (
                    m[0].endswith("/run/RunFinished")
                    and b'"spin"' not in m[1]
                    and json.loads(m[1])["run_id"] == json.loads(payload)["run_id"]
                )
            )
    kinds = Counter(topic.rpartition("/")[2] for topic, _ in heard.all)
    assert kinds["RunStarted"] == kinds["RunFinished"] == 2
    assert kinds["TaskStarted"] == kinds["TaskFinished"] == 3
    bodies = [json.loads(payload) for _, payload in heard.all]
    assert all(body["time"] > 1e9 for body in bodies)
    for topic, payload in heard.all:
        _, _, about, _, name = topic.split("/")
        body = json.loads(payload)
        assert body["event"] == name
        assert body["run_id"] in (about, "")


async def test_events_of_each_call_are_published_only_if_they_are_asked_for():
    broker = MemoryBroker()
    async with cs.Engine() as engine, MemoryConnector(broker) as outside:
        heard = Heard()
        await outside.subscribe("cascade/telemetry/#", heard)
        async with cs.ControlPlane(engine, MemoryConnector(broker)):
            assert not engine.bus.wants(cs.events.TaskStarted)
            await engine.run(work(1))
            await heard.until(lambda m: m[0].endswith("/run/RunFinished"))
    assert {topic.split("/")[3] for topic, _ in heard.all} == {"run", "control"}


async def test_the_status_says_how_the_engine_stands_and_goes_with_it(place):
    async with (
        cs.Engine(capacities={"gpu": 2}) as engine,
        place.connector() as outside,
    ):
        heard = Heard()
        await outside.subscribe("cascade/engines/+/status", heard)
        async with cs.ControlPlane(engine, place.connector(), name="trainer", every=0.01):
            engine.constraints.pause("task:spin")
            target = spin(0).with_capacity(gpu=1)
            running = asyncio.ensure_future(engine.run(target, use_vm=True))
            _, payload = await heard.until(lambda m: m[1] and read_status(m[1]).waiting)
            status = read_status(payload)
            assert status.engine == "trainer"
            assert (status.capacities, status.available) == ({"gpu": 2}, {"gpu": 2})
            assert [run.target for run in status.runs] == ["spin"]
            assert [(w.task, w.reason) for w in status.waiting] == [("spin", "pause task:spin")]
            assert [(c.scope, c.kind) for c in status.constraints] == [("task:spin", "pause")]
            assert status.patience == pytest.approx(1.03)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        topic, payload = await heard.until(lambda m: not m[1])
        assert (topic, payload) == ("cascade/engines/trainer/status", b"")


async def test_nothing_is_left_when_it_ends(place):
    before = asyncio.all_tasks()
    async with cs.Engine() as engine:
        for _ in range(2):  # a connector can be used again
            async with cs.ControlPlane(engine, place.connector()):
                await engine.run(work(1))
        assert engine.bus.is_silent
    assert asyncio.all_tasks() == before


async def test_without_a_broker_the_engine_works_and_goes_on_trying():
    broker = MemoryBroker()
    broker.stop()
    async with cs.Engine() as engine:
        told = Heard()
        engine.bus.subscribe(ConnectorConnected, told)
        async with cs.ControlPlane(engine, MemoryConnector(broker), patience=0.001):
            assert await engine.run(work(1)) == 1
            broker.start()
            await told.until(is_a(ConnectorConnected))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "a/b"}, "one level of topics"),
        ({"name": ""}, "part of topics"),
        ({"name": "a\n"}, r"U\+000A"),
        ({"prefix": "#"}, "part of topics"),
        ({"every": 0}, "every takes seconds"),
        ({"patience": -1}, "patience takes seconds"),
        ({"telemetry": ["tasks"]}, r"'tasks' \(did you mean 'task'\?\)"),
    ],
)
def test_invalid_arguments_are_refused(options, complaint):
    with pytest.raises(cs.errors.ArgumentError, match=complaint):
        cs.ControlPlane(cs.Engine(), MemoryConnector(MemoryBroker()), **options)


def test_an_engine_and_a_connector_are_asked_for():
    with pytest.raises(cs.errors.ArgumentError, match="takes an engine"):
        cs.ControlPlane(None, MemoryConnector(MemoryBroker()))
    with pytest.raises(cs.errors.ArgumentError, match="takes a connector"):
        cs.ControlPlane(cs.Engine(), "mqtt://localhost")
