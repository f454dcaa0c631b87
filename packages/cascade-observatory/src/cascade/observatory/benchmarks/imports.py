"""Cost of ``import cascade``: the section of ``import_cost``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.program import Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender, measure, summarise
from cascade.observatory.benchmarks.tables import Table, figure

BARE = "pass"
#: Program → the most ms over a bare Python.
PROGRAMS = {BARE: None, "import cascade": 10.0, "import cascade; cascade.run": 60.0}
_HEADINGS = ("program", "ms", "over bare Python", "quartiles")


def imports(bench: Bench) -> Figures:
    """Each program in a process of its own, from spawn to exit."""
    # Noted in the report as well.
    rounds = bench.options.rounds = bench.options.rounds or (7 if bench.options.quick else 31)
    contenders = [Contender(code, _process(code), 1, 0) for code in PROGRAMS]
    seconds = measure(contenders, rounds).seconds
    rows = []
    for code, most in PROGRAMS.items():
        over = summarise([1e3 * (a - b) for a, b in zip(seconds[code], seconds[BARE], strict=True)])
        row = {
            "program": code,
            "median_ms": 1e3 * median(seconds[code]),
            "over_bare_ms": over.median,
            "quartiles_ms": list(over[1:]),
            "target_ms": most,
            "met": None if most is None else over.median <= most,
        }
        rows.append(row)
        if most is not None:
            bench.found.target(code, over.median, most=most, unit="ms")
    bench.console.print(programs_table(rows).rich())
    return {"programs": rows}


def programs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The programs and their times."""
    keys = ("median_ms", "over_bare_ms", "quartiles_ms")
    cells = [(f"`{row['program']}`", *(_ms(row[key]) for key in keys)) for row in rows]
    return Table("from spawn to exit", _HEADINGS, cells)


def _ms(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return "–".join(figure(float(one)) for one in values)


def _process(code: str) -> Callable[[], int]:
    # -P: files in the working directory must not be imported, here or anywhere.
    command = [sys.executable, "-P", "-c", code]
    # The check before the rounds writes the compiled files, which an installed package has.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    return lambda: subprocess.run(command, check=True, env=environment).returncode


PROGRAM = Program(
    "import_cost",
    "Costs of `import cascade` and of the first use of the engine, over a bare Python.",
    (
        Section(
            "imports",
            "From spawn to exit",
            "Time of a process from spawn to exit, and the difference to a Python that runs "
            "`pass`: medians over rounds of the difference within a round. `import cascade` alone "
            "imports no layer; the first use of a name imports its layer.",
            imports,
            {"programs": ("program", "ms over a bare Python", 1.0)},
        ),
    ),
)
