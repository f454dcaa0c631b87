"""Costs of nodes that are more than a plain call: coroutines, policies, resources, maps.

    hatch run bench-nodes
    hatch run bench-nodes --quick
    hatch run bench-nodes --only maps

``hatch run peers:bench-nodes`` compares with other libraries.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.nodes import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
