"""Events in words for people, and as plain data for programs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cascade.graph.durations import duration_text
from cascade.runtime.events import (
    CallAbandoned,
    CodeChanged,
    ConnectorConnected,
    ConnectorDisconnected,
    ConstraintEvent,
    ConstraintRemoved,
    ConstraintSet,
    ControlMessageRefused,
    Event,
    InputsAwaited,
    Item,
    NodesPlanned,
    ResourceAcquired,
    ResourceEvent,
    ResourceReleased,
    ResultNotStored,
    RunFinished,
    RunStarted,
    StepsMade,
    TaskBlocking,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.spec.wording import short

_SHOWN_OF_A_MESSAGE = 300
#: Most bits of an int that is published as a number.
_MOST_BITS = 1024
_own_names: dict[type[Event], tuple[str, ...]] = {}


def in_words(event: Event) -> str:
    """The event in one line without its subject: ``"failed after 3 ms: OSError: no disk"``."""
    match event:
        case RunStarted():
            return f"started, {event.strategy} path"
        case RunFinished():
            return f"{event.status} after {duration_text(event.duration)}{_because(event.error)}"
        case CodeChanged():
            return f"goes on with new code of {', '.join(event.changes)}"
        case NodesPlanned():
            return f"has {event.count} more {'task' if event.count == 1 else 'tasks'} to do"
        case TaskStarted():
            return "started"
        case TaskFinished():
            return f"finished after {duration_text(event.duration)}"
        case TaskFailed():
            return f"failed after {duration_text(event.duration)}{_because(event.error)}"
        case TaskRetrying():
            pause = duration_text(event.pause)
            return f"failed attempt {event.attempt}, next in {pause}{_because(event.error)}"
        case TaskSkipped():
            why = "was falsy" if event.error is None else "failed"
            return f"skipped, because {event.condition} {why}"
        case TaskCached():
            return "found in the cache"
        case ResultNotStored():
            return f"has a result that cannot be stored{_because(event.error)}"
        case InputsAwaited():
            return f"waits for its inputs: {', '.join(event.inputs)}"
        case TaskWaiting():
            return f"waits: {waiting_for(event)}"
        case ConstraintSet():
            value = "" if event.value is None else f", {event.value}"
            ttl = "" if event.ttl is None else f", for {duration_text(event.ttl)}"
            return f"set{value}{ttl}"
        case ConstraintRemoved():
            return event.why
        case ConnectorConnected():
            return "connected to the broker"
        case ConnectorDisconnected():
            return f"not connected, {event.constraints} constraints stay in force: {event.reason}"
        case ControlMessageRefused():
            return f"refused: {event.reason}"
        case TaskBlocking():
            blocked = duration_text(event.duration)
            return f"blocked the event loop for {blocked}{_where(event.stack)}"
        case StepsMade():
            return f"made {event.steps:,} steps, {event.per_second:,.0f} a second"
        case CallAbandoned():
            return f"abandoned a call that still runs, {event.running} such in all"
        case ResourceAcquired():
            return "opened"
        case ResourceReleased():
            return f"closed{_because(event.error)}"
    return ", ".join(f"{name}={short(value)}" for name, value in _own_fields(event).items())


def subject_of(event: Event) -> str:
    """The subject of the event, if it has one: ``"fetch #12"``, ``"resource db"``."""
    if isinstance(event, StepsMade):
        return event.task
    if isinstance(event, TaskEvent | InputsAwaited):
        which = "" if event.item is None else f" [{event.item}]"
        return f"{event.task} #{event.node}{which}" if event.node else event.task
    if isinstance(event, ConnectorConnected | ConnectorDisconnected):
        return f"engine {event.engine}"
    if isinstance(event, ControlMessageRefused):
        return f"message {short(event.topic)}"
    if isinstance(event, ConstraintEvent):
        return f"{event.kind} {event.scope}"
    if isinstance(event, ResourceEvent):
        return f"resource {event.resource_name}"
    return ""


def waiting_for(event: TaskWaiting) -> str:
    """``"capacity gpu, held by train"``, ``"retry delay, 1.5 s"``."""
    held = f", held by {', '.join(event.holders)}" if event.holders else ""
    length = "" if event.seconds is None else f", {duration_text(event.seconds)}"
    return f"{event.reason}{held}{length}"


def as_data(event: Event) -> dict[str, Any]:
    """The event as plain data for ``json.dumps``, whatever its fields contain.

    First ``event``, the name of its type, and ``run_id``; then its own fields. An error becomes
    ``{"type": …, "message": …}``, and an item ``{"index": …, "arguments": …, "map": …}``. ``at`` is
    left out, because its zero is private to the process.
    """
    data = {"event": type(event).__name__, "run_id": event.run_id}
    return data | {name: _plain(value) for name, value in _own_fields(event).items()}


def error_text(error: BaseException) -> str:
    """``"OSError: no disk"``, in one line of bounded length."""
    message = " ".join(_message(error).split())
    if len(message) > _SHOWN_OF_A_MESSAGE:
        message = f"{message[: _SHOWN_OF_A_MESSAGE - 1]}…"
    return f"{_type_name(error)}: {message}" if message else _type_name(error)


def _own_fields(event: Event) -> dict[str, Any]:
    names = _own_names.get(type(event))
    if names is None:
        every = (field.name for field in dataclasses.fields(event))
        names = tuple(name for name in every if name not in ("run_id", "at"))
        _own_names[type(event)] = names
    fields = {name: getattr(event, name) for name in names}
    if fields.get("item", event) is None:
        del fields["item"]  # only items of maps have one
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"type": _type_name(value), "message": _message(value)}
    if value is None or type(value) in (str, bool):
        return value
    if type(value) is int:  # Python writes no int of more than some 4,000 digits
        return value if value.bit_length() <= _MOST_BITS else short(value)
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Item):
        return dataclasses.asdict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return short(value)


def _because(error: BaseException | None) -> str:
    return "" if error is None else f": {error_text(error)}"


def _where(stack: str) -> str:
    """The last line of a traceback that names a place."""
    places = [line.strip() for line in stack.splitlines() if line.lstrip().startswith("File ")]
    return f", at {places[-1]}" if places else ""


def _type_name(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a broken __str__ must not hide the error
        return "<its message cannot be shown>"
