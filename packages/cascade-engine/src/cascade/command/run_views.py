"""Durable runs for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any

from cascade.command.output import add_row, show, show_json, show_table, table
from cascade.graph.durations import duration_text
from cascade.spec.errors import SerializationError
from cascade.spec.run_rows import FINISHED, RunRecord, RunStatus
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.graph.codec import Codec
    from cascade.runtime.durable.stored_graphs import Step
    from cascade.spec.run_rows import Loaded

_STYLES: Mapping[str, str] = {
    RunStatus.RUNNING: "cyan",
    RunStatus.SUCCEEDED: "green",
    RunStatus.FAILED: "red",
    RunStatus.DEAD: "bold red",
    RunStatus.CANCELLED: "yellow",
    "done": "green",
    "continued": "cyan",
}
_TIMES = ("due", "lease_until", "created", "updated", "ended")
#: Digits of a key that people see.
_DIGITS = 12


def show_runs(runs: Sequence[RunRecord], as_json: bool) -> None:
    """The list of runs."""
    if as_json:
        show_json([_json_of(run) for run in runs], "the list")
    elif not runs:
        show("no runs")
    else:
        made = table("run", "target", "status", "created", "took", right=(3, 4))
        for run in runs:
            row = run.run_id, run.target, _status(run), _ago(run.created), _took(run)
            add_row(made, *row, styles={2: _STYLES.get(run.status, "")})
        show_table(made)


def show_run(codec: Codec, loaded: Loaded, steps: Sequence[Step], as_json: bool) -> None:
    """All of one run."""
    run = loaded.run
    params, result = stored_text(codec, loaded.params), stored_text(codec, loaded.result)
    if as_json:
        more = {
            "steps": len(steps),
            "signals": [signal.name for signal in loaded.signals],
            "params": _form(codec, loaded.params),
            "error" if run.status is not RunStatus.SUCCEEDED else "result": _form(
                codec, loaded.result
            ),
        }
        show_json(_json_of(run) | more, "the run")
        return
    done = sum(step.state != "continued" for step in steps)
    lines = {
        "run": run.run_id,
        "target": run.target if run.portable else f"{run.target}, which is not stored",
        "status": _status(run),
        "created": _moment(run.created),
        "due": _moment(run.due) if run.status is not RunStatus.RUNNING else "",
        "owner": run.owner or "",
        "ended": _moment(run.ended),
        "took": _took(run),
        "priority": str(run.priority or ""),
        "fork of": run.parent or "",
        "params": params if params != "{}" else "",
        "steps": f"{done} done, {len(steps) - done} continued" if steps else "",
        "signals": ", ".join(signal.name for signal in loaded.signals),
        "result" if run.status is RunStatus.SUCCEEDED else "error": result,
    }
    made = table("", "")
    made.show_header = False
    for name, text in lines.items():
        if text:
            add_row(made, name, text, styles={0: "dim", 1: _STYLES.get(text, "")})
    show_table(made)


def show_steps(run: RunRecord, steps: Sequence[Step], as_json: bool) -> None:
    """The nodes of a run with an outcome or a record."""
    if as_json:
        show_json([_json_of_step(step) for step in steps], "the list")
    elif not steps:
        show("no steps")
    else:
        made = table("key", "task", "state", "when", right=(3,))
        for step in steps:
            state = f"{step.state} × {step.step:,}" if step.step else step.state
            when = "" if step.time is None else _ago(step.time)
            row = step.key.hex()[:_DIGITS], step.task or "–", state, when
            add_row(made, *row, styles={0: "dim", 2: _STYLES.get(step.state, "")})
        show_table(made)
        if run.status in FINISHED:
            show(
                "Nodes that a task has returned, or an agent has called in a step, are kept until "
                "that task, or that step, is done."
            )


def _status(run: RunRecord) -> str:
    if run.status is RunStatus.RUNNING and run.cancelling:
        return "cancelling"
    if run.status is RunStatus.RUNNING and run.lease_until < time():
        return "running, but its owner is silent"
    return str(run.status)


def _ago(moment: float) -> str:
    seconds = time() - moment
    if seconds < 0:
        return f"in {duration_text(-seconds)}"
    return f"{duration_text(seconds)} ago" if seconds >= 1 else "now"


def _took(run: RunRecord) -> str:
    return "" if run.ended is None else duration_text(max(0.0, run.ended - run.created))


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _json_of(run: RunRecord) -> dict[str, Any]:
    body = run._asdict()
    body["root"] = run.root.hex()
    for name in _TIMES:
        body[name] = _iso(body[name] or None)
    return body


def _json_of_step(step: Step) -> dict[str, Any]:
    owner = None if step.owner is None else step.owner.hex()
    return step._asdict() | {"key": step.key.hex(), "owner": owner, "time": _iso(step.time)}


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _form(codec: Codec, body: bytes | None) -> Any:
    """A stored value in its stored form, which is JSON."""
    return json.loads(codec.unseal(body)) if body else None


def stored_text(codec: Codec, body: bytes | None) -> str:
    """A stored value in a line; in its stored form if its classes are not imported here."""
    if not body:
        return ""
    try:
        value = codec.loads(body)
    except SerializationError:
        return short(codec.unseal(body).decode(errors="replace"))
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return short(value)
