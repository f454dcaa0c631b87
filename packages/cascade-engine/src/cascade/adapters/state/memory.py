"""InMemoryStateBackend: results of nodes in a dict."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from cascade.spec.checks import check_count


class InMemoryStateBackend:
    """Keeps results until they are cleared, or replaced by newer ones.

    Args:
        max_nodes: Most nodes that are remembered; the oldest are removed. None for no limit.

    Raises:
        ArgumentError: ``max_nodes`` is not an int ≥ 1.

    >>> state = InMemoryStateBackend(max_nodes=1)
    >>> state.put_result("a", 1)
    >>> state.put_result("b", 2)
    >>> state.has_result("a"), state.get_result("b")
    (False, 2)
    """

    def __init__(self, max_nodes: int | None = None) -> None:
        if max_nodes is not None:
            check_count("max_nodes", max_nodes)
        self._max_nodes = max_nodes
        self._lock = threading.Lock()
        # node id → (skipped?, value or reason), the oldest first
        self._kept: OrderedDict[str, tuple[bool, Any]] = OrderedDict()

    def put_result(self, node_id: str, result: Any) -> None:
        self._put(node_id, (False, result))

    def get_result(self, node_id: str) -> Any:
        skipped, result = self._kept.get(node_id, (True, None))
        if skipped:
            raise KeyError(node_id)
        return result

    def has_result(self, node_id: str) -> bool:
        return not self._kept.get(node_id, (True, None))[0]

    def put_skip_reason(self, node_id: str, reason: str) -> None:
        self._put(node_id, (True, reason))

    def get_skip_reason(self, node_id: str) -> str | None:
        skipped, reason = self._kept.get(node_id, (False, None))
        return reason if skipped else None

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def _put(self, node_id: str, outcome: tuple[bool, Any]) -> None:
        with self._lock:
            self._kept[node_id] = outcome
            self._kept.move_to_end(node_id)
            if self._max_nodes is not None and len(self._kept) > self._max_nodes:
                self._kept.popitem(last=False)
