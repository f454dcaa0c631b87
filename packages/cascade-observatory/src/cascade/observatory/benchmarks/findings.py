"""Findings: the measurements of a benchmark and its targets, as a JSON document.

A document has ``benchmark`` and ``options``, the ``date``, ``commit`` and ``machine`` of
``environment``, ``sections`` (section → keys of its figures), ``measurements`` (title → seconds of
contenders), ``targets``, and the figures themselves. Times are in seconds per operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from cascade.observatory.benchmarks.rounds import Samples, Summary
from cascade.observatory.benchmarks.tables import figure

#: The figures of a section besides samples and targets: key of the report → figures.
Figures = Mapping[str, Any]
#: A report, as ``Findings.write`` writes it and ``read`` reads it.
Document = Mapping[str, Any]


class Target(TypedDict):
    """A figure to reach; one of the two bounds is None."""

    figure: str
    measured: float
    unit: str
    at_least: float | None
    at_most: float | None
    met: bool
    section: str


def missed_by(target: Target) -> float:
    """The factor between the bound and the measured figure; 1 or less is met.

    >>> missed_by({"measured": 1.5, "at_least": 2, "at_most": None})
    1.333...
    """
    measured, least, most = target["measured"], target["at_least"], target["at_most"]
    if least is not None:
        return least / measured if measured else float("inf")
    assert most is not None
    return measured / most


def target_cells(target: Target) -> tuple[str, str, str, str]:
    """Figure, measured value, bound, and whether it is met, as texts."""
    least, most, unit = target["at_least"], target["at_most"], f" {target['unit']}".rstrip()
    sign, bound = ("≤", most) if least is None else ("≥", least)
    wanted = f"{sign} {bound:,g}{unit}".replace(",", " ")
    verdict = "met" if target["met"] else f"missed, {missed_by(target):.2f} ×"
    return target["figure"], f"{figure(target['measured'])}{unit}", wanted, verdict


@dataclass
class Findings:
    """The measurements so far.

    Attributes:
        measurements: Title → samples, with their baseline, unit and section.
        targets: In the order in which they were noted.
        figures: Key → other figures.
        sections: Section → the keys of its figures.
    """

    measurements: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[str]] = field(default_factory=dict)
    _section: str = ""

    def run(self, section: str, work: Callable[[], Figures | None]) -> None:
        """Run a section of a program; figures that it adds and returns belong to that section."""
        self._section = section
        figures = work() or {}
        self.sections[section] = list(figures)
        self.figures.update(figures)

    def add(self, title: str, samples: Samples, baseline: str, unit: str) -> None:
        """Add a measurement.

        Args:
            title: Its title.
            samples: Its samples.
            baseline: The contender that ratios refer to, if it took part.
            unit: Name of one operation, such as ``"node"``.
        """
        self.measurements[title] = {
            "section": self._section,
            "unit": unit,
            **samples_as_json(samples, baseline),
        }

    def target(
        self,
        what: str,
        measured: float,
        most: float | None = None,
        least: float | None = None,
        unit: str = "",
    ) -> None:
        """Add a target and its measured value; small bounds without a unit are factors.

        Raises:
            ValueError: There are two bounds, or none.
        """
        if (least is None) == (most is None):
            raise ValueError(f"target '{what}' needs either least or most")
        if not unit and (most or least or 0) < 100:
            unit = "×"
        target: Target = {
            "figure": what,
            "measured": measured,
            "unit": unit,
            "at_least": least,
            "at_most": most,
            "met": False,
            "section": self._section,
        }
        target["met"] = missed_by(target) <= 1
        self.targets.append(target)

    def as_json(self) -> dict[str, Any]:
        """The findings as part of a document."""
        return {
            "sections": self.sections,
            "measurements": self.measurements,
            "targets": self.targets,
            **self.figures,
        }


def samples_as_json(samples: Samples, baseline: str) -> dict[str, Any]:
    """Every sample, and their medians and quartiles."""
    has_baseline = baseline in samples.seconds
    return {
        "baseline": baseline if has_baseline else None,
        "garbage_collector": {
            "enabled": samples.collector_enabled,
            "thresholds": list(samples.collector_thresholds),
        },
        "contenders": [
            {
                "name": name,
                "operations": samples.operations[name],
                "seconds_per_operation": list(seconds),
                **_as_json(samples.cost(name)),
                "ratio": _as_json(samples.ratio(name, baseline)) if has_baseline else None,
                "collections": list(samples.collections[name]),
            }
            for name, seconds in samples.seconds.items()
        ],
    }


def _as_json(summary: Summary) -> dict[str, Any]:
    return {"median": summary.median, "quartiles": [summary.first_quartile, summary.third_quartile]}


def write(path: Path, document: Document) -> None:
    """Write a document, making the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Document:
    """The document in a file; empty if it is another kind of JSON.

    Raises:
        ValueError: The file is missing, or is not JSON; the text is for the user.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; `hatch run bench` writes figures") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return document if isinstance(document, dict) else {}
