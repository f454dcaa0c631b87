"""NodeState: the progress of a node in a run, for drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

#: The states of nodes, from the one that matters most where several are shown as one.
BY_WEIGHT: Final = (
    "failed",
    "retrying",
    "waiting",
    "running",
    "cancelled",
    "finished",
    "cached",
    "skipped",
)


@dataclass(frozen=True, slots=True)
class NodeState:
    """The progress of one node.

    ``visualize(target, states=…)`` takes a mapping of these; ``History.states`` is one.
    """

    #: ``"waiting"``, ``"running"``, ``"retrying"``, ``"finished"``, ``"cached"``, ``"failed"``,
    #: ``"skipped"`` and ``"cancelled"`` have colours; any other word is drawn without one.
    state: str
    #: Duration in seconds; None if it did not run, or still runs.
    seconds: float | None = None
    #: Additional text, such as the message of an error; drawings cut it to a line.
    note: str = ""


def heaviest(states: Collection[str]) -> str:
    """The state that matters most; if none of them has a weight, any one."""
    return next((state for state in BY_WEIGHT if state in states), next(iter(states)))


def state_of_several(states: Sequence[NodeState], count: int) -> NodeState | None:
    """The state of ``count`` nodes that are drawn as one, of which ``states`` are known."""
    if not states:
        return None
    counts = Counter(state.state for state in states)
    state = heaviest(counts)
    if len(counts) == 1 and len(states) == count:
        return NodeState(state)
    order = sorted(counts, key=lambda word: BY_WEIGHT.index(word) if word in BY_WEIGHT else -1)
    note = ", ".join(f"{counts[word]} {word}" for word in order)
    reason = next((one.note for one in states if one.state == state and one.note), "")
    return NodeState(state, None, f"{note}: {reason}" if reason else note)
