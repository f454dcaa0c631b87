"""The writer: commits the rows of the durable runs of an engine, in groups.

One thread serves all runs. While it commits, more comes in, so the next transaction is as large as
the store is slow. A run that waits for a commit (``sync``) has it begin at once; without one, the
writer gathers for some milliseconds. Each commit renews the leases of all runs in it; a run that
has nothing to write renews its own after a third of the time.

To hand a commit to the thread and back takes longer than many stores need for it. If the store
commits without waiting (``CommitsAtOnce``), the event loop's thread therefore commits what a run of
its own waits for, at the end of the present turn, unless the thread commits at that moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from contextvars import Context
from typing import Final, TypeAlias

from cascade.graph.codec import Codec
from cascade.runtime.durable.desk import Desk, Listener, Waiting, now
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Commit, Receipt
from cascade.spec.run_store import CommitsAtOnce, RunStore

#: Seconds for which a lease holds.
LEASE = 10.0
#: The part of a lease after which its owner counts it as over. The rest is for the moment between
#: a look at the clock and the beginning of a call.
_SAFE: Final = 0.9
#: Seconds that the writer gathers for runs that do not wait.
GATHER = 0.005
#: Seconds until a commit that failed is tried again, at first and at most.
_AGAIN, _AT_MOST = 0.05, 1.0
#: Most bytes of a commit in the event loop's thread (M9).
_SMALL: Final = 65_536
#: Commits that are collected, and not written yet.
_Collected: TypeAlias = list[tuple[Desk, tuple[Commit, Waiting]]]


class Writer:
    """Commits for the runs of one engine, in a thread of its own that lives while there are any.

    Args:
        store: The store.
        codec: Encodes what is encoded with its commit.
        lease: Seconds for which each commit renews the leases.

    Attributes:
        codec: As given.
        safe: Seconds after a commit for which the leases in it certainly hold.
        has_news: Whether the thread knows that there is something to write.
        is_urgent: Whether it knows that a run waits for that.
    """

    def __init__(self, store: RunStore, codec: Codec, lease: float = LEASE) -> None:
        self._store = store
        self.codec = codec
        self.safe = lease * _SAFE
        # Asking a store that never does so would delay each commit by a turn of the event loop.
        self._at_once = None
        if isinstance(store, CommitsAtOnce) and store.may_commit_at_once:
            self._at_once = store.commit_at_once
        self._lease = lease
        self._desks: dict[Desk, None] = {}
        self._news = threading.Condition()
        self.is_urgent = self.has_news = False
        #: Whether a thread collects commits or writes them; no other one does so meanwhile.
        self._is_writing = False
        #: Whether the writer's thread waits for the end of that.
        self._is_blocked = False
        #: What the thread of an event loop has collected, and could not commit at once.
        self._left: _Collected = []
        #: Event loops that will commit in this turn.
        self._due: set[asyncio.AbstractEventLoop] = set()
        self._thread: threading.Thread | None = None

    def open(self, number: int, epoch: int, since: float, listener: Listener) -> Desk:
        """Begin to write for a run, and renew its lease from now on.

        Args:
            number: The run's number in the store.
            epoch: As it was claimed.
            since: The time (``desk.now``) just before the claim.
            listener: Is told of commits.
        """
        desk = Desk(self, number, epoch, since, listener)
        with self._news:
            self._desks[desk] = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="cascade-store-writer", daemon=True
                )
                self._thread.start()
        return desk

    def close(self, desk: Desk) -> None:
        """Write nothing more for a run."""
        with self._news:
            self._desks.pop(desk, None)
            self._news.notify()

    def news(self) -> None:
        """There is something to write."""
        if self.has_news or self.is_urgent:
            return
        with self._news:
            self.has_news = True
            self._news.notify()

    def hurry(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """There is something to write, and a run waits for it.

        Args:
            loop: The event loop in whose thread this is called, if that may commit.
        """
        if self.is_urgent:
            return
        if loop is not None and self._at_once is not None:
            if loop not in self._due:
                self._due.add(loop)
                loop.call_soon(self._commit_here, loop, context=Context())
            return
        with self._news:
            self.has_news = self.is_urgent = True
            self._news.notify()

    def _commit_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit in the thread of an event loop, or have the other thread do it."""
        self._due.discard(loop)
        with self._news:
            if self._is_writing or self._left or self.is_urgent:
                self.has_news = self.is_urgent = True
                self._news.notify()
                return
            self._is_writing = True
            desks = [*self._desks]
        collected: _Collected = []
        receipts: Sequence[Receipt] | None = None
        try:
            began, collected = now(), self._collected(desks)
            receipts = self._receipts_at_once(collected)
            if receipts is not None:
                self._note_written(collected, began)
        finally:
            with self._news:
                self._is_writing = False
                if receipts is None:
                    self._left = collected
                    self.has_news = self.is_urgent = True
                if receipts is None or self._is_blocked:
                    self._is_blocked = False
                    self._news.notify()
        if receipts is not None:
            self._tell(collected, receipts)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self.has_news or not self._desks, self._lease / 3)
                if not self._desks:
                    self._thread = None
                    return
                if self.has_news and not self.is_urgent:
                    self._news.wait_for(lambda: self.is_urgent, GATHER)
                self._news.wait_for(self._may_write)
                self.has_news = self.is_urgent = False
                self._is_writing = True
                left, self._left = self._left, []
                desks = [*self._desks]
            try:
                self._write(left)
                self._write(self._collected(desks))
            finally:
                self._is_writing = False

    def _may_write(self) -> bool:
        """Whether the writer's thread may collect commits now. Under the lock of the news."""
        self._is_blocked = self._is_writing
        return not self._is_writing

    def _collected(self, desks: Sequence[Desk]) -> _Collected:
        renews = now() - self._lease / 3
        return [(desk, found) for desk in desks if (found := desk.collect(renews)) is not None]

    def _receipts_at_once(self, collected: _Collected) -> Sequence[Receipt] | None:
        """Commit without waiting; None if that is left for the other thread."""
        batch = [commit for _, (commit, _) in collected]
        if sum(map(_size, batch)) > _SMALL:
            return None
        assert self._at_once is not None
        try:
            return self._at_once(batch, seconds=self._lease) if batch else ()
        except Exception:  # the other thread tries again, and handles the error
            return None

    def _write(self, collected: _Collected) -> None:
        if not collected:
            return
        try:
            began, receipts = self._commit([commit for _, (commit, _) in collected])
        except StoreError as error:
            for desk, _ in collected:
                self.close(desk)
                desk.listener.failed(error)
            return
        self._note_written(collected, began)
        self._tell(collected, receipts)

    def _note_written(self, collected: _Collected, began: float) -> None:
        for desk, _ in collected:
            desk.renewed, desk.in_flight = began, False

    def _tell(self, collected: _Collected, receipts: Sequence[Receipt]) -> None:
        """Tell the runs of their commits.

        Raises:
            BaseException: A call of a run that went on here has interrupted the event loop.
        """
        if len(collected) == 1 and receipts[0].held:  # as below, for most steps of agents
            ((desk, (commit, waiting)),) = collected
            if commit.change is not None:
                self.close(desk)
            desk.listener.committed(waiting, receipts[0])
            return
        with ExitStack() as stack:  # one that raises must not keep the others from being told
            for (desk, (commit, waiting)), receipt in [*zip(collected, receipts, strict=True)][
                ::-1
            ]:
                if not receipt.held:
                    self.close(desk)
                    stack.callback(desk.listener.lost_lease)
                    continue
                if commit.change is not None:
                    self.close(desk)
                stack.callback(desk.listener.committed, waiting, receipt)

    def _commit(self, batch: list[Commit]) -> tuple[float, Sequence[Receipt]]:
        """Commit ``batch``, again and again while the store may come back.

        Returns:
            When the last attempt began, and the receipts.

        Raises:
            StoreError: It will not.
        """
        pause = _AGAIN
        while True:
            began = now()
            try:
                return began, self._store.commit(batch, seconds=self._lease)
            except StoreError as error:
                if not error.transient:
                    raise
            except Exception as error:  # a fault of the store's own code must not end this thread
                raise StoreError(f"the store failed: {type(error).__name__}: {error}") from error
            with self._news:
                self._news.wait(pause)
            pause = min(2 * pause, _AT_MOST)


def _size(commit: Commit) -> int:
    """Bytes that a commit writes."""
    size = 0
    for rows in (commit.chunks, commit.records, commit.blobs):
        for row in rows:
            size += len(row.body)
    return size
