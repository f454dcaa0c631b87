"""History: the outcome of each node, for drawings and tables after a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

from cascade.graph.durations import duration_text
from cascade.graph.states import BY_WEIGHT, NodeState, heaviest
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Item,
    RunFinished,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.html_tables import html_lines, html_table
from cascade.runtime.telemetry.wording import error_text, waiting_for
from cascade.spec.shown import Shown
from cascade.spec.wording import visible


@dataclass(slots=True)
class NodeRecord:
    """The outcome of one node, in the last run that computed it."""

    run_id: str
    task: str
    #: ``LazyResult.number``
    node: int
    #: See ``NodeState.state``. ``"retrying"`` after the failure of an attempt and ``"waiting"``
    #: after the start of a wait, both until the node's next event; resuming publishes none. A node
    #: that has not ended when the run does is ``"cancelled"``.
    state: str = "running"
    #: Time of its start, on the clock of the events; None if it never ran.
    started: float | None = None
    #: Duration of its calls in seconds (M19); None if it did not end by itself.
    seconds: float | None = None
    #: Seconds that it waited for limits and for further attempts.
    waited: float = 0.0
    #: Attempts that failed and were followed by another.
    retries: int = 0
    #: Type and message of the last error. Not the error itself: its traceback would keep the task's
    #: variables alive.
    error: str = ""
    #: Of a skipped node the falsy condition, of a waiting one the thing it waits for.
    reason: str = ""
    #: Its place in a map, if it is an item of one.
    item: Item | None = None

    @property
    def note(self) -> str:
        """The text of a drawing besides state and duration."""
        if self.state == "skipped":
            return f"{self.reason} was falsy"
        if self.state == "waiting":
            return self.reason
        if self.retries and self.state in ("finished", "retrying"):
            times = f"{self.retries} {'retry' if self.retries == 1 else 'retries'}"
            return times if self.state == "finished" else f"{times}, {self.error}"
        return self.error if self.state == "failed" else ""


#: Most records that its text and notebooks show.
_MOST_SHOWN = 50


class History(Subscriber, Shown):
    """Records the nodes of the runs on ``bus``, until it is closed or its block ends.

    It records nodes that call a task, including those added during a run. A node computed by
    several runs has the record of the last one.

    Cost: about 1 µs and 200 bytes per node, besides the engine's cost of publishing two events. The
    memory is freed with the history, or by ``clear``.

    >>> import cascade as cs, asyncio
    >>> @cs.task
    ... def double(n):
    ...     return 2 * n
    >>> target = double(double(10))
    >>> async def main():
    ...     async with cs.Engine() as engine:
    ...         with History(engine.bus) as history:
    ...             await engine.run(target)
    ...         return history
    >>> history = asyncio.run(main())
    >>> history.nodes[target.number].state
    'finished'
    >>> drawing = cs.visualize(target, states=history.states)
    """

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self._nodes: dict[int, NodeRecord] = {}
        # Active run → its nodes with events, whether they have ended or not.
        self._under_way: dict[str, list[NodeRecord]] = {}
        self._listen(TaskStarted, self._on_started)
        self._listen(TaskFinished, self._on_finished)
        self._listen(TaskFailed, self._on_failed)
        self._listen(TaskRetrying, self._on_retrying)
        self._listen(TaskWaiting, self._on_waiting)
        self._listen(TaskSkipped, self._on_skipped)
        self._listen(TaskCached, self._on_cached)
        self._listen(RunFinished, self._on_run_finished)

    @property
    def nodes(self) -> dict[int, NodeRecord]:
        """``LazyResult.number`` → record, in the order in which nodes began or ended.

        A copy of the mapping only: the records change while their run is active.
        """
        return self._nodes.copy()

    @property
    def states(self) -> dict[int, NodeState]:
        """The present states for ``visualize(target, states=…)``; a map has that of its items."""
        states: dict[int, NodeState] = {}
        maps: dict[int, list[NodeRecord]] = {}
        for number, record in self.nodes.items():
            states[number] = NodeState(record.state, record.seconds, record.note)
            if record.item is not None and record.item.map:
                maps.setdefault(record.item.map, []).append(record)
        return states | {number: _state_of_map(items) for number, items in maps.items()}

    def __str__(self) -> str:
        """The number of nodes by their state, and the records that matter most."""
        _names, rows, left = self._table()
        lines = [self._counts(), *("  ".join(filter(None, row)) for row in rows)]
        return "\n".join(map(visible, [*lines, *left]))

    def __repr__(self) -> str:
        return f"<History: {self._counts()}>"

    def _repr_html_(self) -> str:
        names, rows, left = self._table()
        return html_lines([self._counts()]) + html_table(names, rows, (0, 1, 3)) + html_lines(left)

    def _counts(self) -> str:
        counts = Counter(record.state for record in self.nodes.values())
        states = ", ".join(f"{counts[s]:,} {s}" for s in BY_WEIGHT if counts[s])
        count = counts.total()
        return f"{count:,} node{'s' * (count != 1)}" + (f": {states}" if states else "")

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
        """The names of columns, the rows of the records that matter most, and how many are left."""
        records = self.nodes.values()
        chosen = nsmallest(_MOST_SHOWN, records, key=lambda one: BY_WEIGHT.index(one.state))
        rows: list[tuple[str, ...]] = [
            (
                one.task + ("" if one.item is None else f", {one.item}"),
                one.state,
                "" if one.seconds is None else duration_text(one.seconds),
                one.note,
            )
            for one in chosen
        ]
        left = len(records) - len(rows)
        return ("node", "state", "duration", "note"), rows, [f"{left:,} more"] * bool(left)

    def clear(self) -> None:
        """Forget all nodes. Nodes of active runs are recorded again when they end."""
        self._nodes.clear()
        self._under_way.clear()

    def _record(self, event: TaskEvent) -> NodeRecord:
        record = self._nodes.get(event.node)
        if record is None or record.run_id != event.run_id:
            record = NodeRecord(event.run_id, event.task, event.node)
            if event.node:  # 0 stands for calls that belong to no lazy value
                self._nodes[event.node] = record
                self._under_way.setdefault(event.run_id, []).append(record)
        if event.item is not None and (record.item is None or event.item.arguments):
            record.item = event.item
        return record

    def _on_started(self, event: TaskStarted) -> None:
        record = self._record(event)
        record.state, record.started = "running", event.at

    def _on_finished(self, event: TaskFinished) -> None:
        record = self._record(event)
        record.state, record.seconds = "finished", event.duration
        record.waited = event.waited

    def _on_failed(self, event: TaskFailed) -> None:
        record = self._record(event)
        record.state, record.seconds = "failed", event.duration
        record.waited = event.waited
        record.error = error_text(event.error)

    def _on_retrying(self, event: TaskRetrying) -> None:
        record = self._record(event)
        record.state, record.retries = "retrying", event.attempt
        record.error = error_text(event.error)

    def _on_waiting(self, event: TaskWaiting) -> None:
        record = self._record(event)
        record.state, record.reason = "waiting", waiting_for(event)

    def _on_skipped(self, event: TaskSkipped) -> None:
        record = self._record(event)
        record.state, record.reason = "skipped", event.condition

    def _on_cached(self, event: TaskCached) -> None:
        self._record(event).state = "cached"

    def _on_run_finished(self, event: RunFinished) -> None:
        for record in self._under_way.pop(event.run_id, ()):
            if record.state in ("running", "retrying", "waiting"):
                record.state = "cancelled"


def _state_of_map(items: Sequence[NodeRecord]) -> NodeState:
    """The state of a map: that of the item that matters most, with its place and arguments."""
    state = heaviest({record.state for record in items})
    one = next(record for record in items if record.state == state)
    if state in ("failed", "retrying", "waiting"):
        return NodeState(state, None, f"{one.item}: {one.note}")
    ended = sum(record.state in ("finished", "cached", "skipped") for record in items)
    return NodeState(state, None, f"{ended} item{'s' * (ended != 1)} ended")
