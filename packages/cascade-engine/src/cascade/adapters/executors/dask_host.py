"""Workers of Dask that execute whole runs, in the view of the driver (``host_process``).

A host is a task of Dask that leaves the thread pool of its worker. It begins once, with the
permission of the scheduler's plugin, as turns do. Its messages come as those of turns; messages to
it are calls in its worker, one after the other, so that they keep their order.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cascade.runtime.elsewhere.host_messages import DONE, READY, Message, NotReady
from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Host
from cascade.spec.wording import error_text

#: Seconds that a host may take to begin, and to hand over its runs.
_START: Final = 120.0
_PATIENCE: Final = 60.0
_log: Final = logging.getLogger("cascade.executors")


class DaskHost:
    """One host.

    Args:
        client: The executor's client.
        owner: The executor.
        number: The number of the host among the executor's turns.
        told: See ``HostingExecutor``.

    Attributes:
        worker: The address of its worker; empty before it has begun.
    """

    exit_code: int | None = None

    def __init__(
        self, client: Any, owner: str, number: int, told: Callable[[Host, Any], None]
    ) -> None:
        self.runs: set[str] = set()
        self.worker = ""
        self._client, self._owner, self._number, self._told = client, owner, number, told
        self._future: Any = None
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._problem: str | None = None
        #: Messages that wait for the one before them; used in the client's loop.
        self._waiting: deque[bytes] = deque()
        self._is_sending = False

    def begin(self, entry: str, options: bytes, worker: str) -> None:
        """Have it begin, and wait until it is ready.

        Args:
            entry, options: See ``HostingExecutor``.
            worker: The address of the worker that it should have.

        Raises:
            ExecutorError: It cannot begin.
        """
        from cascade.adapters.executors.dask_worker import host_runs

        self._future = self._client.submit(
            host_runs,
            self._owner,
            self._number,
            entry,
            options,
            key=f"cascade-host-{self._owner}-{self._number}",
            workers=[worker],
            allow_other_workers=True,
            pure=False,
            retries=0,
        )
        self._future.add_done_callback(self._done)
        self._answered.wait(_START)
        if self._problem is None and not self.worker:
            self._problem = f"no worker has begun it within {_START:g} s"
        if self._problem is not None:
            self._future.cancel()
            raise ExecutorError(f"Dask cannot host runs: {self._problem}")

    def take(self, content: dict[str, Any]) -> None:
        """A message of the host. In the client's loop."""
        message = pickle.loads(content["data"])
        if message == READY:
            self.worker = content["worker"]
            self._answered.set()
        elif isinstance(message, NotReady):
            self._fail(f"{content['worker']} cannot make its engine: {message.problem}")
        else:
            self._told(self, message)

    def lose(self, worker: str) -> None:
        """Its worker has ended. In the client's loop."""
        self._fail(f"the worker {worker} has ended")
        self._end()

    def send(self, message: Message) -> None:
        """See ``Host``."""
        self._client.loop.add_callback(self._queue, pickle.dumps(message, 5))

    def close(self) -> None:
        """See ``Host``; one that takes too long is left to itself."""
        self.send(DONE)
        if not self._ended.wait(_PATIENCE):
            _log.error("a host on %s was left while it handed over runs", self.worker)
        self._future.release()

    def _done(self, future: Any) -> None:
        """Dask has done with it. In a thread of Dask."""
        problem = future.exception() if future.status == "error" else None
        self._fail("it has ended" if problem is None else error_text(problem))
        self._client.loop.add_callback(self._end)

    def _fail(self, problem: str) -> None:
        if not self._answered.is_set():
            self._problem = problem
            self._answered.set()

    def _end(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._told(self, None)

    async def _queue(self, data: bytes) -> None:
        """Send a message after those before it. In the client's loop."""
        self._waiting.append(data)
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self._waiting and not self._ended.is_set():
                await self._post(self._waiting.popleft())
        finally:
            self._is_sending = False

    async def _post(self, data: bytes) -> None:
        from cascade.adapters.executors.dask_worker import post

        try:
            await self._client.run(
                post, self._owner, self._number, data, workers=[self.worker], on_error="raise"
            )
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # its worker is about to be found lost
            _log.debug("a host on %s got no message: %s", self.worker, error_text(problem))
