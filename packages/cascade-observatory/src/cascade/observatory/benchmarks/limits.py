"""Costs of limits: the sections of ``governance``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from time import process_time
from typing import Any

from cascade.adapters.connectors import (
    MemoryBroker,
    MemoryConnector,
    MqttConnector,
    MqttSettings,
)
from cascade.observatory.benchmarks import flood, wakeups
from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.delays import summarised
from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.loops import count_down
from cascade.observatory.benchmarks.program import Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.shapes import WIDE
from cascade.observatory.benchmarks.tables import Table, figure
from cascade.runtime.control.plane import ControlPlane
from cascade.runtime.engine import Engine

FREE, OTHERS, BOUND = "no limits", "limits for others", "limits that hold"
#: Kind of limits of an engine → the scope of its tasks; None for no limit.
SCOPES: Mapping[str, str | None] = {FREE: None, OTHERS: "task:others_*", BOUND: "global"}
ALONE, PLANE = "alone", "control plane"
QUIET, FLOODED = "quiet", "flooded"
#: The cost of limits that apply to no task of the run, and seconds until a waiting call starts.
IDLE_MOST, WAKE_MOST = 1.05, 1e-3
#: The speed that a loop keeps in a flood, and seconds until that has reached an engine.
KEPT_LEAST, FLOOD_WITHIN = 0.8, 20.0


def limit(engine: Engine, which: str) -> None:
    """Give an engine limits that are never reached.

    Args:
        engine: The engine.
        which: A key of ``SCOPES``.
    """
    scope = SCOPES[which]
    if scope is not None:
        engine.constraints.limit_concurrency(scope, 1_000)
        engine.constraints.limit_rate(scope, "1000000000/s")


def idle(bench: Bench) -> None:
    """Limits beside the work, and around it."""
    nodes, steps = min(bench.largest, 10_000), bench.largest
    with ExitStack() as stack:
        engines = {name: stack.enter_context(Cascade(tier="auto")) for name in SCOPES}
        for name, one in engines.items():
            limit(one.engine, name)
        wide = [one.contender(WIDE, nodes, name) for name, one in engines.items()]
        _around(bench, "a wide graph", wide, nodes, "node")
        loops = [_looping(name, one, steps) for name, one in engines.items()]
        _around(bench, "a fused loop", loops, steps, "step")


def _around(bench: Bench, what: str, contenders: list[Contender], size: int, unit: str) -> None:
    title = f"limits, {what}"
    samples = bench.measure(title, contenders, _rounds(bench), FREE, unit)
    bench.show(f"limits around {what}", {figure(size): title}, f"{unit}s")
    cost = samples.ratio(OTHERS, FREE).median
    bench.found.target(f"limits for others: {what}", cost, most=IDLE_MOST)


def control_plane(bench: Bench) -> None:
    """An engine with a control plane, beside one without."""
    steps, title = 10 * bench.largest, "limits, control plane"
    with ExitStack() as stack:
        alone, watched = (stack.enter_context(Cascade(tier="auto")) for _ in range(2))
        plane = ControlPlane(watched.engine, MemoryConnector(MemoryBroker()))
        watched.wait_for(plane.__aenter__)
        stack.callback(lambda: watched.wait_for(lambda: plane.__aexit__(None, None, None)))
        contenders = [_looping(ALONE, alone, steps), _looping(PLANE, watched, steps)]
        samples = bench.measure(title, contenders, _rounds(bench), ALONE, "step")
    heading = "a control plane, in memory and idle, around a fused loop"
    bench.show(heading, {figure(steps): title}, "steps")
    cost = samples.ratio(PLANE, ALONE).median
    bench.found.target("idle control plane: a fused loop", cost, most=IDLE_MOST)


def flooded(bench: Bench) -> None:
    """An engine that gets a flood of valid messages, beside one that gets none."""
    lacking = flood.lacking()
    if lacking is not None:
        bench.console.print(f"flood: not measured, because {lacking}")
        return
    steps, title = 20 * bench.largest, "limits, a flood"
    with ExitStack() as stack:
        port = stack.enter_context(flood.broker())
        engines = {name: stack.enter_context(Cascade(tier="auto")) for name in (QUIET, FLOODED)}
        for name, one in engines.items():
            plane = ControlPlane(one.engine, _connector(port), prefix=name, telemetry=())
            one.wait_for(plane.__aenter__)
            stack.callback(one.wait_for, partial(plane.__aexit__, None, None, None))
        stack.enter_context(flood.flood(port, FLOODED))
        engines[FLOODED].wait_for(lambda: _is_reached(engines[FLOODED].engine))
        contenders = [_looping(name, one, steps) for name, one in engines.items()]
        # CPU time of this process: the sender and the broker may need the same processors.
        samples = bench.measure(title, contenders, _rounds(bench), QUIET, "step", process_time)
    heading = f"a flood of {flood.RATE:,} messages a second, around a fused loop"
    bench.show(heading, {figure(steps): title}, "steps")
    kept = samples.ratio(QUIET, FLOODED).median
    bench.found.target("speed in a flood: a fused loop", kept, least=KEPT_LEAST)


def _connector(port: int) -> MqttConnector:
    # Between two turns of a contender its event loop stands still, and answers no broker.
    url = f"mqtt://127.0.0.1:{port}"
    return MqttConnector(MqttSettings(url=url, keepalive=3_600))


async def _is_reached(engine: Engine) -> None:
    async with asyncio.timeout(FLOOD_WITHIN):
        while not engine.constraints.active():  # noqa: ASYNC110 - what comes from the broker
            await asyncio.sleep(0.01)


def wake_ups(bench: Bench) -> Figures:
    """Milliseconds until a waiting call begins."""
    count = min(bench.largest, 1_000)
    holders = {
        "in the event loop": wakeups.hold_in_the_loop,
        "on workers": wakeups.hold_on_a_thread,
    }
    found = {}
    for where, hold in holders.items():
        delays = _woken(hold, count)
        found[where] = delays.in_ms()
        what = f"wake-up {where}: p99"
        bench.found.target(what, delays.p99 * 1e3, most=WAKE_MOST * 1e3, unit="ms")
    rows = [(name, *map(figure, delays.values())) for name, delays in found.items()]
    title = f"wake-ups: ms from a call's end to the next one's beginning, {count} calls"
    bench.console.print(Table(title, ("where", "p50", "p99", "max"), rows).rich())
    return {"wake_up_ms": found}


def _woken(hold: Callable[[int], Any], count: int) -> Any:
    with Cascade(capacities={"slots": 1}) as cascade:
        for _ in range(2):  # the first run also imports modules and starts threads
            wakeups.forget()
            cascade.run(lambda: [hold(i).with_capacity(slots=1) for i in range(count)])
    return summarised(wakeups.gaps())


def _rounds(bench: Bench) -> int:
    """Many rounds, because the differences are small."""
    return bench.options.rounds or (7 if bench.options.quick else 21)


def _looping(name: str, cascade: Cascade, steps: int) -> Contender:
    return Contender(name, lambda: cascade.run(lambda: count_down(steps), use_vm=True), steps, 0)


PROGRAM = Program(
    "governance",
    "Costs of limits and of an idle control plane, and the time until a waiting call wakes.",
    (
        Section(
            "idle",
            "Around a wide graph and around a fused loop",
            "On an engine without any limit, on one with a concurrency and a rate limit for tasks "
            "of other names, and on one where both hold for all tasks and are never reached. A "
            "batch of a loop's steps asks once.",
            idle,
        ),
        Section(
            "control plane",
            "Around a loop on an engine with a control plane",
            "A fused loop on an engine with an idle control plane over a connector in memory: it "
            "publishes the run's steps ten times per second, and its own status once.",
            control_plane,
        ),
        Section(
            "flood",
            "In a flood of messages",
            "A fused loop on an engine with a control plane over MQTT, while another process sends "
            f"{flood.RATE:,} valid messages per second that change limits for tasks of other "
            "names. The engine beside it, on the same broker, gets none of them. In CPU time of "
            "the process of both. Where mosquitto is not installed, this is not measured.",
            flooded,
        ),
        Section(
            "wake-ups",
            "Wake-ups",
            "From the end of a call to the beginning of the next one, which waited for the "
            "capacity that the first one had.",
            wake_ups,
            {"wake_up_ms": ("where", "ms", 1.0)},
        ),
    ),
    most=10**6,
    quick=10**5,
    of="steps of a loop",
)
