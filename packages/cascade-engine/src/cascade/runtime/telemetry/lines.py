"""LineWriter: one line per event, for people or for programs."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Literal, TextIO

from cascade.runtime.bus import MessageBus
from cascade.runtime.console import flush, write_line
from cascade.runtime.events import Event, InputsAwaited, NodesPlanned, RunFinished, RunStarted
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.levels import LogLevel, level_named, level_of, types_from
from cascade.runtime.telemetry.texts import Texts
from cascade.runtime.telemetry.wording import as_data, in_words, subject_of
from cascade.spec.wording import short, visible

LogFormat = Literal["human", "json"]

# Shared by all lines: json.dumps() with options would make an encoder for each.
_encode = json.JSONEncoder(check_circular=False).encode


class LineWriter(Subscriber):
    """Writes a line for each event of the runs on ``bus``, until it is closed.

    Lines are written in the thread of the event: that of a task's start comes before its output.

    Args:
        bus: The engine's bus.
        stream: The output; by default the value of ``sys.stderr`` at that moment. It is flushed
            when a run ends, and stays open.
        log_format: ``"human"``: seconds since the start of the run, the subject, and the event;
            without waits before a node starts.
            ``"json"``: an object with the keys ``at`` (wall-clock time, ISO 8601, UTC), ``event``
            (name of the type), ``run_id`` and the event's own fields. Errors are objects with
            ``type`` and ``message``. A field that JSON cannot express becomes its short ``repr``.
            A text has at most 2 KiB and a list at most 50 items, as in telemetry.
        level: Leave out events below ``"debug"`` (write all), ``"info"`` (runs, constraints and
            connections), ``"warning"`` (retries, calls that block or are abandoned, a lost
            connection) or ``"error"`` (failures). Events that are left out are not published.

    Cost: 3 µs per line for people, 8 µs per line of JSON, besides publishing all these events.

    >>> import sys
    >>> from cascade.runtime.events import RunStarted, TaskFailed
    >>> bus = MessageBus()
    >>> with LineWriter(bus, sys.stdout):
    ...     bus.publish(RunStarted("1", "report", "graph", at=5.0))
    ...     bus.publish(TaskFailed("1", "fetch", 7, 0.25, OSError("no disk"), at=5.5))
       0.000  report            started, graph path
       0.500  fetch #7          failed after 250 ms: OSError: no disk
    """

    def __init__(
        self,
        bus: MessageBus,
        stream: TextIO | None = None,
        *,
        log_format: LogFormat = "human",
        level: LogLevel = "debug",
    ) -> None:
        if log_format not in ("human", "json"):
            raise ValueError(f"log_format must be 'human' or 'json', but is {short(log_format)}")
        super().__init__(bus)
        self._level = level_named(level)
        self._stream = stream
        self._lock = threading.Lock()
        self._texts = Texts()
        # From the events' clock to the wall clock; measured again when a run starts.
        self._offset = time.time() - time.monotonic()
        # Active run → its start and the name of its target.
        self._runs: dict[str, tuple[float, str]] = {}
        write = self._write_json if log_format == "json" else self._write_human
        for event_type in types_from(self._level):
            self._listen(event_type, write, at_once=True)

    def _write_json(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._offset = time.time() - time.monotonic()
        if level_of(event) < self._level:
            return
        at = datetime.fromtimestamp(event.at + self._offset, UTC).isoformat(timespec="microseconds")
        self._write(_encode({"at": at} | self._texts.data(as_data(event))), event)

    def _write_human(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._runs[event.run_id] = (event.at, event.target)
        if isinstance(event, InputsAwaited) or (
            isinstance(event, NodesPlanned) and not event.count
        ):
            return  # of interest only to programs
        # For a run whose start we missed, time counts from its first event here.
        began, target = self._of_run(event)
        if level_of(event) >= self._level:
            # With one run, its id need not be shown.
            which = f"[{event.run_id[:6]}] " if event.run_id and len(self._runs) > 1 else ""
            subject = subject_of(event) or target
            line = f"{event.at - began:8.3f}  {which}{subject:<16}  {in_words(event)}"
            self._write(visible(line), event)
        if isinstance(event, RunFinished):
            del self._runs[event.run_id]

    def _of_run(self, event: Event) -> tuple[float, str]:
        """The start of the event's run and the name of its target."""
        if event.run_id:
            return self._runs.setdefault(event.run_id, (event.at, f"run {event.run_id}"))
        first = min((began for began, _ in list(self._runs.values())), default=event.at)
        return first, "engine"

    def _write(self, line: str, event: Event) -> None:
        with self._lock:
            write_line(self._stream, line)
            if isinstance(event, RunFinished):
                flush(self._stream)
