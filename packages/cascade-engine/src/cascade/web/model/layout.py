"""Layout: places for the nodes of one level of a graph, inputs to the left of their users.

Layered, in linear time. A layer of very many nodes is wrapped into a block of columns, so that a
picture of 5,000 alike calls is not 5,000 rows high. A line that skips layers has a row of its own
in each of them, as far as there is room, so that it passes behind no node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import Final, NamedTuple

from cascade.web.model.nodes import RunNode

#: Distances between the places of neighbours, in the unit of the picture.
COLUMN: Final = 210
ROW: Final = 54
#: Most rows of a layer that is not wrapped.
_ROWS = 24
#: Most crossings of lines with layers that get rows; with more, a picture is too dense to follow
#: single lines.
_CROSSINGS = 5_000


class Picture(NamedTuple):
    """The places of nodes, and the lines between them."""

    #: In the order of ``places``.
    numbers: list[int]
    #: x and y of each node.
    places: list[tuple[int, int]]
    #: Positions in ``numbers``: from an input to its user.
    lines: list[tuple[int, int]]
    #: For each line the places that it crosses on its way, from left to right; as large as nodes.
    ways: list[list[tuple[int, int]]]


def laid_out(nodes: Sequence[RunNode]) -> Picture:
    """The picture of some nodes. Inputs that are not among them are left out."""
    at = {node.number: place for place, node in enumerate(nodes)}
    inputs = [[at[n] for n in node.inputs if n in at] for node in nodes]
    layers = _layers(inputs)
    columns: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for place, layer in enumerate(layers):
        columns[layer].append(place)
    rows = max(_ROWS, *(_height(len(column)) for column in columns)) if columns else _ROWS
    crossings = _crossings(inputs, layers, [rows - len(column) for column in columns])
    owners = [*range(len(nodes)), *(source for source, _ in crossings)]
    for (_, layer), crossing in crossings.items():
        columns[layer].append(crossing)
    before = _before(inputs, layers, crossings)
    places = [(0, 0)] * len(owners)
    order = [0.0] * len(owners)
    x = 0
    for column in columns:
        # Each node near the middle of its inputs, so that fewer lines cross.
        column.sort(key=lambda place: (_middle(before[place], order), nodes[owners[place]].number))
        high = min(rows, len(column))
        for position, place in enumerate(column):
            shift, row = divmod(position, high)
            order[place] = row - (high - 1) / 2
            places[place] = x + shift * COLUMN, round(order[place] * ROW)
        x += ceil(len(column) / high) * COLUMN if column else 0
    lines = [(source, user) for user, sources in enumerate(inputs) for source in sources]
    ways = [
        [places[crossings[source, layer]] for layer in between if (source, layer) in crossings]
        for source, user in lines
        for between in [range(layers[source] + 1, layers[user])]
    ]
    return Picture([node.number for node in nodes], places[: len(nodes)], lines, ways)


def _crossings(
    inputs: Sequence[Sequence[int]], layers: Sequence[int], room: list[int]
) -> dict[tuple[int, int], int]:
    """Node and layer that lines from this node cross → the number of the place there.

    Args:
        inputs: Of each node.
        layers: Of each node.
        room: Free rows of each layer; taken from.
    """
    lines = [(source, user) for user, sources in enumerate(inputs) for source in sources]
    if sum(layers[user] - layers[source] - 1 for source, user in lines) > _CROSSINGS:
        return {}
    crossings: dict[tuple[int, int], int] = {}
    for source, user in lines:
        for layer in range(layers[source] + 1, layers[user]):
            if room[layer] > 0 and (source, layer) not in crossings:
                room[layer] -= 1
                crossings[source, layer] = len(inputs) + len(crossings)
    return crossings


def _before(
    inputs: Sequence[Sequence[int]],
    layers: Sequence[int],
    crossings: Mapping[tuple[int, int], int],
) -> list[list[int]]:
    """For each node and crossing the places from which its lines come."""

    def nearest(source: int, layer: int) -> int:
        """The last crossing of the lines of ``source`` to the left of ``layer``, or ``source``."""
        between = range(layer - 1, layers[source], -1)
        return next((crossings[source, n] for n in between if (source, n) in crossings), source)

    return [
        *([nearest(n, layers[user]) for n in sources] for user, sources in enumerate(inputs)),
        *([nearest(source, layer)] for source, layer in crossings),
    ]


def _height(count: int) -> int:
    """The rows of a block of so many nodes that is about as wide as high on the screen."""
    return ceil(sqrt(count * COLUMN / ROW))


def _layers(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The layer of each node: one more than that of its last input."""
    left = [len(sources) for sources in inputs]
    users: list[list[int]] = [[] for _ in inputs]
    for user, sources in enumerate(inputs):
        for source in sources:
            users[source].append(user)
    layers = [0] * len(inputs)
    ready = [place for place, count in enumerate(left) if not count]
    while ready:
        place = ready.pop()
        for user in users[place]:
            layers[user] = max(layers[user], layers[place] + 1)
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    return layers


def _middle(sources: Sequence[int], order: Sequence[float]) -> float:
    return sum(order[source] for source in sources) / len(sources) if sources else 0.0
