"""ConstraintManager: the rules from outside for an engine, which may change at any time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.rules import (
    CONCURRENCY,
    EARLY,
    KINDS,
    PAUSE,
    RATE_LIMIT,
    Constraint,
    Rule,
    check_scope,
    expiry,
    rule_for,
)
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

#: The rules of a task without any.
FREE: Final[tuple[Rule, ...]] = ()
#: Clocks that differ by at most this many seconds show the same time.
_SAME = 1e-3
#: Most names of tasks whose rules are cached.
_NAMES_KEPT = 4096


class ConstraintInfo(NamedTuple):
    """A constraint in force."""

    constraint: Constraint
    #: Seconds until it expires; None for never.
    seconds_left: float | None


class ConstraintManager:
    """The constraints of an engine: ``engine.constraints``.

    They apply to attempts that begin after they were set, also in active runs, on the graph path
    and on every tier of the virtual machine; in a spinning loop, within some milliseconds. Running
    calls go on. For each scope and kind the last constraint counts. Thread-safe.

    Args:
        capacities: Has the queue for permits that a constraint holds up.
        changed: Called after a constraint was set, removed or has expired, in the thread of the
            change.

    Attributes:
        any: Whether there are any constraints.
        found: Name of a task → its rules, FREE for none; a cache that each change replaces. May be
            read without a lock.
    """

    def __init__(
        self,
        capacities: Capacities,
        changed: Callable[[Constraint, str], None] = lambda *_: None,
    ) -> None:
        self.capacities = capacities
        self._changed = changed
        self.any = False
        self._rules: dict[tuple[str, str], Rule] = {}
        self.found: dict[str, tuple[Rule, ...]] = {}
        self._expires = math.inf
        self._clock: Callable[[], float] = time.monotonic

    # -- setting them -------------------------------------------------------------------------

    def set(self, constraint: Constraint) -> None:
        """Set ``constraint``, in place of one with its scope and kind.

        Raises:
            ArgumentError: It is not a Constraint.
        """
        if not isinstance(constraint, Constraint):
            raise ArgumentError(f"set() takes a cs.Constraint, but got {short(constraint)}")
        self.change({constraint.key: constraint})

    def change(self, wanted: Mapping[tuple[str, str], Constraint | None]) -> None:
        """Set or remove (None) several constraints at once, by scope and kind.

        This shares the cost of a change: the waiting permits are examined once.
        """
        loop = asyncio._get_running_loop()
        if loop is not None:  # time may be virtual there
            self.use_clock(loop.time)
        self._share([c for c in wanted.values() if c is not None and c.shared is not None])
        done: list[tuple[Rule, str]] = []
        with self.capacities.lock:
            now = self._forget_what_is_over()
            made = {key: self._rule(c, now) for key, c in wanted.items() if c is not None}
            for rule in made.values():  # all, before any takes over the counts of its predecessor
                self.capacities.recall(self, rule.matches)
            rules = dict(self._rules)
            for key in wanted:
                before = rules.get(key)
                if key in made:
                    rules[key] = made[key]
                    if before is not None:
                        made[key].succeed(before, now)
                    done.append((made[key], "set"))
                elif before is not None:
                    done.append((rules.pop(key), "removed"))
            self._put(rules)
        self._announce(done)
        self.capacities.reconsider()

    def _share(self, constraints: Iterable[Constraint]) -> None:
        """Make shared rate limits known to other processes, before they are set.

        Raises:
            ArgumentError: They have another rate, or nothing is shared.
            StoreError: The store cannot be used.
        """
        constraints = list(constraints)
        sharing = self.capacities.sharing
        if not constraints:
            return
        if sharing is None:
            raise ArgumentError(
                f"the rate limit cannot be shared as {constraints[0].shared!r}, because the engine "
                "shares nothing; give its capacities a store: "
                "Engine(capacities=cs.Capacities(store=…))"
            )
        sharing.agree([sharing.rule(constraint, math.inf) for constraint in constraints], self)

    def _rule(self, constraint: Constraint, now: float) -> Rule:
        sharing = self.capacities.sharing
        if constraint.shared is None or sharing is None:
            return rule_for(constraint, now)
        return sharing.rule(constraint, expiry(constraint, now))

    def pause(self, scope: str = "global", *, ttl: float | None = None) -> None:
        """Start no attempts, until ``resume`` or for ``ttl`` seconds."""
        self.set(Constraint(scope, PAUSE, ttl=ttl))

    def resume(self, scope: str = "global") -> bool:
        """Remove the pause of exactly this scope; whether there was one."""
        return self.remove(scope, PAUSE)

    def limit_concurrency(self, scope: str, most: int, *, ttl: float | None = None) -> None:
        """Run at most ``most`` attempts at the same time."""
        self.set(Constraint(scope, CONCURRENCY, most, ttl=ttl))

    def limit_rate(
        self,
        scope: str,
        rate: str,
        *,
        burst: int = 1,
        ttl: float | None = None,
        shared: str | None = None,
    ) -> None:
        """Start attempts at most at ``rate``, such as ``"10/s"``.

        Args:
            shared: A name under which all processes keep the rate together that use the store of
                ``Capacities(store=…)``. Setting it asks the store, some milliseconds.

        Raises:
            ArgumentError: Another process has another rate or burst under that name.
            StoreError: The store cannot be used.
        """
        self.set(Constraint(scope, RATE_LIMIT, rate, burst, ttl, shared))

    def remove(self, scope: str, kind: str | None = None) -> bool:
        """Remove the constraints of a scope, of one kind or of all; whether there were any.

        Raises:
            ArgumentError: There is no such scope or kind.
        """
        check_scope(scope)
        kinds = KINDS if kind is None else (Constraint(scope, kind, _any_value(kind)).kind,)
        with self.capacities.lock:
            self._forget_what_is_over()
            gone = [
                r for r in self._rules.values() if r.constraint.key in [(scope, k) for k in kinds]
            ]
            self._put({k: r for k, r in self._rules.items() if r not in gone})
        self._announce((rule, "removed") for rule in gone)
        self.capacities.reconsider()
        return bool(gone)

    def clear(self) -> None:
        """Remove all."""
        with self.capacities.lock:
            self._forget_what_is_over()
            gone = list(self._rules.values())
            self._put({})
        self._announce((rule, "removed") for rule in gone)
        self.capacities.reconsider()

    def active(self) -> list[ConstraintInfo]:
        """The constraints in force, in the order in which they were set."""
        now = self._clock()
        return [
            ConstraintInfo(
                rule.constraint, None if rule.expires == math.inf else rule.expires - now
            )
            for rule in self._rules.values()
            if rule.expires > now
        ]

    # -- asking them --------------------------------------------------------------------------

    def governs(self, task: str) -> bool:
        """Whether any applies to a task of this name. Cheap, however many there are."""
        if not self.any:
            return False
        return bool(self.rules_of(task))

    def alike(self, tasks: Iterable[str]) -> bool:
        """Whether the same rules apply to tasks of all these names."""
        if not self.any:
            return True
        return len({self.rules_of(task) for task in tasks}) == 1

    def rules_for(self, task: str, now: float) -> tuple[Rule, ...]:
        """The rules for a task of this name. Under the lock of the queue."""
        if now >= self._expires - EARLY:
            self._forget(now)
        return self.rules_of(task)

    def rules_of(self, task: str) -> tuple[Rule, ...]:
        """The same, without a lock; some may have expired."""
        found = self.found.get(task)
        return self._look_up(task) if found is None else found

    def _look_up(self, task: str) -> tuple[Rule, ...]:
        found = self.found  # it may be replaced meanwhile
        matching = [rule for rule in self._rules.values() if rule.matches(task)]
        if len(found) >= _NAMES_KEPT:
            found.clear()
        found[task] = rules = tuple(matching) or FREE
        return rules

    # -- changes ------------------------------------------------------------------------------

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Measure by another clock from now on, such as that of a loop in virtual time.

        Called at the beginning of each run. Expired rules are removed, on whichever clock they ran.
        """
        if clock != self._clock:
            self._change_clock(clock)
        if self.any and clock() >= self._expires - EARLY:
            with self.capacities.lock:
                self._forget_what_is_over()
            self.capacities.reconsider()

    def _change_clock(self, clock: Callable[[], float]) -> None:
        with self.capacities.lock:
            shift = clock() - self._clock()
            self._clock = clock
            if abs(shift) > _SAME:
                for rule in self._rules.values():
                    rule.shift(shift)
                self._put(self._rules)

    def _put(self, rules: dict[tuple[str, str], Rule]) -> None:
        """Replace the rules. Under the lock."""
        self._rules = rules
        self.found = {}
        if self.capacities.sharing is not None:
            self.capacities.sharing.use(self, rules.values())
        self._expires = min((rule.expires for rule in rules.values()), default=math.inf)
        self.any = bool(rules)

    def _forget_what_is_over(self) -> float:
        """Remove expired rules; returns the time. Under the lock."""
        now = self._clock()
        if now >= self._expires - EARLY:
            self._forget(now)
        return now

    def _forget(self, now: float) -> None:
        over = [r for r in self._rules.values() if now >= r.expires - EARLY]
        self._put({k: r for k, r in self._rules.items() if r not in over})
        self.capacities.later.append(lambda: self._announce((rule, "expired") for rule in over))

    def _announce(self, changes: Iterable[tuple[Rule, str]]) -> None:
        for rule, what in changes:
            self._changed(rule.constraint, what)


def _any_value(kind: str) -> int | str | None:
    """A valid value of a constraint of this kind."""
    return 1 if kind == CONCURRENCY else "1/s" if kind == RATE_LIMIT else None
