"""Costs of durable runs: of a node, of an agent's step, and of a long loop.

    hatch run bench-durable
    hatch run bench-durable --quick
    hatch run bench-durable --only journal

``hatch run peers:bench-durable`` compares with other libraries.

All contenders are timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``. Missed
targets are printed and do not change the exit status. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.durable import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
