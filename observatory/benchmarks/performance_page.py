"""Writes docs/performance.md and its picture from the figures of the benchmarks.

    hatch run bench-graph
    hatch run bench-page

Reads what ``graph_overhead.py`` wrote, keeps a copy of it in docs/performance/, and writes the page
from that copy: no figure on the page is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.observatory.benchmarks.pages import (
    Document,
    joined,
    machine_line,
    samples_as_markdown,
    sections_of,
    targets_as_markdown,
)
from cascade.observatory.benchmarks.panels import panels_of
from cascade.observatory.pictures.curves import Curve, Measured, draw_side_by_side

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHAPES = ("wide", "chain", "tree")
#: Sizes of graphs whose table is on the page; the picture has all.
SHOWN = ("10 000 nodes",)


def page(document: Document) -> str:
    """The text of docs/performance.md."""
    parts: list[Any] = [
        "# Performance",
        "What a node of a graph costs, and against what. All that is compared was measured in "
        "turns in one process, so that a busy machine slows all alike: read the ratios first. "
        "`hatch run bench-graph` measures again, `hatch run bench-page` writes this page.",
        machine_line(document),
        "![Cost of a node over the size of the graph](performance/graph_overhead.svg)",
        "## Targets",
        targets_as_markdown(document),
        "## From authoring a graph of trivial tasks to its result",
    ]
    for shape in SHAPES:
        titles = sections_of(document, f"{shape}, ")
        shown = {title: size for title, size in titles.items() if size in SHOWN}
        parts += [f"### {shape.capitalize()}", samples_as_markdown(document, shown, "", "node")]
    memory = ", ".join(
        f"{shape} {count:.0f} B" for shape, count in document["memory_bytes_per_node"].items()
    )
    parts += [
        f"Memory of a node at the peak, its value included: {memory}.",
        "## Nodes that are no plain calls",
        "None of the policies has anything to do: no attempt fails, no cache hits.",
        samples_as_markdown(document, {"policies": "2 000"}, "nodes", "node"),
        "## Tasks that block",
        "`time.sleep(0.01)` on the 32 workers that an engine has, and on a thread pool of 32.",
        samples_as_markdown(document, sections_of(document, "sleep, ", " tasks"), "tasks", "task"),
        "## A task that returns a lazy call of itself",
        samples_as_markdown(document, {"recursion": ""}, "", "step"),
        "## Somebody who watches",
        samples_as_markdown(document, {"progress": "10 000"}, "nodes", "node"),
    ]
    return joined(parts)


def picture(document: Document) -> str:
    """The drawing of the page, as SVG."""
    curves = {shape: _curves(document, shape) for shape in SHAPES}
    return draw_side_by_side(list(panels_of(curves).items()))


def _curves(document: Document, shape: str) -> list[Curve]:
    points: dict[str, list[Measured]] = {}
    for title, size in sections_of(document, f"{shape}, ", " nodes").items():
        for contender in document["measurements"][title]["contenders"]:
            low, high = (value * 1e6 for value in contender["quartiles"])
            point = Measured(
                float("".join(filter(str.isdigit, size))), contender["median"] * 1e6, low, high
            )
            points.setdefault(contender["name"], []).append(point)
    return [
        Curve(name, found, colour, bold=name == "cascade")
        for colour, (name, found) in enumerate(points.items(), 1)
        if not name.endswith("1 000") and not name.startswith("wide ")
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, its picture, and the figures that they are made from."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from figures.")
    parser.add_argument(
        "figures",
        type=Path,
        nargs="?",
        default=ROOT / "build/benchmarks/graph_overhead.json",
        help="what graph_overhead.py wrote",
    )
    options = parser.parse_args(arguments)
    if not options.figures.is_file():
        parser.error(f"{options.figures} is not there; `hatch run bench-graph` writes it")
    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    kept = folder / "graph_overhead.json"
    if options.figures.resolve() != kept.resolve():
        shutil.copyfile(options.figures, kept)
    document = json.loads(kept.read_text(encoding="utf-8"))
    (folder / "graph_overhead.svg").write_text(picture(document), encoding="utf-8")
    (DOCS / "performance.md").write_text(page(document), encoding="utf-8")
    print(f"{DOCS / 'performance.md'}\n{folder / 'graph_overhead.svg'}")


if __name__ == "__main__":
    main()
