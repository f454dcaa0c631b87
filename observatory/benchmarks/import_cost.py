"""Cost of ``import cascade``, in milliseconds more than a bare Python.

    hatch run bench-import
    hatch run bench-import --rounds 101 --json import_cost.json

All contenders are timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``. The
garbage collector stays on. Missed targets are printed and do not change the exit status: on a busy
machine ratios are still meaningful, but less precise. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.imports import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
