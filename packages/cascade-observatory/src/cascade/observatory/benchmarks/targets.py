"""Target: a figure that is to be reached, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound and what was measured.

    >>> Target("memory of a node", 950.0, at_most=1024, unit="B").met
    True
    >>> Target("speed-up", 1.5, at_least=2, unit="×").missed_by
    1.333...

    Attributes:
        what: What was measured.
        measured: In ``unit``.
        at_least: The least that will do; None where there is an upper bound.
        at_most: The most that will do; None where there is a lower bound.
    """

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"target '{self.what}' needs either at_least or at_most")

    @property
    def missed_by(self) -> float:
        """The factor between the bound and the measured figure; 1 or less is met."""
        if self.at_least is not None:
            return self.at_least / self.measured if self.measured else float("inf")
        assert self.at_most is not None
        return self.measured / self.at_most

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.missed_by <= 1
