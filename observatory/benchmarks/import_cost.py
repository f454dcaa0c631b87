"""What ``import cascade`` costs, in milliseconds over a bare Python.

    hatch run bench-import
    hatch run bench-import --rounds 101 --json import_cost.json

A script that uses Cascade pays this before its first task, and a command line tool pays it at every
keystroke of shell completion. Three programs are timed from spawn to exit:

- ``pass``: the bare interpreter, which everything else is compared with;
- ``import cascade``: the facade alone, which imports no layer;
- ``import cascade; cascade.run``: the first use of a name from the engine, and what that imports.

A machine's speed drifts by more than the differences looked for here. So the programs take turns
within each round, in an order that rotates, and what is reported is the median over the rounds of
the difference *within* a round. One unmeasured round fills the caches of bytecode and files.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cascade.observatory.benchmarks.findings import Figures, Findings
from cascade.observatory.benchmarks.program import start
from cascade.observatory.benchmarks.report import write_report
from cascade.observatory.benchmarks.surroundings import surroundings


class Program(NamedTuple):
    """A program to time, and what it may cost over the bare interpreter."""

    code: str
    target_ms: float | None = None


class Row(NamedTuple):
    """What was measured of one program; ``quartiles_ms`` are those of the difference."""

    program: str
    median_ms: float
    over_bare_ms: float
    quartiles_ms: tuple[float, float]
    target_ms: float | None
    met: bool | None


#: In an ordinary run, and in a quick one.
ROUNDS, QUICK_ROUNDS = 31, 7
BARE = Program("pass")
PROGRAMS = (
    BARE,
    Program("import cascade", target_ms=10),
    Program("import cascade; cascade.run", target_ms=60),
)


def run_ms(program: Program) -> float:
    """Wall-clock time of one process that runs the program, from spawn to exit."""
    start = time.perf_counter()
    # -P: what happens to lie in the working directory is not to be imported, here or anywhere.
    subprocess.run([sys.executable, "-P", "-c", program.code], check=True)
    return (time.perf_counter() - start) * 1e3


def measure(rounds: int) -> dict[Program, list[float]]:
    """Times in ms; the i-th of every program belong to the same round."""
    times: dict[Program, list[float]] = {program: [] for program in PROGRAMS}
    for program in PROGRAMS:
        run_ms(program)
    for round_number in range(rounds):
        first = round_number % len(PROGRAMS)
        for program in PROGRAMS[first:] + PROGRAMS[:first]:
            times[program].append(run_ms(program))
    return times


def summarise(times: dict[Program, list[float]]) -> list[Row]:
    """One row per program."""
    rows = []
    for program, own in times.items():
        differences = [mine - bare for mine, bare in zip(own, times[BARE], strict=True)]
        over_bare = statistics.median(differences)
        rows.append(
            Row(
                program=program.code,
                median_ms=statistics.median(own),
                over_bare_ms=over_bare,
                quartiles_ms=quartiles(differences),
                target_ms=program.target_ms,
                met=None if program.target_ms is None else over_bare <= program.target_ms,
            )
        )
    return rows


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; both are the value itself where there is only one."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with the target where there is one."""
    lines = [f"{'program':<29} {'median':>9} {'over bare':>10} {'quartiles':>14}  target"]
    for row in rows:
        low, high = row.quartiles_ms
        spread = f"{low:.1f} .. {high:.1f}"
        verdict = "met" if row.met else "MISSED"
        target = "" if row.target_ms is None else f"<= {row.target_ms} ms: {verdict}"
        lines.append(
            f"{row.program:<29} {row.median_ms:>6.1f} ms {row.over_bare_ms:>7.1f} ms "
            f"{spread:>14}  {target}".rstrip()
        )
    return "\n".join(lines)


def figures_of(rows: Sequence[Row], rounds: int, quick: bool) -> Figures:
    """The report, but for where it was measured."""

    def programs() -> Figures:
        return {"programs": [row._asdict() for row in rows]}

    found = Findings()
    found.run("imports", programs)
    for row in rows:
        if row.target_ms is not None:
            found.target(row.program, row.over_bare_ms, most=row.target_ms, unit="ms")
    return {
        "benchmark": "import_cost",
        "options": {"rounds": rounds, "quick": quick},
        "rounds": rounds,
        **found.as_json(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the JSON where asked to."""
    parser = argparse.ArgumentParser(description="What `import cascade` costs over bare Python.")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}; quick: {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures there")
    options = parser.parse_args(arguments)
    rounds = options.rounds
    if rounds is None:
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {rounds}")

    where = surroundings(Path(__file__).parent)
    machine = where["machine"]
    rows = summarise(measure(rounds))
    print(f"{machine['implementation']} {machine['python']}, {machine['platform']}", end=", ")
    print(f"{rounds} rounds")
    print(table(rows))
    if options.json is not None:
        write_report(options.json, where, figures_of(rows, rounds, options.quick))


if __name__ == "__main__":
    start(main)
