"""Costs of limits: idle ones, active ones, and the delay until a waiting call wakes.

    hatch run bench-limits
    hatch run bench-limits --quick
    hatch run bench-limits --only wake-ups

All contenders are timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``. The
garbage collector stays on. Missed targets are printed and do not change the exit status: on a busy
machine ratios are still meaningful, but less precise. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.limits import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
