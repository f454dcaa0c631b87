"""Quoted figures are written from the tables of docs/performance.md."""

import pytest

from cascade.observatory.benchmarks.quotes import quote, renewed

PAGE = """# Performance

## A node

### Targets: a node

| figure | measured | target |  |
|---|--:|--:|--:|
| countdown: fused over bare while | 1.55 × | ≤ 1.2 × | missed, 1.29 × |
| logistic map: fused over bare while | 1.08 × | ≤ 1.2 × | met |
| memory of a node | 345 B | ≤ 1 024 B | met |
| made: speed | 612 000 | ≥ 500 000 | met |

### Graphs

#### Wide

| nodes | contender | µs/node | quartiles | × cost |
|---|---|--:|--:|--:|
| 10 000 | cascade | 1.10 | 1.07–1.21 | 0.30 |
|  | asyncio.gather | 3.61 | 3.55–3.80 | 1.00 |
| 1 000 000 | cascade | 2.19 | 2.18–2.20 | 0.25 |

#### Chain

| nodes | contender | µs/node | quartiles | × cost |
|---|---|--:|--:|--:|
| 10 000 | cascade | 1 240 | 1.21–1.28 | 0.13 |

### Small

| contender | µs/run |
|---|--:|
| engine.run | 144 |

## Another

| contender | µs/run |
|---|--:|
| engine.run | 9.00 |
"""


@pytest.mark.parametrize(
    ("anchor", "which", "figure"),
    [
        ("targets-a-node", "measured of *: fused over bare while", "1.1 to 1.6 times"),
        ("targets-a-node", "measured of memory of a node", "345 B"),
        ("wide", "µs/node of cascade at 10 000", "1.1 µs"),
        ("wide", "µs/node of cascade", "1.1 to 2.2 µs"),
        ("wide", "µs/node of asyncio.gather at 10 000", "3.6 µs"),
        ("graphs", "× cost of cascade at 10 000", "0.13 to 0.30 times"),
        ("graphs", "µs/node of cascade at 10 000", "1.1 to 1240 µs"),
        ("small", "µs/run of engine.run", "144 µs"),
        ("a-node", "µs/run of engine.run", "144 µs"),
        ("another", "µs/run of engine.run", "9.0 µs"),
    ],
)
def test_a_quote_is_the_range_of_its_cells(anchor, which, figure):
    assert quote(PAGE, anchor, which) == figure


@pytest.mark.parametrize(
    ("anchor", "which", "message"),
    [
        ("nowhere", "a of b", "there is no heading #nowhere"),
        ("wide", "cascade", "a quote's title is 'COLUMN of ROW at SIZE', but this is 'cascade'"),
        ("wide", "µs/node of dask", "the quote 'µs/node of dask' of #wide fits no cell"),
        ("wide", "µs/node of cascade at 7", "fits no cell"),
        ("targets-a-node", "measured of *e*", "fits cells of several units"),
        ("wide", "quartiles of cascade", "'1.07–1.21' below 'quartiles' is no figure"),
    ],
)
def test_a_quote_of_nothing_is_refused(anchor, which, message):
    with pytest.raises(ValueError, match=r".") as caught:
        quote(PAGE, anchor, which)
    assert message in str(caught.value)


def test_quotes_of_a_page_are_renewed_and_nothing_else():
    text = """It costs [9 µs][node], or [more\nthan 4 times][ratio] [that](x.md), [some µs][other].

[node]: docs/performance.md#wide "µs/node of cascade at 10 000"
[ratio]: performance.md#graphs "× cost of cascade at 10 000"
[other]: docs/limits.md#wide "µs/node of cascade at 10 000"
"""
    new = text.replace("9 µs", "1.1 µs").replace("more\nthan 4 times", "0.13\nto 0.30 times")
    assert renewed(text, PAGE) == new
    assert renewed(new, PAGE) == new


def test_a_quote_of_other_length_is_on_one_line():
    text = '[1\nµs][a]\n\n[a]: performance.md#graphs "× cost of cascade at 10 000"'
    assert renewed(text, PAGE).startswith("[0.13 to 0.30 times][a]\n")
