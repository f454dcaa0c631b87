"""Writes docs/performance.md and its pictures from the figures of the benchmarks.

    hatch run bench-graph
    hatch run bench-tco
    hatch run bench-limits
    hatch run bench-page

Reads what these programs wrote, keeps copies in
docs/performance/, and writes the page from these: no figure on the page is typed by hand. Of a
benchmark that has written nothing, the figures that were kept are used.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from cascade.observatory.benchmarks.panels import curves_in, panels_of
from cascade.observatory.benchmarks.tables import figure
from cascade.observatory.pictures.curves import Curve, Measured, draw_side_by_side

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GRAPH, LOOPS, LIMITS = "graph_overhead", "tco_performance", "governance"
#: Benchmark → what runs it.
COMMANDS = {
    GRAPH: "hatch run bench-graph",
    LOOPS: "hatch run bench-tco",
    LIMITS: "hatch run bench-limits",
}
SHAPES = ("wide", "chain", "tree")
#: Sizes of graphs whose table is on the page; the picture has all.
SHOWN = ("10 000 nodes",)
#: Loop → what it is.
LOOP_KINDS = {
    "countdown": "One argument, by position: the least that a step can do.",
    "logistic map": "Some arithmetic; arguments by keyword, of which one keeps its value.",
    "Collatz length": "Two places that continue, with a condition in the arguments of one.",
    "even and odd": "Two tasks that continue as each other, against a `while` that alternates.",
}
#: Heading of a drawing → titles of its measurements, and what is on its horizontal axis.
DRAWN = {
    "countdown": ("countdown, ", " steps", "steps"),
    "even and odd": ("even and odd, ", " steps", "steps"),
    "agents": ("agents, ", " at once", "agents at once"),
}


def page(documents: Mapping[str, Document]) -> str:
    """The text of docs/performance.md, from all documents by name."""
    return joined(
        [
            "# Performance",
            "What a node of a graph costs, a step of a loop, and a limit, and against what. All "
            "that is compared was measured in turns in one process, so that a busy machine slows "
            "all alike: read the ratios first. `hatch run bench-graph`, `hatch run bench-tco` and "
            "`hatch run bench-limits` measure again, `hatch run bench-page` writes this page.",
            *_graph_part(documents[GRAPH]),
            *_loops_part(documents[LOOPS]),
            *_limits_part(documents[LIMITS]),
        ]
    )


# -- graphs ---------------------------------------------------------------------------------------


def _graph_part(document: Document) -> list[Any]:
    parts: list[Any] = [
        "## A node of a graph",
        machine_line(document),
        "![Cost of a node over the size of the graph](performance/graph_overhead.svg)",
        "### Targets",
        targets_as_markdown(document),
        "### From authoring a graph of trivial tasks to its result",
    ]
    for shape in SHAPES:
        titles = sections_of(document, f"{shape}, ")
        shown = {title: size for title, size in titles.items() if size in SHOWN}
        parts += [f"#### {shape.capitalize()}", samples_as_markdown(document, shown, "", "node")]
    memory = ", ".join(
        f"{shape} {count:.0f} B" for shape, count in document["memory_bytes_per_node"].items()
    )
    return [
        *parts,
        f"Memory of a node at the peak, its value included: {memory}.",
        "### Nodes that are no plain calls",
        "None of the policies has anything to do: no attempt fails, no cache hits.",
        samples_as_markdown(document, {"policies": "2 000"}, "nodes", "node"),
        "### Tasks that block",
        "`time.sleep(0.01)` on the 32 workers that an engine has, and on a thread pool of 32.",
        samples_as_markdown(document, sections_of(document, "sleep, ", " tasks"), "tasks", "task"),
        "### A task that returns a lazy call of itself",
        samples_as_markdown(document, {"recursion": ""}, "", "step"),
        "### Somebody who watches",
        samples_as_markdown(document, {"progress": "10 000"}, "nodes", "node"),
    ]


def graph_picture(document: Document) -> str:
    """The drawing of the first part, as SVG."""
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


# -- loops ----------------------------------------------------------------------------------------


def _loops_part(document: Document) -> list[Any]:
    parts: list[Any] = [
        "## A step of a loop",
        machine_line(document),
        "![Cost of a step over the length of the loop](performance/tco_performance.svg)",
        "### Targets of loops",
        targets_as_markdown(document),
        "### Loops by tail calls",
        "On the virtual machine's tiers (`cs.explain(task)` tells which one a task gets) and on "
        "the graph path, against a bare `while`, the trampoline that one would write by hand "
        "around the same function, and an asyncio loop that yields at each step. Starting the run "
        "and the event loop's turns are included.",
    ]
    for name, what in LOOP_KINDS.items():
        shown = _longest(document, f"{name}, ")
        parts += [
            f"#### {name[0].upper()}{name[1:]}",
            what,
            samples_as_markdown(document, shown, "steps", "step"),
        ]
    parts += [
        "### Recursion on the graph path",
        "*simple* is a task that returns a lazy call of itself; with *heavy* that call depends on "
        "a chain of 11 small tasks, made anew at each step.",
        samples_as_markdown(document, _longest(document, "recursion, "), "steps", "step"),
        "### Agents",
        "Coroutine tasks that wait for a turn of the event loop at each step, one or many at once "
        "on one engine, against coroutines written by hand.",
        samples_as_markdown(
            document, sections_of(document, "agents, ", " at once"), "agents", "step"
        ),
        "The same where the event loop is not needed: each step awaits a queue that has a message.",
        samples_as_markdown(document, {"inbox": ""}, "", "step"),
    ]
    if "three nodes" in document["measurements"]:
        parts += [
            "### A chain that was compiled",
            "Three nodes, run again and again: by `await program.run(…)`, where `program` is what "
            "`engine.compile` made of them, by `await engine.run(…)` on both paths, and as plain "
            "calls, of which three count as one run.",
            samples_as_markdown(document, {"three nodes": ""}, "", "run"),
        ]
    parts += [
        "### Memory of a loop",
        "The peak during one long loop over what was in use before it.",
        _memory_table(document),
        "### Turns of the event loop",
        "How long a coroutine that always asks for the next turn waits for it, while loops spin "
        "that await nothing.",
        _delay_table(document),
        "### Making a loop",
        "Once for each task, at its first run: reading, proving, rewriting and compiling a "
        "function of some ten lines (*fuse*), and writing a loop around it (*generate*).",
        samples_as_markdown(document, {"making a loop": ""}, "", "task"),
        "### Somebody who watches a loop",
        "A fused loop whose `StepsMade` events somebody subscribes to, at most ten times a second "
        "as engines do by default, and every millisecond.",
        samples_as_markdown(document, {"watching": ""}, "", "step"),
    ]
    if "peers" in document["measurements"]:
        parts += [
            "### Other libraries that loop over steps",
            "A countdown in each of those that are installed, as their documentation shows it.",
            samples_as_markdown(document, {"peers": ""}, "", "step"),
        ]
    return parts


def _longest(document: Document, prefix: str) -> dict[str, str]:
    """What the page shows of a loop: the longest with all contenders, and the longest."""
    titles = sections_of(document, prefix, " steps")
    counts = {title: len(document["measurements"][title]["contenders"]) for title in titles}
    full = [title for title, count in counts.items() if count == max(counts.values())]
    return {title: titles[title] for title in dict.fromkeys((full[-1], list(titles)[-1]))}


def _memory_table(document: Document) -> Iterator[str]:
    yield "| tier | KiB |"
    yield "|---|--:|"
    for tier, peak in document["memory_bytes"].items():
        yield f"| {tier} | {figure(peak / 1024)} |"


def _delay_table(
    document: Document, figures: str = "delay_ms", heading: str = "beside"
) -> Iterator[str]:
    yield f"| {heading} | p50 | p99 | max |"
    yield "|---|--:|--:|--:|"
    for name, delays in document[figures].items():
        values = (f"{figure(delays[which])} ms" for which in ("p50", "p99", "max"))
        yield f"| {name} | {' | '.join(values)} |"


def loops_picture(document: Document) -> str:
    """The drawing of the second part, as SVG."""
    curves = curves_in(document, {name: panel[:2] for name, panel in DRAWN.items()}, "fused")
    labels = {name: panel[2] for name, panel in DRAWN.items()}
    panels = panels_of(curves, of="step", x_labels=labels)
    return draw_side_by_side(list(panels.items()))


# -- limits ---------------------------------------------------------------------------------------


def _limits_part(document: Document) -> list[Any]:
    return [
        "## A limit",
        machine_line(document),
        "### Targets of limits",
        targets_as_markdown(document),
        "### Around a wide graph",
        "Trivial tasks on an engine without any limit, on one with a concurrency and a rate limit "
        "for tasks of other names, and on one where both hold for all tasks, and are never "
        "reached.",
        samples_as_markdown(document, {"limits, a wide graph": ""}, "", "node"),
        "### Around a fused loop",
        "The same three around a countdown on the virtual machine. A batch of steps asks once.",
        samples_as_markdown(document, {"limits, a fused loop": ""}, "", "step"),
        "### Around a loop that is watched",
        "A fused loop on an engine with a control plane, over a connector in memory, that nobody "
        "uses: it tells of the run's steps ten times a second, and of itself once.",
        samples_as_markdown(document, {"limits, control plane": ""}, "", "step"),
        "### Capacities",
        "Nodes that take one of many with `with_constraints`, beside nodes with a retry that is "
        "never needed, which take the same lane, and plain ones.",
        samples_as_markdown(document, {"limits, capacities": ""}, "", "node"),
        "### Wake-ups",
        "From the end of a call to the beginning of the next one, which waited for the capacity "
        "that the first one had.",
        _delay_table(document, "wake_up_ms", "where"),
    ]


PICTURES: Mapping[str, Callable[[Document], str]] = {GRAPH: graph_picture, LOOPS: loops_picture}


# -- the program ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, its pictures, and the figures that they are made from."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from figures.")
    parser.add_argument(
        "figures",
        type=Path,
        nargs="*",
        help="what the benchmarks wrote; if left out, what is in build/benchmarks",
    )
    options = parser.parse_args(arguments)
    folder = DOCS / "performance"
    given: list[Path] = options.figures
    if not given:
        made = (ROOT / "build/benchmarks" / f"{name}.json" for name in COMMANDS)
        given = [path for path in made if path.is_file()]
    found: dict[str, Path] = {}
    for path in given:
        if not path.is_file():
            parser.error(f"{path} is not there; {_commands()}")
        name = json.loads(path.read_text(encoding="utf-8")).get("benchmark")
        if name not in COMMANDS:
            parser.error(f"{path} has figures of another program; {_commands()}")
        found[name] = path
    for name in COMMANDS:
        if name not in found and not (folder / f"{name}.json").is_file():
            parser.error(f"{folder / name}.json is not there; {_commands()}")
    _write(folder, found)


def _commands() -> str:
    return ", ".join(f"`{command}`" for command in COMMANDS.values()) + " write figures"


def _write(folder: Path, found: Mapping[str, Path]) -> None:
    folder.mkdir(exist_ok=True)
    documents = {}
    for name in COMMANDS:
        kept = folder / f"{name}.json"
        if name in found and found[name].resolve() != kept.resolve():
            shutil.copyfile(found[name], kept)
        documents[name] = json.loads(kept.read_text(encoding="utf-8"))
        if name in PICTURES:
            picture = folder / f"{name}.svg"
            picture.write_text(PICTURES[name](documents[name]), encoding="utf-8")
            print(picture)
    (DOCS / "performance.md").write_text(page(documents), encoding="utf-8")
    print(DOCS / "performance.md")


if __name__ == "__main__":
    main()
