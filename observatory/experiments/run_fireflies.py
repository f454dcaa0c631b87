"""Fireflies that synchronise: each is an agent that loops by tail calls.

    hatch run fireflies
    hatch run fireflies --side 100 --period 2
    hatch run fireflies --virtual --topology all-to-all --seeds 20
    hatch run fireflies --virtual --rate 2000/s

Side x side fireflies start with random phases. Each flashes once a period and sees its neighbours'
flashes, which advance its phase; after its own flash it sees nothing for a moment. All of them are
agents in one run of the virtual machine and wait for each other's flashes; see
``cascade.observatory.agents.kuramoto``.

With ``--virtual``, time is simulated as fast as the machine can; without, it is real. The fireflies
behave the same, bit for bit. A terminal shows them glow; other outputs get a line per second.
``fireflies.jsonl`` gets a line per look at them, ``fireflies.html`` replays them.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table

from cascade.observatory.agents.swarm import SYNCHRONOUS, Settings
from cascade.observatory.agents.topology import NAMES
from cascade.observatory.benchmarks.environment import environment
from cascade.observatory.command_line import Parser, start
from cascade.observatory.experiments.field import Field, engine_with, write_line, write_picture
from cascade.observatory.pictures.fireflies import render_field, told

HERE = Path(__file__).parent
LEAD = (
    "Each square is a firefly, an agent of its own on Cascade's virtual machine. It glows when it "
    "flashes, and sees the flashes of its neighbours. R is 1 when all are in step."
)


@contextmanager
def lines_in(chosen: Namespace) -> Iterator[TextIO]:
    """``fireflies.jsonl``, with its first line."""
    with (chosen.out / "fireflies.jsonl").open("w", encoding="utf-8") as lines:
        write_line(lines, settings=asdict(chosen.settings), **environment(HERE))
        yield lines


def watch_one(chosen: Namespace, console: Console | None) -> None:
    """Run one field, and write its files; also those of a field that is interrupted."""
    page = chosen.out / "fireflies.html"
    with lines_in(chosen) as lines:
        field = Field(chosen.settings, chosen.virtual, lines, console, chosen.rate)
        try:
            field.run()
        finally:
            figures = field.figures()
            write_line(lines, figures=figures)
            if field.recording.times:
                title = f"{chosen.settings.fireflies:,} fireflies"
                text = render_field(field.recording, title, LEAD, figures)
                page.write_text(text, encoding="utf-8")
    if chosen.picture is not None:
        write_picture(field.recording, chosen.picture)
    if console is not None:
        table = Table.grid(padding=(0, 2))
        for name, value in figures.items():
            table.add_row(f"[dim]{name}[/]", value)
        console.print(table)
        for path in (page, chosen.out / "fireflies.jsonl", chosen.picture):
            if path is not None:
                console.print(str(path), markup=False, style="cyan", soft_wrap=True)


def watch_series(chosen: Namespace, console: Console | None) -> None:
    """Run a field for each of some seeds, in virtual time, and count those that synchronise."""
    settings, seeds = chosen.settings, chosen.seeds
    table = Table(box=None, header_style="dim", pad_edge=False)
    reached = f"R > {SYNCHRONOUS} since"
    for heading in ("seed", "R at the end", reached, "agent steps", "steps per CPU s"):
        table.add_column(heading, justify="right")
    in_step = 0
    with lines_in(chosen) as lines:
        for done, seed in enumerate(range(settings.seed, settings.seed + seeds), 1):
            field = Field(replace(settings, seed=seed), True, lines, None, chosen.rate)
            write_line(lines, seed=seed)
            field.run()
            seen = field.recording
            since, end = seen.synchronous_since, f"{seen.order[-1]:.4f}"
            in_step += since is not None
            first = "never" if since is None else f"{since:.1f} s"
            table.add_row(
                str(seed), end, first, f"{seen.steps:,}", f"{seen.steps / field.cpu:,.0f}"
            )
            write_line(lines, seed=seed, end=seen.order[-1], since=since)
            if console is not None and not console.is_terminal:
                console.print(f"seed {seed}: R {end}, {told(seen)}")
            elif console is not None:
                console.print(f"\r{done} of {seeds}", end="")
        write_line(lines, **{"seeds": seeds, "in step": in_step})
    if console is not None:
        console.print()
        console.print(table)
        console.print(
            f"\n{settings.fireflies:,} fireflies, {settings.topology}: "
            f"[bold]{in_step} of {seeds}[/] came into step within {settings.duration:g} s"
        )


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Watch fireflies synchronise, each an agent of its own.")
    field = parser.add_argument_group("the field")
    field.add_argument(
        "--topology", choices=NAMES, default="torus", help="which flies see each other (torus)"
    )
    nudge = "how far the flashes of all neighbours together move a state that flashes at 1"
    rest = "share of the period in which a firefly sees nothing after its flash"
    for name, kind, default, metavar, text in (
        ("--side", int, 30, "N", "fireflies in a row"),
        ("--period", float, 1.0, "S", "seconds from flash to flash"),
        ("--nudge", float, 0.3, "X", nudge),
        ("--refractory", float, 0.1, "X", rest),
        ("--duration", float, 30.0, "S", "seconds, of the fireflies"),
        ("--seed", int, 1, "N", "decides all chance"),
    ):
        field.add_argument(
            name, type=kind, default=default, metavar=metavar, help=f"{text} (%(default)g)"
        )
    runs = parser.add_argument_group("the run")
    runs.add_argument("--virtual", action="store_true", help="simulate time")
    told = "run N fields, of seeds from --seed on; --virtual"
    runs.add_argument("--seeds", type=int, metavar="N", help=told)
    told = "the rate at which the engine starts steps of fireflies at most, as 1000/s"
    runs.add_argument("--rate", metavar="R", help=told)
    parser.add_out("build", "fireflies")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw it, as SVG")
    parser.add_argument("-q", "--quiet", action="store_true", help="only write the files")
    return parser


def check(chosen: Namespace) -> None:
    """Make ``chosen.settings``.

    Raises:
        ValueError: The text is for the user.
    """
    if chosen.seeds is not None and not chosen.virtual:
        raise ValueError("--seeds is for simulated time, so it needs --virtual")
    if chosen.seeds is not None and chosen.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, but is {chosen.seeds}")
    if chosen.seeds is not None and chosen.picture is not None:
        raise ValueError("--picture is of one field, and cannot go with --seeds")
    given = vars(chosen)
    names = (field.name for field in fields(Settings))
    chosen.settings = Settings(**{name: given[name] for name in names if name in given})
    engine_with(chosen.rate)


def work(chosen: Namespace) -> int:
    """Run one field or a series."""
    console = None if chosen.quiet else Console(highlight=False)
    (watch_one if chosen.seeds is None else watch_series)(chosen, console)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status."""
    return start(command_line(), check, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
