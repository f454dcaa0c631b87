"""Neighbourhoods: which places see each other, and how many flashes each place sees."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cascade.spec.wording import short

#: Range of sight along a ring, to each side: gives as many neighbours as a torus.
_RING_REACH = 2
#: Names for ``topology_named``.
NAMES = ("torus", "ring", "all-to-all", "small-world")
#: Share of the links of a small world that lead to a random place.
SHORTCUTS = 0.1


class Topology:
    """Places 0 to n - 1 and their neighbours; seeing is mutual.

    Args:
        places: Number of places.
        neighbours: For each place the places that it sees; None if every place sees all others.

    Raises:
        ValueError: There is no place, or ``neighbours`` has another length.
    """

    # Not a container for the search for lazy values (R2), however large it is.
    __slots__ = ("degree", "neighbours", "places")

    def __init__(self, places: int, neighbours: Sequence[Sequence[int]] | None = None) -> None:
        if places < 1:
            raise ValueError(f"a topology has at least one place, but is to have {places}")
        if neighbours is not None and len(neighbours) != places:
            raise ValueError(f"{places} places, but neighbours of {len(neighbours)}")
        self.places = places
        self.neighbours = neighbours
        #: Average number of neighbours of a place.
        self.degree = places - 1.0 if neighbours is None else sum(map(len, neighbours)) / places

    def __len__(self) -> int:
        return self.places

    def hearing(
        self, flashing: Sequence[int], is_listening: bytearray
    ) -> list[tuple[int, int | None]]:
        """The listeners that see at least one of ``flashing``, each with the number it sees.

        No place in ``flashing`` may be listening.

        Cost: the number of places if all see all, else the links of ``flashing``.
        """
        if self.neighbours is None:
            count = len(flashing)
            return [(place, count) for place in range(self.places) if is_listening[place]]
        heard: dict[int, int] = {}
        for place in flashing:
            for neighbour in self.neighbours[place]:
                if is_listening[neighbour]:
                    heard[neighbour] = heard.get(neighbour, 0) + 1
        return [*heard.items()]


def all_to_all(places: int) -> Topology:
    """Every place sees all others."""
    return Topology(places)


def ring(places: int) -> Topology:
    """Each place sees the next two on each side.

    >>> ring(6).neighbours[0]
    [1, 2, 4, 5]
    """
    steps = [step for step in range(-_RING_REACH, _RING_REACH + 1) if step]
    return _linked(
        places, [(place, (place + step) % places) for place in range(places) for step in steps]
    )


def torus(side: int) -> Topology:
    """A square grid of ``side`` rows whose edges are joined; each place sees the next four.

    >>> torus(3).neighbours[0]
    [1, 2, 3, 6]
    """
    return _linked(side * side, _grid(side))


def small_world(side: int, seed: int, shortcuts: float = SHORTCUTS) -> Topology:
    """A torus in which some links lead to a random place instead.

    After Watts & Strogatz, "Collective dynamics of small-world networks", Nature 393 (1998), who
    do so with a ring. Each link is moved with probability ``shortcuts``, and keeps one of its ends.
    """
    rng = random.Random(seed)
    places = side * side
    links = {frozenset(link) for link in _grid(side) if link[0] != link[1]}
    moved = []
    for link in sorted(map(sorted, links)):
        if rng.random() < shortcuts:
            moved.append(link)
    for start, end in moved:
        other = rng.randrange(places)
        if other != start and frozenset((start, other)) not in links:
            links.remove(frozenset((start, end)))
            links.add(frozenset((start, other)))
    return _linked(places, [(a, b) for a, b in map(sorted, links)])


def topology_named(name: str, side: int, seed: int) -> Topology:
    """The topology ``name`` of ``side`` x ``side`` places.

    Raises:
        ValueError: The name is unknown.
    """
    if name == "torus":
        return torus(side)
    if name == "ring":
        return ring(side * side)
    if name == "all-to-all":
        return all_to_all(side * side)
    if name == "small-world":
        return small_world(side, seed)
    raise ValueError(f"there is no topology {short(name)}; there are {', '.join(NAMES)}")


def _grid(side: int) -> list[tuple[int, int]]:
    links = []
    for row in range(side):
        for column in range(side):
            place = row * side + column
            links.append((place, row * side + (column + 1) % side))
            links.append((place, (row + 1) % side * side + column))
    return links


def _linked(places: int, links: Sequence[tuple[int, int]]) -> Topology:
    """Duplicate links count once; a link from a place to itself does not count."""
    neighbours: list[set[int]] = [set() for _ in range(places)]
    for one, other in links:
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return Topology(places, [sorted(seen) for seen in neighbours])
