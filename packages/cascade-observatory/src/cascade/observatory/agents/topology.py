"""Who sees whom: neighbourhoods of places, and how many flashes each place sees."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cascade.spec.wording import short

#: How far one sees along a ring, to each side: so that it has as many neighbours as on a torus.
_RING_REACH = 2
#: Names that ``topology_named`` knows.
NAMES = ("torus", "ring", "all-to-all", "small-world")
#: Share of the links of a small world that lead anywhere.
SHORTCUTS = 0.1


class Topology:
    """Places 0 to n - 1, and who sees whom; seeing is mutual.

    Args:
        places: How many.
        neighbours: For each place those that it sees; None if everybody sees everybody else.

    Raises:
        ValueError: There is no place, or ``neighbours`` is for another number of places.
    """

    # Not a container to the search for lazy values (R2), however large it is.
    __slots__ = ("degree", "neighbours", "places")

    def __init__(self, places: int, neighbours: Sequence[Sequence[int]] | None = None) -> None:
        if places < 1:
            raise ValueError(f"a topology has at least one place, but is to have {places}")
        if neighbours is not None and len(neighbours) != places:
            raise ValueError(f"{places} places, but neighbours of {len(neighbours)}")
        self.places = places
        self.neighbours = neighbours
        #: How many neighbours a place has, on average.
        self.degree = places - 1.0 if neighbours is None else sum(map(len, neighbours)) / places

    def __len__(self) -> int:
        return self.places

    def hearing(
        self, flashing: Sequence[int], is_listening: bytearray
    ) -> list[tuple[int, int | None]]:
        """The listeners that see at least one of ``flashing``, each with how many it sees.

        None of ``flashing`` is to be listening.

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
    """Everybody sees everybody else."""
    return Topology(places)


def ring(places: int) -> Topology:
    """One sees the two next ones to each side.

    >>> ring(6).neighbours[0]
    [1, 2, 4, 5]
    """
    steps = [step for step in range(-_RING_REACH, _RING_REACH + 1) if step]
    return _linked(
        places, [(place, (place + step) % places) for place in range(places) for step in steps]
    )


def torus(side: int) -> Topology:
    """A square grid of ``side`` rows whose edges are joined; one sees the four next ones.

    >>> torus(3).neighbours[0]
    [1, 2, 3, 6]
    """
    return _linked(side * side, _grid(side))


def small_world(side: int, seed: int, shortcuts: float = SHORTCUTS) -> Topology:
    """A torus, of whose links some lead anywhere instead.

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
    """The topology of ``side`` x ``side`` places that is called ``name``.

    Raises:
        ValueError: There is none of this name.
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
    """Links that come twice count once; one from a place to itself does not count."""
    neighbours: list[set[int]] = [set() for _ in range(places)]
    for one, other in links:
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return Topology(places, [sorted(seen) for seen in neighbours])
