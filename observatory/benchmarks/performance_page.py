"""Writes docs/performance.md and its pictures from the figures of the benchmarks.

    hatch run bench
    hatch run bench-page

Reads what the suites have written, or the programs behind them, keeps a copy for each suite in
docs/performance/, and writes the page from these: no figure on the page is typed by hand. Of a
suite that has written nothing, the figures that were kept are used; so they are where what was
written comes from a quick run, unless its files are named.
"""

from __future__ import annotations

import argparse
import json
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
from cascade.observatory.benchmarks.panels import panels_of
from cascade.observatory.benchmarks.program import FOLDER
from cascade.observatory.benchmarks.suites import SUITES, Suite, part_of
from cascade.observatory.benchmarks.tables import figure
from cascade.observatory.pictures.curves import draw_side_by_side

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = "`hatch run bench` writes figures"
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
#: Of the drawings of loops, those that are on the page.
DRAWN_LOOPS = ("countdown", "even and odd", "agents")


def page(documents: Mapping[str, Document]) -> str:
    """The text of docs/performance.md, from the reports of all suites by their names."""
    parts: list[Any] = [
        "# Performance",
        "Costs of a node of a graph, of a step of a loop, and of a limit, beside those of asyncio, "
        "threads and plain Python. The contenders of a table were measured in turns, so that a "
        "busy machine slows all of them alike: read the ratios first. `hatch run bench` measures "
        "again, `hatch run bench-page` writes this page.",
    ]
    for suite in SUITES:
        document = documents[suite.name]
        parts += [f"## {suite.title}", machine_line(document), *PARTS[suite.name](document)]
    return joined(parts)


# -- graphs ---------------------------------------------------------------------------------------


def _graph_part(document: Document) -> list[Any]:
    parts: list[Any] = [
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
        "### Nodes with policies and coroutines",
        "The policies stay idle: every attempt succeeds, and no cache hits.",
        samples_as_markdown(document, {"policies": "2 000"}, "nodes", "node"),
        "### Tasks that block",
        "`time.sleep(0.01)` on the 32 workers that an engine has, and on a thread pool of 32.",
        samples_as_markdown(document, sections_of(document, "sleep, ", " tasks"), "tasks", "task"),
        "### A task that returns a lazy call of itself",
        samples_as_markdown(document, {"recursion": ""}, "", "step"),
        "### Progress displays",
        samples_as_markdown(document, {"progress": "10 000"}, "nodes", "node"),
    ]


def graph_picture(document: Document) -> str:
    """The drawing of the first part, as SVG."""
    return draw_side_by_side(panels_of(document))


# -- loops ----------------------------------------------------------------------------------------


def _loops_part(document: Document) -> list[Any]:
    parts: list[Any] = [
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
            "Three nodes, run again and again: by `await program.run(…)` of the program that "
            "`engine.compile` returns, by `await engine.run(…)` on both paths, and as plain calls, "
            "of which three count as one run.",
            samples_as_markdown(document, {"three nodes": ""}, "", "run"),
        ]
    parts += [
        "### Making a loop",
        "Once for each task, at its first run: reading, proving, rewriting and compiling a "
        "function of some ten lines (*fuse*), and writing a loop around it (*generate*).",
        samples_as_markdown(document, {"making a loop": ""}, "", "task"),
        "### A loop with a subscriber",
        "A fused loop with a subscriber to its `StepsMade` events, which come at most ten times a "
        "second (the default), or every millisecond.",
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


def loops_picture(document: Document) -> str:
    """The drawing of the second part, as SVG."""
    return draw_side_by_side(panels_of(document, DRAWN_LOOPS))


# -- memory, delay, imports -----------------------------------------------------------------------


def _memory_part(document: Document) -> list[Any]:
    return [
        "The peak of memory during one long loop, minus the memory in use before it.",
        _memory_table(document),
        "### Targets of memory",
        targets_as_markdown(document),
    ]


def _memory_table(document: Document) -> Iterator[str]:
    yield "| tier | KiB |"
    yield "|---|--:|"
    for tier, peak in document["memory_bytes"].items():
        yield f"| {tier} | {figure(peak / 1024)} |"


def _delay_part(document: Document) -> list[Any]:
    return [
        "Waiting time of a coroutine that asks for every turn of the event loop, while loops "
        "without any `await` run beside it.",
        _delay_table(document),
        "### Targets of turns",
        targets_as_markdown(document),
    ]


def _delay_table(
    document: Document, figures: str = "delay_ms", heading: str = "beside"
) -> Iterator[str]:
    yield f"| {heading} | p50 | p99 | max |"
    yield "|---|--:|--:|--:|"
    for name, delays in document[figures].items():
        values = (f"{figure(delays[which])} ms" for which in ("p50", "p99", "max"))
        yield f"| {name} | {' | '.join(values)} |"


def _imports_part(document: Document) -> list[Any]:
    return [
        "Time of a process from spawn to exit, and the difference to a Python that runs `pass`: "
        f"medians over {document['rounds']} rounds of the difference within a round. "
        "`import cascade` alone imports no layer; the first use of a name imports its layer.",
        _imports_table(document),
        "### Targets of importing",
        targets_as_markdown(document),
    ]


def _imports_table(document: Document) -> Iterator[str]:
    yield "| program | ms | over bare Python | quartiles |"
    yield "|---|--:|--:|--:|"
    for row in document["programs"]:
        low, high = row["quartiles_ms"]
        cells = (f"{row['median_ms']:.1f}", f"{row['over_bare_ms']:.1f}", f"{low:.1f}–{high:.1f}")
        yield f"| `{row['program']}` | {' | '.join(cells)} |"


# -- limits ---------------------------------------------------------------------------------------


def _limits_part(document: Document) -> list[Any]:
    return [
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
        "### Around a loop on an engine with a control plane",
        "A fused loop on an engine with an idle control plane over a connector in memory: it "
        "publishes the run's steps ten times per second, and its own status once.",
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


#: Suite → what the page says of it.
PARTS: Mapping[str, Callable[[Document], list[Any]]] = {
    "graph": _graph_part,
    "tco": _loops_part,
    "governance": _limits_part,
    "memory": _memory_part,
    "delay": _delay_part,
    "imports": _imports_part,
}
PICTURES: Mapping[str, Callable[[Document], str]] = {"graph": graph_picture, "tco": loops_picture}


# -- the program ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, its pictures, and the figures that they are made from."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from figures.")
    parser.add_argument(
        "figures",
        type=Path,
        nargs="*",
        help=f"what the benchmarks wrote; if left out, what is in {FOLDER}",
    )
    options = parser.parse_args(arguments)
    folder = DOCS / "performance"
    try:
        found = _given(options.figures) if options.figures else _written(ROOT / FOLDER)
        documents = {suite.name: found.get(suite.name) or _kept(folder, suite) for suite in SUITES}
    except ValueError as error:
        parser.error(str(error))
    _write(folder, documents)


def _given(paths: Sequence[Path]) -> dict[str, Document]:
    """Suite → its figures in these files.

    Raises:
        ValueError: A file is not there, or has the figures of no whole suite.
    """
    found: dict[str, Document] = {}
    for path in paths:
        parts = _parts(_read(path))
        if not parts:
            raise ValueError(f"{path} has no figures of a whole suite; {RUN}")
        found |= parts
    return found


def _written(folder: Path) -> dict[str, Document]:
    """Suite → the newest figures in the folder that are not from a quick run."""
    found: dict[str, Document] = {}
    documents = [_read(path) for path in sorted(folder.glob("*.json"))]
    for document in sorted(documents, key=lambda one: str(one.get("date"))):
        if not document.get("options", {}).get("quick"):
            found |= _parts(document)
    return found


def _kept(folder: Path, suite: Suite) -> Document:
    path = folder / f"{suite.document}.json"
    part = part_of(_read(path), suite)
    if part is None:
        raise ValueError(f"{path} has no figures of the suite '{suite.name}'; {RUN}")
    return part


def _parts(document: Document) -> dict[str, Document]:
    parts = {suite.name: part_of(document, suite) for suite in SUITES}
    return {name: part for name, part in parts.items() if part is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; {RUN}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    return document if isinstance(document, dict) else {}


def _write(folder: Path, documents: Mapping[str, Document]) -> None:
    folder.mkdir(exist_ok=True)
    for suite in SUITES:
        document = documents[suite.name]
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / f"{suite.document}.json").write_text(text + "\n", encoding="utf-8")
        if suite.name in PICTURES:
            picture = folder / f"{suite.document}.svg"
            picture.write_text(PICTURES[suite.name](document), encoding="utf-8")
            print(picture)
    (DOCS / "performance.md").write_text(page(documents), encoding="utf-8")
    print(DOCS / "performance.md")


if __name__ == "__main__":
    main()
