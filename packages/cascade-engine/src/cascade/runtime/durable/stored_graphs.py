"""The graphs of a stored run, as its program and records have them. Read without any import.

For tools: the steps of a run, and forks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from cascade.graph.naming import NodeKey
from cascade.runtime.durable.rows import ERROR, Row, rows_of
from cascade.spec.errors import SerializationError
from cascade.spec.run_rows import Chunk, Loaded, Record

#: A key; or, of a node that has none, its document and place there.
Node: TypeAlias = NodeKey | tuple[int, int]


class Step(NamedTuple):
    """A node of a run in the store."""

    key: NodeKey
    #: The name of its task; empty if it is not known.
    task: str
    #: ``"done"``; ``"failed"``, if its error is its value; or ``"continued"``: it goes on as
    #: another call or as a graph.
    state: str
    #: How often it has continued; 0 if it is done.
    step: int
    #: When its outcome was written; None if it has none.
    time: float | None
    #: The node that has continued as the graph that this one belongs to.
    owner: NodeKey | None


def chunks_of(loaded: Loaded) -> list[Chunk]:
    """The outcomes of a run. Those that transactions of tasks have written are the last chunk."""
    if not loaded.outcomes:
        return [*loaded.chunks]
    last = max((chunk.number for chunk in loaded.chunks), default=0)
    body = b"\n".join([outcome.body for outcome in loaded.outcomes])
    return [*loaded.chunks, Chunk(last + 1, body)]


class StoredGraphs:
    """The nodes that a run has named in its store.

    Args:
        program: The record of its target, unsealed; None if it is not stored.
        loaded: The run, with its records unsealed.

    Attributes:
        names: Node → the name of its task.
        tasks: Node → the reference of its task, or of the task that it maps.
        params: Node → the name that it reads, for ``Param`` nodes.
        rows: The outcomes.
        records: As loaded.

    Raises:
        SerializationError: The run is damaged.
    """

    def __init__(self, program: bytes | None, loaded: Loaded) -> None:
        self.names: dict[Node, str] = {}
        self.tasks: dict[Node, str] = {}
        self.params: dict[Node, str] = {}
        self.rows: list[Row] = [row for chunk in chunks_of(loaded) for row in rows_of(chunk)]
        self.records = loaded.records
        #: Node → the nodes that need it.
        self._users: dict[Node, set[Node]] = {}
        #: Name of a task → the maps over it; map → its items; item → its maps.
        self._maps: dict[str, set[Node]] = {}
        self._items: dict[Node, set[Node]] = {}
        self._maps_of: dict[Node, set[Node]] = {}
        bodies = [*([] if program is None else [program]), *(r.body for r in loaded.records)]
        try:
            for number, body in enumerate(bodies):
                self._read(number, json.loads(body))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SerializationError(
                f"run {loaded.run.run_id!r} in the store is damaged: {error}"
            ) from error
        self._add_items()

    def steps(self) -> list[Step]:
        """The nodes with an outcome or a record: first what is done, in its order."""
        done = [
            Step(r.key, r.task, "failed" if r.kind == ERROR else "done", 0, r.time, r.owner)
            for r in sorted(self.rows, key=lambda row: row.time)
        ]
        continued = [
            Step(r.key, self.names.get(r.key, _task_of(r)), "continued", r.step, None, _owner(r))
            for r in self.records
        ]
        return done + continued

    def downstream(self, nodes: Iterable[Node]) -> set[Node]:
        """``nodes``, all that need one of them, and all that belongs to a graph of these."""
        found: set[Node] = set()
        new = list(nodes)
        inner: dict[Node, list[Node]] = {}
        for row in self.rows:
            if row.owner is not None:
                inner.setdefault(row.owner, []).append(row.key)
        for record in self.records:
            if record.context:
                inner.setdefault(record.context, []).append(record.key)
        while new:
            node = new.pop()
            if node in found:
                continue
            found.add(node)
            # A map is made again with all of its items; but after one item, only with that one.
            new += self._items.get(node, ())
            new += self._users.get(node, ())
            new += inner.get(node, ())
            for over in self._maps_of.get(node, ()):
                new += self._users.get(over, ())
        return found

    def _read(self, number: int, document: Mapping[str, Any]) -> None:
        """Take over the nodes of a record."""
        nodes = document["graph"]["nodes"] if "graph" in document else document.get("nodes", ())
        keys = [
            (number, place) if key is None else bytes.fromhex(key)
            for place, key in enumerate(document.get("keys", ()))
        ]
        for key, node in zip(keys, nodes, strict=True):
            self.names[key] = name = _name_of(node)
            if (task := node.get("task", node.get("map"))) is not None:
                self.tasks[key] = task
            if "param" in node:
                self.params[key] = node["param"]
            if "map" in node:
                self._maps.setdefault(name, set()).add(key)
            for place in _places(node):
                needed = bytes.fromhex(place) if isinstance(place, str) else keys[place]
                self._users.setdefault(needed, set()).add(key)

    def _add_items(self) -> None:
        """Link the items of maps, which are in no record, with the maps of their task.

        Of several maps over one task, each counts as the map of all items.
        """
        for row in self.rows:
            if row.key in self.names:
                continue
            self.names[row.key] = row.task
            for over in self._maps.get(row.task, ()):
                self._items.setdefault(over, set()).add(row.key)
                self._maps_of.setdefault(row.key, set()).add(over)


def _name_of(node: Mapping[str, Any]) -> str:
    """The name of a node's task, as ``Task.name``; or its kind."""
    reference = node.get("task") or node.get("map")
    if reference is not None:
        return str(reference).rpartition(":")[2].rpartition(".")[2]
    return next(iter(node), "")


def _task_of(record: Record) -> str:
    """The name of the task that a tail call names; it is most often the node's own."""
    document = json.loads(record.body)
    return _name_of(document) if "task" in document else ""


def _owner(record: Record) -> NodeKey | None:
    return record.context or None


def _places(node: Mapping[str, Any]) -> Iterator[int | str]:
    """The places of the nodes that a node needs, or comes after."""
    yield from node.get("if", ())
    yield from node.get("after", ())
    yield from node.get("amounts", {}).values()
    if "of" in node:
        yield node["of"]
    yield from _mentions(node)


def _mentions(form: Any) -> Iterator[int | str]:
    """The nodes that a value mentions. Without recursion: values may be nested deep."""
    forms = [form]
    while forms:
        form = forms.pop()
        if isinstance(form, list):
            forms += form
        elif isinstance(form, dict):
            for tag in ("$node", "$known"):
                if tag in form and isinstance(form[tag], int if tag == "$node" else str):
                    yield form[tag]
            forms += form.values()
