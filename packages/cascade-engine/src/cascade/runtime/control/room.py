"""Room: how many constraints an engine takes from outside."""

from __future__ import annotations

from collections.abc import Iterable

from cascade.runtime.control.messages import RefusedMessageError, Steering
from cascade.runtime.limits.rules import GLOBAL, PAUSE

#: Most constraints of an engine that come from outside; more are refused. Pauses are counted
#: separately, and one place is reserved for a global pause.
MOST_CONSTRAINTS = 1000


class Room:
    """The existing constraints, and whether there is room for one more."""

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        self._pauses: set[tuple[str, str]] = set()
        self._others: set[tuple[str, str]] = set()
        for key in keys:
            self._of(key[1]).add(key)

    def take(self, steering: Steering) -> None:
        """Note the request in a message.

        Raises:
            RefusedMessageError: It asks for more constraints than an engine accepts.
        """
        key = (steering.scope, steering.kind)
        there = self._of(steering.kind)
        if steering.constraint is None:
            there.discard(key)
            return
        if key not in there and len(there) >= MOST_CONSTRAINTS and key != (GLOBAL, PAUSE):
            what = "pauses" if steering.kind == PAUSE else "limits"
            raise RefusedMessageError(
                f"the engine has {len(there)} {what}, and takes no more than {MOST_CONSTRAINTS} "
                "from outside; remove some, or use a pattern for many tasks"
            )
        there.add(key)

    def _of(self, kind: str) -> set[tuple[str, str]]:
        return self._pauses if kind == PAUSE else self._others
