"""LimitStore: where processes keep the limits that they share.

A store knows names, bytes and a clock, and nothing of limits. Every implementation passes the suite
``tests/contracts/test_limit_store.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from cascade.spec.run_store import Unsubscribe

#: From a document, None if there is none, and the time of the store: the new document, or None to
#: leave it as it is. It may be called more than once, and must be quick: others wait meanwhile.
Revision: TypeAlias = Callable[[bytes | None, float], bytes | None]


@runtime_checkable
class LimitStore(Protocol):
    """Keeps documents that processes change in turn.

    *Threads*: every method may be called from any thread, and may wait for the disk or the network,
    unless the store is ``local``.

    *Errors*: ``read`` and ``revise`` raise StoreError if the database cannot be used. If the
    connection was lost, a revision may have been written nonetheless.

    *Time*: seconds on a clock that all processes read alike, such as the database's; its zero has
    no meaning.

    Attributes:
        local: Whether only this process can use it, so that its methods never wait.
    """

    local: bool

    def read(self, name: str) -> tuple[bytes | None, float]:
        """A document, None if there is none, and the time."""

    def revise(self, name: str, revision: Revision) -> None:
        """Replace a document by what ``revision`` makes of it, in one transaction.

        Of several processes, one after the other does this. If ``revision`` raises, nothing is
        written, and its error is raised.
        """

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        """Call ``listener`` after each revision, in its thread. Only a local store does that."""

    def close(self) -> None:
        """Close all connections; the other methods raise StoreError from then on."""


@runtime_checkable
class SharesLimits(Protocol):
    """A store that can also keep limits."""

    def limits(self) -> LimitStore:
        """Where they are kept: connections of their own, which the caller closes."""
