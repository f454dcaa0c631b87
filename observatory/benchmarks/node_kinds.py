"""Costs of nodes that are more than a plain call: coroutines, policies, resources, maps.

    hatch run bench-nodes
    hatch run bench-nodes --quick
    hatch run bench-nodes --only maps

``hatch run peers:bench-nodes`` compares with other libraries.

All contenders are timed in the same rounds: see ``cascade.observatory.benchmarks.rounds``. The
garbage collector stays on. Missed targets are printed and do not change the exit status: on a busy
machine ratios are still meaningful, but less precise. ``--help`` lists the sections.
"""

from cascade.observatory.benchmarks.nodes import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
