"""Ledger: the shared amounts that each process holds, and the order in which processes get them.

The ledger is one document in a store. A process that shares limits is a *member* of it. A member
states its amounts in use and its wants, and the ledger grants free amounts. All rules are here;
stores only keep the document and change it for one member after the other.

Order. A *ticket* has the amounts and tokens that one attempt needs, all at once or nothing. Tickets
are numbered as they come. They are granted in the order of their numbers, and one that is short
reserves its share, as permits do in a process (``capacities``). A ticket is granted when its member
asks. No member waits for ever, because its ticket comes to the front.

Statements are absolute: a member says what it uses now, and not what it returns. If an answer gets
lost, with grants in it, the next statement sets it right.

Rates. A bucket fills with tokens by the store's clock, up to its size, and each ticket takes one
token out. Of the tokens that tickets leave over, some may be lent to a member beside the one that
it is granted, for some calls to come (``extras``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, Final, NamedTuple, TypeAlias

from cascade.runtime.limits.amounts import told
from cascade.runtime.limits.claims import Claims
from cascade.runtime.limits.rules import SLACK
from cascade.spec.errors import StoreError

Amount: TypeAlias = Fraction | int
#: Amounts by the name of a capacity; or tokens, by that of a bucket behind ``BUCKET``.
Amounts: TypeAlias = Mapping[str, Amount]

#: Before the name of a bucket. No capacity has a space in its name.
BUCKET: Final = "rate "
#: Version of the document.
_VERSION: Final = 1
#: Tokens that rounding may cost.
_ROUNDING: Final = 1e-9


class Rate(NamedTuple):
    """How a bucket fills."""

    per_second: float
    #: The most tokens in it.
    size: float
    #: As it was written, for messages.
    text: str


class Statement(NamedTuple):
    """The present use and the wants of a member."""

    #: Another number than before, so that others see that it lives.
    beat: int
    #: Seconds after which it is taken for dead, unless it has made another statement.
    lease: float
    #: The total amounts that it knows of.
    totals: Amounts
    #: The rates that it knows of, by bucket.
    rates: Mapping[str, Rate]
    #: The amounts that it uses.
    held: Amounts
    #: The needs of its waiting attempts, the first one first.
    wants: Sequence[Amounts]
    #: Tokens that it would use soon, by bucket.
    extras: Mapping[str, int]


class Answer(NamedTuple):
    """The reply to a statement."""

    #: The wants that were granted.
    granted: Sequence[Amounts]
    #: Tokens beside those, by bucket.
    extras: Mapping[str, int]
    #: The free amounts, by capacity.
    free: Amounts
    #: Other members that hold some of a capacity.
    holders: Mapping[str, Sequence[str]]
    #: Whether other members want something.
    others_wait: bool
    #: Seconds until there may be enough tokens, if that is all that is lacking; else None.
    wait: float | None
    #: Seconds until there may be enough tokens for one of the wants; None if none lacks only these.
    tokens_in: float | None
    #: Whether the document says something new.
    changed: bool


@dataclass(slots=True)
class Member:
    """A process in the ledger."""

    beat: int
    lease: float
    totals: dict[str, Amount]
    rates: dict[str, Rate]
    held: dict[str, Amount]
    wants: list[tuple[int, dict[str, Amount]]]


@dataclass(slots=True)
class _Bucket:
    """The tokens that were there at a time, and how they come."""

    tokens: float
    at: float
    per_second: float
    size: float

    def fill(self, now: float) -> None:
        passed = max(now - self.at, 0.0)  # less than nothing if the clock was set back
        self.tokens = min(self.size, self.tokens + passed * self.per_second)
        self.at = now


@dataclass(slots=True)
class Ledger:
    """The document, open for one change.

    Attributes:
        members: By name.
    """

    members: dict[str, Member] = field(default_factory=dict)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _next: int = 0

    @property
    def has_rates(self) -> bool:
        """Whether the time matters."""
        return bool(self._buckets) or any(member.rates for member in self.members.values())

    # -- members ------------------------------------------------------------------------------

    def forget(self, names: Collection[str]) -> bool:
        """Let members go, with all that they hold; whether there were any."""
        gone = [name for name in names if self.members.pop(name, None) is not None]
        return bool(gone)

    def conflict(self, me: str, totals: Amounts, rates: Mapping[str, Rate]) -> Conflict | None:
        """The first limit that another member knows otherwise."""
        for name, member in self.members.items():
            if name == me:
                continue
            for capacity, total in totals.items():
                theirs = member.totals.get(capacity, total)
                if theirs != total:
                    return Conflict(name, member.beat, capacity, told(total), told(theirs))
            for bucket, rate in rates.items():
                known = member.rates.get(bucket, rate)
                if known != rate:
                    return Conflict(name, member.beat, BUCKET + bucket, rate.text, known.text)
        return None

    # -- grants -------------------------------------------------------------------------------

    def state(self, me: str, statement: Statement, now: float) -> Answer:
        """Write down a member's statement, and grant it free amounts.

        Its rates and totals must be those of the others.
        """
        before = self.members.get(me)
        numbers = [number for number, _ in before.wants] if before else []
        missing = len(statement.wants) - len(numbers)
        if missing > 0:
            numbers += range(self._next, self._next + missing)
            self._next += missing
        wants = [
            (number, dict(amounts))
            for number, amounts in zip(numbers, statement.wants, strict=False)
        ]
        member = Member(
            statement.beat,
            statement.lease,
            dict(statement.totals),
            dict(statement.rates),
            {name: amount for name, amount in statement.held.items() if amount},
            wants,
        )
        said = before is None or (before.held, before.wants) != (member.held, member.wants)
        self.members[me] = member
        self._fill(now)
        granted, wait, tokens_in = self._grant(me, member)
        extras = self._lend(statement.extras, granted)
        others = [other for name, other in self.members.items() if name != me]
        return Answer(
            granted,
            extras,
            {name: amount for name, amount in self._free().items() if name in member.totals},
            self._holders(me, member.totals),
            any(other.wants for other in others),
            wait,
            tokens_in,
            said or bool(granted or extras),
        )

    def _grant(self, me: str, member: Member) -> tuple[list[Amounts], float | None, float | None]:
        """What is granted, ``wait`` and ``tokens_in``; see ``Answer``."""
        free, claims = self._free(), Claims()
        granted: list[Amounts] = []
        left: list[tuple[int, dict[str, Amount]]] = []
        ahead: dict[str, float] = {}
        waits: list[float | None] = []
        for whose, number, amounts in self._queue():
            short = claims.short(amounts.items(), free)
            if whose == me and short is None:
                granted.append(amounts)
                for name, amount in amounts.items():
                    free[name] -= amount
                    self._take(member, name, amount)
                continue
            claims.keep(amounts.items(), free)
            if whose == me:
                left.append((number, amounts))
                waits.append(self._wait(short, ahead) if short else None)
            for name, amount in amounts.items():
                ahead[name] = ahead.get(name, 0.0) + float(amount)
        member.wants = left
        times = [wait for wait in waits if wait is not None]
        tokens_in = min(times, default=None)
        return granted, tokens_in if len(times) == len(waits) else None, tokens_in

    def _take(self, member: Member, name: str, amount: Amount) -> None:
        if name.startswith(BUCKET):
            self._buckets[name.removeprefix(BUCKET)].tokens -= float(amount)
        else:
            member.held[name] = member.held.get(name, 0) + amount

    def _wait(self, short: str, ahead: Mapping[str, float]) -> float | None:
        """Seconds until a bucket has a token for those before, and one more."""
        if not short.startswith(BUCKET):
            return None
        bucket = self._buckets[short.removeprefix(BUCKET)]
        missing = ahead.get(short, 0.0) + 1 - bucket.tokens
        # Not for each token, if the bucket has room for several.
        group = min((bucket.size - 1) / bucket.per_second, SLACK)
        return max(missing / bucket.per_second, group)

    def _lend(self, extras: Mapping[str, int], granted: Sequence[Amounts]) -> dict[str, int]:
        """Lend tokens of the buckets from which one was granted.

        A member whose attempts wait for amounts would return tokens unused, and ask for them again,
        and each of these statements is news for all other members.
        """
        lent = {}
        for bucket, most in extras.items():
            if not any(BUCKET + bucket in amounts for amounts in granted):
                continue
            wanted = sum(int(amounts.get(BUCKET + bucket, 0)) for _, _, amounts in self._queue())
            count = min(most, floor(self._buckets[bucket].tokens + _ROUNDING) - wanted)
            if count > 0:
                self._buckets[bucket].tokens -= count
                lent[bucket] = count
        return lent

    def _queue(self) -> list[tuple[str, int, dict[str, Amount]]]:
        """All tickets, the first one first."""
        tickets = [
            (name, number, amounts)
            for name, member in self.members.items()
            for number, amounts in member.wants
        ]
        return sorted(tickets, key=lambda ticket: ticket[1])

    def _free(self) -> dict[str, Any]:
        """The free amounts; negative if a process has come back with amounts that others got."""
        free: dict[str, Any] = {
            BUCKET + name: floor(bucket.tokens + _ROUNDING)
            for name, bucket in self._buckets.items()
        }
        for member in self.members.values():
            for name, total in member.totals.items():
                free.setdefault(name, total)
        for member in self.members.values():
            for name, amount in member.held.items():
                free[name] = free.get(name, 0) - amount
        return free

    def _holders(self, me: str, names: Collection[str]) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        for whose, member in self.members.items():
            if whose != me:
                for name in member.held:
                    if name in names:
                        held.setdefault(name, []).append(whose)
        return held

    # -- rates --------------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        """Add the tokens that have come since the last look."""
        rates = {name: rate for each in self.members.values() for name, rate in each.rates.items()}
        for name, bucket in list(self._buckets.items()):
            bucket.fill(now)
            if name in rates:
                bucket.per_second, bucket.size = rates[name].per_second, rates[name].size
                bucket.tokens = min(bucket.tokens, bucket.size)
            elif bucket.tokens >= bucket.size:  # a new one would be the same
                del self._buckets[name]
        for name, rate in rates.items():
            if name not in self._buckets:
                self._buckets[name] = _Bucket(rate.size, now, rate.per_second, rate.size)

    # -- its document -------------------------------------------------------------------------

    @staticmethod
    def read(body: bytes | None) -> Ledger:
        """The ledger in a document.

        Raises:
            StoreError: It was not written by this version of Cascade.
        """
        if body is None:
            return Ledger()
        try:
            version, following, members, buckets = json.loads(body)
            if version == _VERSION:
                return Ledger(
                    {name: _member(fields) for name, fields in members.items()},
                    {name: _Bucket(*fields) for name, fields in buckets.items()},
                    following,
                )
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"the shared limits in the store cannot be read: {error}") from error
        raise StoreError(
            f"the shared limits in the store have version {version}, but this Cascade knows only "
            f"{_VERSION}: use the same cascade-engine in all processes"
        )

    def write(self) -> bytes:
        """Its document."""
        members = {name: list(self._fields(member)) for name, member in self.members.items()}
        buckets = {
            name: [bucket.tokens, bucket.at, bucket.per_second, bucket.size]
            for name, bucket in self._buckets.items()
        }
        return json.dumps([_VERSION, self._next, members, buckets], default=str).encode()

    @staticmethod
    def _fields(member: Member) -> Iterator[Any]:
        yield from (member.beat, member.lease, member.totals, member.rates, member.held)
        yield member.wants


class Conflict(NamedTuple):
    """A limit that two members know otherwise."""

    member: str
    #: The other member's.
    beat: int
    #: A capacity, or a bucket.
    limit: str
    ours: object
    theirs: object


def _member(fields: list[Any]) -> Member:
    beat, lease, totals, rates, held, wants = fields
    return Member(
        beat,
        lease,
        _amounts(totals),
        {name: Rate(*rate) for name, rate in rates.items()},
        _amounts(held),
        [(number, _amounts(amounts)) for number, amounts in wants],
    )


def _amounts(written: Mapping[str, Any]) -> dict[str, Amount]:
    """Whole numbers are written as such, others as ``"1/10"``."""
    return {name: a if type(a) is int else Fraction(a) for name, a in written.items()}
