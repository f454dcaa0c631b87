"""Costs of a step of a loop: by tail calls, by recursion, on all paths and tiers.

    hatch run bench-tco
    hatch run bench-tco --quick
    hatch run bench-tco --only memory --only delay
    hatch run bench-tco --max 100000 --plot out.html

``hatch run peers:bench-tco`` compares with other libraries.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.steps import PROGRAM

if __name__ == "__main__":
    PROGRAM.start(write_page)
