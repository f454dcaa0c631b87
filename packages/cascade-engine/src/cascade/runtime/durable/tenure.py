"""Tenure: the time in which this process owns a run, and the reasons that end it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.mail import Mail
from cascade.runtime.durable.writer import Writer
from cascade.spec.errors import LeaseLostError, RunCancelledError, StoreError
from cascade.spec.run_rows import Receipt, RunRecord


class Tenure:
    """The time in which this process owns a run; listens to the writer.

    The writer renews the lease from the beginning, so that the lease does not run out while the
    run's rows are read from the store, or while that read waits for its turn.

    Args:
        run: As it was claimed.
        since: The time (``desk.now``) just before the claim.
        writer: Writes for the run.

    Attributes:
        run_id: The run.
        desk: Takes the rows to write for the run.
        lost: The error with which the run ends here, because the store or the lease was lost.
        cancelled: The error with which it ends because it was cancelled.
        left: Done when the end of the run is committed; None before the run has ended.
    """

    def __init__(self, run: RunRecord, since: float, writer: Writer) -> None:
        self.run_id = run.run_id
        self._loop = asyncio.get_running_loop()
        self._journal: Journal | None = None
        self._mail: Mail | None = None
        #: The number of signals that the last receipt has told of.
        self._inbox = 0
        self.lost: Exception | None = None
        self.cancelled: RunCancelledError | None = None
        self.left: Future[None] | None = None
        self._writer = writer
        self.desk = writer.open(run.number, run.epoch, since, self)

    def close(self) -> None:
        """Write nothing more for the run, and do not renew its lease any more."""
        self._writer.close(self.desk)

    @property
    def is_over(self) -> bool:
        """Whether another process may own the run: its end is committed, or its lease was lost."""
        if isinstance(self.lost, LeaseLostError):
            return True
        left = self.left
        return left is not None and left.done() and left.exception() is None

    def cancel(self) -> RunCancelledError:
        """The error with which the run ends, because it was cancelled."""
        self.cancelled = RunCancelledError(f"run {self.run_id!r} was cancelled", self.run_id)
        return self.cancelled

    def leave(self) -> None:
        """The end of the run is committed. In the writer's thread, given with that commit."""
        assert self.left is not None
        self.left.set_result(None)

    def begin(self, journal: Journal, mail: Mail) -> None:
        """Pass on to ``journal`` what the writer tells; to ``mail``, that there are signals."""
        self._journal, self._mail = journal, mail
        if (error := self.lost or self.cancelled) is not None:  # it was told before
            journal.stop(error)

    def end(self) -> None:
        """Pass on nothing more."""
        if self._journal is not None:
            self._journal.end()

    # -- in the writer's thread, or in a turn of the event loop of its own -----------------------

    def committed(self, waiting: list[Callable[[], object]], receipt: Receipt) -> None:
        if self.left is not None:
            # The functions of an earlier commit belong to a graph that has ended meanwhile.
            if self.leave in waiting:
                self.leave()
            return
        if waiting:
            self._in_loop(self._pass_on, waiting)
        if receipt.inbox > self._inbox:
            self._inbox = receipt.inbox
            self._in_loop(self._expect, receipt.inbox)
        if receipt.cancelling and self.cancelled is None:
            self._in_loop(self._stop, self.cancel())

    def lost_lease(self) -> None:
        self._lose(
            LeaseLostError(
                f"run {self.run_id!r} has another owner by now, which goes on with it; what this "
                "process has done since its last commit is not kept",
                self.run_id,
            )
        )

    def failed(self, error: StoreError) -> None:
        self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.lost = self.lost or error
        left = self.left
        if left is not None and not left.done():
            left.set_exception(self.lost)
        else:
            self._in_loop(self._stop, self.lost)

    def _in_loop(self, call: Callable[..., object], *args: Any) -> None:
        if asyncio._get_running_loop() is self._loop:
            call(*args)
            return
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *args)

    # -- in the loop's thread -----------------------------------------------------------------

    def _pass_on(self, waiting: list[Callable[[], object]]) -> None:
        if self._journal is not None:
            self._journal.committed(waiting)

    def _expect(self, count: int) -> None:
        if self._journal is not None and self._mail is not None:
            self._mail.expect(self._journal.inbox, count)

    def _stop(self, error: Exception) -> None:
        if self._journal is not None:
            self._journal.stop(error)
