"""Costs of a cache by code: of a hit, of a miss, and of a run in which nothing has changed.

    hatch run bench-caching
    hatch run bench-caching --quick
    hatch run bench-caching --only hit

``hatch run peers:bench-caching`` compares with joblib, redun and Hamilton, in the same rounds.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.caching import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
