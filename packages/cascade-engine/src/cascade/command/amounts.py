"""The amounts of capacities that a command line gives."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.command.failures import UsageError
from cascade.spec.errors import ArgumentError


def amounts(given: Sequence[str]) -> dict[str, float]:
    """The amounts of texts such as ``gpu=2``.

    Raises:
        UsageError: One is invalid.
    """
    found = {}
    for text in given:
        name, _, amount = text.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise UsageError(f"--capacity takes NAME=AMOUNT, as gpu=2, but got {text!r}") from None
    from cascade.runtime.limits.capacities import Capacities

    try:
        return Capacities(found).total
    except ArgumentError as error:
        raise UsageError(str(error)) from None
