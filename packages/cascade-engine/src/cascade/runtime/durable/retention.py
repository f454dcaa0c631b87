"""Retention: for how long the store keeps runs that have ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from cascade.spec.amounts_in_text import seconds_of
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.run_rows import FINISHED, RunStatus
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

#: Most runs that one transaction deletes.
BATCH: Final = 500


class Retention:
    """For how long runs are kept after their end, by the status with which they ended.

    Args:
        ages: Status → age. Runs with other statuses are kept for ever.

    Raises:
        ArgumentError: A status is not one of runs that have ended, or an age is invalid.
    """

    def __init__(self, ages: Mapping[str, str | float] | None) -> None:
        ages = {} if ages is None else ages
        if not isinstance(ages, Mapping):
            raise ArgumentError(
                f"retention takes ages by status, as {{'succeeded': '7d'}}, but got {short(ages)}"
            )
        known = sorted(FINISHED)
        for status in ages:
            if status not in known:
                near = did_you_mean(str(status), known) or f"; it has {', '.join(known)}"
                raise ArgumentError(f"retention has no status {short(status)}{near}")
        self._ages = {
            RunStatus(status): seconds_of(f"retention of {status} runs", age)
            for status, age in ages.items()
        }

    def sweep(self, store: RunStore) -> int:
        """Delete one batch of runs for each status; how many there were.

        Raises:
            StoreError: The store cannot be used.
        """
        now = time.time()
        return sum(
            store.sweep([status], now - age, limit=BATCH) for status, age in self._ages.items()
        )

    def __bool__(self) -> bool:
        return bool(self._ages)
