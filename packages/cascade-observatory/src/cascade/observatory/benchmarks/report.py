"""A benchmark's figures as a JSON document that says where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade.observatory.benchmarks.rounds import Samples, Summary
from cascade.observatory.benchmarks.surroundings import Surroundings
from cascade.observatory.benchmarks.targets import Target


def samples_as_json(samples: Samples, baseline: str) -> dict[str, Any]:
    """Every sample, and what they come to; times in seconds per operation."""
    return {
        "baseline": baseline if baseline in samples.seconds else None,
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
                "ratio": (
                    _as_json(samples.ratio(name, baseline)) if baseline in samples.seconds else None
                ),
                "collections": list(samples.collections[name]),
            }
            for name, seconds in samples.seconds.items()
        ],
    }


def targets_as_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """The targets with what was measured and whether they are met."""
    return [
        {
            "figure": target.what,
            "measured": target.measured,
            "unit": target.unit,
            "at_least": target.at_least,
            "at_most": target.at_most,
            "met": target.met,
        }
        for target in targets
    ]


def targets_from_json(targets: Sequence[Mapping[str, Any]]) -> list[Target]:
    """The targets of a report."""
    return [
        Target(one["figure"], one["measured"], one["at_least"], one["at_most"], one["unit"])
        for one in targets
    ]


def write_report(path: Path, where: Surroundings, figures: Mapping[str, Any]) -> None:
    """Write the document, making the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**where, **figures}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _as_json(summary: Summary) -> dict[str, Any]:
    return {
        "median": summary.median,
        "quartiles": [summary.first_quartile, summary.third_quartile],
    }
