"""TakenOnce: something that several threads may take, of which only the first gets it."""

from __future__ import annotations


class TakenOnce:
    """The base class of calls that one thread ends, and another may find late."""

    __slots__ = ("_untaken",)

    def __init__(self) -> None:
        self._untaken = [None]

    def take(self) -> bool:
        """Decide what becomes of it; True for the first caller only. From any thread."""
        try:
            self._untaken.pop()  # atomic
        except IndexError:
            return False
        return True
