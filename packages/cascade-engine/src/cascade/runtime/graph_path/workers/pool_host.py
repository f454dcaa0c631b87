"""PoolHost: the owner of a pool of workers, as the pool sees it."""

from __future__ import annotations

from typing import Any, Final, Protocol


class PoolHost(Protocol):
    """The owner of a pool: gives its threads their work."""

    @property
    def is_alone(self) -> bool:
        """Whether only the workers use the lock. Asked in the event loop's thread."""

    def drain(self, pool: Any) -> None:
        """The body of a thread.

        It calls ``enter``, pops from ``ready`` and puts the item into the cell that it was given,
        again and again. When nothing is ready it calls ``leave``, and returns if that returns True.
        """

    def rank(self) -> None:
        """Let the pool ``reorder`` its items by priority (M24)."""

    def looked(self) -> None:
        """Called in the loop's thread at each look at the awake threads."""

    def short_of_threads(self) -> None:
        """The same, at each look at which no thread has become free for the ready items."""

    def idle(self) -> None:
        """The last awake thread has left. Called in the loop's thread."""

    def refused(self, error: BaseException) -> None:
        """The executor lends no thread, or ``drain`` raises, which it should not.

        Called in the loop's thread.
        """


class _NoHost:
    """Stands for a host whose run has ended, because a thread may still call it."""

    is_alone = False

    def drain(self, pool: Any) -> None: ...

    def rank(self) -> None: ...

    def looked(self) -> None: ...

    def short_of_threads(self) -> None: ...

    def idle(self) -> None: ...

    def refused(self, error: BaseException) -> None: ...


#: The host of a pool whose run has ended.
NO_HOST: Final[PoolHost] = _NoHost()
