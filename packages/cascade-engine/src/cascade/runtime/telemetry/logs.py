"""EventLogger: events as records of the standard ``logging``."""

from __future__ import annotations

import logging
from functools import partial

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    CallAbandoned,
    CodeChanged,
    Event,
    NodesPlanned,
    ResourceAcquired,
    ResourceReleased,
    RunFinished,
    RunStarted,
    TaskBlocking,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.levels import level_of, level_of_type
from cascade.runtime.telemetry.wording import as_data, in_words, subject_of
from cascade.spec.wording import visible

_RUN = logging.getLogger("cascade.run")
_TASK = logging.getLogger("cascade.task")
_RESOURCE = logging.getLogger("cascade.resource")

#: Types of events whose level is always the same, and their logger.
_LOGGED: tuple[tuple[type[Event], logging.Logger], ...] = (
    (NodesPlanned, _RUN),
    (TaskStarted, _TASK),
    (TaskFinished, _TASK),
    (TaskSkipped, _TASK),
    (TaskCached, _TASK),
    (TaskWaiting, _TASK),
    (TaskRetrying, _TASK),
    (TaskBlocking, _TASK),
    (CallAbandoned, _TASK),
    (CodeChanged, _RUN),
    (ResourceAcquired, _RESOURCE),
)


class EventLogger(Subscriber):
    """Hands the events of the runs on ``bus`` to ``logging``, until it is closed.

    Loggers: ``cascade.run``, ``cascade.task`` and ``cascade.resource``. Levels: ERROR for failures,
    with the traceback; WARNING for retries, calls that block the event loop, abandoned calls, and
    new code of durable runs; INFO for the start and the end of a run; DEBUG for all others. A
    record has the event's fields as attributes (``extra``): ``event``, ``run_id``, ``task``,
    ``node``, ``duration`` … Records are made in the thread of the event, so that of a task's start
    comes before those of its own code.

    Args:
        bus: The engine's bus.
        force: Listen to all events. Otherwise the levels are read once, now, and events below them
            are not even published: a run of many tasks pays for DEBUG records only on demand.

    >>> import logging
    >>> logging.getLogger("cascade").setLevel(logging.DEBUG)
    >>> bus = MessageBus()
    >>> with EventLogger(bus):
    ...     bus.wants(TaskStarted)
    True
    >>> logging.getLogger("cascade").setLevel(logging.WARNING)
    >>> with EventLogger(bus):
    ...     bus.wants(TaskStarted), bus.wants(TaskFailed)
    (False, True)
    >>> logging.getLogger("cascade").setLevel(logging.NOTSET)
    """

    def __init__(self, bus: MessageBus, *, force: bool = False) -> None:
        super().__init__(bus)
        # Run → its target, and the last task error logged with its traceback.
        self._targets: dict[str, str] = {}
        self._told: dict[str, BaseException] = {}
        self._listen(RunStarted, self._run_started, at_once=True)
        self._listen(RunFinished, self._run_finished, at_once=True)
        self._listen(TaskFailed, self._task_failed, at_once=True)
        self._listen(ResourceReleased, self._released, at_once=True)
        for event_type, logger in _LOGGED:
            if force or logger.isEnabledFor(level_of_type(event_type)):
                self._listen(event_type, partial(self._log, logger), at_once=True)

    def _run_started(self, event: RunStarted) -> None:
        self._targets[event.run_id] = event.target
        self._log(_RUN, event)

    def _run_finished(self, event: RunFinished) -> None:
        told = self._told.pop(event.run_id, None)
        fresh = event.status == "failed" and event.error is not told
        self._log(_RUN, event, event.error if fresh else None)
        self._targets.pop(event.run_id, None)

    def _task_failed(self, event: TaskFailed) -> None:
        self._told[event.run_id] = event.error
        self._log(_TASK, event, event.error)

    def _released(self, event: ResourceReleased) -> None:
        self._log(_RESOURCE, event, event.error)

    def _log(
        self,
        logger: logging.Logger,
        event: Event,
        error: BaseException | None = None,
    ) -> None:
        level = level_of(event)
        if logger.isEnabledFor(level):
            of_run = f"run {event.run_id}" if event.run_id else "the engine"
            subject = subject_of(event) or self._targets.get(event.run_id, of_run)
            said, data = visible(f"{subject} {in_words(event)}"), as_data(event)
            logger.log(level, "%s", said, exc_info=error, extra=data)
