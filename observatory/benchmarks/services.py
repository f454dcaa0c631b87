"""Costs of many runs on one engine: small ones, requests of a service, fleets of agents.

    hatch run bench-services
    hatch run bench-services --quick
    hatch run bench-services --only service

``hatch run peers:bench-services`` compares with other libraries.

All contenders are timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``. The
garbage collector stays on. Missed targets are printed and do not change the exit status: on a busy
machine ratios are still meaningful, but less precise. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.small_runs import PROGRAM

if __name__ == "__main__":
    PROGRAM.start(write_page)
