"""Durable runs and cached calls for the tests of the pages: ``stored_flows.py STORE CACHE``."""

import sys
from contextlib import suppress

import cascade as cs


@cs.task(pure=True)
def load(shop):
    return [1, 2, 3]


@cs.task
def total(values, scale):
    if scale < 0:
        raise ValueError(f"scale is {scale} <b>x</b>")
    return sum(values) * scale


def report():
    return total(load("Oslo"), cs.Param("scale", 1, int))


def main(store, cache):
    # By the name that the store is to have, and not as __main__.
    import flows_of_pages as flows  # type: ignore[import-not-found]

    for run_id, scale in (("one", 1), ("two", 2), ("bad", -1)):
        with suppress(ValueError):
            cs.run(flows.report(), {"scale": scale}, run_id=run_id, store=store)
    cs.run(flows.report(), cache=cache)


if __name__ == "__main__":
    main(*sys.argv[1:])
