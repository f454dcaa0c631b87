"""Queues of ready items: in order of arrival (a ``deque``), or by priority."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Ready(Protocol):
    """A queue whose methods are atomic: they run in C while the thread holds the GIL."""

    def append(self, item: Any, /) -> None: ...
    def appendleft(self, item: Any, /) -> None: ...
    def popleft(self) -> Any: ...
    def clear(self) -> None: ...
    def copy(self) -> Iterable[Any]: ...
    def __getitem__(self, place: int, /) -> Any: ...
    def __len__(self) -> int: ...


class ByPriority:
    """Ready items by priority, lowest number first, in order of arrival among equals.

    Args:
        priority: Returns a number, or something else that can be compared.
    """

    def __init__(self, priority: Callable[[Any], Any]) -> None:
        self._priority = priority
        self._heap: list[tuple[Any, int, Any]] = []
        self._arrival = itertools.count()

    def append(self, item: Any) -> None:
        heapq.heappush(self._heap, (self._priority(item), next(self._arrival), item))

    appendleft = append  # the priority decides

    def popleft(self) -> Any:
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        self._heap.clear()

    def copy(self) -> list[Any]:
        return [item for _, _, item in sorted(self._heap)]

    def __getitem__(self, place: int) -> Any:
        return self._heap[place][2]

    def __len__(self) -> int:
        return len(self._heap)

    def first(self) -> tuple[Any, Any] | None:
        """The first item and its priority; None if there is none."""
        first = self._heap[:1]  # one step: other threads change it
        return (first[0][0], first[0][2]) if first else None
