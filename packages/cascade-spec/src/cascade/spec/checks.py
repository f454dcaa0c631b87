"""Checks of numbers that options take."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

_LARGEST = sys.float_info.max
#: Largest priority: seconds that are still told apart to a microsecond when added to a time.
_HIGHEST = 10**9


def is_count(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an int ≥ 1; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any, least: float) -> TypeGuard[float]:
    """Whether ``value`` is an int or float ≥ ``least``; bools and nan are not.

    An int too large for a float is not one either: computing with it raises an OverflowError.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return value >= least and (value <= _LARGEST or value == float("inf"))


def check_count(name: str, value: Any) -> None:
    """Refuse a value that is not a count.

    Raises:
        ArgumentError: ``value`` is not an int ≥ 1; ``name`` is the option's.
    """
    if not is_count(value):
        raise ArgumentError(f"{name} must be an int ≥ 1, but is {short(value)}")


def check_seconds(name: str, value: Any) -> None:
    """Refuse a value that is not a duration.

    Raises:
        ArgumentError: ``value`` is not a number > 0; ``name`` is the option's.
    """
    if not is_number(value, 0) or not value:
        raise ArgumentError(f"{name} takes seconds > 0, but got {short(value)}")


def check_flag(name: str, value: Any) -> None:
    """Refuse a value that is not a bool: a text such as ``"no"`` would count as true.

    Raises:
        ArgumentError: ``value`` is neither True nor False; ``name`` is the option's.
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False, but is {short(value)}")


def is_priority(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an int that can be a priority (M24)."""
    return type(value) is int and -_HIGHEST <= value <= _HIGHEST


def check_priority(whose: str, value: Any) -> None:
    """Refuse a priority (M24) that is not a whole number.

    Raises:
        ArgumentError: It is not an int, or beyond a billion.
    """
    if not is_priority(value):
        raise ArgumentError(
            f"{whose} takes an int, higher first and 0 by default, but got {short(value)}"
        )


def is_amount(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number ≥ 0."""
    return is_number(value, 0) and value != float("inf")


def no_amount(whose: str, name: str, amount: Any) -> ArgumentError:
    """The error for an invalid amount of the capacity ``name``."""
    return ArgumentError(
        f"{whose} takes amounts of capacities, which are numbers ≥ 0, but '{name}' is "
        f"{short(amount)}"
    )
