"""Pictures of a field of fireflies: a page on which they flash again, and a file that stands still.

The page has the flashes of a recording in it and its own script, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp

from cascade.observatory.agents.swarm import SYNCHRONOUS, Recording
from cascade.observatory.pictures.curves import Curve, Measured, draw_curves
from cascade.observatory.pictures.marking import escape
from cascade.observatory.pictures.page import as_json, asset, render_panels

#: Parts of a period in which flash times are written down.
_PARTS = 500
#: Brightnesses in the picture that stands still.
_LEVELS = 6
_CELL = 5  # width of a firefly there
#: Share of a period after which a flash has faded to a third; as the script has it.
_FADE = 0.12


def order_curve(recordings: Mapping[str, Recording]) -> str:
    """R over time, as one ``<svg>`` element; a curve for each recording.

    Raises:
        ValueError: R was never measured.
    """
    curves = [
        Curve(
            name,
            [Measured(t, r, r, r) for t, r in zip(seen.times, seen.order, strict=True)],
            colour=number,
            bold=len(recordings) == 1,
            dots=False,
        )
        for number, (name, seen) in enumerate(recordings.items(), 1)
    ]
    return draw_curves(
        curves,
        title="R over time: " + ", ".join(recordings),
        x_label="time, s",
        y_label="order parameter R",
        y_range=(0.0, 1.0),
        linear=True,
    )


def render_field(recording: Recording, title: str, lead: str, figures: Mapping[str, str]) -> str:
    """The page: the fireflies as they flashed, with R over time beside them."""
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
    return render_panels(
        title,
        lead,
        figures,
        [("The fireflies", field), ("Their order", order_curve({settings.topology: recording}))],
        style=asset("fireflies.css"),
        script=asset("fireflies.js"),
    )


def _written(recording: Recording) -> list[int]:
    """The flashes, in little space: (parts of the period since the one before, place), in turn."""
    written, before = [], 0
    for time, place in recording.flashes:
        part = round(time / recording.settings.period * _PARTS)
        written += [part - before, place]
        before = part
    return written


def draw_field(recording: Recording, times: Sequence[float], captions: Sequence[str]) -> str:
    """The field at some times and R over time, as one picture file.

    Args:
        recording: With the flashes before these times.
        times: Seconds.
        captions: One for each.
    """
    side = recording.settings.side
    size = side * _CELL
    gap, top = 24, 40
    curve = order_curve({recording.settings.topology: recording})
    width, below = len(times) * (size + gap) + gap, top + size + 16
    scale = (width - 2 * gap) / 480
    height = below + 410 * scale * 0.8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="system-ui, sans-serif">',
        f"<style>{asset('colours.css')}\n{asset('curves.css')}\n"
        ".c{fill:var(--ink);font-size:14px;font-weight:600}</style>",
        '<rect width="100%" height="100%" fill="var(--card)"/>',
    ]
    for number, (time, caption) in enumerate(zip(times, captions, strict=True)):
        left = gap + number * (size + gap)
        parts.append(f'<text class="c" x="{left}" y="27">{escape(caption)}</text>')
        parts.append(f'<g transform="translate({left} {top})">')
        parts += _still(recording, time)
        parts.append("</g>")
    place = f'<svg x="{gap}" y="{below:.0f}" width="{width - 2 * gap:.0f}" '
    place += f'height="{height - below:.0f}" preserveAspectRatio="xMidYMid meet" '
    parts.append(curve.replace("<svg ", place, 1))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _still(recording: Recording, time: float) -> Iterable[str]:
    """The field at a time: a path of dots for each brightness."""
    side, period = recording.settings.side, recording.settings.period
    last: dict[int, float] = {}
    for flashed, place in recording.flashes:
        if flashed > time:
            break
        last[place] = flashed
    cells: dict[int, list[str]] = {}
    for place, flashed in sorted(last.items()):
        level = round((_LEVELS - 1) * exp((flashed - time) / (_FADE * period)))
        row, column = divmod(place, side)
        dot = f"M{column * _CELL + 2.5:g} {row * _CELL + 2.5:g}h0"
        if level:
            cells.setdefault(level, []).append(dot)
    yield f'<rect width="{side * _CELL}" height="{side * _CELL}" rx="6" fill="#101820"/>'
    for level, dots in sorted(cells.items()):
        strength = level / (_LEVELS - 1)
        yield (
            f'<path d="{"".join(dots)}" stroke="#ffe76a" stroke-opacity="{strength:.1f}" '
            'stroke-width="4" stroke-linecap="round"/>'
        )


def told(recording: Recording) -> str:
    """Since when they are in step, in words."""
    since = recording.synchronous_since
    return f"R > {SYNCHRONOUS} " + ("not reached" if since is None else f"since {since:.1f} s")
