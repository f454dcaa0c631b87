"""Findings: what a benchmark has measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.observatory.benchmarks.report import samples_as_json, targets_as_json
from cascade.observatory.benchmarks.rounds import Samples
from cascade.observatory.benchmarks.targets import Target


@dataclass
class Findings:
    """Samples by title, with the name of their baseline, and targets."""

    samples: dict[str, tuple[Samples, str]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def add(self, title: str, samples: Samples, baseline: str) -> None:
        """Note what was measured."""
        self.samples[title] = (samples, baseline)

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

    def as_json(self) -> Mapping[str, Any]:
        """The part of a report that these are."""
        return {
            "measurements": {
                title: samples_as_json(samples, baseline)
                for title, (samples, baseline) in self.samples.items()
            },
            "targets": targets_as_json(self.targets),
        }
