"""Feed: a connection to engines, what is known of them, and what they are asked to show.

An engine is asked only for what a page shows now, and every few seconds anew: when the last page is
closed, or this process is killed, it stops to show anything by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import monotonic, time
from typing import Any

from cascade.command.remote import Engines, in_step
from cascade.runtime.control.looks import (
    MOST_RUNS,
    Look,
    Order,
    asked_topic,
    orders_topic,
    shown_topic,
    write_look,
    write_order,
)
from cascade.spec.protocols import Connector
from cascade.web.model.nodes import Ended, RunNodes
from cascade.web.model.run_table import RunTable

#: Seconds between two asks, and how long an engine shows something after one.
_ASK, _SHOWN = 2.0, 7.0
#: Points of the line of an engine's rate; most lines of logs, and most ended runs.
_POINTS, _LINES, _ENDED = 120, 2000, 500
#: Seconds to wait for the answer to an order.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that an engine's process has logged."""

    engine: str
    time: float
    level: str
    logger: str
    run: str
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """The rate of an engine at one moment."""

    time: float
    steps_per_second: float
    runs: int


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What one page shows."""

    runs: bool
    logs: bool
    #: Name of the engine and id of the run whose nodes it shows.
    run: tuple[str, str] | None


class Feed:
    """The engines at one broker, or of this user on this machine.

    Args:
        connector: The connection; opened and closed by this.
        prefix: The first levels of all topics.
        clock: The time of arrivals.
        wall: Unix time.

    Attributes:
        engines: The known engines and their statuses.
        trends: Name of an engine → its rates, the newest last.
        tables: Name of an engine → its runs under way; only while a page shows them.
        ended: Runs that have ended while a page looked, the newest first.
        logs: Lines of logs, the newest last.
        nodes: Engine and run → its nodes; only while a page shows them, and some time after.
    """

    def __init__(
        self,
        connector: Connector,
        prefix: str = "cascade",
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.connector = connector
        self.prefix = prefix
        self.engines = Engines(clock, wall)
        self.trends: dict[str, deque[Point]] = {}
        self.tables: dict[str, RunTable] = {}
        self.ended: deque[Ended] = deque(maxlen=_ENDED)
        self.logs: deque[LogLine] = deque(maxlen=_LINES)
        self.nodes: dict[tuple[str, str], RunNodes] = {}
        self._view = f"web-{os.urandom(6).hex()}"
        self._wanted: list[_Wanted] = []
        #: Runs whose nodes are to be shown from the beginning.
        self._anew: set[tuple[str, str]] = set()
        self._numbers = count(1)
        self._orders: dict[int, asyncio.Future[tuple[bool, str]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._hearers = {
            "runs": self._hear_runs,
            "graph": lambda engine, body: self._nodes(engine, body).add(body),
            "states": lambda engine, body: self._nodes(engine, body).change(body),
            "signals": self._hear_signals,
            "ended": self._hear_ended,
            "logs": self._hear_logs,
            "done": self._hear_done,
        }

    async def open(self, patience: float = 2.0) -> None:
        """Connect, and wait until the retained messages have come.

        Raises:
            ConnectorError: The broker cannot be reached.
        """
        connector, prefix = self.connector, self.prefix
        await connector.connect()
        await connector.subscribe(f"{prefix}/engines/+/status", self._hear_status)
        await connector.subscribe(f"{prefix}/constraints/#", self.engines.hear_steering)
        await connector.subscribe(shown_topic(prefix, "+", "+"), self._hear)
        await in_step(connector, prefix, patience)
        self.engines.retained = False
        self._asking = asyncio.create_task(self._ask_again(), name="asking engines")

    async def close(self) -> None:
        """Ask no more, and disconnect."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self.connector.disconnect()

    # -- what pages want ----------------------------------------------------------------------

    def look(
        self, *, runs: bool = False, logs: bool = False, run: tuple[str, str] | None = None
    ) -> Callable[[], None]:
        """Ask for something until the returned function is called.

        Args:
            runs: The runs of all engines, and how runs end.
            logs: The lines of logs.
            run: The nodes of a run: name of its engine, id of the run.
        """
        wanted = _Wanted(runs, logs, run)
        self._wanted.append(wanted)
        if run is not None:
            if run not in self.nodes:
                self.nodes[run] = RunNodes(ended=self.ending(*run))
            self._anew.add(run)
        self._ask()

        def look_no_more() -> None:
            if wanted in self._wanted:
                self._wanted.remove(wanted)
            if run is not None and not any(other.run == run for other in self._wanted):
                self.nodes.pop(run, None)
            if not any(other.runs for other in self._wanted):
                self.tables.clear()

        return look_no_more

    def ending(self, engine: str, run: str) -> Ended | None:
        """How a run has ended, if that was seen."""
        return next((e for e in self.ended if (e.engine, e.run) == (engine, run)), None)

    async def order(
        self, engine: str, do: str, run: str, name: str = "", value: Any = None
    ) -> tuple[bool, str]:
        """Send an order about a run to its engine; returns whether it was done, and the answer."""
        number = next(self._numbers)
        answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._orders[number] = answer
        order = Order(self._view, number, do, run, name, value)
        try:
            self.connector.publish(orders_topic(self.prefix, engine), write_order(order))
            async with asyncio.timeout(_PATIENCE):
                return await answer
        except TimeoutError:
            return False, f"no answer from {engine} within {_PATIENCE:g} s"
        finally:
            del self._orders[number]

    async def _ask_again(self) -> None:
        while True:
            await asyncio.sleep(_ASK)
            self._ask()

    def _ask(self) -> None:
        """Ask each engine for the data that pages show now."""
        runs = any(wanted.runs for wanted in self._wanted)
        logs = any(wanted.logs for wanted in self._wanted)
        for name in self.engines.known:
            own = [w.run for w in self._wanted if w.run is not None and w.run[0] == name]
            ids = tuple(dict.fromkeys(run for _, run in own[-MOST_RUNS:]))
            if not (runs or logs or ids):
                continue
            anew = bool(self._anew.intersection(own))
            look = Look(self._view, _SHOWN, runs=runs, run=ids, logs=logs, anew=anew)
            self.connector.publish(asked_topic(self.prefix, name), write_look(look))
            self._anew.difference_update(own)

    # -- what comes ---------------------------------------------------------------------------

    def _hear_status(self, topic: str, payload: bytes) -> None:
        name = topic.split("/")[-2]
        is_new = name not in self.engines.known
        self.engines.hear(topic, payload)
        status = self.engines.statuses.get(name)
        if status is None:
            self.trends.pop(name, None)
            self.tables.pop(name, None)
            return
        steps = sum(run.steps_per_second for run in status.runs)
        runs = len(status.runs) + status.more_runs
        trend = self.trends.setdefault(name, deque(maxlen=_POINTS))
        trend.append(Point(status.time, steps, runs))
        if is_new:
            self._ask()

    def _hear(self, topic: str, payload: bytes) -> None:
        """Take over the data of an engine; data of other programs and versions is left out."""
        *_, engine, _, part = topic.split("/")
        hearer = self._hearers.get(part)
        if hearer is None or engine not in self.engines.known:
            return
        with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
            hearer(engine, json.loads(payload))

    def _nodes(self, engine: str, body: dict[str, Any]) -> RunNodes:
        return self.nodes[engine, body["run"]]

    def _hear_runs(self, engine: str, body: dict[str, Any]) -> None:
        if any(wanted.runs for wanted in self._wanted):
            self.tables.setdefault(engine, RunTable(engine)).hear(body)

    def _hear_signals(self, engine: str, body: dict[str, Any]) -> None:
        nodes = self._nodes(engine, body)
        nodes.signals = {one["node"]: one["name"] for one in body["signals"]}
        nodes.forms = {one["name"]: one["form"] for one in body["signals"]}

    def _hear_ended(self, engine: str, body: dict[str, Any]) -> None:
        for row in body["rows"]:
            ended = Ended(**row, engine=engine)
            self.ended.appendleft(ended)
            nodes = self.nodes.get((engine, ended.run))
            if nodes is not None:
                nodes.end(ended)

    def _hear_logs(self, engine: str, body: dict[str, Any]) -> None:
        self.logs.extend(LogLine(engine, *row) for row in body["rows"])

    def _hear_done(self, _engine: str, body: dict[str, Any]) -> None:
        answer = self._orders.get(body["number"]) if body["to"] == self._view else None
        if answer is not None and not answer.done():
            answer.set_result((bool(body["done"]), str(body["text"])))
