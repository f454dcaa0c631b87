"""Commands that inspect a target without running it."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

from cascade.command.failures import UsageError

if typing.TYPE_CHECKING:
    from cascade.graph.model import Graph

TargetName = Annotated[str, Parameter(help="MODULE:TARGET; MODULE is a dotted name or a .py file.")]
AsJson = Annotated[bool, Parameter(help="Print JSON, for scripts.", show_default=False)]
Format = Literal["mermaid", "dot", "svg", "text"]
_COUNT = validators.Number(gte=0)

_SUFFIXES: dict[str, Format] = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".txt": "text",
}
_TREE = {
    r"[├└│─↳]+": "dim",
    r"\(\S+:\d+\)": "dim",
    r"\[(shown above|shared by \d+)\]": "cyan",
    r"\b(if|after|amount|route \S+:) (?=\S)": "magenta",
    r"\A.*": "bold",
}
_TIERS = {
    r"(?m)(?<=: )fused.*$": "green",
    r"(?m)(?<=: )generated.*$": "yellow",
    r"(?m)(?<=: )interpreted.*$": "red",
    r"(?m)^    .*$": "dim",
}
_LISTING = {
    r"\br\d+\b": "cyan",
    r"(?m)^ +\d+(?=  )": "dim",
    r"(?m)^(entry:|  input)": "magenta",
    r"\A.*": "bold",
}


def plan(
    target: TargetName,
    /,
    *,
    limit: Annotated[
        int, Parameter(metavar="COUNT", help="Most inputs shown per node.", validator=_COUNT)
    ] = 50,
    json: AsJson = False,
) -> None:
    """Show the plan of a run as a tree: inputs stand under the node that uses them.

    Nothing is run.
    """
    from cascade.command.output import show
    from cascade.graph.outline import outline

    found = _graph_of(target)
    if json:
        _show_nodes(found)
    else:
        show("\n".join(outline(found, limit=limit)), _TREE)


def graph(
    target: TargetName,
    /,
    *,
    format: Annotated[
        Format | None,
        Parameter(
            help="By default that of the file's suffix, else mermaid. svg needs Graphviz; text is "
            "the plan's tree."
        ),
    ] = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], metavar="FILE", help="Write it to a file.")
    ] = None,
    limit: Annotated[
        int,
        Parameter(
            metavar="COUNT",
            help="Most alike calls drawn one by one; more are one box. 0 for all.",
            validator=_COUNT,
        ),
    ] = 10,
    json: Annotated[
        bool, Parameter(help="Nodes and edges as JSON, instead of a drawing.", show_default=False)
    ] = False,
) -> None:
    """Draw a target, with arrows from inputs to users, as text that other tools render or as SVG.

    Nothing is run.
    """
    from cascade.command.output import show, write

    if json and format is not None:
        raise UsageError(f"--json and --format {format} are two formats; choose one")
    found = _graph_of(target)
    if json and output is None:
        _show_nodes(found)
        return
    text = _json_text(found) if json else _drawn(found, format or _meant_by(output), limit)
    if output is None:
        show(text)
    else:
        write(text, output)


def explain(
    target: TargetName,
    /,
    *,
    cache: Annotated[
        bool,
        Parameter(
            help="Show instead which nodes are hits of a cache, and what has changed for the "
            "others.",
            show_default=False,
        ),
    ] = False,
    store: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            help="With --cache: that of pure tasks, such as sqlite:///cache.db. Left out: "
            "CASCADE_CACHE.",
        ),
    ] = None,
    param: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=VALUE",
            help="With --cache: a parameter of the run; may be repeated.",
            show_default=False,
        ),
    ] = (),
    json: AsJson = False,
) -> None:
    """Show the virtual machine's tier of each task, and the reasons against better ones.

    Nothing is run.
    """
    if cache:
        from cascade.command.caches import show_explanation

        show_explanation(target, param, store, json)
        return
    if store is not None or param:
        raise UsageError("--store and --param are for explain --cache")
    from dataclasses import asdict

    from cascade.command.output import show, show_json
    from cascade.command.targets import distinct_tasks, find
    from cascade.graph.build import build_graph
    from cascade.runtime.loops.tiers import explain as explanation_of
    from cascade.spec.task import Task

    found = find(target)
    if isinstance(found.value, Task):
        tasks: list[Any] = [found.value]
    else:
        tasks = distinct_tasks(build_graph(found.lazy(), routes=True).lazies)
    explanations = [explanation_of(task) for task in tasks]
    if json:
        show_json([asdict(explanation) for explanation in explanations], target)
    elif not explanations:
        show(f"{target} calls no task")
    else:
        show("\n".join(map(str, explanations)), _TIERS)


def disassemble(target: TargetName, /, *, json: AsJson = False) -> None:
    """List the compiled instructions of a target, below its inputs.

    With --json the blueprint itself, as cascade.graph.portable reads it. Nothing is run.
    """
    from cascade.command.output import show
    from cascade.command.targets import find
    from cascade.graph.compiler import BlueprintBuilder
    from cascade.graph.disassemble import disassemble as listed
    from cascade.graph.portable import blueprint_to_json

    blueprint = BlueprintBuilder().build(find(target).lazy())
    if json:
        show(blueprint_to_json(blueprint))
    else:
        show(listed(blueprint), _LISTING)


def _graph_of(name: str) -> Graph:
    from cascade.command.targets import find
    from cascade.graph.build import build_graph

    return build_graph(find(name).lazy(), routes=True)


def _meant_by(output: Path | None) -> Format:
    """The format for the suffix of a file."""
    if output is None:
        return "mermaid"
    found = _SUFFIXES.get(output.suffix)
    if found is None:
        known = ", ".join(_SUFFIXES)
        raise UsageError(
            f"{output} does not say which format; end it in one of {known}, or add --format"
        )
    return found


def _drawn(found: Graph, format: Format, limit: int) -> str:
    from cascade.graph.outline import outline
    from cascade.graph.visualize import visualize
    from cascade.spec.errors import DrawingError

    if format == "text":
        return "\n".join(outline(found))
    try:
        return visualize(found, format, limit=limit or None)
    except DrawingError as error:
        raise UsageError(str(error)) from None


def _show_nodes(found: Graph) -> None:
    from cascade.command.output import show_json

    show_json(_nodes_and_edges(found), "the graph")


def _json_text(found: Graph) -> str:
    from json import dumps

    from cascade.spec.wording import visible_json

    return visible_json(dumps(_nodes_and_edges(found), ensure_ascii=False))


def _nodes_and_edges(found: Graph) -> dict[str, Any]:
    """The graph as plain values; the last node is the target."""
    nodes = [
        {
            "id": node.index,
            "name": node.name,
            "kind": node.kind.value,
            "file": node.callsite.filename,
            "line": node.callsite.lineno,
        }
        for node in found.nodes
    ]
    edges = [
        {"from": edge.source, "to": edge.target, "kind": edge.kind.value, "label": edge.label}
        for edge in found.edges
    ]
    return {"nodes": nodes, "edges": edges}
