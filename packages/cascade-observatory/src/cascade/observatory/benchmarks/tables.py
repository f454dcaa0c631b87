"""Samples and targets as tables for a terminal of 80 columns, or for a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from cascade.observatory.benchmarks.rounds import Samples, Summary
from cascade.observatory.benchmarks.targets import Target


def samples_table(
    title: str,
    sections: Mapping[str, Samples],
    baseline: str,
    *,
    heading: str = "size",
    unit: str = "node",
) -> Table:
    """One section per key, one row per contender.

    Args:
        title: Above the table.
        sections: What the first column says → what was measured there.
        baseline: What the ratios are to. A section without it gets none.
        heading: Of the first column.
        unit: What an operation is.
    """
    table = _table(title)
    table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("contender", no_wrap=True)
    table.add_column(f"µs/{unit}", justify="right", no_wrap=True)
    table.add_column("quartiles", justify="right", no_wrap=True)
    table.add_column(f"{unit}s/s", justify="right", no_wrap=True)
    table.add_column("× cost", justify="right", no_wrap=True)
    table.add_column("quartiles", justify="right", no_wrap=True)
    for section, samples in sections.items():
        for number, name in enumerate(samples.seconds):
            cost = samples.cost(name)
            ratio = ratio_spread = ""
            if baseline in samples.seconds:
                times = samples.ratio(name, baseline)
                ratio, ratio_spread = figure(times.median), _spread(times)
            table.add_row(
                section if number == 0 else "",
                name,
                figure(cost.median * 1e6),
                _spread(Summary(*(value * 1e6 for value in cost))),
                rate(1 / cost.median),
                ratio,
                ratio_spread,
            )
        table.add_section()
    table.caption = f"× cost: how many times that of {baseline}; medians within rounds"
    table.caption_justify = "left"
    return table


def figures_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Figures that were not sampled in rounds; the first column says of what they are."""
    table = _table(title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def targets_table(targets: Sequence[Target]) -> Table:
    """What was to be reached, what was, and the factor between them where it is missed."""
    table = _targets("targets")
    for target in targets:
        verdict = "met" if target.met else f"missed, {target.missed_by:.2f} ×"
        table.add_row(*_cells(target), verdict, style=None if target.met else "bold")
    return table


def all_targets_table(sections: Mapping[str, Sequence[Target]]) -> Table:
    """The same of several suites, one below the other; their names are the keys."""
    every = [target for targets in sections.values() for target in targets]
    table = _targets(f"all targets: {sum(one.met for one in every)} of {len(every)} met")
    for name, targets in sections.items():
        if targets:
            table.add_row(name, style="dim")
            for target in targets:
                verdict = "met" if target.met else "missed"
                table.add_row(*_cells(target), verdict, style=None if target.met else "bold")
            table.add_section()
    return table


def bound_of(target: Target) -> str:
    """What is to be reached, with its sign and unit.

    >>> bound_of(Target("memory", 950.0, at_most=1024, unit="B"))
    '≤ 1 024 B'
    """
    sign, bound = ("≤", target.at_most) if target.at_least is None else ("≥", target.at_least)
    return _with_unit(f"{sign} {_bound(bound or 0.0)}", target.unit)


def measured_of(target: Target) -> str:
    """What was measured, with its unit."""
    return _with_unit(figure(target.measured), target.unit)


def _targets(title: str) -> Table:
    table = _table(title)
    table.add_column("figure", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("")
    return table


def _cells(target: Target) -> tuple[str, str, str]:
    return target.what, measured_of(target), bound_of(target)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,  # the box has a space between columns, and 80 are not many
        show_edge=False,
    )


def figure(value: float) -> str:
    """Three digits that say something, and spaces between thousands.

    >>> figure(0.01234), figure(2.345), figure(271828.18), figure(0)
    ('0.0123', '2.35', '272 000', '0')
    """
    if not value:
        return "0"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(rounded) < 0.1 else f"{value:.{2 if abs(rounded) < 10 else 1}f}"


def rate(value: float) -> str:
    """Three digits, and thousands or millions as a letter.

    >>> rate(271828.18), rate(31e6), rate(99.5)
    ('272 k', '31.0 M', '99.5')
    """
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{figure(value / factor)} {letter}"
    return figure(value)


def _bound(value: float) -> str:
    return f"{value:,g}".replace(",", " ")


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}".rstrip()


def _spread(summary: Summary) -> str:
    # Of what is small three decimals say enough, and the table has to fit.
    low, high = (figure(value) if value >= 0.1 else f"{value:.3f}" for value in summary[1:])
    return f"{low}–{high}"
