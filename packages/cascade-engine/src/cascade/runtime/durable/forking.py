"""Forks: a new run that begins with the outcomes of another one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cascade.graph.codec import Codec
from cascade.graph.records import digests_in
from cascade.runtime.durable.node_records import unsealed
from cascade.runtime.durable.programs import stored_target
from cascade.runtime.durable.rows import BLOB, CODE, without
from cascade.runtime.durable.stored_graphs import Node, StoredGraphs, chunks_of
from cascade.runtime.durable.stored_options import without_limits
from cascade.runtime.durable.wait_records import WAIT
from cascade.spec.errors import ArgumentError, RunConflictError, RunNotFoundError
from cascade.spec.nearby import did_you_mean
from cascade.spec.run_rows import Blob, Contents, Loaded, NewRun, RunRecord
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

#: Least digits of a key that name a node.
_DIGITS = 6


def graphs_of(codec: Codec, loaded: Loaded) -> StoredGraphs:
    """The graphs of a stored run.

    Raises:
        SerializationError: The run is damaged, or signed with another key.
    """
    records = [
        record if record.kind == WAIT else record._replace(body=unsealed(codec, record))
        for record in loaded.records
        if record.kind != CODE
    ]
    return StoredGraphs(stored_target(codec, loaded), loaded._replace(records=records))


def fork(
    store: RunStore,
    codec: Codec,
    run_id: str,
    new_id: str,
    *,
    again: Collection[str] = (),
    params: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Create a run with the present outcomes of another one, which stays as it is.

    What is made again is made with everything that needs it. The new run waits for a worker.

    Args:
        run_id: The other run.
        new_id: The id of the new one.
        again: Nodes that are made again: names of tasks, or the first digits of keys.
        params: New values of parameters; the nodes that read them are made again.

    Raises:
        RunNotFoundError: No run has the id ``run_id``.
        RunConflictError: Its steps were deleted; its target is not stored, and something is to be
            made again; or there is a run with the id ``new_id``.
        ArgumentError: It has no such node, or no node that reads such a parameter.
        SerializationError: The run is damaged, or signed with another key.
    """
    found = store.find(run_id)
    if found is None:
        raise RunNotFoundError(f"{store!r} has no run {run_id!r}", run_id)
    if found.trimmed:
        raise RunConflictError(f"the steps of run {run_id!r} were deleted", run_id)
    loaded = store.load(found.number)
    if not found.portable and (again or params):
        raise RunConflictError(
            f"the target of run {run_id!r} is not stored, because other processes could not read "
            "it, so it is not known what needs a node or a parameter",
            run_id,
        )
    graphs = graphs_of(codec, loaded)
    changed = dict(params or {})
    nodes = {node for name in again for node in _nodes_named(graphs, name)}
    nodes |= {node for name in changed for node in _readers(graphs, name)}
    new = NewRun(
        new_id,
        found.target,
        found.root,
        loaded.program,
        codec.dumps({**codec.loads(loaded.params), **changed}) if changed else loaded.params,
        without_limits(loaded.code),
        found.priority,
        parent=run_id,
        contents=_contents(store, loaded, graphs, graphs.downstream(nodes)),
    )
    (created,) = store.create([new])
    if not created.new:
        raise RunConflictError(f"there is a run {new_id!r} already", new_id)
    return created.run


def _nodes_named(graphs: StoredGraphs, name: str) -> list[Node]:
    found = [node for node, task in graphs.names.items() if task == name]
    if not found and len(name) >= _DIGITS:
        keys = [node for node in graphs.names if isinstance(node, bytes)]
        found = [node for node in keys if node.hex().startswith(name)]
    if not found:
        known = sorted({*graphs.names.values()} - {""})
        near = did_you_mean(name, known) or f"; its tasks: {', '.join(known)}"
        raise ArgumentError(f"the run has no node {short(name)}{near}")
    return found


def _readers(graphs: StoredGraphs, name: str) -> list[Node]:
    found = [node for node, param in graphs.params.items() if param == name]
    if not found:
        known = sorted(set(graphs.params.values()))
        near = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
        raise ArgumentError(f"the run has no parameter {short(name)}{near}")
    return found


def _contents(
    store: RunStore, loaded: Loaded, graphs: StoredGraphs, dropped: set[Node]
) -> Contents:
    """The rows of a run, without those of some nodes."""
    keys = {node for node in dropped if isinstance(node, bytes)}
    chunks = [kept for chunk in chunks_of(loaded) if (kept := without(chunk, keys)) is not None]
    large = {
        bytes.fromhex(row.body.decode())
        for row in graphs.rows
        if row.kind == BLOB and row.key not in keys
    }
    records = [record for record in loaded.records if record.key not in keys]
    large.update(*[digests_in(record.body) for record in graphs.records if record.key not in keys])
    blobs = store.blobs(loaded.run.number, large) if large else {}
    return Contents(chunks, records, [Blob(digest, body) for digest, body in blobs.items()])
