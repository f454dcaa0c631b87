"""Charts by matplotlib, as SVG: curves with ranges, horizontal bars, and other drawings on axes.

Text stays text, equal charts are equal bytes, and colours follow the reader's light or dark mode:
matplotlib draws with the light colours of ``colours.css``, which are then replaced by their names.
matplotlib is the extra ``cascade-observatory[plots]``; it is imported when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from cascade.observatory.pictures.assets import asset, needs_plots

#: Inches of a chart alone; ``draw_side_by_side`` draws several of them.
WIDTH, HEIGHT = 4.8, 4.0
_BAR_HEIGHT = 0.32
_MARKERS = "os^DvPX*"
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "cascade",
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.minor.left": False,
    "xtick.minor.bottom": False,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A line or points of a chart.

    Attributes:
        name: Its label in the legend.
        xs: Ascending.
        ys: One for each x.
        ranges: (low, high) for each point, drawn behind it; empty for none.
        colour: Number of a group colour of ``colours.css``.
        bold: Whether the chart is about it.
        dots: Whether points are marked.
        line: Whether a line connects them.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    ranges: Sequence[tuple[float, float]] = ()
    colour: int = 1
    bold: bool = False
    dots: bool = True
    line: bool = True


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from zero: its name, length, label and, if known, the range drawn over its end."""

    name: str
    value: float
    label: str
    spread: tuple[float, float] | None = None
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What ``draw`` draws: curves, or bars where there are no curves.

    Attributes:
        title: Above the axes in ``draw_side_by_side``; a page has headings of its own.
        x_label: With the unit.
        y_label: With the unit; bars have none.
        curves: With linear or, if ``log``, logarithmic axes.
        bars: From top to bottom.
        log: Whether both axes are logarithmic.
        y_range: Limits of the vertical axis; those of the data if left out.
    """

    title: str
    x_label: str
    y_label: str = ""
    curves: Sequence[Curve] = ()
    bars: Sequence[Bar] = ()
    log: bool = False
    y_range: tuple[float, float] | None = None

    def on(self, axes: Any) -> None:
        """Draw it on matplotlib's ``axes``.

        Raises:
            ValueError: There is nothing to draw, or a logarithmic axis meets a value ≤ 0.
        """
        if self.curves:
            _check(self.curves, self.log)
            _curves(self, axes)
        elif self.bars:
            _bars(self.bars, axes)
        else:
            raise ValueError(f"the chart '{self.title}' has neither curves nor bars")
        axes.set_xlabel(self.x_label)
        axes.set_ylabel(self.y_label)

    @property
    def height(self) -> float:
        """Inches."""
        return HEIGHT if self.curves else 0.8 + _BAR_HEIGHT * len(self.bars)


def draw(chart: Chart) -> str:
    """The chart as an ``<svg>`` element for an HTML page.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
        ValueError: See ``Chart.on``.
    """
    with drawing((WIDTH, chart.height)) as figure:
        chart.on(figure.subplots())
        return as_element(figure)


def draw_side_by_side(charts: Sequence[Chart]) -> str:
    """Charts from left to right, under their titles, as one SVG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
        ValueError: See ``Chart.on``.
    """
    size = (WIDTH * len(charts), max(chart.height for chart in charts) + 0.2)
    with drawing(size) as figure:
        for axes, chart in zip(
            figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True
        ):
            chart.on(axes)
            axes.set_title(chart.title, pad=12)
        return as_file(figure)


@contextmanager
def drawing(size: tuple[float, float]) -> Iterator[Any]:
    """A matplotlib figure of so many inches, in the style of all charts.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
    """
    with needs_plots():
        import matplotlib
        from matplotlib.figure import Figure
    soft, line = (_colours()[name] for name in ("soft", "line"))
    style: Any = {
        **_STYLE,
        **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), soft),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), line),
        "text.color": _colours()["ink"],
        "figure.facecolor": _colours()["card"],
        "axes.facecolor": "none",
    }
    with matplotlib.rc_context(style):
        yield Figure(size, layout="constrained")


def as_file(figure: Any) -> str:
    """The figure as the text of an SVG file that knows light and dark."""
    style = f"<style>{asset('colours.css')}</style>"
    return re.sub(r"(<svg [^>]*>)", lambda start: start[1] + style, _svg(figure), count=1)


def as_element(figure: Any) -> str:
    """The figure as an element of an HTML page, whose style sheet has the colours."""
    figure.patch.set_visible(False)
    svg = _svg(figure)
    svg = svg[svg.index("<svg ") :]
    return re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", svg, count=5).rstrip()


def _svg(figure: Any) -> str:
    for artist in figure.findobj():
        artist.set_clip_on(False)  # clipping is by reference to an id, and nothing needs it
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    # Numbered ids would meet those of other charts on a page.
    svg = re.sub(r' id="[\w.]+_\d+"', "", out.getvalue())
    names = {colour: f"var(--{name})" for name, colour in list(_colours().items())[::-1]}
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: names.get(found[0], found[0]), svg)


@cache
def _colours() -> Mapping[str, str]:
    """Name → colour as ``#rrggbb``, of the light ones."""
    light = asset("colours.css").partition("@media")[0]
    found = re.findall(r"--([\w-]+): #([0-9a-f]+);", light)
    return {name: "#" + (c if len(c) == 6 else "".join(2 * d for d in c)) for name, c in found}


# -- curves and bars ------------------------------------------------------------------------------


def _check(curves: Sequence[Curve], log: bool) -> None:
    values = [v for one in curves for v in (*one.xs, *one.ys, *(low for low, _ in one.ranges))]
    if not values:
        raise ValueError("there is no point to draw")
    if log and min(values) <= 0:
        raise ValueError(f"a logarithmic axis cannot show {min(values)}")


def _curves(chart: Chart, axes: Any) -> None:
    if chart.log:
        axes.set(xscale="log", yscale="log")
        axes.grid(visible=True, axis="y", which="minor", linewidth=0.3)
    for number, one in enumerate(chart.curves):
        colour = _colours()[f"group-{one.colour}"]
        marker = _MARKERS[number % len(_MARKERS)]
        for x, span in zip(one.xs, one.ranges, strict=False):
            axes.plot([x, x], span, color=colour, linewidth=4, alpha=0.3, zorder=1)
        axes.plot(
            one.xs,
            one.ys,
            label=one.name,
            color=colour,
            gid=f"curve-{number}",
            linewidth=2.6 if one.bold else 1.3,
            linestyle="-" if one.line else "none",
            marker=marker if one.dots else "none",
            markeredgecolor=_colours()["card"],
            markeredgewidth=0.8,
            zorder=4 if one.bold else 3,
        )
    if chart.y_range is not None:
        axes.set_ylim(chart.y_range)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_grouped)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2, frameon=False, borderaxespad=0
    )
    for one, text in zip(chart.curves, legend.get_texts(), strict=True):
        text.set_weight("bold" if one.bold else "normal")


def _bars(bars: Sequence[Bar], axes: Any) -> None:
    for bar in bars:
        if bar.value < 0:
            raise ValueError(f"a bar begins at zero, but '{bar.name}' is {bar.value}")
    axes.barh(
        range(len(bars)),
        [bar.value for bar in bars],
        height=0.55,
        color=[_colours()["group-1" if bar.bold else "group-0"] for bar in bars],
        zorder=2,
    )
    for row, bar in enumerate(bars):
        low, high = bar.spread or (bar.value, bar.value)
        axes.plot([low, high], [row, row], color=_colours()["ink"], linewidth=1.1, zorder=3)
        axes.annotate(
            bar.label,
            (max(high, bar.value), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            weight="bold" if bar.bold else "normal",
        )
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.set(xlim=(0, None), ylim=(len(bars) - 0.5, -0.5))
    axes.margins(x=0.18)
    axes.xaxis.set_major_formatter(_grouped)


def _grouped(value: float, _: object) -> str:
    """Formats the values of an axis."""
    return f"{value:,.10g}".replace(",", "\u202f")
