"""Looks: the requests of views to an engine, and its answers, as messages.

A view publishes ``asked`` every few seconds, for as long as somebody looks; without it an engine
shows nothing, and does nothing for it::

    cascade/engines/<name>/asked    {"from": "view-1", "seconds": 6, "runs": true, "run": ["r-7"]}
    cascade/engines/<name>/orders   {"from": "view-1", "number": 3, "do": "cancel", "run": "r-7"}

The engine answers on ``cascade/engines/<name>/shown/<part>``; ``PARTS`` lists the parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cascade.runtime.control.messages import MOST_BYTES, RefusedMessageError
from cascade.spec.checks import is_number
from cascade.spec.wording import short

#: What an engine shows: its runs; nodes of a run and their states; runs that have ended; lines of
#: the log; signals that a run waits for; how an order went.
PARTS: Final = ("runs", "graph", "states", "ended", "logs", "signals", "done")
#: Longest time for which an engine shows something without being asked again, in seconds.
MOST_SECONDS = 60.0
#: Most runs whose nodes one view looks at.
MOST_RUNS = 4
#: Most characters of the name of a view, of a run id, and of the name of a signal.
_MOST_OF_A_NAME = 300
CANCEL: Final = "cancel"
SIGNAL: Final = "signal"


@dataclass(frozen=True, slots=True)
class Look:
    """What one view wants to see.

    Attributes:
        view: Names the view.
        seconds: For how long, from now on.
        runs: Whether it wants the table of all runs. It gets the runs that end in any case.
        run: The ids of the runs whose nodes it wants.
        logs: Whether it wants lines of the log.
        anew: Whether nodes that were shown before are to be shown again.
    """

    view: str
    seconds: float
    runs: bool = False
    run: tuple[str, ...] = ()
    logs: bool = False
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What one view wants to be done.

    Attributes:
        view: Names the view.
        number: Chosen by the view; the answer has it.
        do: CANCEL or SIGNAL.
        run: The id of the run.
        name: The name of the signal.
        value: Its value, plain data.
    """

    view: str
    number: int
    do: str
    run: str
    name: str = ""
    value: Any = None


def asked_topic(prefix: str, engine: str) -> str:
    """Where an engine is asked to show something."""
    return f"{prefix}/engines/{engine}/asked"


def orders_topic(prefix: str, engine: str) -> str:
    """Where an engine gets orders."""
    return f"{prefix}/engines/{engine}/orders"


def shown_topic(prefix: str, engine: str, part: str) -> str:
    """Where an engine shows a part."""
    return f"{prefix}/engines/{engine}/shown/{part}"


def write_look(look: Look) -> bytes:
    """The payload of a look."""
    return _written(look)


def write_order(order: Order) -> bytes:
    """The payload of an order."""
    return _written(order)


def read_look(payload: bytes) -> Look:
    """The look in a payload.

    Raises:
        RefusedMessageError: The payload has another form.
    """
    body = _read(payload, {"from", "seconds"}, {"runs", "run", "logs", "anew"})
    seconds, run = body["seconds"], body.get("run", [])
    if not is_number(seconds, 0) or not seconds <= MOST_SECONDS:
        raise RefusedMessageError(
            f"its seconds are {short(seconds)}, but must be at most {MOST_SECONDS:g}"
        )
    if not isinstance(run, list) or len(run) > MOST_RUNS:
        raise RefusedMessageError(f"its run must be a list of at most {MOST_RUNS} run ids")
    flags = {name: body.get(name, False) for name in ("runs", "logs", "anew")}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise RefusedMessageError(f"its {name} is {short(flag)}, but must be true or false")
    ids = tuple(_name(one, "run") for one in run)
    return Look(_name(body["from"], "from"), float(seconds), run=ids, **flags)


def read_order(payload: bytes) -> Order:
    """The order in a payload.

    Raises:
        RefusedMessageError: The payload has another form.
    """
    body = _read(payload, {"from", "number", "do", "run"}, {"name", "value"})
    do, number = body["do"], body["number"]
    if do not in (CANCEL, SIGNAL):
        raise RefusedMessageError(f"its do is {short(do)}, which is neither cancel nor signal")
    if not isinstance(number, int) or isinstance(number, bool):
        raise RefusedMessageError(f"its number is {short(number)}, but must be an int")
    name = _name(body.get("name"), "name") if do == SIGNAL else ""
    view, run = _name(body["from"], "from"), _name(body["run"], "run")
    return Order(view, number, do, run, name, body.get("value"))


def write_part(body: Mapping[str, Any]) -> bytes:
    """The payload of a part."""
    text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _written(what: Look | Order) -> bytes:
    body = {name: value for name, value in asdict(what).items() if value not in (False, (), "")}
    if isinstance(what, Order):
        body |= {"number": what.number, "value": what.value}
    return write_part({"from": body.pop("view"), **body})


def _read(payload: bytes, needed: set[str], optional: set[str]) -> Mapping[str, Any]:
    if len(payload) > MOST_BYTES:
        raise RefusedMessageError(f"it has {len(payload)} bytes; at most {MOST_BYTES} are allowed")
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise RefusedMessageError(f"it is not valid JSON: {type(error).__name__}") from None
    if not isinstance(body, dict):
        raise RefusedMessageError(f"it is not a JSON object but {short(body)}")
    names = set(body)
    if needed - names or names - needed - optional:
        odd = sorted(needed - names) or sorted(names - needed - optional)
        raise RefusedMessageError(
            f"it must have {', '.join(sorted(needed))} and may have {', '.join(sorted(optional))}; "
            f"see {short(odd[0])}"
        )
    return body


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_OF_A_NAME:
        raise RefusedMessageError(
            f"its {what} is {short(value)}, but must be a text of at most {_MOST_OF_A_NAME} "
            "characters"
        )
    return value
