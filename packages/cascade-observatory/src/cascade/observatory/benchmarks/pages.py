"""Documents as pages: ``docs/performance.md``, and a report in HTML with charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from cascade.observatory.benchmarks.findings import Document, target_cells
from cascade.observatory.benchmarks.imports import programs_table
from cascade.observatory.benchmarks.program import REFERENCE, Section
from cascade.observatory.benchmarks.suites import SUITES, Suite
from cascade.observatory.benchmarks.tables import Table, figure, samples_table
from cascade.observatory.pictures.assets import asset
from cascade.observatory.pictures.charts import Bar, Chart, Curve, draw
from cascade.observatory.pictures.marking import escape
from cascade.observatory.pictures.page import framed, panels_of

#: A measurement of one size out of several: its name, the size, and the unit of the size.
_SIZED = re.compile(r"(.+), ([\d ]+) (nodes|steps|tasks|at once)")
#: Contenders that are measured only for a ratio, and are not part of a curve.
_REFERENCES = ("cascade, 1 000", "wide plain calls", REFERENCE)
#: Contenders that are not Cascade: other libraries, with their versions, and code without any.
_OTHERS = re.compile(
    r"by hand|thread\b|to_thread|TaskGroup|in a row|plain (calls|loop)|loky|joblib| \d+\.\d"
)
_COLOURS = 12
_LEAD = (
    "The contenders of a table were measured in turns, so that a busy machine slows all of them "
    "alike: read the ratios first. Points and bars are medians over rounds, the lines on them "
    "quartiles."
)


# -- contents of a document -----------------------------------------------------------------------


def groups_in(document: Document, section: str | None = None) -> dict[str, dict[str, Any]]:
    """Group → size → measurement; the size is empty if there is only one."""
    groups: dict[str, dict[str, Any]] = {}
    for title, measured in document["measurements"].items():
        if section in (None, measured["section"]):
            sized = _SIZED.fullmatch(title)
            name, size = (sized[1], sized[2]) if sized else (title, "")
            groups.setdefault(name, {})[size] = measured
    return groups


def counted_in(document: Document, group: str) -> str:
    """The unit of the sizes of a group."""
    found = (_SIZED.fullmatch(title) for title in document["measurements"])
    counted = next((one[3] for one in found if one and one[1] == group), "")
    return "agents" if counted == "at once" else counted


def sections_in(document: Document) -> list[Section]:
    """The sections of the program that the document has."""
    programs = {suite.program.name: suite.program for suite in SUITES}
    program = programs[document["benchmark"]]
    return [section for section in program.sections if section.name in document["sections"]]


def tables_in(document: Document, section: Section, *, longest: bool = False) -> Iterator[Table]:
    """The measurements and figures of a section.

    document: A report of the program.
    section: A section of the program.
    longest: Show only the largest size with all contenders, and the largest of all.
    """
    for name, sized in groups_in(document, section.name).items():
        if longest:
            counts = {size: len(_drawn(one)) for size, one in sized.items()}
            full = [size for size, count in counts.items() if count == max(counts.values())]
            sized = {size: sized[size] for size in dict.fromkeys((full[-1], list(sized)[-1]))}
        yield samples_table(name, sized, counted_in(document, name))
    for key, (names, unit, factor) in section.show.items():
        if isinstance(document[key], list):
            yield programs_table(document[key])
        else:
            yield figures_table(section.title, document[key], names, unit, factor)


def figures_table(
    title: str, figures: Mapping[str, Any], names: str, unit: str, factor: float
) -> Table:
    """Name → figure, or name → percentile → figure, as a table."""
    first = next(iter(figures.values()))
    columns = list(first) if isinstance(first, Mapping) else []
    rows = [
        (name, *(figure(factor * value[c]) for c in columns))
        if columns
        else (name, figure(factor * value))
        for name, value in figures.items()
    ]
    return Table(title, (names, *([f"{c}, {unit}" for c in columns] or [unit])), rows)


def targets_in(document: Document, title: str = "targets") -> Table:
    """The targets, their measured values, and whether they are met."""
    rows = [target_cells(target) for target in document["targets"]]
    return Table(title, ("figure", "measured", "target", ""), rows)


def facts_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Date, commit and machine: name → value."""
    machine = document["machine"]
    return {
        "measured": document["date"],
        "commit": (document["commit"] or "none")[:12],
        "Python": f"{machine['implementation']} {machine['python']}",
        "platform": machine["platform"],
        "CPUs": str(machine["cpu_count"] or "?"),
    }


# -- charts ---------------------------------------------------------------------------------------


def charts_in(document: Document) -> list[Chart]:
    """A chart for each group of measurements and for other figures: curves over sizes, or bars."""
    return [*curves_in(document), *_bars(document)]


def pictured_in(document: Document, only: Sequence[str]) -> list[Chart]:
    """The charts of the picture of a suite: curves, and bars of what has one size."""
    return [
        *curves_in(document, only),
        *(chart for chart in _bars(document) if chart.title in only),
    ]


def curves_in(document: Document, only: Sequence[str] = ()) -> list[Chart]:
    """Curves over sizes; a contender has the same colour in all of them.

    Args:
        document: A report of a program.
        only: Groups to include; all if empty.
    """
    groups = {
        name: sized
        for name, sized in groups_in(document).items()
        if len(sized) > 1 and (not only or name in only)
    }
    every = [one for sized in groups.values() for m in sized.values() for one in _drawn(m)]
    names = list(dict.fromkeys(one["name"] for one in every))
    values = [1e6 * value for one in every for value in (one["median"], *one["quartiles"])]
    charts = []
    for group, sized in groups.items():
        points: dict[str, dict[float, Any]] = {}
        for size, measured in sized.items():
            for one in _drawn(measured):
                points.setdefault(one["name"], {})[float(size.replace(" ", ""))] = one
        curves = [
            Curve(
                name,
                list(found),
                [1e6 * one["median"] for one in found.values()],
                [(1e6 * one["quartiles"][0], 1e6 * one["quartiles"][1]) for one in found.values()],
                colour=1 + names.index(name) % _COLOURS,
                bold=number == 0,
            )
            for number, (name, found) in enumerate(points.items())
        ]
        unit = next(iter(sized.values()))["unit"]
        label, y_range = counted_in(document, group), _decades(values)
        charts.append(Chart(group, label, f"µs per {unit}", curves, log=True, y_range=y_range))
    return charts


def is_ours(name: str) -> bool:
    """Whether a contender is Cascade, by its name in a report."""
    return _OTHERS.search(name) is None


def _drawn(measured: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in measured["contenders"] if one["name"] not in _REFERENCES]


def _decades(values: Iterable[float]) -> tuple[float, float]:
    logs = [log10(value) for value in values]
    return 10.0 ** floor(min(logs)), 10.0 ** ceil(max(logs))


def _bars(document: Document) -> Iterator[Chart]:
    for group, sized in groups_in(document).items():
        (measured, *others) = sized.values()
        bars = [
            Bar(
                one["name"],
                one["ratio"]["median"],
                f"{figure(one['ratio']['median'])} ×",
                tuple(one["ratio"]["quartiles"]),
                bold=is_ours(one["name"]),
            )
            for one in _drawn(measured)
            if one["ratio"] is not None
        ]
        if bars and not others:
            label = f"cost of a {measured['unit']}, times {measured['baseline']}"
            yield Chart(group, label, bars=bars)
    for section in sections_in(document):
        for key, (_, unit, factor) in section.show.items():
            values = _values(document[key])
            bars = [
                Bar(n, factor * v, figure(factor * v), bold=is_ours(n)) for n, v in values.items()
            ]
            yield Chart(section.title, unit, bars=bars)


def _values(found: Any) -> dict[str, float]:
    """Name → figure: 99th percentiles of delays, and the time of programs over a bare Python."""
    if isinstance(found, list):
        return {row["program"]: max(row["over_bare_ms"], 0.0) for row in found[1:]}
    return {
        f"{name}, p99" if isinstance(value, Mapping) else name: (
            value["p99"] if isinstance(value, Mapping) else value
        )
        for name, value in found.items()
    }


# -- docs/performance.md --------------------------------------------------------------------------


def as_markdown(documents: Mapping[str, Document]) -> str:
    """The text of docs/performance.md, from the documents of all suites by their names."""
    parts = [
        "# Performance",
        "Costs of a node of a graph, of a step of a loop, and of a limit, beside those of asyncio, "
        "threads and plain Python. The contenders of a table were measured in turns, so that a "
        "busy machine slows all of them alike: read the ratios first. `hatch run bench` measures "
        "again, `hatch run bench-page` writes this page.",
    ]
    for suite in SUITES:
        parts += _suite_as_markdown(suite, documents[suite.name])
    return "\n\n".join(parts) + "\n"


def _suite_as_markdown(suite: Suite, document: Document) -> Iterator[str]:
    facts = facts_of(document)
    yield f"## {suite.title}"
    yield suite.what
    yield (
        f"Measured on {facts['measured'][:10]} at commit `{facts['commit']}`: {facts['Python']}, "
        f"{facts['CPUs']} CPUs, {facts['platform']}."
    )
    if suite.drawn:
        yield f"![{suite.what}](performance/{suite.document}.svg)"
    yield f"### Targets: {suite.title.lower()}"
    yield targets_in(document).markdown()
    for section in sections_in(document):
        tables = [*tables_in(document, section, longest=True)]
        if tables:
            yield f"### {section.title}"
            yield section.text
        for table in tables:
            if len(tables) > 1:
                yield f"#### {table.title[0].upper()}{table.title[1:]}"
            yield table.markdown()


# -- the report -----------------------------------------------------------------------------------


def write_page(
    path: Path,
    title: str,
    documents: Sequence[Document],
    where: Mapping[str, Any] | None = None,
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write a page of documents, with targets, charts and tables, as one HTML file.

    Args:
        path: The file; its folder is made if needed.
        title: Heading, and the title of the window.
        documents: Reports of programs, or of suites.
        where: The machine of the measurements; that of the first document by default.
        failures: Title → reason, of failed measurements.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message names the extra.
    """
    targets = [target for document in documents for target in document["targets"]]
    met = f"{sum(target['met'] for target in targets)} of {len(targets)}"
    facts = {**facts_of(where or documents[0]), "targets met": met}
    body = [_document_as_html(document) for document in documents]
    for heading, reason in (failures or {}).items():
        failed = f'<p class="failed">{escape(reason)}</p>'
        body.append(f'<section class="suite"><h2>{escape(heading)}</h2>{failed}</section>')
    text = framed(title, _LEAD, facts, "\n".join(body), style=asset("report.css"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _document_as_html(document: Document) -> str:
    sections = sections_in(document)
    names = {section.name for section in sections}
    suite = next((one for one in SUITES if names == set(one.sections)), None)
    title = suite.title if suite else document["benchmark"]
    parts = [f'<section class="suite"><h2>{escape(title)}</h2>']
    if document["targets"]:
        parts.append(targets_in(document, "Targets").html())
    parts.append(panels_of((chart.title, draw(chart)) for chart in charts_in(document)))
    for section in sections:
        cards = "\n".join(table.html() for table in tables_in(document, section))
        heading = f"<h3>{escape(section.title)}</h3><p>{_with_code(section.text)}</p>"
        parts.append(f'{heading}<div class="tables">\n{cards}\n</div>')
    return "\n".join([*parts, "</section>"])


def _with_code(text: str) -> str:
    """HTML of Markdown with code and emphasis."""
    code = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", code)
