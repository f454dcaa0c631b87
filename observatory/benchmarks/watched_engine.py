"""The cost of a view that watches an engine, in CPU time of the engine's process.

    hatch run bench-watched
    hatch run bench-watched --pairs 4 --size 20

``cascade.observatory.benchmarks.watched`` says how it measures; it takes some three minutes.
"""

import argparse
import asyncio

from cascade.observatory.benchmarks.watched import costs

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=24, help="pairs of each kind of work")
    parser.add_argument("--size", type=int, default=80, help="how much work is in each half")
    options = parser.parse_args()
    for work, cost in asyncio.run(costs(options.pairs, options.size)).items():
        print(f"{work:8}{cost}; {cost.shown:,} messages in all")
