"""Fireflies that come into step: each of them an agent that loops by tail calls.

    hatch run fireflies
    hatch run fireflies --side 100 --period 2
    hatch run fireflies --virtual --topology all-to-all --seeds 20
    hatch run fireflies --virtual --rate 2000/s

Side x side fireflies start with phases at random. Each flashes once a period and sees its
neighbours flash, which nudges it on; after its own flash it sees nothing for a moment. All of them
are agents in one run of the virtual machine, which wait for each other's flashes; see
``cascade.observatory.agents.kuramoto``.

With ``--virtual``, time is simulated, as fast as the machine can; without, it is real. What the
fireflies do is the same, bit for bit. In a terminal one sees them glow; elsewhere it is a line a
second. ``fireflies.jsonl`` gets a line for each look at them, ``fireflies.html`` shows them again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from time import process_time
from typing import NoReturn, TextIO

from rich.console import Console
from rich.table import Table

import cascade as cs
from cascade.observatory.agents.medium import Medium
from cascade.observatory.agents.swarm import SYNCHRONOUS, Recording, Settings, simulate
from cascade.observatory.agents.topology import NAMES
from cascade.observatory.benchmarks.delays import LoopDelays
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.pictures.fireflies import draw_field, render_field, told
from cascade.observatory.terminal.field import FieldView
from cascade.runtime.clock import run_virtually

HERE = Path(__file__).parent
LEAD = (
    "Each square is a firefly, an agent of its own on Cascade's virtual machine. It glows when it "
    "flashes, and sees the flashes of its neighbours. R is 1 when all are in step."
)
#: When the picture shows the grid: shares of the time until they are in step; and when they are.
STILLS = (0.0, 0.5)


# -- one field ------------------------------------------------------------------------------------


def engine_with(rate: str | None) -> cs.Engine:
    """An engine that lets steps of fireflies begin no more often than that; None for at any time.

    Raises:
        ValueError: It is no rate; the text is for the user.
    """
    engine = cs.Engine()
    if rate is not None:
        try:
            engine.constraints.limit_rate("task:firefly", rate)
        except cs.ArgumentError as error:
            raise ValueError(f"--rate: {error}") from None
    return engine


class Field:
    """A field while it lives, and what is kept of it.

    Args:
        settings: What it is made of.
        virtual: Whether its time is simulated.
        lines: Gets a line of JSON for each look.
        console: Where it is shown; None for nowhere.
        rate: How often their steps begin at most.
    """

    def __init__(
        self,
        settings: Settings,
        virtual: bool,
        lines: TextIO,
        console: Console | None,
        rate: str | None,
    ) -> None:
        self.recording = Recording(settings)
        self._rate = rate
        self.delays: LoopDelays | None = None if virtual else LoopDelays()
        #: Seconds of the processor's time that it has taken.
        self.cpu = 0.0
        self._virtual = virtual
        self._lines = lines
        #: When each look was, as ``delays`` counts.
        self._looked: list[float] = []
        lately = (lambda: None) if self.delays is None else self.delays.lately
        self._view = None if console is None else FieldView(settings, console, lately)

    def run(self) -> None:
        """Let it live, from its beginning to its end.

        Raises:
            KeyboardInterrupt: Ctrl-C has ended it; the recording is there as far as it got.
        """
        began = process_time()
        try:
            if self._virtual:
                run_virtually(self._live)
            else:
                asyncio.run(self._live())
        finally:
            self.cpu = process_time() - began

    async def _live(self) -> None:
        async with engine_with(self._rate) as engine:
            with without_collector(), self._view or nullcontext(), self.delays or nullcontext():
                await simulate(self.recording.settings, engine, self.recording, self._look)

    def _look(self, recording: Recording, medium: Medium) -> None:
        if self.delays is not None:
            self._looked.append(self.delays.now)
        seen = {
            "t": recording.times[-1],
            "R": recording.order[-1],
            "flashes": recording.flashed,
            "steps": recording.steps,
        }
        self._lines.write(json.dumps(seen) + "\n")
        if self._view is not None:
            self._view.watch(recording, medium)

    def figures(self) -> dict[str, str]:
        """What there is to tell of it."""
        seen = self.recording
        figures = {
            "fireflies": f"{seen.settings.fireflies:,}",
            "topology": seen.settings.topology,
            "seed": str(seen.settings.seed),
            "in step": told(seen),
            "flashes": f"{seen.flashed:,}",
            "agent steps": f"{seen.steps:,}",
            "steps/s": f"{seen.steps / seen.seconds:,.0f}" if seen.seconds else "",
            "steps per CPU second": f"{seen.steps / self.cpu:,.0f}" if self.cpu else "",
            "time": "simulated" if self._virtual else "real",
        }
        if self.delays is not None:
            figures |= self._delay_figures(self.delays)
        return figures

    def _delay_figures(self, delays: LoopDelays) -> dict[str, str]:
        if not self._looked:
            return {}
        first, since = self._looked[0], self.recording.synchronous_since
        parts = {"loop delay p99": (first, inf)}
        if since is not None:
            middle = self._looked[self.recording.times.index(since)]
            parts = {"p99 before": (first, middle), "p99 in step": (middle, inf)}
        found = {name: delays.quantile(0.99, *span) for name, span in parts.items()}
        figures = {n: f"{1000 * d:.1f} ms" for n, d in found.items() if d is not None}
        return figures | {"late by up to": f"{1000 * self.recording.lag:.1f} ms"}


@contextmanager
def without_collector() -> Iterator[None]:
    """Without searches for garbage.

    Agents leave none while they live, but are many to be searched: each search holds the event
    loop, a quarter of a second for ten thousand of them, and all together take a third of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def watch_one(
    settings: Settings,
    rate: str | None,
    virtual: bool,
    out: Path,
    console: Console | None,
    picture: Path | None,
) -> None:
    """Run one field, and write its files; also those of a field that is interrupted."""
    with (out / "fireflies.jsonl").open("w", encoding="utf-8") as lines:
        lines.write(json.dumps({"settings": asdict(settings), **surroundings(HERE)}) + "\n")
        field = Field(settings, virtual, lines, console, rate)
        try:
            field.run()
        finally:
            figures = field.figures()
            lines.write(json.dumps({"figures": figures}) + "\n")
            if field.recording.times:
                write_page(field.recording, figures, out)
    if picture is not None:
        write_picture(field.recording, picture)
    if console is not None:
        console.print(figures_table(figures))
        for path in (out / "fireflies.html", out / "fireflies.jsonl", picture):
            if path is not None:
                console.print(str(path), markup=False, style="cyan", soft_wrap=True)


def write_page(recording: Recording, figures: dict[str, str], out: Path) -> None:
    """``fireflies.html``."""
    title = f"{recording.settings.fireflies:,} fireflies"
    page = render_field(recording, title, LEAD, figures)
    (out / "fireflies.html").write_text(page, encoding="utf-8")


def write_picture(recording: Recording, path: Path) -> None:
    """The picture of the gallery: when they begin, on the way, and when they are in step."""
    period = recording.settings.period
    until = recording.synchronous_since or recording.times[-1]
    times = [max(share * until, period) for share in STILLS]
    # At the end, a moment at which as many as possible flash.
    together = Counter(time for time, _ in recording.flashes if until <= time <= until + 2 * period)
    times.append(max(together, key=together.__getitem__) if together else recording.times[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    captions = [f"after {time:.1f} s" for time in times]
    path.write_text(draw_field(recording, times, captions), encoding="utf-8")


def figures_table(figures: dict[str, str]) -> Table:
    """The figures, for a terminal."""
    table = Table.grid(padding=(0, 2))
    for name, value in figures.items():
        table.add_row(f"[dim]{name}[/]", value)
    return table


# -- a series -------------------------------------------------------------------------------------


def watch_series(
    settings: Settings, rate: str | None, seeds: int, out: Path, console: Console | None
) -> None:
    """Run a field for each of some seeds, in virtual time, and tell how many came into step."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in (
        "seed",
        "R at the end",
        f"R > {SYNCHRONOUS} since",
        "agent steps",
        "steps per CPU s",
    ):
        table.add_column(heading, justify="right")
    in_step = done = 0
    with (out / "fireflies.jsonl").open("w", encoding="utf-8") as lines:
        lines.write(json.dumps({"settings": asdict(settings), **surroundings(HERE)}) + "\n")
        for seed in range(settings.seed, settings.seed + seeds):
            field = Field(replace(settings, seed=seed), True, lines, None, rate)
            lines.write(json.dumps({"seed": seed}) + "\n")
            field.run()
            seen = field.recording
            since, speed = seen.synchronous_since, seen.steps / field.cpu
            in_step, done = in_step + (since is not None), done + 1
            end, reached = f"{seen.order[-1]:.4f}", "never" if since is None else f"{since:.1f} s"
            table.add_row(str(seed), end, reached, f"{seen.steps:,}", f"{speed:,.0f}")
            lines.write(json.dumps({"seed": seed, "end": seen.order[-1], "since": since}) + "\n")
            if console is not None and not console.is_terminal:
                console.print(f"seed {seed}: R {end}, {told(seen)}", highlight=False)
            elif console is not None:
                console.print(f"\r{done} of {seeds}", end="", highlight=False)
        lines.write(json.dumps({"seeds": done, "in step": in_step}) + "\n")
    if console is not None:
        console.print()
        console.print(table)
        console.print(
            f"\n{settings.fireflies:,} fireflies, {settings.topology}: "
            f"[bold]{in_step} of {done}[/] came into step within {settings.duration:g} s",
            highlight=False,
        )


# -- the terminal ---------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the list of options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Watch fireflies synchronise, each an agent of its own.")
    field = parser.add_argument_group("the field")
    field.add_argument(
        "--side", type=int, default=30, metavar="N", help="fireflies in a row (%(default)s)"
    )
    field.add_argument("--topology", choices=NAMES, default="torus", help="who sees whom (torus)")
    field.add_argument(
        "--period", type=float, default=1.0, metavar="S", help="seconds from flash to flash (1)"
    )
    field.add_argument(
        "--nudge",
        type=float,
        default=0.3,
        metavar="X",
        help="how far the flashes of all neighbours together move a state that flashes at 1 (0.3)",
    )
    field.add_argument(
        "--refractory",
        type=float,
        default=0.1,
        metavar="X",
        help="share of the period in which a firefly sees nothing after its flash (0.1)",
    )
    field.add_argument("--seed", type=int, default=1, metavar="N", help="decides all chance (1)")
    runs = parser.add_argument_group("the run")
    runs.add_argument(
        "--duration", type=float, default=30.0, metavar="S", help="seconds, of the fireflies (30)"
    )
    runs.add_argument("--virtual", action="store_true", help="simulate time")
    runs.add_argument(
        "--seeds", type=int, metavar="N", help="run N fields, of seeds from --seed on; --virtual"
    )
    runs.add_argument(
        "--rate",
        metavar="R",
        help="how often steps of fireflies begin at most, as 1000/s; the engine sees to it",
    )
    files = parser.add_argument_group("what is left of it")
    files.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("build", "fireflies"),
        help="where the files go (default: %(default)s)",
    )
    files.add_argument("--picture", type=Path, metavar="FILE", help="also draw it, as SVG")
    files.add_argument("-q", "--quiet", action="store_true", help="only write the files")
    return parser


def settings_of(chosen: argparse.Namespace) -> Settings:
    """The field that is asked for.

    Raises:
        ValueError: It cannot be; the text is for the user.
    """
    if chosen.seeds is not None and not chosen.virtual:
        raise ValueError("--seeds is for simulated time, so it needs --virtual")
    if chosen.seeds is not None and chosen.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, but is {chosen.seeds}")
    if chosen.seeds is not None and chosen.picture is not None:
        raise ValueError("--picture is of one field, and cannot go with --seeds")
    return Settings(
        side=chosen.side,
        topology=chosen.topology,
        period=chosen.period,
        nudge=chosen.nudge,
        refractory=chosen.refractory,
        duration=chosen.duration,
        seed=chosen.seed,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status, or exits with 2 where options make no sense."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out
    console = None if chosen.quiet else Console()
    try:
        settings = settings_of(chosen)
        engine_with(chosen.rate)
    except ValueError as error:
        parser.error(str(error))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if chosen.seeds is None:
            watch_one(settings, chosen.rate, chosen.virtual, out, console, chosen.picture)
        else:
            watch_series(settings, chosen.rate, chosen.seeds, out, console)
    except OSError as error:
        parser.error(f"cannot write into --out {out}: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
