"""Messages of the control plane: topics, and constraints as JSON.

A constraint is a retained message on ``<prefix>/constraints/<scope>/<kind>``, where the scope is
``global`` or ``task/<pattern>``::

    cascade/constraints/global/pause              {}
    cascade/constraints/task/fetch_*/concurrency  {"value": 4, "ttl": 60}
    cascade/constraints/task/fetch/rate_limit     {"value": "10/s", "burst": 5, "until": 1767225600}

``ttl`` is in seconds after an engine first gets this very message; ``until`` is a Unix time.
``{"remove": true}``, or an empty payload, removes the constraint. For retained messages use the
former: an engine that was not connected gets it later, while an empty message leaves no trace.

Nothing from outside is evaluated. Any other form is refused, with a reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from cascade.adapters.connectors.topics import check_topic
from cascade.runtime.limits.rules import KINDS, RATE_LIMIT, Constraint
from cascade.spec.checks import is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.wording import short

#: Longer payloads are refused unread.
MOST_BYTES = 4096
#: Longest topic in characters; a longer one is refused at once.
MOST_OF_A_TOPIC = 1024
#: Most characters of a pattern for names of tasks.
_MOST_OF_A_PATTERN = 256
#: Larger numbers of seconds are refused, in a time to live or since 1970.
_NEVER = 1e15
_FIELDS = ("value", "burst", "ttl", "until", "remove")


class RefusedMessageError(ValueError):
    """A message has another form than required; the text says why."""


@dataclass(frozen=True, slots=True)
class Steering:
    """The request in a message: to set a constraint, or to remove it.

    Attributes:
        scope, kind: Those of the constraint.
        constraint: The new constraint; None to remove.
    """

    scope: str
    kind: str
    constraint: Constraint | None


def status_topic(prefix: str, name: str) -> str:
    """The topic for the status of the engine ``name``; an empty message means that it has ended."""
    return f"{prefix}/engines/{name}/status"


def topic_for(prefix: str, scope: str, kind: str) -> str:
    """The topic for constraints of a scope and kind.

    Raises:
        ArgumentError: The scope or the prefix has a character that topics cannot have, or the scope
            is too long.
    """
    name, _, pattern = scope.partition(":")
    if len(pattern) > _MOST_OF_A_PATTERN:
        raise ArgumentError(
            f"the scope {short(scope)} cannot be sent: its pattern has {len(pattern)} characters, "
            f"and at most {_MOST_OF_A_PATTERN} are allowed"
        )
    if any(character in pattern for character in "+#/\0"):
        raise ArgumentError(
            f"the scope {short(scope)} cannot be sent: a topic has no '+', '#' or '/' inside of a "
            "level"
        )
    path = f"{name}/{pattern}" if pattern else name
    topic = f"{prefix}/constraints/{path}/{kind}"
    check_topic(topic)
    return topic


def payload_for(constraint: Constraint | None, now: Callable[[], float] = time.time) -> bytes:
    """The payload that sets a constraint; for None, the one that removes it."""
    if constraint is None:
        return b'{"remove": true}'
    body: dict[str, Any] = {}
    if constraint.value is not None:
        body["value"] = constraint.value
    if constraint.kind == RATE_LIMIT and constraint.burst != 1:
        body["burst"] = constraint.burst
    if constraint.ttl is not None:
        body["until"] = now() + constraint.ttl
    return json.dumps(body).encode()


def read_steering(
    prefix: str, topic: str, payload: bytes, now: Callable[[], float] = time.time
) -> Steering:
    """The request in a message.

    Raises:
        RefusedMessageError: It does not have the form above.
    """
    scope, kind = _read_topic(prefix, topic)
    if not payload:
        return Steering(scope, kind, None)
    body = _read_object(payload)
    unknown = [name for name in body if name not in _FIELDS]
    if unknown:
        raise RefusedMessageError(
            f"it has the field {short(unknown[0])}{did_you_mean(unknown[0], _FIELDS)}, which is "
            f"not one of {', '.join(_FIELDS)}"
        )
    if "remove" in body:
        if body != {"remove": True}:
            raise RefusedMessageError('a message that removes must be exactly {"remove": true}')
        return Steering(scope, kind, None)
    ttl = _time_left(body, now)
    if ttl is not None and ttl <= 0:
        return Steering(scope, kind, None)  # it had expired before it came
    try:
        constraint = Constraint(scope, kind, body.get("value"), body.get("burst", 1), ttl)
    except ArgumentError as error:
        raise RefusedMessageError(str(error)) from None
    return Steering(scope, kind, constraint)


def _read_topic(prefix: str, topic: str) -> tuple[str, str]:
    rest = topic.removeprefix(f"{prefix}/constraints/").split("/")
    kind = rest.pop()
    if kind not in KINDS:
        raise RefusedMessageError(
            f"its topic ends in {short(kind)}{did_you_mean(kind, KINDS)}, which is not a kind of "
            f"constraint: {', '.join(KINDS)}"
        )
    if rest == ["global"]:
        return "global", kind
    if len(rest) == 2 and rest[0] == "task" and rest[1]:
        if len(rest[1]) > _MOST_OF_A_PATTERN:
            raise RefusedMessageError(
                f"its topic has a pattern of {len(rest[1])} characters; at most "
                f"{_MOST_OF_A_PATTERN} are allowed"
            )
        try:
            check_topic(topic)  # a broker checks this, but other senders may not
        except ArgumentError as error:
            raise RefusedMessageError(str(error)) from None
        return f"task:{rest[1]}", kind
    raise RefusedMessageError(
        f"its topic has the scope {short('/'.join(rest))}, where 'global' or 'task/<pattern>' was "
        "expected"
    )


def _read_object(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > MOST_BYTES:
        raise RefusedMessageError(f"it has {len(payload)} bytes; at most {MOST_BYTES} are allowed")
    try:
        body = json.loads(payload, parse_constant=_no_constant, object_pairs_hook=_once)
    except RefusedMessageError:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RefusedMessageError(f"it is not valid JSON: {type(error).__name__}") from None
    if not isinstance(body, dict):
        raise RefusedMessageError(f"it is not a JSON object but {short(body)}")
    return body


def _no_constant(name: str) -> NoReturn:
    raise RefusedMessageError(f"it has {name}, which is not valid JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        raise RefusedMessageError("it has a field twice")
    return body


def _time_left(body: Mapping[str, Any], now: Callable[[], float]) -> float | None:
    if "ttl" in body and "until" in body:
        raise RefusedMessageError("it has both ttl and until")
    name = "ttl" if "ttl" in body else "until"
    value = body.get(name)
    if name not in body:
        return None
    # An int may be too large for a float.
    if not is_number(value, 0) or not 0 < value < _NEVER:
        raise RefusedMessageError(f"its {name} is {short(value)}, but must be a number > 0")
    return float(value) - (now() if name == "until" else 0.0)
