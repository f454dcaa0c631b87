"""Tasks of several tests, which count their calls."""

from collections import Counter

import cascade as cs

#: Name of a task → number of its calls in the present test.
calls: Counter[str] = Counter()
#: How often ``fragile`` is still to fail.
fails = {"left": 0}


@cs.task
def add(a: int, b: int) -> int:
    calls["add"] += 1
    return a + b


@cs.task
async def double(x: int) -> int:
    calls["double"] += 1
    return 2 * x


@cs.task
def fragile(x: int) -> int:
    calls["fragile"] += 1
    if fails["left"]:
        fails["left"] -= 1
        raise ValueError("not yet")
    return x
