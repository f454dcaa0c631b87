"""The report of several suites as one HTML page, with targets, drawings and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.observatory.benchmarks.pages import Document
from cascade.observatory.benchmarks.panels import DRAWN, panels_of
from cascade.observatory.benchmarks.program import facts_of
from cascade.observatory.benchmarks.report import targets_from_json
from cascade.observatory.benchmarks.suites import Suite
from cascade.observatory.benchmarks.tables import bound_of, figure, measured_of, rate
from cascade.observatory.benchmarks.targets import Target
from cascade.observatory.pictures.bars import Bar, draw_bars
from cascade.observatory.pictures.marking import escape
from cascade.observatory.pictures.page import asset, colours, framed

_LEAD = (
    "All that is compared was measured in turns, so that a busy machine slows all alike: read the "
    "ratios first. Points and bars are medians over rounds, the lines on them quartiles."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a suite: its report, or why there is none."""

    suite: Suite
    document: Document | None
    failure: str = ""

    @property
    def targets(self) -> list[Target]:
        """Those of the report."""
        return targets_from_json(self.document["targets"]) if self.document else []


def render_report(where: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The page as HTML text; write it as UTF-8.

    Args:
        where: As ``surroundings`` has it.
        outcomes: Of the suites that have run, in this order.
    """
    targets = [target for outcome in outcomes for target in outcome.targets]
    met = f"{sum(target.met for target in targets)} of {len(targets)}"
    links = "".join(
        f'<a href="#{one.suite.name}">{escape(one.suite.title)}</a>' for one in outcomes
    )
    body = [f"<nav>{links}</nav>", *_targets(outcomes), *map(_suite, outcomes)]
    sheets = ("page.css", "curves.css", "bars.css", "report.css")
    style = colours() + "".join(map(asset, sheets))
    facts = {**facts_of(where), "targets met": met}
    return framed("Benchmarks of Cascade", _LEAD, facts, "\n".join(body), style)


def _targets(outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows = []
    for outcome in outcomes:
        if outcome.targets:
            title = escape(outcome.suite.title)
            rows.append(f'<tr class="suite-name"><td colspan="4">{title}</td></tr>')
        for target in outcome.targets:
            verdict = "met" if target.met else "missed"
            said = "met" if target.met else f"missed, {target.missed_by:.2f} ×"
            cells = (target.what, measured_of(target), bound_of(target))
            row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            rows.append(f'<tr>{row}<td class="{verdict}">{said}</td></tr>')
    if rows:
        headings = ("figure", "measured", "target", "")
        yield f'<div class="card targets"><h3>Targets</h3>{_table(headings, rows)}</div>'


def _suite(outcome: Outcome) -> str:
    suite, document = outcome.suite, outcome.document
    parts = [
        f'<section class="suite" id="{suite.name}">',
        f"<h2>{escape(suite.title)}</h2>",
        f"<p>{_with_code(suite.what)}</p>",
    ]
    if document is None:
        parts.append(f'<p class="failed">{escape(outcome.failure)}</p>')
    else:
        drawings = [*panels_of(document), *_bars(document)]
        parts += ['<div class="panels">', *map(_panel, drawings), "</div>"]
        tables = "\n".join([*_sampled(document), *_others(document)])
        parts.append(
            "<details open><summary>the figures in tables</summary>"
            f'<div class="tables">\n{tables}\n</div></details>'
        )
    return "\n".join([*parts, "</section>"])


def _panel(panel: tuple[str, str]) -> str:
    heading, picture = panel
    return f"<figure>\n<h2>{escape(heading)}</h2>\n{picture}\n</figure>"


def _with_code(sentence: str) -> str:
    """HTML of a sentence in which names stand between backticks."""
    parts = escape(sentence).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


# -- bars -----------------------------------------------------------------------------------------


def _bars(document: Document) -> Iterator[tuple[str, str]]:
    """Of what no curve shows."""
    for heading, sections in _groups(document).items():
        if heading in _drawn(document):
            continue
        for size, measured in sections.items():
            title = f"{heading}, {size}" if size else heading
            bars = [
                Bar(
                    one["name"],
                    one["ratio"]["median"],
                    f"{figure(one['ratio']['median'])} ×",
                    tuple(one["ratio"]["quartiles"]),
                    bold=one["name"] != measured["baseline"],
                )
                for one in measured["contenders"]
                if one["ratio"] is not None
            ]
            if bars:
                label = f"cost of a {measured['unit']}, times {measured['baseline']}"
                yield title, draw_bars(bars, title=title, label=label)
    for key, (heading, label, factor) in _FIGURES.items():
        if key in document:
            values = {name: factor * _middle(value) for name, value in document[key].items()}
            bars = [Bar(name, value, figure(value), bold=True) for name, value in values.items()]
            of = f"{label}, 99th percentile" if _are_delays(document[key]) else label
            yield heading, draw_bars(bars, title=heading, label=of)
    if "programs" in document:
        yield "over a bare Python", _programs(document["programs"])


#: Key of a report → heading, what its bars show, and the factor from a value to that.
_FIGURES: Mapping[str, tuple[str, str, float]] = {
    "memory_bytes_per_node": ("memory of a node at the peak", "bytes", 1.0),
    "memory_bytes": ("peak of one long loop over what was there before", "KiB", 1 / 1024),
    "delay_ms": ("from one turn to the next", "ms", 1.0),
    "wake_up_ms": ("from a call's end to the next beginning", "ms", 1.0),
}


def _are_delays(found: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Mapping) for value in found.values())


def _middle(value: Any) -> float:
    """What a bar shows of delays, or a plain figure."""
    return float(value["p99"] if isinstance(value, Mapping) else value)


def _programs(rows: Sequence[Mapping[str, Any]]) -> str:
    bars = [
        Bar(
            row["program"],
            max(row["over_bare_ms"], 0.0),
            f"{figure(row['over_bare_ms'])} ms",
            tuple(row["quartiles_ms"]),
            bold=True,
        )
        for row in rows
        if row["target_ms"] is not None
    ]
    return draw_bars(bars, title="import time", label="ms over a bare Python")


# -- tables ---------------------------------------------------------------------------------------


def _groups(document: Document) -> dict[str, dict[str, Any]]:
    """Heading → size → measurement; what is drawn as one curve is one group."""
    groups: dict[str, dict[str, Any]] = {}
    for title, measured in document["measurements"].items():
        heading, size = title, ""
        for name, (prefix, suffix, _) in _drawn(document).items():
            if title.startswith(prefix):
                heading, size = name, title.removeprefix(prefix).removesuffix(suffix)
        groups.setdefault(heading, {})[size] = measured
    return groups


def _drawn(document: Document) -> Mapping[str, tuple[str, str, str]]:
    drawn = DRAWN.get(document["benchmark"])
    return drawn.panels if drawn else {}


def _sampled(document: Document) -> Iterator[str]:
    for heading, sections in _groups(document).items():
        first = next(iter(sections.values()))
        unit, baseline = first["unit"], first["baseline"]
        headings = ["contender", f"µs/{unit}", "quartiles", f"{unit}s/s", f"times {baseline}"]
        sized = any(sections)
        rows = []
        for size, measured in sections.items():
            for number, one in enumerate(measured["contenders"]):
                cells = [*([size if number == 0 else ""] if sized else []), *_cells(one)]
                again = ' class="again"' if sized and number else ""
                row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                rows.append(f"<tr{again}>{row}</tr>")
        yield _card(heading, _table(["size", *headings] if sized else headings, rows), sized)


def _cells(contender: Mapping[str, Any]) -> list[str]:
    low, high = (figure(value * 1e6) for value in contender["quartiles"])
    ratio = contender["ratio"]
    return [
        contender["name"],
        figure(contender["median"] * 1e6),
        f"{low} – {high}",
        rate(1 / contender["median"]),
        "" if ratio is None else figure(ratio["median"]),
    ]


def _others(document: Document) -> Iterator[str]:
    for key, (heading, label, factor) in _FIGURES.items():
        if key in document:
            found = document[key]
            delays = _are_delays(found)
            columns = ("p50", "p99", "max") if delays else (label,)
            rows = [
                [name, *(figure(factor * (value[c] if delays else value)) for c in columns)]
                for name, value in found.items()
            ]
            headings = ["", *(f"{c}, {label}" if delays else c for c in columns)]
            yield _card(heading, _table(headings, _rows(rows)))
    if "programs" in document:
        rows = [
            [
                row["program"],
                f"{row['median_ms']:.1f}",
                f"{row['over_bare_ms']:.1f}",
                " – ".join(f"{value:.1f}" for value in row["quartiles_ms"]),
            ]
            for row in document["programs"]
        ]
        headings = ["program", "ms", "over a bare Python", "quartiles"]
        yield _card("from spawn to exit", _table(headings, _rows(rows)))


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]


def _table(headings: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "\n".join(rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _card(heading: str, table: str, sized: bool = False) -> str:
    style = "card sized" if sized else "card"
    return f'<div class="{style}"><h3>{escape(heading)}</h3>\n{table}</div>'
