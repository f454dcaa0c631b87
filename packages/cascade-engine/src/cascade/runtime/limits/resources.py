"""ResourceManager: named capacities, and the one queue of all who wait for a limit (rule R10).

A Ticket asks for what one attempt needs: amounts of capacities, and room under every constraint
that its task falls under. All of it is taken at once or nothing is, so nobody holds one thing while
waiting for another, and no two can wait for each other.

Order. First come, first served, for each limit that is short. Who waits for room under a constraint
gets it before any later one, but does not keep others from what it does not wait for. Who is only
short of capacities gets what is given back of those before any later one, and of the others that it
needs its amount is kept for it: what is left beyond that, others may have. So nobody waits while
there is room, and however many small ones come, a large one gets its turn. Who was short of
capacities and is now held up by a constraint (which may have closed meanwhile) keeps that claim, or
it might find now the one and now the other taken, for ever; under a pause it has none.

Cost. Tickets of one task with the same amounts wait in one line, and only the heads of lines are
looked at: a release costs a look at each line, however many wait in it.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.rules import PAUSE, Rule
from cascade.runtime.limits.tickets import (
    CALLED,
    INSIDE,
    NEW,
    OUT,
    WAITING,
    Admissions,
    Block,
    Ticket,
)
from cascade.spec.checks import is_amount, no_amount
from cascade.spec.errors import ArgumentError, CapacityError
from cascade.spec.nearby import names_known
from cascade.spec.wording import short

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cascade.spec.lazy_types import LazyResult


class ResourceManager:
    """What there is of each capacity, and who has it. Engines may share one; thread-safe.

    Args:
        capacities: Name → how much there is in all, more than 0.

    Raises:
        ArgumentError: A name is no identifier, or an amount no number above 0.
    """

    def __init__(self, capacities: Mapping[str, float] | None = None) -> None:
        capacities = {} if capacities is None else capacities
        _check_capacities(capacities)
        self._total = dict(capacities)
        #: Exact, or thousands of tenths would not add up to what was there.
        self._free = {name: exact(amount) for name, amount in capacities.items()}
        #: Of all that tickets and constraints do.
        self.lock = threading.Lock()
        #: Callbacks for when the lock is free: those of tickets' owners first, then the others.
        #: What raises leaves the rest to the next thread that comes by.
        self._owners: deque[Callable[[], None]] = deque()
        self.later: deque[Callable[[], None]] = deque()
        self._numbers = itertools.count()
        self._inside: dict[Ticket, None] = {}
        #: Of those, the ones whose owners were told and have not begun, in that order.
        self._called: dict[Ticket, None] = {}
        #: Those that wait for the same; OrderedDicts, as a dict forgets its first item in O(n).
        self._lines: dict[Hashable, OrderedDict[Ticket, None]] = {}

    @property
    def capacities(self) -> dict[str, float]:
        """How much there is in all, by name."""
        return dict(self._total)

    @property
    def available(self) -> dict[str, float]:
        """How much of it is free now."""
        with self.lock:
            return {name: _told(free) for name, free in self._free.items()}

    def holders(self, name: str) -> tuple[str, ...]:
        """The tasks that have some of a capacity now, in the order in which they got it."""
        with self.lock:
            return self._holders(name)

    def check(self, amounts: Iterable[tuple[str, float]], whose: str) -> None:
        """Refuse what can never be had.

        Raises:
            CapacityError: There is less in all, or there is no such capacity.
        """
        for name, amount in amounts:
            total = self._total.get(name)
            if total is None:
                some = amount or "some"
                raise CapacityError(
                    f"{whose} takes {some} of the capacity '{name}', but the engine has "
                    f"{names_known(name, self._total)}; say how much there is: "
                    f"Engine(system_resources={{'{name}': …}})",
                    name,
                )
            if exact(amount) > exact(total):
                raise CapacityError(
                    f"{whose} takes {amount} of the capacity '{name}', but there is {total} in "
                    "all, so it would wait for ever",
                    name,
                )

    def check_nodes(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse, before anything runs, nodes that take more than there is.

        Raises:
            CapacityError: Of a capacity, or some of one that there is none of.
        """
        for lazy in lazies:
            policies = lazy._policies
            if policies is not None and (policies.calls.capacities or policies.amounts):
                named = [(name, 0.0) for name in policies.amounts]
                amounts = [*policies.calls.capacities, *named]
                if any(amount > self._total.get(name, -1) for name, amount in amounts):
                    # Asking for the call's line takes far longer than all else here.
                    self.check(amounts, f"task '{lazy.name}' (called at {lazy.callsite})")

    # -- tickets ------------------------------------------------------------------------------

    def enter(self, ticket: Ticket) -> bool:
        """Let ``ticket`` in, or have it wait until it is told ``on_admitted``; whether it is in.

        One that was left already, or whose run lets nothing in any more, is refused: it is out.
        Cost: some 2 µs where nobody waits.
        """
        with self.lock:
            if ticket.state != NEW or ticket.admissions.closed:
                ticket.state = OUT
                return False
            ticket.number = next(self._numbers)
            ticket.admissions.tickets[ticket] = None
            if not self._lines:
                ticket.block = self._block(ticket, ticket.now(), _Claims())
            if not self._lines and ticket.block is None:
                ticket.state = INSIDE
            else:
                ticket.state = WAITING
                ticket.woken = True  # the asking call checks at once
                self._lines.setdefault(ticket.line, OrderedDict())[ticket] = None
                self._admit()
                ticket.woken = False
                if ticket.state == CALLED:
                    del self._called[ticket]
                    ticket.state = INSIDE
            is_in = ticket.state == INSIDE
        if self._owners or self.later:
            self._tell()
        return is_in

    def begin(self, ticket: Ticket) -> bool:
        """Whether the attempt of ``ticket``, which was told that it is in, begins now.

        If not, it is told again, as constraints have changed since; or it has left.
        """
        with self.lock:
            ticket.woken = False
            if ticket.state != CALLED:
                return False
            del self._called[ticket]
            ticket.state = INSIDE
            return True

    def leave(self, ticket: Ticket, unused: int = 0) -> None:
        """Give back what ``ticket`` has, let it wait no more, and in no more. May be repeated.

        Args:
            ticket: Any.
            unused: How many of its calls it has not made; at least one was.
        """
        with self.lock:
            before = ticket.state
            self._leave(ticket, unused)
            if not self._lines or before in (NEW, OUT):
                return
            self._admit()
        self._tell()

    def stop(self, admissions: Admissions) -> None:
        """Admit and queue no more tickets of a run; running calls keep their permits."""
        with self.lock:
            admissions.closed = True
            waiting = [t for t in admissions.tickets if t.state != INSIDE]
            if not waiting:
                return
            for ticket in waiting:
                self._leave(ticket)
            self._admit()
        self._tell()

    def close(self, admissions: Admissions) -> list[tuple[Ticket, str]]:
        """The same, at the end of a run; permits that it still holds by mistake are returned.

        Returns:
            Tickets that were not left, except those of abandoned calls, and their permits.
        """
        with self.lock:
            admissions.closed = True
            lost = [t for t in admissions.tickets if not t.outlives]
            if not lost:
                return []
            found = [(ticket, _held_by(ticket)) for ticket in lost]
            for ticket in lost:
                self._leave(ticket)
            self._admit()
        self._tell()
        return found

    def recall(self, constraints: Any, matches: Callable[[str], Any]) -> None:
        """Have those ask again that were let in and have not begun. Under the lock.

        Args:
            constraints: Those of the engine whose tickets are meant.
            matches: Tells whether tasks of a name are.
        """
        for ticket in reversed(list(self._called)):
            if ticket.constraints is constraints and matches(ticket.task):
                del self._called[ticket]
                self._give_back(ticket, ticket.calls)
                ticket.state, ticket.rules, ticket.block = WAITING, (), None
                line = self._lines.setdefault(ticket.line, OrderedDict())
                line[ticket] = None
                line.move_to_end(ticket, last=False)  # it came before all that wait there

    def reconsider(self) -> None:
        """Let in who can be, after constraints or the time have changed."""
        with self.lock:
            self._admit()
        self._tell()

    def waiting(self, run: Any) -> list[tuple[Ticket, str, tuple[str, ...]]]:
        """The tickets of a run that wait: for what limit, and which tasks hold that."""
        with self.lock:
            found = []
            for line in self._lines.values():
                block = next(iter(line)).block
                own = [ticket for ticket in line if ticket.run is run]
                if own and block is not None:
                    told = self._told_of(block)
                    found += [(ticket, *told) for ticket in own]
            return found

    def why(self, ticket: Ticket) -> tuple[str, tuple[str, ...]] | None:
        """For what limit a ticket waits, and which tasks hold it; None if it does not wait."""
        with self.lock:
            line = self._lines.get(ticket.line)
            block = next(iter(line)).block if line and ticket in line else None
            return None if block is None else self._told_of(block)

    def held_up_by(self, ticket: Ticket, others: Iterable[Ticket]) -> tuple[Ticket, str] | None:
        """Which of ``others`` has what ``ticket`` waits for, and cannot have until it leaves.

        With the limit, in words; None where it need not wait for any of them.
        """
        with self.lock:
            if ticket.state != WAITING:
                return None
            inside = [other for other in others if other.state == INSIDE]
            for name, amount in ticket.amounts:
                having = [t for t in inside if any(name == n for n, _ in t.amounts)]
                had = sum(a for t in having for n, a in t.amounts if n == name)
                if having and exact(self._total[name]) - had < amount:
                    return having[0], f"{_told(amount):g} of the capacity '{name}'"
            for rule in ticket.constraints.rules_of(ticket.task):
                holding = [t for t in inside if rule.has(t)]
                if holding and len(holding) >= int(rule.constraint.value or 0):
                    return holding[0], f"room under '{rule.constraint}'"
            return None

    def _tell(self) -> None:
        """What has to wait until the lock is free, because it runs code of others."""
        for calls in self._owners, self.later:
            while calls:
                try:
                    call = calls.popleft()
                except IndexError:  # another thread was faster
                    break
                call()

    # -- under the lock -----------------------------------------------------------------------

    def _admit(self) -> None:
        """Let in who can be, in their order, and have them told."""
        if not self._lines:
            return
        claims = _Claims()
        heads = [(next(iter(line)).number, key) for key, line in self._lines.items()]
        heapify(heads)
        while heads:
            key = heads[0][1]
            line = self._lines[key]
            ticket = next(iter(line))
            now = ticket.now()
            ticket.block = self._block(ticket, now, claims)
            if ticket.block is not None:
                ticket.look_again(ticket.block.until, now, self.reconsider)
                heappop(heads)
                continue
            ticket.call_off()
            ticket.state = CALLED
            self._called[ticket] = None
            if not ticket.woken:
                ticket.woken = True
                self._owners.append(ticket.on_admitted)
            del line[ticket]
            if line:
                heapreplace(heads, (next(iter(line)).number, key))
            else:
                del self._lines[key]
                heappop(heads)

    def _leave(self, ticket: Ticket, unused: int = 0) -> None:
        state, ticket.state = ticket.state, OUT
        ticket.admissions.tickets.pop(ticket, None)
        if state == WAITING:
            line = self._lines[ticket.line]
            del line[ticket]
            if not line:
                del self._lines[ticket.line]
            ticket.call_off()
        elif state in (CALLED, INSIDE):
            if state == CALLED:
                del self._called[ticket]
                unused = ticket.calls
            self._give_back(ticket, unused)

    def _block(self, ticket: Ticket, now: float, claims: _Claims) -> Block | None:
        """What keeps ``ticket`` out, which claims it; None if it has all that it needs now."""
        constraints = ticket.constraints
        rules = constraints.rules_for(ticket.task, now) if constraints.any else ()
        if rules:
            block = _block_by_rules(ticket, rules, now, claims)
            if block is not None:
                if ticket.was_short and not any(r.constraint.kind == PAUSE for r in rules):
                    claims.keep(ticket.amounts, self._free)
                return block
        else:
            ticket.calls = ticket.most
        if ticket.amounts and (short := claims.short(ticket.amounts, self._free)):
            claims.keep(ticket.amounts, self._free)
            ticket.was_short = True
            return Block(short)
        for name, amount in ticket.amounts:
            self._free[name] -= amount
        for rule in rules:
            rule.enter(ticket)
        ticket.rules = rules
        self._inside[ticket] = None
        return None

    def _give_back(self, ticket: Ticket, unused: int) -> None:
        del self._inside[ticket]
        for name, amount in ticket.amounts:
            self._free[name] += amount
        for rule in ticket.rules:
            rule.leave(ticket, unused)

    def _told_of(self, block: Block) -> tuple[str, tuple[str, ...]]:
        limit = block.limit
        if isinstance(limit, str):
            return f"capacity {limit}", self._holders(limit)
        return str(limit.constraint), limit.holders()

    def _holders(self, name: str) -> tuple[str, ...]:
        return tuple([t.task for t in self._inside if any(name == n for n, _ in t.amounts)])


class _Claims:
    """What those who wait keep later ones from, in one look at the queue."""

    __slots__ = ("kept", "rules")

    def __init__(self) -> None:
        #: Without room; others wait for it.
        self.rules: set[Rule] = set()
        #: Capacity → how much of what is free is somebody's; inf for all.
        self.kept: dict[str, Any] = {}

    def short(self, amounts: Iterable[tuple[str, Any]], free: Mapping[str, Any]) -> str | None:
        """The capacity of which there is not enough."""
        for name, amount in amounts:
            if free[name] - self.kept.get(name, 0) < amount:
                return name
        return None

    def keep(self, amounts: Iterable[tuple[str, Any]], free: Mapping[str, Any]) -> None:
        """Keep them for who is looked at; of what there is not enough of, all."""
        for name, amount in amounts:
            before = self.kept.get(name, 0)
            self.kept[name] = before + amount if free[name] - before >= amount else math.inf


def _block_by_rules(
    ticket: Ticket, rules: Iterable[Rule], now: float, claims: _Claims
) -> Block | None:
    """What constraint keeps a ticket out; None after saying for how many calls there is room."""
    calls: float = ticket.most
    block = None
    full = []
    for rule in rules:
        room = 0 if rule in claims.rules else rule.room(now)
        if room >= 1:
            calls = min(calls, room)
            continue
        until = min(rule.opens(now), rule.expires)
        if rule.constraint.kind == PAUSE:  # one that cannot run anyway keeps nobody from anything
            return Block(rule, until)
        full.append(rule)
        if block is None or until > block.until:
            block = Block(rule, until)
    claims.rules.update(full)
    ticket.calls = int(calls)
    return block


def _held_by(ticket: Ticket) -> str:
    """The permits of a ticket, in words."""
    if ticket.state == WAITING:
        return "a place in the queue"
    held = [f"{_told(amount):g} of the capacity '{name}'" for name, amount in ticket.amounts]
    held += [f"a place under '{rule.constraint}'" for rule in ticket.rules]
    return ", ".join(held) or "a ticket"


def exact(amount: float) -> Fraction | int:
    """An amount as it was written: 0.1 is a tenth."""
    # float(): subclasses, such as NumPy's, have another repr.
    return amount if isinstance(amount, int) else Fraction(repr(float(amount)))


def _told(amount: Fraction | int) -> float:
    return int(amount) if amount.denominator == 1 else float(amount)


def _check_capacities(capacities: Any) -> None:
    if not isinstance(capacities, Mapping):
        raise ArgumentError(
            "system_resources takes a dict of amounts by name, or a ResourceManager, but got "
            f"{short(capacities)}"
        )
    for name, amount in capacities.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(
                "the name of a capacity is that of an argument of with_constraints(), but got "
                f"{short(name)}"
            )
        if not is_amount(amount):
            raise no_amount("system_resources", name, amount)
        if not amount:
            raise ArgumentError(f"system_resources has 0 of '{name}'; leave it out")
