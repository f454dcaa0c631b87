"""Costs of calls in other processes and on clusters, beside the pools that do nothing else.

    hatch run bench-clusters
    hatch run bench-clusters --quick
    hatch run bench-clusters --only short

``hatch run peers:bench-clusters`` compares with joblib too, in the same rounds.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.clusters import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
