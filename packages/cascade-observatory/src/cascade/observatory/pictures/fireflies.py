"""Pictures of a field of fireflies: a page on which they flash again, and a still picture.

The page has the flashes of a recording in it and its own script, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from cascade.observatory.agents.swarm import SYNCHRONOUS, Recording
from cascade.observatory.pictures.assets import asset
from cascade.observatory.pictures.charts import Chart, Curve, as_element, as_file, drawing
from cascade.observatory.pictures.page import as_json, framed, panels_of

#: Parts of a period in which the page counts the times of flashes.
_PARTS = 500
#: Share of a period after which a flash has faded to a third; the script uses the same value.
_FADE = 0.12
#: Dark, glowing, bright.
_COLOURS = ("#101820", "#7a801e", "#fff6aa")


def render_field(recording: Recording, title: str, lead: str, figures: Mapping[str, str]) -> str:
    """The page: the fireflies as they flashed, with R over time beside them.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
    """
    settings = recording.settings
    data = {
        "side": settings.side,
        "period": settings.period,
        "end": recording.times[-1],
        "fade": _FADE,
        "parts": _PARTS,
        "flashes": _written(recording),
        "order": [round(r, 4) for r in recording.order],
        "every": settings.period / settings.looks,
    }
    field = (
        f'<canvas id="field" width="{settings.side}" height="{settings.side}" role="img" '
        'aria-label="the fireflies"></canvas>\n<div class="controls">'
        '<button id="play" type="button">pause</button>'
        f'<input id="time" type="range" min="0" max="{data["end"]}" step="any" value="0" '
        'aria-label="time"><output id="now"></output></div>\n'
        f'<script id="data" type="application/json">{as_json(data)}</script>'
    )
    with drawing((4.8, 4.0)) as figure:
        _order(recording, figure.subplots())
        panels = panels_of([("The fireflies", field), ("Their order", as_element(figure))])
    style, script = asset("fireflies.css"), asset("fireflies.js")
    return framed(title, lead, figures, panels, style=style, script=script)


def draw_field(recording: Recording, times: Sequence[float], captions: Sequence[str]) -> str:
    """The field at some times, each under its caption, and R over time, as one SVG file.

    Args:
        recording: With the flashes before these times.
        times: Seconds.
        captions: One for each.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
    """
    with drawing((2.6 * len(times), 5.4)) as figure:
        from matplotlib.colors import LinearSegmentedColormap

        glow = LinearSegmentedColormap.from_list("glow", _COLOURS)
        grid = figure.add_gridspec(2, len(times), height_ratios=(1, 0.9))
        for column, (time, caption) in enumerate(zip(times, captions, strict=True)):
            axes = figure.add_subplot(grid[0, column])
            axes.imshow(brightness_at(recording, time), cmap=glow, vmin=0, vmax=1)
            axes.set_title(caption)
            axes.set_axis_off()
        _order(recording, figure.add_subplot(grid[1, :]))
        return as_file(figure)


def brightness_at(recording: Recording, time: float) -> list[list[float]]:
    """How bright each firefly is at a time, 0 to 1, row by row."""
    side, fade = recording.settings.side, _FADE * recording.settings.period
    found = [[0.0] * side for _ in range(side)]
    for flashed, place in recording.flashes:
        if flashed > time:
            break
        row, column = divmod(place, side)
        found[row][column] = exp((flashed - time) / fade)
    return found


def told(recording: Recording) -> str:
    """The time since which they are synchronous, in words."""
    since = recording.synchronous_since
    return f"R > {SYNCHRONOUS} " + ("not reached" if since is None else f"since {since:.1f} s")


def _order(recording: Recording, axes: Any) -> None:
    """R over time."""
    topology = recording.settings.topology
    curve = Curve(topology, recording.times, recording.order, bold=True, dots=False)
    chart = Chart("R over time", "time, s", "order parameter R", [curve], y_range=(0.0, 1.0))
    chart.on(axes)
    axes.margins(x=0)
    axes.patch.set_gid("plot")


def _written(recording: Recording) -> list[int]:
    """The flashes in compact form: parts of the period since the one before, and place, in turn."""
    written, before = [], 0
    for time, place in recording.flashes:
        part = round(time / recording.settings.period * _PARTS)
        written += [part - before, place]
        before = part
    return written
