"""RunSummary: the figures of one run, by task: counts, durations, retries, failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappush, heappushpop
from operator import itemgetter
from typing import Any, Final

from cascade.graph.durations import duration_text
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Item,
    NodesPlanned,
    RunFinished,
    StepsMade,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
)
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.html_tables import html_lines, html_table
from cascade.runtime.telemetry.wording import error_text
from cascade.spec.shown import Shown
from cascade.spec.wording import visible

#: Nodes in the list of the slowest ones.
_SLOWEST: Final = 10
#: Most texts of errors that are kept of one task; further ones are only counted.
_MOST_ERRORS: Final = 20


@dataclass(slots=True)
class TaskFigures:
    """The nodes of one task in a run."""

    task: str
    #: Nodes that have ended, by their outcome.
    finished: int = 0
    failed: int = 0
    skipped: int = 0
    cached: int = 0
    #: Attempts that failed and were followed by another.
    retries: int = 0
    #: Duration of the calls of all its nodes, and of the slowest node, in seconds (M19).
    seconds: float = 0.0
    longest: float = 0.0
    #: Seconds that its nodes have waited for limits and for further attempts.
    waited: float = 0.0
    #: Text of an error → the number of nodes that failed with it.
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Average duration of a node in seconds; 0 if none was called to its end."""
        called = self.finished + self.failed
        return self.seconds / called if called else 0.0


@dataclass(frozen=True, slots=True)
class SlowNode:
    """One of the slowest nodes of a run."""

    task: str
    #: ``LazyResult.number``
    node: int
    seconds: float
    waited: float
    #: Its position, if it is an item of a map.
    item: int | None = None

    def __str__(self) -> str:
        """``load #12 [item 3]``."""
        return f"{self.task} #{self.node}" + ("" if self.item is None else f" [item {self.item}]")


@dataclass(frozen=True, slots=True)
class RunSummary(Shown):
    """The figures of a run, as ``RunHandle.summary()`` gives them: those so far, or of its end.

    ``print(summary)`` shows tables, as rich does; ``summary.as_data()`` is for JSON.
    """

    run_id: str
    #: Name of the target.
    target: str
    #: ``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    status: str
    #: Seconds since the start, or from start to end.
    seconds: float
    #: Type and message of the error that has ended the run; empty if there is none.
    error: str
    #: Nodes that call a task and are known so far; None if nothing was collected of nodes.
    planned: int | None = None
    #: Tail calls and returned lazy values (M20); of a run under way those reported so far.
    steps: int = 0
    #: The tasks with the most seconds first.
    tasks: tuple[TaskFigures, ...] = ()
    #: The slowest nodes, the slowest first.
    slowest: tuple[SlowNode, ...] = ()

    @property
    def failures(self) -> Mapping[str, Mapping[str, int]]:
        """Task → text of an error → the number of its nodes that failed with it."""
        return {one.task: one.errors for one in self.tasks if one.errors}

    @property
    def ended(self) -> int:
        """Nodes that have ended."""
        return sum(t.finished + t.failed + t.skipped + t.cached for t in self.tasks)

    def as_data(self) -> dict[str, Any]:
        """The summary as plain data for ``json.dumps``."""
        return asdict(self)

    __json__ = as_data

    def __str__(self) -> str:
        tables = [_lines(*_tasks_table(self.tasks)), _lines(*_slowest_table(self.slowest))]
        parts = ["\n".join(self._head()), *tables, "\n".join(self._failed())]
        return "\n\n".join(filter(None, parts))

    def _failed(self) -> list[str]:
        """A line for each error of each task."""
        return [
            visible(f"{task}: {count} × {text}")
            for task, errors in self.failures.items()
            for text, count in errors.items()
        ]

    def _head(self) -> list[str]:
        when = "for" if self.status == "running" else "after"
        lines = [f"{self.target}, run {self.run_id}: {self.status} {when} "]
        lines[0] += duration_text(self.seconds)
        if self.planned is not None:
            lines[0] += f", {self.ended:,} of {self.planned:,} tasks"
        if self.steps:
            lines[0] += f", {self.steps:,} steps"
        if self.error:
            lines.append(self.error)
        if self.planned is None:
            lines.append("nothing was collected of its tasks; start(target, summary=True) does")
        return list(map(visible, lines))

    def _repr_html_(self) -> str:
        tables = (_tasks_table(self.tasks), _slowest_table(self.slowest))
        return "".join(
            [
                html_lines(self._head()),
                *(html_table(names, rows) for names, rows in tables),
                html_lines(self._failed()),
            ]
        )

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = [Text(line) for line in self._head()]
        for names, rows in (_tasks_table(self.tasks), _slowest_table(self.slowest)):
            if rows:
                table = Table(box=None, pad_edge=False)
                for place, name in enumerate(names):
                    table.add_column(Text(name), justify="right" if place else "left")
                for row in rows:
                    table.add_row(*map(Text, row))
                parts += ["", table]
        failed = self._failed()
        if failed:
            parts += ["", *(Text(text, "red") for text in failed)]
        return Group(*parts)


#: Seconds, node, its task, seconds waited, its place. Nodes differ, so nothing else is compared.
_Slow = tuple[float, int, str, float, Item | None]
_SECONDS = itemgetter(0)


class Summing(Subscriber):
    """Sums up the events of one run, until it ends or this is closed.

    Args:
        bus: The engine's bus.
        run_id: The id of the run.

    Its memory depends on the number of tasks, not on that of nodes.
    """

    def __init__(self, bus: MessageBus, run_id: str) -> None:
        super().__init__(bus)
        self._run_id = run_id
        self._tasks: dict[str, TaskFigures] = {}
        #: A heap, the quickest of them first.
        self._slowest: list[_Slow] = []
        self.planned = self.steps = 0
        handlers: Sequence[tuple[type[Any], Callable[[Any], object]]] = (
            (NodesPlanned, self._on_planned),
            (TaskFinished, self._on_finished),
            (TaskFailed, self._on_failed),
            (TaskRetrying, self._on_retrying),
            (TaskSkipped, self._on_skipped),
            (TaskCached, self._on_cached),
            (StepsMade, self._on_steps),
            (RunFinished, self._on_run_finished),
        )
        for event_type, handler in handlers:
            self._listen(event_type, handler)

    @property
    def figures(self) -> tuple[int, int, tuple[TaskFigures, ...], tuple[SlowNode, ...]]:
        """The last fields of a RunSummary."""
        return self.planned, self.steps, self._by_task(), self._by_duration()

    def _by_task(self) -> tuple[TaskFigures, ...]:
        copies = [
            TaskFigures(**{**_fields_of(one), "errors": dict(one.errors)})
            for one in list(self._tasks.values())
        ]
        return tuple(sorted(copies, key=lambda one: one.seconds, reverse=True))

    def _by_duration(self) -> tuple[SlowNode, ...]:
        return tuple(
            SlowNode(task, node, seconds, waited, None if item is None else item.index)
            for seconds, node, task, waited, item in sorted(
                self._slowest, key=_SECONDS, reverse=True
            )
        )

    def _of(self, event: TaskEvent) -> TaskFigures | None:
        """The figures of the task of an event; None if it belongs to another run."""
        if event.run_id != self._run_id:
            return None
        found = self._tasks.get(event.task)
        if found is None:
            found = self._tasks[event.task] = TaskFigures(event.task)
        return found

    def _on_planned(self, event: NodesPlanned) -> None:
        if event.run_id == self._run_id:
            self.planned += event.count

    def _on_finished(self, event: TaskFinished) -> None:
        figures = self._of(event)
        if figures is not None:
            figures.finished += 1
            self._took(figures, event)

    def _on_failed(self, event: TaskFailed) -> None:
        figures = self._of(event)
        if figures is not None:
            figures.failed += 1
            self._took(figures, event)
            text, errors = error_text(event.error), figures.errors
            if text not in errors and len(errors) >= _MOST_ERRORS:
                text = "other errors"
            errors[text] = errors.get(text, 0) + 1

    def _took(self, figures: TaskFigures, event: TaskFinished | TaskFailed) -> None:
        seconds = event.duration
        figures.seconds += seconds
        figures.waited += event.waited
        if seconds > figures.longest:
            figures.longest = seconds
        slowest = self._slowest
        if len(slowest) < _SLOWEST:
            heappush(slowest, (seconds, event.node, event.task, event.waited, event.item))
        elif seconds > slowest[0][0]:
            heappushpop(slowest, (seconds, event.node, event.task, event.waited, event.item))

    def _on_retrying(self, event: TaskRetrying) -> None:
        figures = self._of(event)
        if figures is not None:
            figures.retries += 1

    def _on_skipped(self, event: TaskSkipped) -> None:
        figures = self._of(event)
        if figures is not None:
            figures.skipped += 1

    def _on_cached(self, event: TaskCached) -> None:
        figures = self._of(event)
        if figures is not None:
            figures.cached += 1

    def _on_run_finished(self, event: RunFinished) -> None:
        if event.run_id == self._run_id:
            self.steps = event.steps
            self.close()

    def _on_steps(self, event: StepsMade) -> None:
        if event.run_id == self._run_id:
            self.steps = event.steps


def _fields_of(figures: TaskFigures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in TaskFigures.__dataclass_fields__}


_Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _tasks_table(tasks: Iterable[TaskFigures]) -> _Table:
    """The names of columns, and the rows. A column of zeros is left out."""
    counts = ("finished", "failed", "skipped", "cached", "retries")
    listed = list(tasks)
    shown = [name for name in counts if any(getattr(one, name) for one in listed)]
    has_waited = any(one.waited for one in listed)
    rows = []
    for one in listed:
        durations = [one.mean, one.longest, one.seconds] + [one.waited] * has_waited
        numbers = [f"{getattr(one, name):,}" for name in shown]
        rows.append((visible(one.task), *numbers, *map(duration_text, durations)))
    names = ("task", *shown, "mean", "longest", "total", *["waited"] * has_waited)
    return names, rows


def _slowest_table(nodes: Sequence[SlowNode]) -> _Table:
    rows: list[tuple[str, ...]]
    rows = [(visible(str(node)), duration_text(node.seconds)) for node in nodes]
    return ("slowest", "duration"), rows


def _lines(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text; the first column is text, the others are numbers."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in (names, *rows)) for place in range(len(names))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (names, *rows)
    )
