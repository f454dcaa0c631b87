"""Costs of a node on the graph path: from authoring a graph of trivial tasks to its result.

    hatch run bench-graph
    hatch run bench-graph --quick
    hatch run bench-graph --only shapes --max 10000 --plot out.html

A full run takes some eight minutes. ``hatch run peers:bench-graph`` compares with other libraries.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.graphs import PROGRAM
from cascade.observatory.benchmarks.pages import write_page

if __name__ == "__main__":
    PROGRAM.start(write_page)
