"""The pictures and listings that notebooks show for lazy values, graphs and blueprints.

Bounded: of a graph with very many nodes only those nearest to its target are visited and drawn.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from cascade.graph.build import build_graph, inputs_and_routes
from cascade.graph.disassemble import disassemble
from cascade.graph.model import Graph
from cascade.graph.pictures.picture import Picture, picture_of
from cascade.graph.visualize import ALIKE, drawing_of
from cascade.spec.blueprint import Blueprint
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.shown import preformatted

#: Most nodes of a graph that is searched for alike calls, and most boxes of a picture.
_MOST_NODES: Final = 2000
_MOST_BOXES: Final = 100
#: Nodes that are drawn of a graph that is larger.
_NEAREST: Final = 30
#: Most instructions of a listing.
_MOST_LINES: Final = 200


def view_of(value: LazyResult[Any] | Graph | Blueprint) -> dict[str, str]:
    """MIME type → the view of ``value`` in a notebook; plain text is always among them."""
    if isinstance(value, Blueprint):
        listing = disassemble(value, limit=_MOST_LINES)
        return {"text/plain": listing, "text/html": preformatted(listing)}
    try:
        picture = _picture(value)
    except CycleError as error:
        return {"text/plain": f"{value!r}\n{error}"}
    return {**drawing_of(picture)._repr_mimebundle_(), "text/plain": repr(value)}


def _picture(value: LazyResult[Any] | Graph) -> Picture:
    """The picture of a graph, or of the part of it that is nearest to its target."""
    target = value.target if isinstance(value, Graph) else value
    near = _nearest(target, _MOST_NODES + 1)
    if len(near) <= _MOST_NODES:
        whole = value if isinstance(value, Graph) else build_graph(target, routes=True)
        picture = picture_of(whole, {}, ALIKE)
        if len(picture.boxes) <= _MOST_BOXES:
            return picture
    drawn = set(near[:_NEAREST])
    part = build_graph(target, routes=True, known=lambda lazy: lazy not in drawn)
    return picture_of(part, {}, ALIKE)


def _nearest(target: LazyResult[Any], count: int) -> list[LazyResult[Any]]:
    """``count`` nodes at most: ``target``, its inputs, the inputs of these, and so on."""
    found = {target: None}
    todo = deque([target])
    while todo and len(found) < count:
        for lazy in inputs_and_routes(todo.popleft()):
            if lazy not in found:
                found[lazy] = None
                todo.append(lazy)
            if len(found) == count:
                break
    return list(found)
