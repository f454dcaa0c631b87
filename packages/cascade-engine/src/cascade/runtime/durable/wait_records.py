"""Records of waits: until when nodes wait, so that a crash does not prolong it (D10)."""

from __future__ import annotations

import json
from typing import Final

from cascade.graph.naming import NodeKey
from cascade.runtime.durable.desk import Desk
from cascade.spec.errors import SerializationError
from cascade.spec.run_rows import Record

#: Their kind.
WAIT: Final = "wait"
#: The end of their keys: a node that has waited may have a record of what it continues as.
_END: Final = b"/wait"


def node_of(record: Record) -> NodeKey:
    """The node of a record, of its wait or of what it continues as."""
    return record.key.removesuffix(_END) if record.kind == WAIT else record.key


class WaitRecords:
    """Until when the nodes of one run wait. Times are UTC, in seconds.

    Args:
        desk: Takes what is to be written.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._until: dict[NodeKey, float] = {}

    def load(self, record: Record) -> NodeKey:
        """Take over the record of an earlier process; returns the node.

        Raises:
            SerializationError: It is damaged.
        """
        key = record.key.removesuffix(_END)
        try:
            self._until[key] = float(json.loads(record.body)["until"])
            return key
        except (ValueError, TypeError, KeyError) as error:
            raise SerializationError(f"the record of a wait is damaged: {error}") from None

    def until(self, key: NodeKey) -> float | None:
        """When the wait of a node is over; None if it has not begun."""
        return self._until.get(key)

    def begin(self, key: NodeKey, owner: NodeKey | None, until: float) -> float:
        """Record that a node waits until a time, which is returned."""
        self._until[key] = until
        body = json.dumps({"until": until}).encode()
        self._desk.record(Record(key + _END, WAIT, 0, body, owner or b""))
        self._desk.tell()
        return until

    def end(self, key: NodeKey) -> None:
        """Drop the record of a node, if there is one."""
        if self._until.pop(key, None) is not None:
            self._desk.drop_record(key + _END)
