"""The suites of benchmarks, and the sections of programs that they consist of.

A report of a whole program has the figures of several suites.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.observatory.benchmarks import (
    awaiting,
    caching,
    clusters,
    coroutines,
    durable,
    fleets,
    graphs,
    imports,
    limits,
    maps,
    nodes,
    small_runs,
    steps,
)
from cascade.observatory.benchmarks.findings import Document
from cascade.observatory.benchmarks.program import Program
from cascade.spec.nearby import did_you_mean


@dataclass(frozen=True)
class Suite:
    """A named part of a program.

    Attributes:
        name: Its name for ``hatch run bench``.
        title: Its heading on pages.
        what: One sentence.
        program: The program that measures it.
        sections: Names of the program's sections that are run.
        document: The name of its files in ``docs/performance``.
        drawn: The curves and bars of its picture there; empty for no picture.
    """

    name: str
    title: str
    what: str
    program: Program
    sections: Sequence[str]
    document: str
    drawn: Sequence[str] = ()

    def command(self, options: Namespace) -> list[str]:
        """The arguments of the program for ``quick``, ``max`` and ``rounds``."""
        command = ["--quick"] if options.quick else []
        command += [word for section in self.sections for word in ("--only", section)]
        if options.max is not None and self.program.most:
            command += ["--max", str(options.max)]
        if options.rounds is not None:
            command += ["--rounds", str(options.rounds)]
        return command


_COROUTINES = "What coroutine nodes and timeouts cost, beside asyncio and other libraries."
_NODES = "What policies that stay idle, and resources, add to a node."
_MAPS = "What an item of a map costs, and a long list among the arguments of a loop."
_SMALL = "What a run of three nodes costs, alone and in a service."
_FLEETS = "What many coroutine agents at once cost, by step, by start and in memory."
_CROWDS = "What steps cost of a long agent, of a thousand at once, and of agents in PostgreSQL."
_DURABLE_SECTIONS = ("journal", "durable resume", "durable steps", "durable agents", "durable loop")
_LOOPS = (
    *("recursion", "loops", "other pythons", "agents", "three nodes", "making", "watching"),
    "peers",
)
_MEMORY = "How much memory one long loop takes at its peak, by tier."
_DELAY = "How long other work waits for its turn while fused loops spin."
_FLOOD = "What a loop keeps of its speed while other processes flood its engine with messages."
_GRAPH_SECTIONS = [section.name for section in graphs.PROGRAM.sections]
_LIMIT_SECTIONS = [section.name for section in limits.PROGRAM.sections if section.name != "flood"]
SUITES = (
    Suite(
        "graph",
        "A node of a graph",
        graphs.PROGRAM.what,
        graphs.PROGRAM,
        _GRAPH_SECTIONS,
        "graph_overhead",
        ("wide", "chain", "tree"),
    ),
    Suite(
        "tco",
        "A step of a loop",
        steps.PROGRAM.what,
        steps.PROGRAM,
        _LOOPS,
        "tco_performance",
        ("countdown", "logistic map", "even and odd"),
    ),
    Suite(
        "coroutines",
        "A coroutine node",
        _COROUTINES,
        nodes.PROGRAM,
        [section.name for section in coroutines.SECTIONS],
        "coroutines",
        [f"wide, {kind.name}" for kind in awaiting.KINDS],
    ),
    Suite(
        "nodes",
        "A node with policies",
        _NODES,
        nodes.PROGRAM,
        [section.name for section in nodes.SECTIONS],
        "nodes",
        ("policies", "resources"),
    ),
    Suite(
        "maps",
        "An item of a map",
        _MAPS,
        nodes.PROGRAM,
        [section.name for section in maps.SECTIONS],
        "maps",
        ("map", "map of map of map"),
    ),
    Suite(
        "small",
        "A small run",
        _SMALL,
        small_runs.PROGRAM,
        [section.name for section in small_runs.SECTIONS],
        "small",
        ("3 plain", "3 mixed", "runs, other libraries"),
    ),
    Suite(
        "fleets",
        "A fleet of agents",
        _FLEETS,
        small_runs.PROGRAM,
        [section.name for section in fleets.SECTIONS],
        "fleets",
        ("agents", "starts"),
    ),
    Suite(
        "durable",
        "A durable run",
        durable.PROGRAM.what,
        durable.PROGRAM,
        _DURABLE_SECTIONS,
        "durable",
        ("wide", "steps", "agents"),
    ),
    Suite(
        "crowds",
        "Many durable runs",
        _CROWDS,
        durable.PROGRAM,
        [section.name for section in durable.SECTIONS if section.name not in _DURABLE_SECTIONS],
        "crowds",
    ),
    Suite(
        "caching",
        "A cached call",
        caching.PROGRAM.what,
        caching.PROGRAM,
        [section.name for section in caching.SECTIONS],
        "caching",
        ("hit", "miss", "nodes"),
    ),
    Suite(
        "clusters",
        "A call in another process",
        clusters.PROGRAM.what,
        clusters.PROGRAM,
        [section.name for section in clusters.SECTIONS],
        "clusters",
    ),
    Suite(
        "governance", "A limit", limits.PROGRAM.what, limits.PROGRAM, _LIMIT_SECTIONS, "governance"
    ),
    Suite("flood", "A flood of messages", _FLOOD, limits.PROGRAM, ("flood",), "flood"),
    Suite("memory", "Memory of a loop", _MEMORY, steps.PROGRAM, ("memory",), "memory"),
    Suite("delay", "Turns of the event loop", _DELAY, steps.PROGRAM, ("delay",), "delay"),
    Suite(
        "imports", "Importing", imports.PROGRAM.what, imports.PROGRAM, ("imports",), "import_cost"
    ),
)


def suites_named(names: Sequence[str]) -> list[Suite]:
    """These suites, each once and in their own order; all of them if none is named.

    Raises:
        ValueError: A name is unknown.
    """
    known = [suite.name for suite in SUITES]
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"unknown suite '{name}'{near}; the suites are {', '.join(known)}")
    return [suite for suite in SUITES if not names or suite.name in names]


def part_of(document: Document, suite: Suite) -> Document | None:
    """A suite's part of a report, as a report; None if a section of the suite is missing."""
    sections, names = document.get("sections", {}), set(suite.sections)
    if document.get("benchmark") != suite.program.name or not names <= set(sections):
        return None
    left_out = {key for name, keys in sections.items() if name not in names for key in keys}
    part: dict[str, Any] = {key: value for key, value in document.items() if key not in left_out}
    measured = document["measurements"].items()
    part["sections"] = {name: sections[name] for name in suite.sections}
    part["measurements"] = {title: one for title, one in measured if one["section"] in names}
    part["targets"] = [one for one in document["targets"] if one["section"] in names]
    return part
