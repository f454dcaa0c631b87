"""``on_code_change="recompute"``: what the old code of a run has computed is dropped (D9).

Dropped are the outcomes of nodes whose tasks have changed, and of all that needs one of them; of a
task that has returned a graph, also what was computed of that. An agent under way keeps the
arguments of its present step, which is made again with all that it has called so far. What a
transaction has committed is kept: its effect happens once (D5).

The code is then stored as that of the run, in the same commit, so a crash undoes both or neither.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey
from cascade.graph.records import digests_in
from cascade.graph.references import tasks_of
from cascade.graph.running_code import changed_tasks, running_code, to_document
from cascade.runtime.durable.code import Changes, stored_code
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.forking import graphs_of
from cascade.runtime.durable.programs import Program
from cascade.runtime.durable.rows import BLOB, CODE, without
from cascade.runtime.durable.stored_graphs import Node, StoredGraphs
from cascade.runtime.durable.wait_records import node_of
from cascade.spec.run_rows import Loaded, Record


class Recomputed(NamedTuple):
    """A stored run without the values that old code has computed.

    Attributes:
        loaded: The run.
        changes: Name of each task whose code has changed → what has.
    """

    loaded: Loaded
    changes: Changes


def without_changed(codec: Codec, loaded: Loaded, program: Program, desk: Desk) -> Recomputed:
    """Drop the values that the old code of a run has computed, with the next commit.

    Args:
        codec: Reads and signs records.
        loaded: The run.
        program: Its target.
        desk: Takes what is to be written.

    Raises:
        SerializationError: The run is damaged, or signed with another key.
    """
    stored = stored_code(codec, loaded)
    now = running_code(tasks_of(program.keys))
    changes = {} if stored is None else changed_tasks(stored, now)
    if not changes:
        return Recomputed(loaded, changes)
    graphs = graphs_of(codec, loaded)
    if loaded.program is None:  # it is not known what needs what
        dropped: set[Node] = {*(row.key for row in graphs.rows), *map(node_of, loaded.records)}
    else:
        dropped = _dropped(graphs, changes)
    keys = {node for node in dropped if isinstance(node, bytes)}
    keys -= {outcome.key for outcome in loaded.outcomes}
    left = _drop(loaded, graphs, keys, desk)
    body = codec.seal(json.dumps(to_document(now)).encode(), CODE.encode())
    desk.record(Record(CODE.encode(), CODE, 0, body))
    desk.tell()
    return Recomputed(left, changes)


def _dropped(graphs: StoredGraphs, changes: Changes) -> set[Node]:
    changed = {node for node, task in graphs.tasks.items() if task in changes}
    loops = {record.key for record in graphs.records if record.kind == "tail"} & changed
    inner = {row.key for row in graphs.rows if row.owner in loops}
    return graphs.downstream((changed - loops) | inner)


def _drop(loaded: Loaded, graphs: StoredGraphs, keys: set[NodeKey], desk: Desk) -> Loaded:
    """The run without the rows of some nodes, which are deleted."""
    chunks = []
    for chunk in loaded.chunks:
        kept = without(chunk, keys)
        if kept is None:
            desk.drop_chunk(chunk.number)
        else:
            chunks.append(kept)
            if kept.body != chunk.body:
                desk.replace_chunk(kept)
    records = []
    for record in loaded.records:
        if node_of(record) in keys:
            desk.drop_record(record.key)
        elif record.kind != CODE:
            records.append(record)
    for digest in _digests(graphs, keys, True) - _digests(graphs, keys, False):
        desk.drop_blob(digest)
    return loaded._replace(chunks=chunks, records=records)


def _digests(graphs: StoredGraphs, keys: set[NodeKey], dropped: bool) -> set[bytes]:
    """The large values of nodes that are dropped, or are not."""
    found = {
        bytes.fromhex(row.body.decode())
        for row in graphs.rows
        if row.kind == BLOB and (row.key in keys) is dropped
    }
    for record in graphs.records:
        if (record.key in keys) is dropped:
            found.update(digests_in(record.body))
    return found
