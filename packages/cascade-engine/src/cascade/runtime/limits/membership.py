"""Membership: a process as a member of the ledger in a store, and its lease.

A member gives a sign of life to the store every third of its lease. Another member takes back its
amounts if it has seen no sign for longer than the lease, by its own monotonic clock. So no setting
of a clock, on a machine or in the store, ends a lease. The member counts its lease from before the
sign, so its own count ends earlier than those of the others. On one machine, members find out that
a process has ended, and take back its amounts at once.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from asyncio import _get_running_loop
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cascade.adapters.processes import dead_among, own_name
from cascade.adapters.stores.urls import open_store
from cascade.runtime.limits.amounts import told
from cascade.runtime.limits.clerk import DOCUMENT, clock
from cascade.runtime.limits.ledger import (
    BUCKET,
    Amounts,
    Answer,
    Conflict,
    Ledger,
    Rate,
    Statement,
)
from cascade.spec.errors import ArgumentError, CapacityError
from cascade.spec.limit_store import Clock, LimitStore, Revised, SharesLimits
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.run_store import RunStore

_log = logging.getLogger("cascade.limits")

#: Seconds of a lease.
LEASE: Final = 10.0
#: Seconds of a lease, at least.
_SHORTEST_LEASE: Final = 0.5
#: How much longer than a lease others wait, because clocks differ in speed.
_MARGIN: Final = 1.1
#: Seconds between looks for processes of this machine that have ended, or for a sign of life.
_LOOK: Final = 0.1

#: The advice in a thread that must not wait.
_ASK_LATER: Final = (
    "whether that process still lives is known after its lease: to wait for that, make the "
    "Capacities before the event loop runs, or by asyncio.to_thread"
)

_numbers = itertools.count()


class ConflictError(Exception):
    """A limit is known otherwise by another member; nothing was written."""

    def __init__(self, conflict: Conflict) -> None:
        self.conflict = conflict
        what, name = "capacity", conflict.limit
        if name.startswith(BUCKET):
            what, name = "rate limit", name.removeprefix(BUCKET)
        super().__init__(
            f"the shared {what} '{name}' is {conflict.ours} here, but {conflict.theirs} in "
            f"{process_of(conflict.member)}; all processes must state the same: to change it, end "
            "the others first"
        )


class Membership:
    """A process in the ledger.

    Args:
        limits: The store.
        totals: The total amounts, as all processes have to know them.
        lease: Seconds.

    Attributes:
        name: Its name in the ledger.
        renew_at: When the lease should be renewed.

    Raises:
        ArgumentError: ``lease`` is too short.
    """

    def __init__(self, limits: LimitStore, totals: Amounts, lease: float) -> None:
        if lease < _SHORTEST_LEASE:
            raise ArgumentError(
                f"lease takes seconds, at least {_SHORTEST_LEASE:g}, but got {short(lease)}"
            )
        self.limits = limits
        self.name = f"{own_name()}/{next(_numbers)}"
        self.renew_at = -math.inf
        self._totals = totals
        self._lease = float(lease)
        self._pid = os.getpid()
        self._beat = 0
        self._until = -math.inf
        self._has_joined = False
        #: Others → their last signs, and when this process saw these first.
        self._seen: dict[str, tuple[int, float]] = {}
        self._dead: set[str] = set()
        self._next_look = -math.inf

    @property
    def is_valid(self) -> bool:
        """Whether the lease holds. After a fork, the child has none."""
        return self.limits.local or (clock() < self._until and os.getpid() == self._pid)

    def join(self) -> None:
        """Become a member.

        If another one knows another total, this waits for a sign that it lives, at most as long as
        its lease; but not in the thread of a running event loop, which would stand still.

        Raises:
            CapacityError: It does, or there is no time to find out.
            StoreError: The store cannot be used.
        """
        first: Conflict | None = None
        while True:
            try:
                self.state(self.statement({}, {}))
                return
            except ConflictError as error:
                conflict = error.conflict
                if first is None or first.member != conflict.member:
                    first = conflict
                if self.limits.local or first.beat != conflict.beat:
                    raise CapacityError(str(error), conflict.limit) from None
                if _get_running_loop() is not None:
                    raise CapacityError(f"{error}; {_ASK_LATER}", conflict.limit) from None
            time.sleep(_LOOK)

    def statement(self, held: Amounts, rates: Mapping[str, Rate]) -> Statement:
        """A statement without wants."""
        return Statement(self._beat, self._lease, self._totals, rates, held, (), {})

    def state(self, statement: Statement, now: float | None = None) -> Answer:
        """The answer to a statement, which the store has kept. This renews the lease.

        Args:
            now: The time, where the store has no clock.

        Raises:
            ConflictError: Another member knows a limit otherwise.
            StoreError: The store cannot be used.
        """
        started = clock()
        self._beat += 1
        statement = statement._replace(beat=self._beat)
        answer: Answer | None = None
        was_there = False

        def write(body: bytes | None, time: Clock) -> Revised | None:
            nonlocal answer, was_there
            ledger = Ledger.read(body)
            has_changed = ledger.forget(self._silent(ledger))
            self._check(ledger, statement.totals, statement.rates)
            was_there = self.name in ledger.members
            at = now
            if at is None:
                at = time() if statement.rates or ledger.has_rates else 0.0
            answer = ledger.state(self.name, statement, at)
            if self.limits.local and not (has_changed or answer.changed):
                return None  # no sign of life is needed, and each writing is told to all
            # A crash of the database may undo what is not lasting. The next statement repeats all
            # of it but grants.
            grants = bool(answer.granted or answer.extras)
            return Revised(ledger.write(), news=answer.others_wait, lasting=grants)

        self.limits.revise(DOCUMENT, write)
        if self._has_joined and not was_there:
            self._warn_of_loss(statement)
        self._has_joined = True
        self._until = started + self._lease
        self.renew_at = math.inf if self.limits.local else started + self._lease / 3
        assert answer is not None
        return answer

    def peek(self, statement: Statement) -> Answer | None:
        """The answer to the last statement, made again; None if there is something to write."""
        body, now = self.limits.read(DOCUMENT)
        ledger = Ledger.read(body)
        if self.name not in ledger.members or ledger.forget(self._silent(ledger)):
            return None
        answer = ledger.state(self.name, statement, now)
        return None if answer.changed else answer

    def agree(self, rates: Mapping[str, Rate]) -> None:
        """Write down further rates.

        Raises:
            ConflictError: Another member knows one otherwise.
            StoreError: The store cannot be used.
        """

        def write(body: bytes | None, _now: Clock) -> Revised:
            ledger = Ledger.read(body)
            ledger.forget(self._silent(ledger))
            self._check(ledger, {}, rates)
            if self.name in ledger.members:
                ledger.members[self.name].rates.update(rates)
            return Revised(ledger.write(), news=False)

        self.limits.revise(DOCUMENT, write)

    def _check(self, ledger: Ledger, totals: Amounts, rates: Mapping[str, Rate]) -> None:
        conflict = ledger.conflict(self.name, totals, rates)
        if conflict is not None:
            raise ConflictError(conflict)

    def _silent(self, ledger: Ledger) -> set[str]:
        """The members that live no more."""
        others = [name for name in ledger.members if name != self.name]
        if self.limits.local or not others:
            return set()
        now = clock()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            self._dead = set(dead_among(others))
        silent = self._dead.intersection(others)
        self._seen = {name: seen for name, seen in self._seen.items() if name in ledger.members}
        for name in others:
            member, seen = ledger.members[name], self._seen.get(name)
            if seen is None or seen[0] != member.beat:
                self._seen[name] = (member.beat, now)
            elif now - seen[1] > _MARGIN * member.lease:
                silent.add(name)
        return silent

    def _warn_of_loss(self, statement: Statement) -> None:
        used = [f"{told(a):g} of '{name}'" for name, a in statement.held.items() if a]
        _log.warning(
            "this process gave no sign of life for longer than its lease of %g s, so what it held "
            "of shared limits was taken back; %s",
            self._lease,
            f"its calls still use {', '.join(used)}, which others may use, too"
            if used
            else "it used nothing of them",
        )


def limits_of(store: RunStore | str) -> LimitStore:
    """Where a store keeps limits.

    Raises:
        ArgumentError: It keeps none.
        StoreError: It cannot be opened.
    """
    if isinstance(store, str):
        opened = open_store(store)
        try:
            return limits_of(opened)
        finally:
            opened.close()
    if not isinstance(store, SharesLimits):
        raise ArgumentError(
            "Capacities(store=…) takes the URL of a store, such as 'sqlite:///limits.db', or a "
            f"store that keeps limits, which has a method limits(), but got {short(store)}"
        )
    return store.limits()


def process_of(member: str) -> str:
    """The name of a member for people."""
    host, _boot, _namespace, pid, *_ = [*member.split("/"), *"????"]
    return f"process {pid} on {host}"
