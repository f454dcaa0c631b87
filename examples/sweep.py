"""Compute an epidemic for each pair of parameters, on all cores.

    python examples/sweep.py

The model has people who can be infected, are infected, or have recovered (SIR). mode="process" has
the 288 calls made in worker processes; without it they would run in threads, which share one core.
"""

from __future__ import annotations

import time
from itertools import product

import cascade as cs

#: Contacts per day, and days of infection.
CONTACTS = [0.05 * step for step in range(1, 25)]
DAYS_ILL = [1.0 * step for step in range(2, 14)]
SHADES = " .:-=+*#%@"


@cs.task(mode="process", pure=True)
def epidemic(contacts: float, days_ill: float, step: float = 0.04, days: int = 300) -> float:
    """The share of all people who were infected in the end, by Euler's method."""
    susceptible, infected = 0.999, 0.001
    for _ in range(int(days / step)):
        new = contacts * susceptible * infected
        susceptible -= step * new
        infected += step * (new - infected / days_ill)
    return 1 - susceptible


@cs.task
def chart(shares: list[float]) -> str:
    """A line for each number of contacts, darker where more people were infected."""
    width = len(DAYS_ILL)
    lines = []
    for row, contacts in enumerate(CONTACTS):
        cells = shares[row * width : (row + 1) * width]
        shades = "".join(2 * SHADES[min(9, int(share * 10))] for share in cells)
        lines.append(f"{contacts:5.2f} |{shades}|")
    return "\n".join([*lines, f"       {DAYS_ILL[0]:.0f} to {DAYS_ILL[-1]:.0f} days"])


def sweep() -> cs.LazyResult[str]:
    contacts, days_ill = zip(*product(CONTACTS, DAYS_ILL), strict=True)
    return chart(epidemic.map(contacts=contacts, days_ill=days_ill))


def main() -> None:
    began = time.perf_counter()
    print(cs.run(sweep(), progress=None))
    print(f"{len(CONTACTS) * len(DAYS_ILL)} epidemics in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":  # each worker process imports this file, too
    main()
