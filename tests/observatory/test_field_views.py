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
from cascade.observatory.experiments import field_view as field_module
from cascade.observatory.experiments import glow as glow_module
from cascade.observatory.experiments.field_view import FieldView, brightness
from cascade.observatory.experiments.glow import LEVELS, LIGHT, NIGHT, Glow, colour, sparkline
from cascade.observatory.pictures.fireflies import brightness_at, draw_field, render_field, told
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
    assert seen[0][1].count(0) == len(levels)  # no firefly has flashed yet


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
    assert not re.search(r"<(link|img|iframe)|\bsrc=|href=\"(?!#)|url\(|@import", page)
    assert page.count('<g id="plot">') == 1  # the id that the script uses


def test_the_picture_has_a_field_for_each_time(recording):
    picture = draw_field(recording, [1.0, 3.0], ["one & two", "later"])
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(picture)
    texts = [text.text for text in root.iter(f"{svg}text")]

    assert {"one & two", "later", "time, s", "order parameter R"} <= set(texts)
    images = [image.get("{http://www.w3.org/1999/xlink}href") for image in root.iter(f"{svg}image")]
    assert len(images) == 2
    assert all(image.startswith("data:image/png;base64,") for image in images)


def test_a_flash_is_bright_in_the_picture_and_fades(recording):
    shown = [level for row in brightness_at(recording, 1.0) for level in row]

    assert max(shown) == pytest.approx(1, abs=0.5)
    assert {place for place, level in enumerate(shown) if level > 0.4} == {
        place for time, place in recording.flashes if 1.0 - 0.12 * 0.91 < time <= 1.0
    }


def test_the_lines_of_a_field(recording):
    assert told(recorded(settings=Settings(side=1, duration=1))) == "R > 0.95 since 0.0 s"
    recording = recorded(settings=Settings(side=6, duration=0.5))
    assert told(recording) == "R > 0.95 not reached"


# -- delays ---------------------------------------------------------------------------------------


def test_a_delay_counts_for_as_long_as_it_lasts():
    # 900 ms of short ones and one of 100 ms: a random moment meets the long one with 1 in 10.
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
