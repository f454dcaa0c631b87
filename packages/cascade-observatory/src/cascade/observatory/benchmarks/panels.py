"""Panels: what a node or a step costs over the size of something, in one drawing for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascade.observatory.benchmarks.pages import Document, sections_of
from cascade.observatory.pictures.curves import Curve, Measured, draw_curves, spans


def panels_of(
    curves: Mapping[str, Sequence[Curve]],
    *,
    of: str = "node",
    x_labels: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Heading → drawing, all on one scale.

    Args:
        curves: Heading → µs of an operation over the number of them.
        of: What an operation is.
        x_labels: Heading → what is counted on its horizontal axis; nodes of graphs if left out.
    """
    labels = x_labels or {}
    every = [point for drawn in curves.values() for curve in drawn for point in curve.points]
    return {
        heading: draw_curves(
            drawn,
            title=f"{heading}: cost of a {of} over {_size(labels.get(heading))}",
            x_label=labels.get(heading, "nodes in the graph"),
            y_label=f"µs per {of}",
            y_range=spans(every),
        )
        for heading, drawn in curves.items()
    }


def _size(label: str | None) -> str:
    return "the size of the graph" if label is None else f"the number of {label}"


def curves_in(
    document: Document, panels: Mapping[str, tuple[str, str]], bold: str
) -> dict[str, list[Curve]]:
    """Heading → curves of a report's measurements; a contender has one colour in all of them.

    Args:
        document: The report.
        panels: Heading → how the titles of its measurements begin and end, around their number.
        bold: The contender that the drawings are about.
    """
    points: dict[str, dict[str, list[Measured]]] = {heading: {} for heading in panels}
    for heading, (prefix, suffix) in panels.items():
        for title, size in sections_of(document, prefix, suffix).items():
            for contender in document["measurements"][title]["contenders"]:
                low, high = (value * 1e6 for value in contender["quartiles"])
                point = Measured(float(size.replace(" ", "")), contender["median"] * 1e6, low, high)
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
