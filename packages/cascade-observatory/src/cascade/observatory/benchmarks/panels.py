"""Panels: what a node costs over the size of the graph, one drawing for each shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascade.observatory.pictures.curves import Curve, draw_curves, spans


def panels_of(curves: Mapping[str, Sequence[Curve]]) -> dict[str, str]:
    """Shape → drawing, all on one scale.

    Args:
        curves: Shape → µs per node over the number of nodes.
    """
    every = [point for drawn in curves.values() for curve in drawn for point in curve.points]
    return {
        shape: draw_curves(
            drawn,
            title=f"{shape}: cost of a node over the size of the graph",
            x_label="nodes in the graph",
            y_label="µs per node",
            y_range=spans(every),
        )
        for shape, drawn in curves.items()
    }
