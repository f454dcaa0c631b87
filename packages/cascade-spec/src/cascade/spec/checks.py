"""Whether a number is one that an option can take."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

_LARGEST = sys.float_info.max


def is_count(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an int from 1 up; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any, least: float) -> TypeGuard[float]:
    """Whether ``value`` is an int or float from ``least`` up; bools and nan are not.

    Nor is an int that no float can hold: what computes with it would raise an OverflowError.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return value >= least and (value <= _LARGEST or value == float("inf"))


def check_count(name: str, value: Any) -> None:
    """Refuse what does not count anything.

    Raises:
        ArgumentError: ``value`` is no int from 1 up; ``name`` is the option's.
    """
    if not is_count(value):
        raise ArgumentError(f"{name} must be an int from 1 up, but is {short(value)}")


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is no time to wait.

    Raises:
        ArgumentError: ``value`` is no number above 0; ``name`` is the option's.
    """
    if not is_number(value, 0) or not value:
        raise ArgumentError(f"{name} takes seconds, more than 0, but got {short(value)}")


def is_amount(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number from 0 up."""
    return is_number(value, 0) and value != float("inf")


def no_amount(whose: str, name: str, amount: Any) -> ArgumentError:
    """The error for what is no amount of the capacity ``name``."""
    return ArgumentError(
        f"{whose} takes amounts of capacities, numbers from 0 up, but '{name}' is {short(amount)}"
    )
