"""Cost of ``import cascade``, in milliseconds more than a bare Python.

    hatch run bench-import
    hatch run bench-import --rounds 101 --json import_cost.json

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.imports import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
