"""NodeState: the progress of a node in a run, for drawings."""

from __future__ import annotations

from dataclasses import dataclass


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
