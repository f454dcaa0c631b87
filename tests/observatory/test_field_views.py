"""How fields of fireflies are shown: in a terminal, on a page, and as a picture."""

from __future__ import annotations

import asyncio
import io
import json
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

import cascade as cs
from cascade.observatory.agents.swarm import Settings, simulate
from cascade.observatory.benchmarks.delays import LoopDelays, weighted_quantile
from cascade.observatory.pictures.axes import LinearAxis, LogAxis
from cascade.observatory.pictures.curves import Curve, Measured, draw_curves
from cascade.observatory.pictures.fireflies import draw_field, render_field, told
from cascade.observatory.terminal import field as field_module
from cascade.observatory.terminal import glow as glow_module
from cascade.observatory.terminal.field import FieldView, brightness
from cascade.observatory.terminal.glow import LEVELS, LIGHT, NIGHT, Glow, colour, sparkline
from cascade.runtime.clock import run_virtually

SETTINGS = Settings(side=6, duration=4, seed=2)


def recorded(watch=None, settings=SETTINGS):
    async def main():
        async with cs.Engine() as engine:
            return await simulate(settings, engine, watch=watch)

    return run_virtually(main)


@pytest.fixture(scope="module")
def recording():
    return recorded()


def shown(lights, width=80):
    glow_module._style.cache_clear()  # a style keeps the codes of the first console that showed it
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="truecolor").print(lights)
    return out.getvalue()


def test_two_rows_of_lights_make_a_line():
    text = shown(Glow([LEVELS - 1, 0, 0, LEVELS - 1], 2))
    bright, dark = (";".join(map(str, rgb)) for rgb in (LIGHT, NIGHT))

    assert text.count("▀") == 2
    assert f"38;2;{bright};48;2;{dark}m▀" in text
    assert f"38;2;{dark};48;2;{bright}m▀" in text


def test_an_odd_row_has_nothing_below():
    text = shown(Glow([0] * 9, 3))

    assert re.sub(r"\x1b\[[^m]*m", "", text) == "▀▀▀\n▀▀▀\n"
    assert text.splitlines()[-1].count("48;2") == 0


def test_a_large_grid_shows_the_brightest_of_each_block():
    levels = [0] * 100
    levels[99] = 7
    assert Glow(levels, 10, most=5).rows == [[0] * 5] * 4 + [[0, 0, 0, 0, 7]]


def test_brightness_runs_from_night_to_light():
    levels = [colour(level) for level in range(LEVELS)]

    assert (levels[0], levels[-1]) == (NIGHT, LIGHT)
    assert [sum(level) for level in levels] == sorted(sum(level) for level in levels)


def test_a_sparkline_stays_within_its_bars():
    assert sparkline([-1, 0, 0.49, 1, 2]) == "▁▁▄██"


def test_a_flash_glows_and_fades():
    seen = []
    recorded(lambda recording, medium: seen.append((medium.now, brightness(medium, 1.0))))
    now, levels = seen[-1]

    assert now == 4.0
    assert all(0 <= level < LEVELS for level in levels)
    assert seen[0][1].count(0) == len(levels)  # nobody has flashed yet


@pytest.mark.parametrize("terminal", [True, False])
def test_a_view_shows_how_it_is(terminal, monkeypatch):
    monkeypatch.setattr(field_module, "_PICTURE_EVERY", 0.0)
    monkeypatch.setattr(field_module, "_LINE_EVERY", 0.0)
    out = io.StringIO()
    console = Console(file=out, width=80, height=40, force_terminal=terminal)
    with FieldView(SETTINGS, console, lambda: 0.0123) as view:
        recorded(view.watch)
    text = out.getvalue()

    assert ("▀" in text) == ("\x1b[" in text) == terminal
    assert "R" in text
    assert "flashes/s" in text
    assert "12.3 ms" in text
    if not terminal:
        assert re.match(r"t 0\.0 of 4 s  R 0\.\d{3}  flashes/s \d+  steps/s ", text)
        assert len(text.splitlines()) == 81  # one for each look


def test_a_picture_is_shown_ten_times_a_second_at_most(monkeypatch):
    monkeypatch.setattr(field_module, "_LINE_EVERY", 3600.0)
    out = io.StringIO()
    with FieldView(SETTINGS, Console(file=out), lambda: None) as view:
        recorded(view.watch)

    assert out.getvalue() == ""


def test_the_page_has_all_flashes_and_loads_nothing(recording):
    page = render_field(recording, "36 <fireflies>", "lead", {"seed": "2"})
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page)[1])
    written = data["flashes"]
    places = written[1::2]

    assert "36 &lt;fireflies&gt;" in page
    assert places == [place for _, place in recording.flashes]
    assert sum(written[::2]) / data["parts"] == pytest.approx(recording.flashes[-1][0], abs=0.01)
    assert data["order"] == [round(r, 4) for r in recording.order]
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"<(link|img|iframe)|\b(src|href)=|url\(|@import", page)


def test_the_picture_shows_who_glows(recording):
    picture = ElementTree.fromstring(draw_field(recording, [1.0, 3.0], ["one & two", "later"]))
    svg = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in picture.iter(f"{svg}text")]
    paths = [path.get("d") for path in picture.iter(f"{svg}path")]

    assert texts[:2] == ["one & two", "later"]
    glowing = {place for time, place in recording.flashes if 0.9 < time <= 1.0}
    row, column = divmod(min(glowing), 6)
    assert any(f"M{column * 5 + 2.5:g} {row * 5 + 2.5:g}h0" in path for path in paths)


def test_what_is_told_of_it(recording):
    assert told(recorded(settings=Settings(side=1, duration=1))) == "R > 0.95 since 0.0 s"
    recording = recorded(settings=Settings(side=6, duration=0.5))
    assert told(recording) == "R > 0.95 not reached"


# -- axes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 20, ["0", "5", "10", "15", "20"]),
        (3, 7, ["3.0", "3.5", "4.0", "4.5", "5.0", "5.5", "6.0", "6.5", "7.0"]),
        (0, 0.03, ["0.000", "0.005", "0.010", "0.015", "0.020", "0.025", "0.030"]),
        (-1500, 4000, ["-1\u202f000", "0", "1\u202f000", "2\u202f000", "3\u202f000", "4\u202f000"]),
    ],
)
def test_a_linear_axis_has_lines_at_round_values(low, high, labels):
    axis = LinearAxis(low, high, 100, 300)

    assert [label for _, label in axis.labelled()] == labels
    assert (axis(low), axis(high), axis((low + high) / 2)) == (100, 300, 200)


def test_a_linear_axis_of_one_value_has_a_length_all_the_same():
    assert LinearAxis(5, 5, 0, 10)(5) == 0


def test_a_logarithmic_axis_has_lines_at_decades():
    assert [label for _, label in LogAxis(0.02, 300, 0, 1).labelled()] == [
        "0.01", "0.1", "1", "10", "100", "1\u202f000",
    ]  # fmt: skip


def test_curves_over_linear_axes_may_start_at_zero():
    points = [Measured(0, 0, 0, 0), Measured(1, 0.5, 0.4, 0.6)]
    line = Curve("theory", points, 1, dots=False)
    dots = Curve("measured", points, 2, line=False)
    drawing = draw_curves([line, dots], title="t", x_label="x", y_label="y", linear=True)

    assert drawing.count("<polyline") == 2  # and one in the legend
    assert drawing.count('class="range"') == 2
    with pytest.raises(ValueError, match="logarithmic axis cannot show 0"):
        draw_curves([line], title="t", x_label="x", y_label="y")


# -- delays ---------------------------------------------------------------------------------------


def test_a_delay_counts_for_as_long_as_it_lasts():
    # 900 ms of short ones and one of 100 ms: who comes at any time waits long with 1 in 10.
    pairs = [(0.001, 0.001)] * 900 + [(0.1, 0.1)]

    assert weighted_quantile(pairs, 0.89) == 0.001
    assert weighted_quantile(pairs, 0.91) == 0.1


def test_delays_are_those_of_the_loop():
    class Loop(asyncio.SelectorEventLoop):
        late = 0.0

        def time(self):
            return super().time() + self.late

    async def main():
        loop = asyncio.get_running_loop()
        with LoopDelays(every=0.001) as delays:
            for turn in range(30):
                await asyncio.sleep(0.001)
                loop.late += 0.5 * (turn == 20)  # the clock goes on, and nothing runs
        return delays

    with asyncio.Runner(loop_factory=Loop) as runner:
        delays = runner.run(main())
    assert 0.4 < delays.quantile(1.0) < 5
    assert delays.lately() == delays.quantile(1.0)
    assert delays.quantile(0.5, start=1e9) is None
