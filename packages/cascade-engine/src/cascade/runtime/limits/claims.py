"""Claims: the amounts that waiting permits reserve, and the first limit that keeps a permit out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cascade.runtime.limits.amounts import exact, told
from cascade.runtime.limits.permits import INSIDE, WAITING, Block, Holding, Permit
from cascade.runtime.limits.rules import PAUSE, Rule


class Claims:
    """The claims of waiting permits against later ones, during one pass over the queue."""

    __slots__ = ("kept", "rules")

    def __init__(self) -> None:
        #: Rules without room; earlier permits wait for them.
        self.rules: set[Rule] = set()
        #: Capacity → reserved part of the free amount; inf for all.
        self.kept: dict[str, Any] = {}

    def short(self, amounts: Iterable[tuple[str, Any]], free: Mapping[str, Any]) -> str | None:
        """The first capacity that is short."""
        for name, amount in amounts:
            if free[name] - self.kept.get(name, 0) < amount:
                return name
        return None

    def keep(self, amounts: Iterable[tuple[str, Any]], free: Mapping[str, Any]) -> None:
        """Reserve the amounts for the current permit; all of a capacity that is short."""
        for name, amount in amounts:
            before = self.kept.get(name, 0)
            self.kept[name] = before + amount if free[name] - before >= amount else math.inf


def block_by_rules(
    permit: Permit, rules: Iterable[Rule], now: float, claims: Claims
) -> Block | None:
    """The constraint that keeps a permit out; None after setting how many calls have room."""
    calls: float = permit.most
    block = None
    full = []
    for rule in rules:
        room = 0 if rule in claims.rules else rule.room(now)
        if room >= 1:
            calls = min(calls, room)
            continue
        until = min(rule.opens(now), rule.expires)
        if rule.constraint.kind == PAUSE:  # a permit that cannot run anyway blocks no other
            return Block(rule, until)
        full.append(rule)
        if block is None or until > block.until:
            block = Block(rule, until)
    claims.rules.update(full)
    permit.calls = int(calls)
    return block


def held_up_by(
    permit: Permit, others: Iterable[Holding], totals: Mapping[str, float]
) -> tuple[Holding, str] | None:
    """The permit among ``others`` that blocks ``permit`` until it leaves, with the limit in words.

    None if ``permit`` need not wait for any of them.
    """
    if permit.state != WAITING:
        return None
    inside = [other for other in others if other.state == INSIDE]
    for name, amount in permit.amounts:
        having = [t for t in inside if any(name == n for n, _ in t.amounts)]
        had = sum(a for t in having for n, a in t.amounts if n == name)
        if having and exact(totals[name]) - had < amount:
            return having[0], f"{told(amount):g} of the capacity '{name}'"
    for rule in permit.constraints.rules_of(permit.task):
        holding = [t for t in inside if rule.has(t)]
        if holding and len(holding) >= int(rule.constraint.value or 0):
            return holding[0], f"room under '{rule.constraint}'"
    return None
