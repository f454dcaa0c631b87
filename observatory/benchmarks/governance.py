"""Costs of limits: idle ones, active ones, and the delay until a waiting call wakes.

    hatch run bench-limits
    hatch run bench-limits --quick
    hatch run bench-limits --only wake-ups

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.limits import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
