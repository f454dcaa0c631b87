"""NodeState: how far a node came in a run, for who draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeState:
    """How far one node came.

    ``visualize(target, states=…)`` takes a mapping of these; ``History.states`` is one.
    """

    #: ``"waiting"``, ``"running"``, ``"retrying"``, ``"finished"``, ``"cached"``, ``"failed"``,
    #: ``"skipped"`` and ``"cancelled"`` have colours; any other word is drawn without one.
    state: str
    #: How long it took; None where it did not run, or runs still.
    seconds: float | None = None
    #: A word more, like the message of an error; drawings cut it to a line.
    note: str = ""
