"""Panels: what a node or a step costs over the size of something, in one drawing for each kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cascade.observatory.benchmarks.pages import Document, sections_of
from cascade.observatory.pictures.curves import Curve, Measured, draw_curves, spans


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which measurements of a report are points of curves.

    Attributes:
        panels: Heading → how the titles of its measurements begin and end, around their number,
            and what that number counts.
        bold: The contender that the drawings are about.
        of: What an operation is.
        without: Contenders that are there for a ratio only.
    """

    panels: Mapping[str, tuple[str, str, str]]
    bold: str
    of: str
    without: Collection[str] = ()


#: Program → its curves, where it measures over sizes.
DRAWN: Mapping[str, Drawn] = {
    "graph_overhead": Drawn(
        {
            "wide": ("wide, ", " nodes", "nodes in the graph"),
            "chain": ("chain, ", " nodes", "nodes in the graph"),
            "tree": ("tree, ", " nodes", "nodes in the graph"),
        },
        "cascade",
        "node",
        ("cascade, 1 000", "wide plain calls"),
    ),
    "tco_performance": Drawn(
        {
            "countdown": ("countdown, ", " steps", "steps"),
            "logistic map": ("logistic map, ", " steps", "steps"),
            "Collatz length": ("Collatz length, ", " steps", "steps"),
            "even and odd": ("even and odd, ", " steps", "steps"),
            "recursion on the graph path": ("recursion, ", " steps", "steps"),
            "agents": ("agents, ", " at once", "agents at once"),
        },
        "fused",
        "step",
    ),
}


def panels_of(document: Document, only: Collection[str] = ()) -> list[tuple[str, str]]:
    """Headings and drawings of a report's curves, all on one scale; none where it has none.

    Args:
        document: The report.
        only: Headings, if not all.
    """
    drawn = DRAWN.get(document["benchmark"])
    if drawn is None:
        return []
    panels = {name: panel for name, panel in drawn.panels.items() if not only or name in only}
    ends = {name: (prefix, suffix) for name, (prefix, suffix, _) in panels.items()}
    curves = curves_in(document, ends, drawn.bold, drawn.without)
    every = [point for found in curves.values() for curve in found for point in curve.points]
    return [
        (
            heading,
            draw_curves(
                found,
                title=f"{heading}: cost of a {drawn.of} over the number of {panels[heading][2]}",
                x_label=panels[heading][2],
                y_label=f"µs per {drawn.of}",
                y_range=spans(every),
            ),
        )
        for heading, found in curves.items()
    ]


def curves_in(
    document: Document,
    panels: Mapping[str, tuple[str, str]],
    bold: str,
    without: Collection[str] = (),
) -> dict[str, list[Curve]]:
    """Heading → curves of a report's measurements; a contender has one colour in all of them.

    Args:
        document: The report.
        panels: Heading → how the titles of its measurements begin and end, around their number.
        bold: The contender that the drawings are about.
        without: Contenders that are left out.
    """
    points: dict[str, dict[str, list[Measured]]] = {heading: {} for heading in panels}
    for heading, (prefix, suffix) in panels.items():
        for title, size in sections_of(document, prefix, suffix).items():
            for contender in document["measurements"][title]["contenders"]:
                if contender["name"] not in without:
                    low, high = (value * 1e6 for value in contender["quartiles"])
                    cost = contender["median"] * 1e6
                    point = Measured(float(size.replace(" ", "")), cost, low, high)
                    points[heading].setdefault(contender["name"], []).append(point)
    names = list(dict.fromkeys(name for found in points.values() for name in found))
    return {
        heading: [
            Curve(name, found, names.index(name) + 1, bold=name == bold)
            for name, found in by_name.items()
        ]
        for heading, by_name in points.items()
        if by_name
    }
