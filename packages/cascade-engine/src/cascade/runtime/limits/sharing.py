"""Sharing: the capacities and rates of a process that it shares with others, through a store.

The ledger in the store grants amounts to the process for its attempts, and the process returns them
when the attempts end. The queue of the process (``permit_queue``) gives granted amounts to its
attempts in their order. The ledger reserves amounts for attempts that wait, because only the ledger
knows the free amounts. An attempt that finds no free amount in the process waits until a *round* to
the store has brought its amounts.

A process whose lease is over (``membership``) begins no call on the amounts that it holds, because
other processes may have got them. Calls under way cannot be stopped. The next statement of the
process puts them into the ledger again, which grants nothing on top of them. If the store fails,
attempts wait, and calls under way go on.

A thread makes the rounds to a database. In a store in memory, the thread with a statement makes
the round itself.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakMethod, finalize

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.limits.amounts import told
from cascade.runtime.limits.clerk import Clerk, clock
from cascade.runtime.limits.demand import demand, loops_of, time_of
from cascade.runtime.limits.ledger import BUCKET, Answer, Rate, Statement
from cascade.runtime.limits.membership import ConflictError, Membership, limits_of, process_of
from cascade.runtime.limits.rules import BaseRule, Constraint
from cascade.runtime.limits.shared_rates import SharedRateRule, shared_among
from cascade.spec.errors import ArgumentError, StoreError

if TYPE_CHECKING:
    from cascade.runtime.limits.permit_queue import PermitQueue
    from cascade.spec.run_store import RunStore

_log = logging.getLogger("cascade.limits")

#: Most tickets of a process at a time; others of its attempts follow.
_MOST_TICKETS: Final = 64
#: Seconds for which a process may use an amount again without asking, if no other one waited.
_REUSE: Final = 0.02
#: Seconds between looks while amounts are awaited: the first, and the longest.
_FIRST_LOOK, _LONGEST_LOOK = 0.001, 0.01
#: The longest one where the store notifies this process of changes.
_LONGEST_WITH_NEWS: Final = 0.1
#: Seconds between attempts to use a store that fails: the first, and the longest.
_FIRST_RETRY, _LONGEST_RETRY = 0.05, 1.0
#: Seconds after which an answer is too old to begin calls on its tokens.
_LATE: Final = 1.0


class Sharing:
    """The part of a Capacities that it shares with other processes.

    Its methods are called under the lock of the queue, unless they say otherwise.

    Args:
        queue: The capacities of this process.
        store: Where the limits are.
        totals: The total amounts.
        lease: Seconds.

    Attributes:
        store, lease: As they were given.
        trouble: Why nothing is granted at present; empty if nothing is wrong.

    Raises:
        ArgumentError: ``store`` or ``lease`` cannot be used.
        CapacityError: Another process knows another total.
        StoreError: The store cannot be used.
    """

    def __init__(
        self,
        queue: PermitQueue,
        store: RunStore | str,
        totals: Mapping[str, Fraction | int],
        lease: float,
    ) -> None:
        self._queue = queue
        self._totals = dict(totals)
        self.store, self.lease = store, lease
        limits = limits_of(store)
        self._is_local = limits.local
        try:
            self._member = Membership(limits, self._totals, lease)
            self._member.join()
        except BaseException:
            limits.close()
            raise
        self._rules: WeakKeyDictionary[Any, tuple[SharedRateRule, ...]] = WeakKeyDictionary()
        #: The amounts that the store has granted: those in use, and the free ones of the queue.
        self._granted: dict[str, Any] = dict.fromkeys(totals, 0)
        #: The parts of the last statement in the store that other processes read.
        self._said: tuple[Any, ...] | None = None
        self._answer: Answer | None = None
        self._reuse_until = -math.inf
        self._look, self._retry = _FIRST_LOOK, _FIRST_RETRY
        #: Whether this listens to the store, which it does from its first wait on, and has heard.
        self._listens = self._has_heard = False
        self.trouble = ""
        self._is_applying = self._is_due = False
        #: Whether the calls before the last statement have their answer.
        self._is_answered = False
        #: Guards the two below it: one thread at a time makes rounds.
        self._rounds = threading.Lock()
        self._is_in_round = self._again = False
        #: The last time of an event loop, where the store has no clock.
        self._now = 0.0
        #: Virtual clocks that stand still until the store has answered.
        self._clocks: dict[VirtualLoop, Callable[[], None]] = {}
        self._clerk = Clerk(limits, self._member.name)
        self._ending = finalize(queue, self._clerk.end)
        if self._is_local:
            finalize(queue, limits.subscribe(_caller(self.make_round)))
        else:
            self._clerk.start(self.make_round)

    # -- for the queue ------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether its amounts are its own, so that calls may begin on them."""
        return self._member.is_valid and self._ending.alive

    def check(self) -> None:
        """Let go of free amounts if other processes may have got them."""
        if not self.holds:
            self._let_go()

    def give_back(self, amounts: Iterable[tuple[str, Any]]) -> None:
        """Return the amounts of a call that has ended."""
        # With several lines, the store decides which of them comes first.
        may_reuse = len(self._queue._lines) == 1 and clock() < self._reuse_until
        for name, amount in amounts:
            if may_reuse:
                self._queue._free[name] += amount
            else:
                self._granted[name] -= amount
        self.notice()

    def notice(self) -> None:
        """Note that there is something to tell the store."""
        if self._is_applying:
            return
        if VirtualLoop.was_used and not self._is_local:
            self._stop_clocks()  # of calls that wait since the last notice, too
        if self._is_due:
            return
        self._is_due = True
        if self._is_local:
            self._make_round_soon()
            return
        self._look = _FIRST_LOOK
        self._clerk.wake()

    def _make_round_soon(self) -> None:
        """Not at once: a permit that enters may be told that it is in only after it was told that
        it waits."""
        for loop in loops_of(self._queue):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self.make_round)
                return
        self._queue.later.append(self.make_round)

    def rule(self, constraint: Constraint, expires: float) -> SharedRateRule:
        """The rule for a shared rate limit, from now on."""
        return SharedRateRule(constraint, expires, _as_it_is if self._is_local else _real_time)

    def use(self, manager: Any, rules: Iterable[BaseRule]) -> None:
        """Note which rates an engine has from now on."""
        before, shared = self._rules.get(manager, ()), shared_among(rules)
        if before != shared:
            self._rules[manager] = shared
            self.notice()

    # -- for users; not under the lock --------------------------------------------------------

    def agree(self, rules: Iterable[SharedRateRule], manager: Any) -> None:
        """Make known the rates of new rules.

        Raises:
            ArgumentError: Another process, or another engine of this one, knows other ones.
            StoreError: The store cannot be used.
        """
        rates: dict[str, Rate] = {}
        others = [each for engine, each in self._rules.items() if engine is not manager]
        for rule in [*(rule for each in others for rule in each), *rules]:
            if rates.setdefault(rule.bucket, rule.rate) != rule.rate:
                raise ArgumentError(
                    f"the shared rate limit '{rule.bucket}' is {rule.rate.text} here, but "
                    f"{rates[rule.bucket].text} in another engine of this process"
                )
        try:
            self._member.agree(rates)
        except ConflictError as error:
            raise ArgumentError(str(error)) from None

    def free(self) -> dict[str, float]:
        """The amounts that were free in all processes when this one last asked."""
        free = self._totals if self._answer is None else self._answer.free
        return {name: max(told(free.get(name, 0)), 0) for name in self._totals}

    def holders(self, name: str) -> tuple[str, ...]:
        """The other processes that held some of a capacity when this one last asked."""
        found = () if self._answer is None else self._answer.holders.get(name, ())
        return tuple(dict.fromkeys(map(process_of, found)))

    def end(self) -> None:
        """Return all, and share nothing any more. May be repeated."""
        self._ending()

    # -- rounds; not under the lock -----------------------------------------------------------

    def make_round(self) -> float:
        """Make a statement to the store, and take the amounts and tokens that it grants.

        Returns:
            Seconds until there should be another round.
        """
        if not self._ending.alive:
            return math.inf
        with self._rounds:
            if self._is_in_round:  # another thread is, or this one further up
                self._again = True
                return math.inf
            self._is_in_round = True
        while True:
            try:
                pause = self._make_round()
            except BaseException:
                self._is_in_round = False
                raise
            self._queue._tell()
            self._go_on()
            with self._rounds:
                if not self._again:
                    self._is_in_round = False
                    return pause
                self._again = False

    def _make_round(self) -> float:
        try:
            wait = self._speak()
        except (StoreError, ConflictError) as error:
            self._note_trouble(str(error))
            pause, self._retry = self._retry, min(2 * self._retry, _LONGEST_RETRY)
            return pause
        if self.trouble:
            _log.warning("shared limits can be used again: %r", self._member.limits)
        self.trouble, self._retry = "", _FIRST_RETRY
        until_renewal = max(self._member.renew_at - clock(), 0.0)
        return until_renewal if wait is None else min(wait, until_renewal)

    def _speak(self) -> float | None:
        """Make a statement, and use the answer; seconds until the next one, if there is need."""
        started = clock()
        with self._queue.lock:
            self._is_due = False
            statement = self._statement()
        said = (statement.held, statement.wants, statement.rates)
        is_known = said == self._said and started < self._member.renew_at
        if is_known and not statement.wants and not self._is_local:
            self._is_answered = True
            return None
        answer = self._member.peek(statement) if is_known and not self._is_local else None
        if answer is None:
            now = self._now if self._is_local else None
            answer = self._member.state(statement, now)
            self._said = None if answer.granted else said
        with self._queue.lock:
            self._apply(answer, started)
        if len(statement.wants) == len(answer.granted):
            return None
        if answer.wait is not None:
            return answer.wait
        if not (self._listens or self._is_local):
            self._listens = True
            self._member.limits.subscribe(_caller(self._hear))
        longest = _LONGEST_WITH_NEWS if self._has_heard else _LONGEST_LOOK
        pause, self._look = self._look, min(1.5 * self._look, longest)
        return pause

    def _hear(self) -> None:
        """The store has news of other processes. In the store's thread."""
        self._has_heard = True
        self._clerk.wake()

    def _statement(self) -> Statement:
        """The present statement. It returns free amounts, which the queue does not use."""
        self._let_go()
        self._now = time_of(self._queue, self._now)
        wants, lacking = demand(self._queue, _MOST_TICKETS)
        rates = {rule.bucket: rule.rate for rules in self._rules.values() for rule in rules}
        return self._member.statement(dict(self._granted), rates)._replace(
            wants=wants, extras={rule.bucket: rule.wish for rule in lacking if rule.wish}
        )

    def _let_go(self) -> None:
        free = self._queue._free
        for name, amount in free.items():
            self._granted[name] -= amount
            free[name] = 0

    def _apply(self, answer: Answer, started: float) -> None:
        self._answer = answer
        is_late = clock() - started > _LATE and not self._is_local
        if self.holds:  # else the next statement returns the grants
            # Less than nothing is free if this process has come back from the dead.
            is_short = any(amount < 0 for amount in answer.free.values())
            may_reuse = not (answer.others_wait or is_short or self._is_local)
            self._reuse_until = started + _REUSE if may_reuse else -math.inf
            rules = {rule.bucket: rule for each in self._rules.values() for rule in each}
            for amounts in answer.granted:
                self._put(amounts, {} if is_late else rules)
            for bucket, tokens in answer.extras.items():
                if bucket in rules and not is_late:
                    rules[bucket].put(tokens)
            self._admit(rules.values(), answer, started)
        self._is_answered = answer.wait is None

    def _put(self, amounts: Mapping[str, Any], rules: Mapping[str, SharedRateRule]) -> None:
        for name, amount in amounts.items():
            if not name.startswith(BUCKET):
                self._granted[name] += amount
                self._queue._free[name] += amount
            elif name.removeprefix(BUCKET) in rules:
                rules[name.removeprefix(BUCKET)].put(1)

    def _admit(self, rules: Iterable[SharedRateRule], answer: Answer, started: float) -> None:
        """Let the queue use the grants at once."""
        self._is_applying = True
        try:
            self._queue._admit()
            for rule in rules:
                if self._is_local:
                    # Nothing tells of tokens, even if another attempt waits for an amount.
                    wait = math.inf if answer.tokens_in is None else answer.tokens_in
                    rule.keep(self._now, self._now + wait)
                else:
                    rule.keep(started, math.inf)
            if self._is_local and answer.tokens_in is not None:
                self._queue._admit()  # sets the alarms of those that wait
        finally:
            self._is_applying = False

    def _note_trouble(self, text: str) -> None:
        if not self.trouble:
            _log.warning("calls that need shared limits wait: %s", text)
        self.trouble = text
        self._said = None
        self._is_answered = True

    # -- virtual time -------------------------------------------------------------------------

    def _stop_clocks(self) -> None:
        """Let virtual clocks of waiting calls stand still until the store has answered."""
        for loop in loops_of(self._queue):
            if isinstance(loop, VirtualLoop) and loop not in self._clocks:
                self._clocks[loop] = loop.hold("the store of shared limits")

    def _go_on(self) -> None:
        """Let virtual clocks go on, after the calls have been told of the answer.

        A call that has come since the statement is not answered yet: the next round is for it.
        """
        with self._queue.lock:
            if self._is_answered and not self._is_due:
                self._start_clocks()
            self._is_answered = False

    def _start_clocks(self) -> None:
        clocks, self._clocks = self._clocks, {}
        for release in clocks.values():
            release()


def _as_it_is(now: float) -> float:
    return now


def _real_time(_now: float) -> float:
    return clock()


def _caller(method: Callable[[], object]) -> Callable[[], None]:
    """A function for a store to call at news, which does not keep the object alive."""
    weak = WeakMethod(method)

    def call() -> None:
        found = weak()
        if found is not None:
            found()

    return call
