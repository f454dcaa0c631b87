"""Capacities: countable amounts, which engines and processes may share (rule R10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.amounts import check_amounts, check_nodes, check_totals, told
from cascade.runtime.limits.membership import LEASE
from cascade.runtime.limits.permit_queue import PermitQueue
from cascade.runtime.limits.sharing import Sharing
from cascade.spec.checks import check_seconds

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.run_store import RunStore


class Capacities(PermitQueue):
    """The amounts of each capacity, and their holders. Engines may share one; thread-safe.

    With a store, all processes share them that use the store and give the same totals.

    Args:
        capacities: Name → total amount, > 0.
        store: A store, or its URL, such as ``"postgresql://host/db"``. It keeps the amounts, and
            the rate limits that are ``shared``.
        lease: Seconds after which the amounts of a process that has died, or that was stopped,
            are taken back. On one machine, a process that has died is noticed at once.

    Attributes:
        sharing: What is shared with other processes; None if nothing is.

    Raises:
        ArgumentError: A name is not an identifier, an amount is not a number > 0, or the store
            keeps no limits.
        CapacityError: Another process that uses the store has another total.
        StoreError: The store cannot be used.
    """

    def __init__(
        self,
        capacities: Mapping[str, float] | None = None,
        *,
        store: RunStore | str | None = None,
        lease: float = LEASE,
    ) -> None:
        capacities = {} if capacities is None else capacities
        check_totals(capacities)
        super().__init__(capacities)
        check_seconds("lease", lease)
        if store is not None:
            total, self._free = self._free, dict.fromkeys(self._free, 0)
            self.sharing = Sharing(self, store, total, lease)

    @property
    def total(self) -> dict[str, float]:
        """The total amounts, by name."""
        return dict(self._total)

    @property
    def available(self) -> dict[str, float]:
        """The free amounts, by name; of shared ones, when this process last asked the store."""
        with self.lock:
            if self.sharing is not None:
                return self.sharing.free()
            return {name: told(free) for name, free in self._free.items()}

    def holders(self, name: str) -> tuple[str, ...]:
        """The tasks that hold some of a capacity, in the order in which they got it.

        Of a shared one, the other processes that do follow.
        """
        with self.lock:
            return self._holders(name)

    def end_sharing(self) -> None:
        """Return shared amounts to the store, once and for all; calls that need them then wait.

        Without it, this happens when the Capacities is garbage, and at the end of the program.
        """
        if self.sharing is not None:
            self.sharing.end()

    def check(self, amounts: Iterable[tuple[str, float]], whose: str) -> None:
        """Refuse amounts that can never be granted.

        Raises:
            CapacityError: The total is smaller, or there is no such capacity.
        """
        check_amounts(amounts, self._total, whose)

    def check_nodes(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse, before the run starts, nodes that take more than the total.

        Raises:
            CapacityError: The total is smaller, or there is no such capacity.
        """
        check_nodes(lazies, self._total)
