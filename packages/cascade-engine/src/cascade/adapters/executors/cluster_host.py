"""Hosts on clusters: workers that execute whole runs, in the view of the driver.

A host process has its pipe (``host_process``); one on a cluster has two ways instead. Its messages
come by the cluster, in the order in which it sends them. The driver's messages are posted: the next
ones once the last ones have arrived, so that these keep their order as well.
"""

from __future__ import annotations

import logging
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final

from cascade.runtime.elsewhere.host_messages import DONE, READY, Message, NotReady
from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Host
from cascade.spec.wording import error_text

#: Seconds that a host may take to begin, and to hand over its runs.
_START: Final = 120.0
_PATIENCE: Final = 60.0
_log: Final = logging.getLogger("cascade.executors")


class ClusterHost(ABC):
    """One host.

    Args:
        told: See ``HostingExecutor``.

    Attributes:
        worker: Where it is, once that is known.
        was_lost: Whether it has ended because its worker has.
    """

    exit_code: int | None = None
    #: The name of the cluster.
    cluster: ClassVar[str]

    def __init__(self, told: Callable[[Host, Any], None]) -> None:
        self.runs: set[str] = set()
        self.worker = ""
        self.was_lost = False
        self._told = told
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._problem: str | None = None
        #: Messages that wait for those before them.
        self._waiting: list[bytes] = []
        self._is_posting = False

    # -- of the cluster -----------------------------------------------------------------------

    @abstractmethod
    def _start(self, entry: str, options: bytes) -> None:
        """Have the cluster start it."""

    @abstractmethod
    def _post(self, messages: list[bytes]) -> None:
        """Send messages; calls ``_posted`` once they have arrived, or cannot. From any thread."""

    @abstractmethod
    def _drop(self) -> None:
        """End what the cluster has of it; it may have ended already. From any thread."""

    # -- Host ---------------------------------------------------------------------------------

    def begin(self, entry: str, options: bytes) -> None:
        """Have it begin, and wait until it is ready.

        Args:
            entry, options: See ``HostingExecutor``.

        Raises:
            ExecutorError: It cannot begin.
        """
        self._start(entry, options)
        if not self._answered.wait(_START):
            self._problem = f"no worker has begun it within {_START:g} s"
        if self._problem is not None:
            self._drop()
            raise ExecutorError(f"{self.cluster} cannot host runs: {self._problem}")

    def send(self, message: Message) -> None:
        """See ``Host``."""
        with self._lock:
            self._waiting.append(pickle.dumps(message, 5))
        self._go_on()

    def close(self) -> None:
        """See ``Host``; one that takes too long is ended, and its runs can be resumed."""
        self.send(DONE)
        if not self._ended.wait(_PATIENCE):
            _log.error("a host on %s was ended while it handed over runs", self.worker)
            self.lose("it took too long to hand over its runs")

    # -- what the cluster tells ---------------------------------------------------------------

    def take(self, worker: str, data: bytes) -> None:
        """A message of the host; none after its end. One at a time."""
        if self._ended.is_set():
            return
        try:
            message = pickle.loads(data)
        except Exception as problem:  # of another version of Cascade
            _log.error("a message of a host on %s was not read: %s", worker, error_text(problem))
            self.lose(f"its message cannot be read: {error_text(problem)}")
            return
        if message == READY:
            self.worker = worker
            self._answered.set()
            self._go_on()
        elif isinstance(message, NotReady):
            self._fail(f"{worker} cannot make its engine: {message.problem}")
        else:
            self._told(self, message)

    def lose(self, problem: str, *, with_worker: bool = False) -> None:
        """It has ended, or is as good as that. After all of its messages; from any thread.

        Args:
            problem: Why.
            with_worker: Whether its worker has ended, so that another one may do better.
        """
        self.was_lost = self.was_lost or with_worker
        self._fail(problem)
        with self._lock:
            is_first = not self._ended.is_set()
            self._ended.set()
            self._waiting.clear()
        if is_first:
            self._told(self, None)
            self._drop()

    def _fail(self, problem: str) -> None:
        """It cannot begin, if it has not done so."""
        if not self._answered.is_set():
            self._problem = problem
            self._answered.set()

    def _go_on(self) -> None:
        """Post what waits, if it is ready, and unless messages are on their way."""
        with self._lock:
            can_post = self._answered.is_set() and not self._ended.is_set()
            if not can_post or self._is_posting or not self._waiting:
                return
            self._is_posting = True
            messages, self._waiting = self._waiting, []
        self._post(messages)

    def _posted(self, problem: BaseException | None = None) -> None:
        """Messages have arrived. If not, the host is as good as lost: it would wait for them."""
        if problem is not None:
            self.lose(f"it got no message: {error_text(problem)}")
        with self._lock:
            self._is_posting = False
        self._go_on()
