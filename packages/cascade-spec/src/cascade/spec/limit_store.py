"""LimitStore: where processes keep the limits that they share.

A store knows names, bytes and a clock, and nothing of limits. Every implementation passes the suite
``tests/contracts/test_limit_store.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from cascade.spec.run_store import Unsubscribe


class Revised(NamedTuple):
    """A new document."""

    body: bytes
    #: Whether others wait for it, and are to be told where the store can tell them.
    news: bool = True
    #: Whether it has to survive a crash of the database. If not, the document of shortly before may
    #: come back, and the store may take less time.
    lasting: bool = True


#: Gives the time of a store. In a database, a revision that asks for it takes longer.
Clock: TypeAlias = Callable[[], float]
#: From a document, None if there is none, and the clock of the store: the new document, or None to
#: leave it as it is. Others wait meanwhile, so it must be quick. It may be called more than once,
#: and with a document that is out of date: what it did in its last call counts.
Revision: TypeAlias = Callable[[bytes | None, Clock], Revised | None]


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
        """Call ``listener`` at news, until the returned function is called.

        A local store does that after each revision, in its thread, and so tells of the revisions of
        all. Another store tells of those of other processes if it can, in a thread of its own; it
        may tell of its own ones too.
        """

    def close(self) -> None:
        """Close all connections; the other methods raise StoreError from then on."""


@runtime_checkable
class SharesLimits(Protocol):
    """A store that can also keep limits."""

    def limits(self) -> LimitStore:
        """Where they are kept: connections of their own, which the caller closes."""
