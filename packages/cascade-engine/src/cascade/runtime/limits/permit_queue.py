"""Permit queue: all permits that wait for a limit, in their order (rule R10).

A Permit asks for the needs of one attempt: amounts of capacities, and room under every constraint
on its task. It takes all of them at once or nothing. No permit therefore holds one thing while it
waits for another, and no two permits can wait for each other.

Order. Permits are granted in FIFO order per limit; those of a higher priority count as entered that
many seconds earlier (M24). A permit that waits for room under a constraint goes before any later
one, but holds up no permit that needs other limits. A permit that only lacks capacities goes before
any later one, and its share of every other capacity it needs is reserved; the rest goes to later
permits. So nothing waits while there is room, and a large request gets its turn however many small
ones come. A permit that lacked capacities and now waits for a constraint (which may have closed
meanwhile) keeps its reservation; otherwise it might find now the one and now the other taken, for
ever. Under a pause it has no reservation.

Cost. Permits of one task with the same amounts wait in one line, and only the heads of lines are
examined: a release costs one look per line, however many permits wait in it.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.amounts import exact, held_by
from cascade.runtime.limits.claims import Claims, block_by_rules, held_up_by
from cascade.runtime.limits.permits import (
    CALLED,
    INSIDE,
    NEW,
    OUT,
    WAITING,
    Admissions,
    Block,
    Holding,
    Permit,
    by_number,
    by_rank,
)
from cascade.runtime.limits.rules import PAUSE

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cascade.runtime.limits.sharing import Sharing


class PermitQueue:
    """The permits of the engines that share their capacities. Thread-safe.

    Args:
        total: Name of each capacity → its amount.

    Attributes:
        lock: Guards all state of permits and constraints.
        later: Callbacks to make after the lock is released, and after those of permits' owners.
        sharing: What is shared with other processes; None if nothing is.
    """

    def __init__(self, total: Mapping[str, float]) -> None:
        self._total = dict(total)
        #: Exact: with floats, thousands of tenths would not add up to the total.
        self._free = {name: exact(amount) for name, amount in total.items()}
        self.lock = threading.Lock()
        #: The callbacks of permits' owners, made before ``later``. If one raises, the next thread
        #: that comes by makes the rest.
        self._owners: deque[Callable[[], object]] = deque()
        self.later: deque[Callable[[], object]] = deque()
        self._numbers = itertools.count()
        #: Whether any waiting permit has a priority.
        self._ranked = False
        self._inside: dict[Holding, None] = {}
        #: Permits whose owners were told that they are in, and have not begun, in that order.
        self._called: dict[Permit, None] = {}
        #: Waiting permits with equal needs. OrderedDicts: removing a dict's first item is O(n).
        self._lines: dict[Hashable, OrderedDict[Permit, None]] = {}
        self.sharing: Sharing | None = None

    def take(self, holding: Holding) -> bool:
        """Take the amounts of a call without constraints, if it need not wait; whether it has them.

        Some 0.5 µs. It returns them with ``leave``, as a permit does.
        """
        amounts, free = holding.amounts, self._free
        with self.lock:
            if self._lines or holding.admissions.closed:
                return False
            if self.sharing is not None and not self.sharing.holds:
                return False
            for name, amount in amounts:
                if free[name] < amount:
                    return False
            for name, amount in amounts:
                free[name] -= amount
            holding.state = INSIDE
            holding.calls = 1
            holding.admissions.permits[holding] = self._inside[holding] = None
        return True

    def enter(self, permit: Permit) -> bool:
        """Admit ``permit``, or queue it until ``on_admitted`` is called; whether it is in.

        A permit that was left before, or whose run admits no more, is refused: it is out. Cost:
        some 2 µs if none waits.
        """
        with self.lock:
            if permit.state != NEW or permit.admissions.closed:
                permit.state = OUT
                return False
            permit.number = next(self._numbers)
            permit.admissions.permits[permit] = None
            if not self._lines:
                self._ranked = False
                permit.block = self._block(permit, permit.now(), Claims())
            if not self._lines and permit.block is None:
                permit.state = INSIDE
            else:
                permit.state = WAITING
                permit.entered = permit.now()
                if permit.priority:
                    self._ranked = True
                permit.woken = True  # the calling thread checks at once
                self._lines.setdefault(permit.line, OrderedDict())[permit] = None
                self._admit()
                permit.woken = False
                if permit.state == CALLED:
                    del self._called[permit]
                    permit.state = INSIDE
            is_in = permit.state == INSIDE
        if self._owners or self.later:
            self._tell()
        return is_in

    def begin(self, permit: Permit) -> bool:
        """Whether the attempt of ``permit``, whose owner was told that it is in, begins now.

        If not, constraints have changed meanwhile and the owner is told again; or it has left.
        """
        with self.lock:
            permit.woken = False
            if permit.state != CALLED:
                return False
            if self.sharing is None or not permit.amounts or self.sharing.holds:
                del self._called[permit]
                permit.state = INSIDE
                return True
            self._recall(permit)  # the process was stopped, and others may have its amounts
            self._admit()
        self._tell()
        return False

    def pause(self, permit: Permit) -> None:
        """Note that the attempt of ``permit``, which is in, waits; it calls ``begin`` again."""
        with self.lock:
            if permit.state == INSIDE:
                permit.state, permit.woken = CALLED, True
                self._called[permit] = None

    def leave(self, permit: Holding, unused: int = 0) -> None:
        """Return all that ``permit`` holds; it is out from then on. May be repeated.

        Args:
            permit: A permit in any state.
            unused: Number of its calls that were not made; at least one was made.
        """
        with self.lock:
            before = permit.state
            self._leave(permit, unused)
            if self._lines and before not in (NEW, OUT):
                self._admit()
            elif self.sharing is None:
                return
        self._tell()

    def stop(self, admissions: Admissions) -> None:
        """Admit and queue no more permits of a run; running calls keep their permits."""
        with self.lock:
            admissions.closed = True
            waiting = [t for t in admissions.permits if t.state != INSIDE]
            if not waiting:
                return
            for permit in waiting:
                self._leave(permit)
            self._admit()
        self._tell()

    def close(self, admissions: Admissions) -> list[tuple[Holding, str]]:
        """Stop a run that has ended, and return permits that it still holds by mistake.

        Returns:
            The permits that were not left, except those of abandoned calls; with their holdings.
        """
        with self.lock:
            admissions.closed = True
            lost = [t for t in admissions.permits if not t.outlives]
            if not lost:
                return []
            found = [(permit, held_by(permit)) for permit in lost]
            for permit in lost:
                self._leave(permit)
            self._admit()
        self._tell()
        return found

    def recall(self, constraints: Any, matches: Callable[[str], Any]) -> None:
        """Make admitted permits that have not begun ask again. Under the lock.

        Args:
            constraints: Only permits under this engine's constraints.
            matches: Only permits of tasks with a name that this accepts.
        """
        for permit in reversed(list(self._called)):
            if permit.constraints is constraints and matches(permit.task):
                self._recall(permit)

    def reconsider(self) -> None:
        """Admit waiting permits after constraints or the time have changed."""
        with self.lock:
            self._admit()
        self._tell()

    def waiting(self, run: Any) -> list[tuple[Permit, str, tuple[str, ...]]]:
        """The waiting permits of a run: the limit of each, and the tasks that hold it.

        Args:
            run: The run; None for all.
        """
        with self.lock:
            found = []
            for line in self._lines.values():
                block = next(iter(line)).block
                own = [permit for permit in line if run is None or permit.run is run]
                if own and block is not None:
                    why = self._told_of(block)
                    found += [(permit, *why) for permit in own]
            return found

    def why(self, permit: Permit) -> tuple[str, tuple[str, ...]] | None:
        """The limit that a permit waits for, and its holders; None if it does not wait."""
        with self.lock:
            line = self._lines.get(permit.line)
            block = next(iter(line)).block if line and permit in line else None
            return None if block is None else self._told_of(block)

    def held_up_by(self, permit: Permit, others: Iterable[Holding]) -> tuple[Holding, str] | None:
        """The permit among ``others`` that blocks ``permit`` until it leaves, with the limit."""
        with self.lock:
            return held_up_by(permit, others, self._total)

    def _tell(self) -> None:
        """Make the calls that run foreign code, and therefore waited until the lock was free."""
        for calls in self._owners, self.later:
            while calls:
                try:
                    call = calls.popleft()
                except IndexError:  # another thread was faster
                    break
                call()

    # -- under the lock -----------------------------------------------------------------------

    def _admit(self) -> None:
        """Admit waiting permits in their order, and note whom to tell."""
        if not self._lines:
            return
        claims = Claims()
        place = by_rank if self._ranked else by_number
        heads = [(place(next(iter(line))), key) for key, line in self._lines.items()]
        heapify(heads)
        while heads:
            key = heads[0][1]
            line = self._lines[key]
            permit = next(iter(line))
            now = permit.now()
            permit.block = self._block(permit, now, claims)
            if permit.block is not None:
                permit.look_again(permit.block.until, now, self.reconsider)
                heappop(heads)
                continue
            permit.call_off()
            permit.state = CALLED
            self._called[permit] = None
            if not permit.woken:
                permit.woken = True
                self._owners.append(permit.on_admitted)
            del line[permit]
            if line:
                heapreplace(heads, (place(next(iter(line))), key))
            else:
                del self._lines[key]
                heappop(heads)

        if self.sharing is not None and self._lines:
            self.sharing.notice()

    def _recall(self, permit: Permit) -> None:
        """Make a permit that has not begun the first one of its line again."""
        del self._called[permit]
        self._give_back(permit, permit.calls)
        permit.state, permit.rules, permit.block = WAITING, (), None
        line = self._lines.setdefault(permit.line, OrderedDict())
        line[permit] = None
        line.move_to_end(permit, last=False)  # it came before all that wait there

    def _leave(self, permit: Holding, unused: int = 0) -> None:
        state, permit.state = permit.state, OUT
        permit.admissions.permits.pop(permit, None)
        if state == INSIDE:
            self._give_back(permit, unused)
        elif state == WAITING:
            assert isinstance(permit, Permit)
            line = self._lines[permit.line]
            del line[permit]
            if not line:
                del self._lines[permit.line]
            permit.call_off()
        elif state == CALLED:
            assert isinstance(permit, Permit)
            del self._called[permit]
            self._give_back(permit, permit.calls)

    def _block(self, permit: Permit, now: float, claims: Claims) -> Block | None:
        """The limit that keeps ``permit`` out, which it claims; None if it can come in."""
        constraints = permit.constraints
        rules = constraints.rules_for(permit.task, now) if constraints.any else ()
        if rules:
            block = block_by_rules(permit, rules, now, claims)
            if block is not None:
                if permit.was_short and not any(r.constraint.kind == PAUSE for r in rules):
                    claims.keep(permit.amounts, self._free)
                return block
        else:
            permit.calls = permit.most
        if self.sharing is not None:
            self.sharing.check()
        if permit.amounts and (short := claims.short(permit.amounts, self._free)):
            if self.sharing is None:  # else the store reserves
                claims.keep(permit.amounts, self._free)
                permit.was_short = True
            return Block(short)
        for name, amount in permit.amounts:
            self._free[name] -= amount
        for rule in rules:
            rule.enter(permit)
        permit.rules = rules
        self._inside[permit] = None
        return None

    def _give_back(self, permit: Holding, unused: int) -> None:
        del self._inside[permit]
        if self.sharing is not None:
            self.sharing.give_back(permit.amounts)
        else:
            for name, amount in permit.amounts:
                self._free[name] += amount
        for rule in permit.rules:
            rule.leave(permit, unused)

    def _told_of(self, block: Block) -> tuple[str, tuple[str, ...]]:
        limit = block.limit
        if isinstance(limit, str):
            store = " (its store fails)" if self.sharing and self.sharing.trouble else ""
            return f"capacity {limit}{store}", self._holders(limit)
        return str(limit.constraint), limit.holders()

    def _holders(self, name: str) -> tuple[str, ...]:
        tasks = tuple([t.task for t in self._inside if any(name == n for n, _ in t.amounts)])
        return tasks if self.sharing is None else tasks + self.sharing.holders(name)
