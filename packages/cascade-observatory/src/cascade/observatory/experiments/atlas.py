"""The workflow of the atlas: the import graph of a source tree, ranked and drawn."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.observatory.agents.pagerank import Links, Ranking, pagerank
from cascade.observatory.experiments.imports import Import, absolute_name, imports_in, resolve
from cascade.observatory.experiments.source_tree import Module, SourceTree
from cascade.observatory.pictures.graphs import Arrow, Dot, draw_graph
from cascade.observatory.pictures.page import GraphPage
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine import Engine
from cascade.runtime.telemetry.tally import RunFigures, RunTally
from cascade.spec.protocols import TaskExecutor
from cascade.spec.resource import ResourceDefinition, inject, resource
from cascade.spec.task import task

TOLERANCE = 1e-10
#: Modules in the picture, and imports of each that it always shows.
SHOWN, ARROWS_EACH = 120, 3
LEAD = (
    "A circle is a module, its area the module's PageRank: how often one arrives there by "
    "following imports at random. A line runs from its thick end, a module, to what that imports."
)
SCHEMA = """
create table module (name text primary key, path text, is_package int, lines int, failure text);
create table import (module text, level int, base text, name text, line int);
create table edge (module text, imported text, statements int, primary key (module, imported));
create table outside (module text, imported text, primary key (module, imported));
"""


# -- the graph of imports -------------------------------------------------------------------------


def database_at(path: Path) -> ResourceDefinition[sqlite3.Connection]:
    """The resource ``database``: a new SQLite file at ``path``, used from one thread only.

    Only the last task commits, so a run that fails leaves no half-filled tables.
    """

    @resource(name="database", thread_bound=True)
    def database() -> Iterator[sqlite3.Connection]:
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        try:
            connection.executescript(SCHEMA)
            yield connection
        finally:
            connection.close()

    return database


@task
def parse(module: Module) -> str:
    """Read and parse one module; continues as ``store``."""
    try:
        source = module.path.read_bytes()
        found = imports_in(source, str(module.path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return store.tail(module, 0, [], reason(error))
    return store.tail(module, len(source.splitlines()), found, None)


def reason(error: Exception) -> str:
    """Why a file could not be used, in one line."""
    if isinstance(error, SyntaxError):
        place = f"line {error.lineno}: " if error.lineno else ""
        return f"{place}{error.msg}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


@task
def store(
    module: Module,
    lines: int,
    imports: Sequence[Import],
    failure: str | None,
    database: sqlite3.Connection = inject("database"),
) -> str:
    """Write one module and its imports; returns its name."""
    row = (module.name, str(module.path), module.is_package, lines, failure)
    database.execute("insert into module values (?, ?, ?, ?, ?)", row)
    rows = [(module.name, *found) for found in imports]
    database.executemany("insert into import values (?, ?, ?, ?, ?)", rows)
    return module.name


@dataclass(frozen=True, slots=True)
class ImportGraph:
    """The import relation of the modules.

    Attributes:
        lines: Name → lines, of the modules that parsed.
        failures: Name → reason, of the other modules.
        edges: (importer, imported) → number of names that the importer asks for.
        outside: Top-level name outside the tree → number of modules that import it.
    """

    lines: dict[str, int]
    failures: dict[str, str]
    edges: dict[tuple[str, str], int]
    outside: dict[str, int]


@task
def import_graph(
    names: list[str], database: sqlite3.Connection = inject("database")
) -> ImportGraph:
    """Make the import graph from the database, once all of ``names`` are in it; commits."""
    found = database.execute("select * from module order by name").fetchall()
    modules = {
        name: Module(name, Path(path), bool(is_package))
        for name, path, is_package, _, failure in found
        if failure is None
    }
    edges: Counter[tuple[str, str]] = Counter()
    outside: set[tuple[str, str]] = set()
    for importer, *statement in database.execute("select * from import order by module, line"):
        wanted = Import(*statement)
        target = resolve(wanted, modules[importer], modules)
        if target is None:
            top = absolute_name(wanted, modules[importer]).partition(".")[0]
            outside.add((importer, top or "." * wanted.level + wanted.base))
        elif target != importer:
            edges[importer, target] += 1
    database.executemany("insert into edge values (?, ?, ?)", [(*e, n) for e, n in edges.items()])
    database.executemany("insert into outside values (?, ?)", sorted(outside))
    database.commit()
    return ImportGraph(
        lines={name: lines for name, _, _, lines, failure in found if failure is None},
        failures={name: failure for name, *_, failure in found if failure is not None},
        edges=dict(sorted(edges.items())),
        outside=dict(Counter(name for _, name in sorted(outside)).most_common()),
    )


# -- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Atlas:
    """The contents of the report.

    Attributes:
        title: The title of the page.
        tree: The source.
        graph: Its imports.
        ranking: Their PageRank.
        paths_agree: Whether the agent gave equal floats on both paths.
        runs: Target, path, tasks, steps and seconds of each run.
    """

    title: str
    tree: SourceTree
    graph: ImportGraph
    ranking: Ranking[str]
    paths_agree: bool
    runs: Sequence[Mapping[str, Any]]

    def imports(self) -> dict[str, list[str]]:
        """Module → the modules that it imports, highest rank first."""
        found: dict[str, list[str]] = {name: [] for name in self.ranking.ranks}
        for importer, imported in self.graph.edges:
            found[importer].append(imported)
        for names in found.values():
            names.sort(key=self.ranking.ranks.__getitem__, reverse=True)
        return found

    def counts(self) -> dict[str, tuple[str, str, str, str]]:
        """Module → rank, modules that import it, modules that it imports, and lines, as texts."""
        imported_by = Counter(imported for _, imported in self.graph.edges)
        imports, lines = self.imports(), self.graph.lines
        return {
            name: (
                f"{rank:.3%}",
                str(imported_by[name]),
                str(len(imports[name])),
                f"{lines[name]:,}",
            )
            for name, rank in self.ranking.ranks.items()
        }


@task
def write_json(atlas: Atlas, path: Path) -> Path:
    """``atlas.json``: the whole report, for other programs."""
    graph, ranking, imports = atlas.graph, atlas.ranking, atlas.imports()
    document = {
        "title": atlas.title,
        "root": str(atlas.tree.root),
        "left_out": atlas.tree.left_out,
        "modules": [
            {"name": name, "rank": rank, "lines": graph.lines[name], "imports": imports[name]}
            for name, rank in ranking.ranks.items()
        ],
        "failures": graph.failures,
        "outside": graph.outside,
        "pagerank": {
            "steps": ranking.steps,
            "residual": ranking.residual,
            "paths_agree": atlas.paths_agree,
        },
        "runs": atlas.runs,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


@task
def write_page(atlas: Atlas, path: Path) -> Path:
    """``atlas.html``: a picture of the highest-ranked modules, and a table of all."""
    graph = atlas.graph
    failures = [f"{name}: {why}" for name, why in graph.failures.items()]
    page = GraphPage(
        title=atlas.title,
        lead=LEAD,
        figures={
            "modules": f"{len(atlas.ranking.ranks):,}",
            "imports": f"{len(graph.edges):,}",
            "lines of source": f"{sum(graph.lines.values()):,}",
            "PageRank steps": str(atlas.ranking.steps),
            "did not parse": str(len(failures)),
        },
        picture=picture(atlas),
        headings=("module", "rank", "imported by", "imports", "lines"),
        rows=atlas.counts(),
        links=atlas.imports(),
        relation=("imports", "is imported by"),
        notes={"Files that do not parse": failures} if failures else {},
    )
    path.write_text(page.render(), encoding="utf-8")
    return path


@task
def report(*files: Path) -> Sequence[Path]:
    """The files of the report, all written."""
    return files


def picture(atlas: Atlas) -> str:
    """The highest-ranked modules. Of each one's imports the highest-ranked are always drawn."""
    imports, counts = atlas.imports(), atlas.counts()
    shown = dict(list(atlas.ranking.ranks.items())[:SHOWN])
    dots = [
        Dot(
            name, rank, f"{name}: {rank:.2%}, imported by {counts[name][1]}", name.partition(".")[0]
        )
        for name, rank in shown.items()
    ]
    arrows = [
        Arrow(name, target, strength=1 / (1 + place), always=place < ARROWS_EACH)
        for name in shown
        for place, target in enumerate([t for t in imports[name] if t in shown])
    ]
    return draw_graph(dots, arrows, title=f"{atlas.title}: the {len(shown)} highest-ranked modules")


# -- the runs -------------------------------------------------------------------------------------


async def make_atlas(
    title: str,
    tree: SourceTree,
    out: Path,
    bus: MessageBus,
    tally: RunTally,
    executor: TaskExecutor | None = None,
) -> Atlas:
    """Run the workflow over ``tree`` and write its three files into ``out``.

    Args:
        title: The title of the page.
        tree: The source tree.
        out: A folder.
        bus: The engine's bus.
        tally: Counts the tasks of each run on ``bus``.
        executor: Makes the calls of tasks without resources; the engine's threads by default.
    """
    database = database_at(out / "atlas.sqlite")
    async with Engine(bus=bus, resources=[database], executor=executor) as engine:
        graph = await engine.run(import_graph(parse.map(module=tree.modules)))
        agent = pagerank(Links(graph.lines, graph.edges), tolerance=TOLERANCE)
        ranking = await engine.run(agent, use_vm=True)
        again = await engine.run(agent)

        steps = (None, ranking.steps, again.steps)
        runs = [figures_of(run, made) for run, made in zip(tally.runs, steps, strict=True)]
        atlas = Atlas(title, tree, graph, ranking, ranking == again, runs)
        written = write_json(atlas, out / "atlas.json"), write_page(atlas, out / "atlas.html")
        await engine.run(report(*written))
        runs.append(figures_of(tally.runs[-1]))
        return atlas


def figures_of(run: RunFigures, steps: int | None = None) -> dict[str, Any]:
    """Target, path, tasks, steps (one per tail call of an agent) and seconds of a run."""
    return {
        "target": run.target,
        "path": run.strategy,
        "tasks": run.done,
        "steps": steps,
        "seconds": run.seconds,
    }
