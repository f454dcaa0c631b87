"""Begun: which turns of a cluster's executors have begun, kept in one place of the cluster.

Clusters make a task again when its worker has ended. So a worker asks here before it begins a turn,
and the first one that asks gets it, unless the driver has withdrawn it before. The code goes to the
cluster by value: that place needs no Cascade.
"""

from __future__ import annotations

from typing import Any


class Begun:
    """The turns of all executors of one cluster. Not thread-safe."""

    def __init__(self) -> None:
        #: Owner → number of a turn → the worker that has begun it; "" if it was withdrawn.
        self.turns: dict[str, dict[int, str]] = {}

    def begin(self, owner: str, turn: int, worker: str) -> str | None:
        """None if the worker may begin the turn; otherwise the worker that has begun it before."""
        turns = self.turns.setdefault(owner, {})
        if turn in turns:
            return turns[turn]
        turns[turn] = worker
        return None

    def withdraw(self, owner: str, turns: list[int]) -> list[int]:
        """Withdraw turns that have not begun; returns these."""
        known: Any = self.turns.setdefault(owner, {})
        found = [turn for turn in turns if turn not in known]
        known.update(dict.fromkeys(found, ""))
        return found

    def begun_by(self, worker: str) -> list[tuple[str, int]]:
        """The owners and numbers of the turns that a worker has begun."""
        return [
            (owner, turn)
            for owner, turns in self.turns.items()
            for turn, by in turns.items()
            if by == worker
        ]

    def forget(self, owner: str, turns: list[int]) -> None:
        """Forget turns that no worker can begin any more."""
        known = self.turns.get(owner, {})
        for turn in turns:
            known.pop(turn, None)

    def forget_owner(self, owner: str) -> None:
        """Forget all turns of an executor that has ended."""
        self.turns.pop(owner, None)
