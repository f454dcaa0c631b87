"""SharedRateRule: a rate limit whose tokens come from a bucket in a store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cascade.runtime.limits.ledger import BUCKET, Rate
from cascade.runtime.limits.rules import BaseRule, Constraint, per_second

if TYPE_CHECKING:
    from cascade.runtime.limits.permits import Holding

#: Seconds that a round to a store may take: the attempts that a rate allows in this time may begin
#: at once.
_SLACK = 0.05
#: The part of a bucket that is lent, at most.
_LENT_OF_ALL = 1 / 8
#: Most seconds for which tokens are lent.
_LENT_FOR = 1.0


class SharedRateRule(BaseRule):
    """The same as RateRule, together with other processes.

    A token is taken out of the bucket in the store for each attempt. Some more may be *lent* to the
    process, for its next attempts: those that come in a time ``hold``. The bucket is smaller by as
    many, so in any time t at most ``size + t * rate`` attempts begin all the same, when every lent
    token is used within ``hold`` or not at all. A small or slow bucket lends none. ``size`` is the
    burst, or the tokens of a twentieth of a second if that is more.

    Tokens of attempts that did not begin are lost: by the time they would come back, others may
    have used their share.

    Args:
        constraint: With the name of the bucket.
        expires: As for every rule.
        time: The time of tokens, from that of the manager.

    Attributes:
        bucket: Its name.
        ticket: What a ticket calls it.
        rate: The bucket, as all processes have to know it.
        wish: How many tokens it would borrow.
        most_lent: The upper bound of ``wish``.
    """

    __slots__ = (
        "_hold",
        "_opens",
        "_time",
        "_tokens",
        "_until",
        "bucket",
        "most_lent",
        "rate",
        "ticket",
        "wish",
    )

    def __init__(
        self, constraint: Constraint, expires: float, time: Callable[[float], float]
    ) -> None:
        super().__init__(constraint, expires)
        assert constraint.shared is not None
        speed = per_second(constraint.value)
        size = max(float(constraint.burst), speed * _SLACK)
        self.most_lent = int(min(size * _LENT_OF_ALL, speed * _LENT_FOR))
        self._hold = self.most_lent / speed
        self.bucket = constraint.shared
        self.ticket = BUCKET + constraint.shared
        text = f"{constraint.value} with burst {constraint.burst}"
        self.rate = Rate(speed, size - self.most_lent, text)
        self.wish = min(1, self.most_lent)
        self._time = time
        self._tokens = 0
        self._until = -math.inf
        self._opens = math.inf

    def room(self, now: float) -> float:
        if self._tokens and self._time(now) > self._until:
            self._tokens = 0
            self.wish = max(self.wish // 2, min(1, self.most_lent))  # it has borrowed too many
        return self._tokens

    def enter(self, permit: Holding) -> None:
        self._tokens -= permit.calls
        if not self._tokens:
            self.wish = min(2 * self.wish, self.most_lent)

    def opens(self, now: float) -> float:
        return max(self._opens, now)  # at once, if this is looked at late

    def put(self, tokens: int) -> None:
        """Add tokens, to be used before anything else happens; then call ``keep``."""
        self._tokens += tokens
        self._until = math.inf

    def keep(self, at: float, opens: float) -> None:
        """Keep the unused tokens among the tokens that the store gave out at the time ``at``.

        Args:
            opens: When it pays to ask again, on the manager's clock; inf if that will be told.
        """
        self._opens = opens
        self._until = at + self._hold

    def succeed(self, before: object, now: float) -> None:
        if isinstance(before, SharedRateRule) and before.bucket == self.bucket:
            self._tokens, self._until = before._tokens, before._until

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self._opens += seconds


def shared_among(rules: Iterable[BaseRule]) -> tuple[SharedRateRule, ...]:
    """The shared ones of some rules."""
    return tuple([rule for rule in rules if isinstance(rule, SharedRateRule)])
