"""``visualize``: drawings of a graph, as Mermaid, Graphviz DOT and SVG."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, Self, TypeAlias

from cascade.graph.build import build_graph
from cascade.graph.model import Graph
from cascade.graph.pictures.dot import dot
from cascade.graph.pictures.graphviz import has_graphviz, svg_of
from cascade.graph.pictures.mermaid import mermaid
from cascade.graph.pictures.picture import Picture, picture_of
from cascade.graph.states import NodeState
from cascade.spec.checks import check_count
from cascade.spec.errors import DrawingError
from cascade.spec.lazy_types import as_lazy
from cascade.spec.shown import Shown, ipython_shell, kernel
from cascade.spec.wording import short

Format: TypeAlias = Literal["mermaid", "dot", "svg"]

#: Most alike calls that are drawn one by one.
ALIKE: Final = 10
_NOTHING_KNOWN: Mapping[int, NodeState] = {}
#: Most arrows and characters that notebooks let Mermaid draw.
_MOST_ARROWS: Final = 500
_MOST_CHARACTERS: Final = 50_000
#: Most seconds that Graphviz may take to draw for a notebook.
_PATIENCE: Final = 5.0


class Drawing(Shown, str):
    """A drawing as text, in Mermaid's or Graphviz' language or as SVG.

    Notebooks show it as a picture: as SVG where Graphviz is installed, else by Mermaid.

    Attributes:
        language: ``"mermaid"``, ``"dot"`` or ``"svg"``.
    """

    language: str
    #: The same in Graphviz' language, for notebooks; None if it is too large for them.
    _dot: str | None

    def __new__(cls, text: str, language: str, dot: str | None = None) -> Self:
        self = super().__new__(cls, text)
        self.language = language
        self._dot = dot
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Drawing, (str(self), self.language, self._dot)

    def __repr__(self) -> str:
        return f"<{self.language} drawing of {self.count(chr(10)) + 1} lines; print() shows it>"

    def __str__(self) -> str:
        return str.__str__(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The drawing for notebooks; one that is too large for them is only described."""
        if self.language == "svg":
            return {"text/plain": repr(self), "image/svg+xml": str(self)}
        if self._dot is None:
            return {"text/plain": f"{repr(self)[:-1]}, too many for a notebook to draw>"}
        text = str(self)
        bundle = {"text/plain": text}
        try:
            if has_graphviz() and not _is_terminal():
                bundle["image/svg+xml"] = svg_of(self._dot, _PATIENCE)
        except DrawingError:
            pass  # Mermaid is there, too
        if self.language == "dot":
            return {**bundle, "text/vnd.graphviz": text}
        bundle["text/vnd.mermaid"] = text
        if "image/svg+xml" not in bundle:  # JupyterLab would prefer the Markdown
            bundle["text/markdown"] = f"```mermaid\n{text}\n```"
        return bundle

    def _repr_html_(self) -> None:
        """None, because notebooks would prefer HTML to the picture."""


def _is_terminal() -> bool:
    """Whether this is IPython in a terminal, which asks for pictures and shows the text alone."""
    return ipython_shell() is not None and kernel() is None


def visualize(
    target: Any,
    format: Format = "mermaid",
    *,
    states: Mapping[int, NodeState] | None = None,
    limit: int | None = ALIKE,
) -> Drawing:
    """Draw ``target`` and its inputs, with arrows from inputs to users.

    Args:
        target: A lazy value, a container of them, or a Graph.
        format: ``"mermaid"`` (rendered by most forges and notebooks), ``"dot"`` (Graphviz), or
            ``"svg"``, which Graphviz' program ``dot`` draws.
        states: The progress of nodes in a run, by ``LazyResult.number``; ``History.states`` is such
            a mapping. Nodes that are not in it are drawn plain.
        limit: Most alike calls that are drawn one by one: calls of one task, written in one place,
            with alike inputs and users. More of them are one box with their count, as the items of
            a map are. None draws all calls.

    Returns:
        The drawing, which is its text; notebooks show it as a picture. Arrows have the names of the
        arguments that they feed; conditions, order, routes, fallbacks and constraints have arrows
        of their own. So do tail calls, as far as the code of a task names the task that it
        continues as: a loop is an arrow back. So do the calls of tasks whose code calls itself or
        each other. Other calls are not drawn, and neither are tasks that are only chosen during
        the run. Tasks, containers, maps,
        operators, routers, fallbacks and sources have their own boxes. A state is shown by a colour
        and in words, with the duration.

    Raises:
        DrawingError: The format is ``"svg"``, and ``dot`` is missing or has failed.

    Cost: linear in nodes and arrows, 1 to 3 s for 100,000; that of ``"svg"`` grows faster with the
    number of boxes.

    >>> from cascade.spec.task import task
    >>> @task
    ... def load(): ...
    >>> @task
    ... def clean(rows): ...
    >>> print(visualize(clean(load())))
    flowchart TD
        n0["load"]
        n1["clean"]
        n0 -->|"rows"| n1
    >>> lazy = load()
    >>> print(visualize(lazy, states={lazy.number: NodeState("failed", 0.25, "OSError: no disk")}))
    flowchart TD
        n0["load<br/>failed, 250 ms<br/>OSError: no disk"]
        classDef failed fill:#cf222e,stroke:#cf222e,color:#ffffff
        class n0 failed
    """
    frame = sys._getframe(1)
    if format not in ("mermaid", "dot", "svg"):
        raise ValueError(f"format must be 'mermaid', 'dot' or 'svg', but is {short(format)}")
    if limit is not None:
        check_count("limit of visualize()", limit)
    if not isinstance(target, Graph):
        target = build_graph(as_lazy(target, frame.f_code, frame.f_lasti), routes=True)
    picture = picture_of(target, _NOTHING_KNOWN if states is None else states, limit)
    return drawing_of(picture, format)


def drawing_of(picture: Picture, format: Format = "mermaid") -> Drawing:
    """A picture in one of the languages."""
    text = mermaid(picture) if format == "mermaid" else dot(picture)
    if format == "svg":
        return Drawing(svg_of(text), format)
    small = len(picture.arrows) <= _MOST_ARROWS and len(text) <= _MOST_CHARACTERS
    if not small:
        return Drawing(text, format)
    return Drawing(text, format, text if format == "dot" else dot(picture))
