"""Amounts of capacities: exact numbers, their checks, and their texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.permits import WAITING, Holding
from cascade.spec.checks import is_amount, no_amount
from cascade.spec.errors import ArgumentError, CapacityError
from cascade.spec.lazy_value import LIMITS
from cascade.spec.nearby import names_known
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult


def exact(amount: float) -> Fraction | int:
    """An amount exactly as it was written: 0.1 is a tenth."""
    # float(): subclasses, such as NumPy's, have another repr.
    return amount if isinstance(amount, int) else Fraction(repr(float(amount)))


def told(amount: Fraction | int) -> float:
    """An exact amount as users see it."""
    return int(amount) if amount.denominator == 1 else float(amount)


def held_by(permit: Holding) -> str:
    """The holdings of a permit, in words."""
    if permit.state == WAITING:
        return "a place in the queue"
    held = [f"{told(amount):g} of the capacity '{name}'" for name, amount in permit.amounts]
    held += [f"a place under '{rule.constraint}'" for rule in permit.rules]
    return ", ".join(held) or "a permit"


def check_totals(capacities: Any) -> None:
    """Check the total amounts of capacities, by name.

    Raises:
        ArgumentError: A name is not an identifier, or an amount is not a number > 0.
    """
    if not isinstance(capacities, Mapping):
        raise ArgumentError(
            "capacities takes a dict of amounts by name, or a Capacities, but got "
            f"{short(capacities)}"
        )
    for name, amount in capacities.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(
                "the name of a capacity must be an identifier, because with_capacity() takes it "
                "by name, but is "
                f"{short(name)}"
            )
        if not is_amount(amount):
            raise no_amount("capacities", name, amount)
        if not amount:
            raise ArgumentError(f"capacities has 0 of '{name}'; leave it out")


def check_amounts(
    amounts: Iterable[tuple[str, float]], totals: Mapping[str, float], whose: str
) -> None:
    """Refuse amounts that can never be granted; ``whose`` they are, in words.

    Raises:
        CapacityError: The total is smaller, or there is no such capacity.
    """
    for name, amount in amounts:
        total = totals.get(name)
        if total is None:
            some = amount or "some"
            raise CapacityError(
                f"{whose} takes {some} of the capacity '{name}', but the engine has "
                f"{names_known(name, totals)}; set its amount: "
                f"Engine(capacities={{'{name}': …}})",
                name,
            )
        if exact(amount) > exact(total):
            raise CapacityError(
                f"{whose} takes {amount} of the capacity '{name}', but the engine has only "
                f"{total}, so it would wait for ever",
                name,
            )


def check_nodes(lazies: Iterable[LazyResult[Any]], totals: Mapping[str, float]) -> None:
    """Refuse, before the run starts, nodes that take more than the total.

    Raises:
        CapacityError: The total is smaller, or there is no such capacity.
    """
    sound: Any = None
    for lazy in lazies:
        policies = lazy._policies
        if not lazy._special & LIMITS or policies is None:
            continue
        if policies.amounts or policies.calls.capacities != sound:
            named = [(name, 0.0) for name in policies.amounts]
            amounts = [*policies.calls.capacities, *named]
            if any(amount > totals.get(name, -1) for name, amount in amounts):
                # Only now, because finding the call's line takes far longer than all the rest.
                whose = f"task '{lazy.name}' (called at {lazy.callsite})"
                check_amounts(amounts, totals, whose)
            sound = policies.calls.capacities  # those of the next nodes are mostly equal
