"""``cascade status`` and ``cascade watch``: the state of running engines."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cascade.command.output import add_row, table
from cascade.command.remote import Broker, Patience, Prefix, engines_at, wait_for
from cascade.spec.wording import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from cascade.command.remote import Engines
    from cascade.runtime.control.status import EngineStatus
    from cascade.runtime.limits.rules import Constraint

AsJson = Annotated[bool, Parameter(help="Print JSON, for scripts.", show_default=False)]
_NONE = "no engine is connected"


def status(
    *,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
    json: AsJson = False,
) -> int:
    """Show the connected engines, their runs, and the reason why each task waits.

    Exit code 1 if there are none.
    """
    return wait_for(_status(broker, prefix, wait, json))


def watch(
    *,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
    json: AsJson = False,
) -> None:
    """Show the same continuously, until Ctrl-C; as lines without a terminal."""
    wait_for(_watch(broker, prefix, wait, json))


async def _status(broker: str | None, prefix: str, wait: float, json: bool) -> int:
    from rich.console import Console

    from cascade.command.output import show_json

    async with engines_at(broker, prefix, wait) as (_, engines):
        found, rules = engines.alive, [*engines.constraints.values()]
    if json:
        show_json([asdict(one) for one in found], "the status")
    else:
        console = Console()
        for shown in screen(found, rules):
            console.print(shown)
    return 0 if found else 1


async def _watch(broker: str | None, prefix: str, wait: float, json: bool) -> None:
    from rich.console import Console

    console = Console()
    async with engines_at(broker, prefix, wait) as (_, engines):
        if json or not console.is_terminal:
            await _as_lines(engines, json)
        else:
            await _as_screen(engines, console)


async def _as_screen(engines: Engines, console: Any) -> None:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(
                Group(*screen(engines.alive, [*engines.constraints.values()])), refresh=True
            )
            # Also without messages, because an engine may be gone.
            await engines.until(lambda: False, 1.0)


async def _as_lines(engines: Engines, json: bool) -> None:
    """A line for each new status."""
    from cascade.command.output import show, show_json
    from cascade.runtime.console import flush

    told: dict[str, float] = {}
    while True:
        alive = engines.alive
        for one in alive:
            if told.get(one.engine) != one.time:
                if json:
                    show_json(asdict(one), "the status")
                else:
                    show(line_of(one))
        flush(sys.stdout)  # a pipe is read as it is written
        told = {one.engine: one.time for one in alive}
        await engines.change()


def line_of(one: EngineStatus) -> str:
    """The state of an engine in a line."""
    steps = sum(run.steps_per_second for run in one.runs)
    parts = [
        _count(len(one.runs) + one.more_runs, "run"),
        f"{steps:,.0f} steps/s",
        f"{len(one.waiting) + one.more_waiting} waiting",
        _count(len(one.constraints) + one.more_constraints, "constraint"),
    ]
    return f"{visible(one.engine)}: {', '.join(parts)}"


def screen(
    engines: Sequence[EngineStatus], constraints: Sequence[Constraint] = ()
) -> list[RenderableType]:
    """The display of their states, for a terminal of 80 columns.

    Args:
        engines: The engines.
        constraints: Those that hold for engines to come; shown if there is no engine.
    """
    from rich.padding import Padding

    if not engines:
        waiting = [visible(f"  {one}") for one in constraints]
        return [f"{_NONE}; for those that come:", *waiting] if waiting else [_NONE]
    shown: list[RenderableType] = []
    for one in engines:
        shown += [*([""] if shown else []), _heading(one)]
        tables = (_runs(one), _waits(one), _constraints(one))
        shown += [Padding(part, (0, 0, 0, 2)) for part in tables if part is not None]
    return shown


def _heading(one: EngineStatus) -> RenderableType:
    from rich.text import Text

    where = visible(f"  {one.host}, process {one.pid}")
    text = Text.assemble((visible(one.engine), "bold"), where)
    shares = [
        f"{name} {one.available.get(name, total):g} of {total:g} free"
        for name, total in one.capacities.items()
    ]
    if shares:
        shared = " (shared)" if one.shares else ""
        text.append(visible(f"  {', '.join(shares)}{shared}"), "cyan")
    if one.trouble:
        text.append(visible(f"  {one.trouble}"), "red")
    if one.abandoned:
        text.append(visible(f"  abandoned: {', '.join(one.abandoned)}"), "red")
    return text


def _runs(one: EngineStatus) -> RenderableType:
    from cascade.graph.durations import duration_text

    if not one.runs:
        return "nothing runs"
    shown = table("run", "path", "for", "steps", "steps/s", "now", right=(2, 3, 4))
    for run in one.runs:
        add_row(
            shown,
            run.target,
            run.strategy,
            duration_text(run.seconds),
            f"{run.steps:,}",
            f"{run.steps_per_second:,.0f}",
            run.task or "",
        )
    if one.more_runs:
        add_row(shown, "…", f"+ {one.more_runs:,}")
    return shown


def _waits(one: EngineStatus) -> RenderableType | None:
    from cascade.graph.durations import duration_text

    if not one.waiting:
        return None
    alike: dict[tuple[str, str, tuple[str, ...]], list[float]] = {}
    for wait in one.waiting:
        key = (wait.task, wait.reason, tuple(dict.fromkeys(wait.holders)))
        alike.setdefault(key, []).append(wait.waited or 0.0)
    shown = table("waits", "", "for", "held by", "since", right=(1, 4))
    for (task, reason, holders), waited in alike.items():
        times = f"× {len(waited)}" if len(waited) > 1 else ""
        add_row(shown, task, times, reason, ", ".join(holders), duration_text(max(waited)))
    if one.more_waiting:
        add_row(shown, "…", f"+ {one.more_waiting:,}")
    return shown


def _constraints(one: EngineStatus) -> RenderableType | None:
    from cascade.graph.durations import duration_text

    if not one.constraints:
        return None
    shown = table("constraint", "scope", "value", "left", right=(3,))
    for rule in one.constraints:
        left = "" if rule.seconds_left is None else duration_text(rule.seconds_left)
        value = "" if rule.value is None else str(rule.value)
        if rule.shared is not None:
            value += f" shared as {rule.shared!r}"
        add_row(shown, rule.kind, rule.scope, value, left)
    if one.more_constraints:
        add_row(shown, "…", f"+ {one.more_constraints:,}")
    return shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
