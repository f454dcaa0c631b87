"""The figures of a benchmark as a page of documentation: Markdown, and pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cascade.observatory.benchmarks.tables import figure, rate

#: A report as ``write_report`` writes it.
Document = Mapping[str, Any]


def machine_line(document: Document) -> str:
    """When, where and at which commit the figures were taken."""
    machine = document["machine"]
    commit = (document["commit"] or "none")[:12]
    return (
        f"Measured on {document['date'][:10]} at commit `{commit}`: {machine['implementation']} "
        f"{machine['python']}, {machine['cpu_count']} CPUs, {machine['platform']}."
    )


def targets_as_markdown(document: Document) -> Iterator[str]:
    """The targets, what was measured, and whether they are met."""
    yield "| figure | measured | target | |"
    yield "|---|--:|--:|---|"
    for target in document["targets"]:
        sign, bound = (
            ("≥", target["at_least"])
            if target["at_most"] is None
            else (
                "≤",
                target["at_most"],
            )
        )
        unit = f" {target['unit']}".rstrip()
        wanted = f"{sign} {bound:,g}".replace(",", " ")
        verdict = "met" if target["met"] else "**missed**"
        yield (
            f"| {target['figure']} | {figure(target['measured'])}{unit} | {wanted}{unit} "
            f"| {verdict} |"
        )


def samples_as_markdown(
    document: Document, sections: Mapping[str, str], heading: str, unit: str
) -> Iterator[str]:
    """What was measured side by side.

    Args:
        document: The report.
        sections: Title of a measurement → what the first column says of it.
        heading: Of that column.
        unit: What an operation is.
    """
    measured = [document["measurements"][title] for title in sections]
    baseline = next(m["baseline"] for m in measured)
    yield f"| {heading} | contender | µs/{unit} | {unit}s/s | times {baseline} |"
    yield "|--:|---|--:|--:|--:|"
    for section, one in zip(sections.values(), measured, strict=True):
        for row, contender in enumerate(one["contenders"]):
            cost, ratio = contender["median"], contender["ratio"]
            cells = (
                section if row == 0 else "",
                contender["name"],
                figure(cost * 1e6),
                rate(1 / cost),
                "" if ratio is None else figure(ratio["median"]),
            )
            yield f"| {' | '.join(cells)} |"


def sections_of(document: Document, prefix: str, suffix: str = "") -> dict[str, str]:
    """The measurements whose titles begin so → the rest of their titles."""
    return {
        title: title.removeprefix(prefix).removesuffix(suffix)
        for title in document["measurements"]
        if title.startswith(prefix)
    }


def joined(parts: Sequence[str | Iterator[str]]) -> str:
    """Paragraphs and tables as one text."""
    texts = [part if isinstance(part, str) else "\n".join(part) for part in parts]
    return "\n\n".join(texts) + "\n"
