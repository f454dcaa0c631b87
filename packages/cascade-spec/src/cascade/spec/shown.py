"""How terminals, rich and notebooks show objects of Cascade."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

#: The module of cascade-graph that knows how notebooks show the objects of this layer.
_VIEWS: Final = "cascade.graph.notebooks"


class Shown:
    """A base for results made for reading: an explanation, a plan, the faults of a blueprint.

    ``print(answer)`` shows the text; so do IPython and notebooks, without ``print``, and rich. Only
    ``repr`` is short.
    """

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str | None:
        return preformatted(str(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        html = self._repr_html_()
        return {"text/plain": str(self), **({} if html is None else {"text/html": html})}

    def __rich__(self) -> _Plain:
        return _Plain(str(self))


class _Plain:
    """Text for rich, without markup."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield console.render_str(self._text, emoji=False, markup=False, highlight=False)


def ipython_shell() -> Any:
    """The shell of IPython, in a terminal or in the kernel of a notebook; None without one.

    IPython is never imported.
    """
    ipython = sys.modules.get("IPython")
    return getattr(ipython, "get_ipython", lambda: None)()


def kernel() -> Any:
    """The shell of this notebook's kernel; None in any other process.

    The shell of IPython in a terminal is none: it has no kernel.
    """
    shell = ipython_shell()
    return shell if getattr(shell, "kernel", None) is not None else None


def preformatted(text: str) -> str:
    """``text`` as HTML that shows it as it is."""
    from html import escape  # only notebooks need it

    return f"<pre>{escape(text)}</pre>"


def notebook_view(value: Any) -> dict[str, str]:
    """MIME type → the view of ``value`` in a notebook: a picture or a listing.

    cascade-graph makes it. That is above this layer, so it is imported by its name; where it is not
    installed, the view is the ``repr``.
    """
    from importlib import import_module

    try:
        views: Any = import_module(_VIEWS)
    except ModuleNotFoundError as error:
        if error.name is None or not _VIEWS.startswith(error.name):
            raise
        return {"text/plain": repr(value)}
    view: dict[str, str] = views.view_of(value)
    return view
