"""Findings: what a benchmark has measured so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.observatory.benchmarks.report import samples_as_json, targets_as_json
from cascade.observatory.benchmarks.rounds import Samples
from cascade.observatory.benchmarks.targets import Target

#: What a section of a program finds besides samples and targets: key of the report → figures.
Figures = Mapping[str, Any]


@dataclass
class Findings:
    """Samples by title, with their baseline, unit and section; targets; other figures."""

    samples: dict[str, tuple[Samples, str, str, str]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    #: Section → the keys of its figures.
    sections: dict[str, list[str]] = field(default_factory=dict)
    _section: str = ""
    _section_of_targets: list[str] = field(default_factory=list)

    def run(self, section: str, work: Callable[[], Figures | None]) -> None:
        """Run a section of a program; what it adds and returns is noted as that section's."""
        self._section = section
        figures = work() or {}
        self.sections[section] = list(figures)
        self.figures.update(figures)

    def add(self, title: str, samples: Samples, baseline: str, unit: str) -> None:
        """Note what was measured; ``unit`` is what an operation is."""
        self.samples[title] = (samples, baseline, unit, self._section)

    def target(
        self,
        what: str,
        measured: float,
        most: float | None = None,
        least: float | None = None,
        unit: str = "",
    ) -> None:
        """Note what was to be reached, and what was; small bounds without a unit are factors."""
        if not unit and (most or least or 0) < 100:
            unit = "×"
        self.targets.append(Target(what, measured, least, most, unit))
        self._section_of_targets.append(self._section)

    def as_json(self) -> Mapping[str, Any]:
        """The part of a report that these are."""
        of_targets = zip(targets_as_json(self.targets), self._section_of_targets, strict=True)
        return {
            "sections": self.sections,
            "measurements": {
                title: {
                    "section": section,
                    "unit": unit,
                    **samples_as_json(samples, baseline),
                }
                for title, (samples, baseline, unit, section) in self.samples.items()
            },
            "targets": [{**target, "section": section} for target, section in of_targets],
            **self.figures,
        }
