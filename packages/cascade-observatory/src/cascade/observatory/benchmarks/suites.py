"""The suites: what the benchmarks measure, by name, and which program measures it.

A program runs in sections, and its report notes for each section what belongs to it. A suite is one
or several of them, so that a report of the whole program has the figures of several suites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.observatory.benchmarks.pages import Document
from cascade.spec.nearby import did_you_mean


@dataclass(frozen=True, slots=True)
class Suite:
    """What one run of a program measures.

    Attributes:
        name: What ``hatch run bench`` calls it.
        title: Its heading on pages.
        what: One sentence.
        program: That of ``observatory/benchmarks``, without the ``.py``.
        sections: Those of the program that are run.
        document: What the files of its figures are called, in ``docs/performance``.
        options: Of the program, besides its sections.
        quick: The same, with ``--quick``.
        has_sizes: Whether the program takes ``--max``.
    """

    name: str
    title: str
    what: str
    program: str
    sections: Sequence[str]
    document: str
    options: Sequence[str] = ()
    quick: Sequence[str] = ("--quick",)
    has_sizes: bool = True

    def command(self, quick: bool, largest: int | None, rounds: int | None) -> list[str]:
        """What the program is called with, the files that it writes left out."""
        command = [*(self.quick if quick else self.options)]
        if len(_of_program(self.program)) > 1:
            command += [word for section in self.sections for word in ("--only", section)]
        if largest is not None and self.has_sizes:
            command += ["--max", str(largest)]
        if rounds is not None:
            command += ["--rounds", str(rounds)]
        return command


SUITES: Sequence[Suite] = (
    Suite(
        "graph",
        "A node of a graph",
        "What a node costs on the graph path, from authoring a graph to its result.",
        "graph_overhead",
        ("shapes", "memory", "sleep", "recursion", "policies", "progress"),
        "graph_overhead",
    ),
    Suite(
        "tco",
        "A step of a loop",
        "What a step of a loop costs, on all paths and tiers.",
        "tco_performance",
        ("recursion", "loops", "agents", "three nodes", "making", "watching", "peers"),
        "tco_performance",
    ),
    Suite(
        "governance",
        "A limit",
        "What limits and an idle control plane cost, and how soon who waits is woken.",
        "governance",
        ("idle", "control plane", "capacities", "wake-ups"),
        "governance",
    ),
    Suite(
        "memory",
        "Memory of a loop",
        "How much memory one long loop takes at its peak, by tier.",
        "tco_performance",
        ("memory",),
        "memory",
    ),
    Suite(
        "delay",
        "Turns of the event loop",
        "How long other work waits for its turn while fused loops spin.",
        "tco_performance",
        ("delay",),
        "delay",
    ),
    Suite(
        "imports",
        "Importing",
        "What `import cascade` and the first use of the engine cost over a bare Python.",
        "import_cost",
        ("imports",),
        "import_cost",
        has_sizes=False,
    ),
)


def suites_named(names: Sequence[str]) -> list[Suite]:
    """These suites, each once and in their own order; all of them if none is named.

    Raises:
        ValueError: There is no suite of that name.
    """
    known = [suite.name for suite in SUITES]
    for name in names:
        if name not in known:
            raise ValueError(
                f"there is no suite '{name}'{did_you_mean(name, known)}; "
                f"the suites are {', '.join(known)}"
            )
    return [suite for suite in SUITES if not names or suite.name in names]


def part_of(document: Document, suite: Suite) -> Document | None:
    """What a report has of a suite, as a report; None if it lacks one of the suite's sections."""
    sections = document.get("sections", {})
    if document.get("benchmark") != suite.program or not set(suite.sections) <= set(sections):
        return None
    others = {name: keys for name, keys in sections.items() if name not in suite.sections}
    left_out = {key for keys in others.values() for key in keys}
    part: dict[str, Any] = {key: value for key, value in document.items() if key not in left_out}
    part["sections"] = {name: sections[name] for name in suite.sections}
    part["measurements"] = {
        title: measured
        for title, measured in document["measurements"].items()
        if measured["section"] in suite.sections
    }
    part["targets"] = [one for one in document["targets"] if one["section"] in suite.sections]
    return part


def _of_program(program: str) -> list[str]:
    return [section for suite in SUITES if suite.program == program for section in suite.sections]
