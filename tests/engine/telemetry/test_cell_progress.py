"""The outputs of notebooks about runs: bars, tables, escaped and bounded."""

from __future__ import annotations

import asyncio

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.telemetry.cell_progress import bundle_of
from cascade.runtime.telemetry.html_tables import html_lines, html_table
from cascade.runtime.telemetry.tally import RunFigures


def figures(number: int, **values: object) -> RunFigures:
    run = RunFigures(str(number), f"<b>run{number}", "graph")
    for name, value in values.items():
        setattr(run, name, value)
    return run


def test_a_run_under_way_has_its_counts_and_remarks_so_far() -> None:
    bundle = bundle_of([figures(1, planned=10, done=4, retries=2, failed=1)], {"1": 1.5})

    assert bundle["text/plain"] == "<b>run1, graph path: 4/10 in 1.5 s, 1 failed, 2 retried"
    assert bundle["text/html"] == (
        '<table><tr><td>&lt;b&gt;run1, graph path</td><td><progress value="4" max="10"></progress>'
        "</td><td>4/10 in 1.5 s, 1 failed, 2 retried</td></tr></table>"
    )


def test_an_ended_run_has_its_status_and_duration() -> None:
    succeeded = bundle_of([figures(1, status="succeeded", seconds=0.25)], {})
    assert succeeded["text/plain"].endswith(": 0/0 in 250 ms")
    assert '<progress value="1" max="1">' in succeeded["text/html"]

    failed = bundle_of([figures(1, status="failed", planned=2, done=1, seconds=2)], {})
    assert failed["text/plain"].endswith(": failed, 1/2 in 2.0 s")
    assert '<progress value="1" max="2">' in failed["text/html"]


def test_more_than_twenty_runs_are_counted() -> None:
    bundle = bundle_of([figures(number) for number in range(1023)], {})

    assert bundle["text/plain"].splitlines()[:2] == [
        "1,003 more",
        "<b>run1003, graph path: 0/0",
    ]
    assert bundle["text/html"].count("<tr>") == 21


def test_tables_escape_every_text() -> None:
    assert html_table(("<i>",), []) == html_lines([]) == ""
    table = html_table(("<i>", "n"), [("a&b\x1b", "<1>")])
    assert "&lt;i&gt;" in table
    assert "a&amp;b\\x1b" in table
    assert "&lt;1&gt;" in table
    assert html_lines(["<a>", "b"]) == "<p>&lt;a&gt;<br>b</p>"


def test_a_history_of_many_nodes_shows_fifty() -> None:
    @cs.task
    def double(n: int) -> int:
        return 2 * n

    async def main() -> cs.History:
        async with cs.Engine() as engine:
            with cs.History(engine.bus) as history:
                await engine.run(double.map(n=range(100)))
            return history

    history = asyncio.run(main())
    assert repr(history) == "<History: 100 nodes: 100 finished>"
    assert len(str(history).splitlines()) == 52
    assert str(history).endswith("\n50 more")
    bundle = history._repr_mimebundle_()
    assert bundle["text/plain"] == str(history)
    assert bundle["text/html"].count("<tr>") == 51


def test_a_history_without_nodes_is_displayed() -> None:
    assert str(cs.History(MessageBus())) == "0 nodes"


def test_an_engine_shows_its_active_runs() -> None:
    @cs.task(name="<b>")
    async def wait() -> None:
        going.set()
        await asyncio.Event().wait()

    async def main() -> tuple[str, str]:
        async with cs.Engine() as engine:
            engine.start(wait())
            await going.wait()
            return repr(engine), engine._repr_html_()

    going = asyncio.Event()
    text, html = asyncio.run(main())
    assert text == "<Engine with 1 active run>"
    assert '<td style="text-align:left">&lt;b&gt;</td>' in html
