"""Costs of many runs on one engine: small ones, requests of a service, fleets of agents.

    hatch run bench-services
    hatch run bench-services --quick
    hatch run bench-services --only service

``hatch run peers:bench-services`` compares with other libraries.

``cascade.observatory.benchmarks.program`` says how it measures; ``--help`` lists the options.
"""

from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.small_runs import PROGRAM

if __name__ == "__main__":
    PROGRAM.start(write_page)
