"""Actors of Ray that execute whole runs, in the view of the driver (``cluster_host``).

A host is an actor that Ray starts once. It answers each ``poll`` with its next messages; if its
process or its node ends, the answer is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from cascade.adapters.executors.cluster_host import ClusterHost
from cascade.adapters.executors.ray_thread import RayThread
from cascade.spec.protocols import Host
from cascade.spec.wording import error_text

_log: Final = logging.getLogger("cascade.executors")


class RayHost(ClusterHost):
    """One host.

    Args:
        ray: The module.
        thread: That of the executor.
        told: See ``HostingExecutor``.
    """

    cluster = "Ray"

    def __init__(self, ray: Any, thread: RayThread, told: Callable[[Host, Any], None]) -> None:
        super().__init__(told)
        self._ray = ray
        self._thread = thread
        self._actor: Any = None

    def _start(self, entry: str, options: bytes) -> None:
        from cascade.adapters.executors.ray_worker import HostActor

        # It takes no CPU from calls, as it mostly waits; and hosts should be on all nodes.
        kind = self._ray.remote(HostActor).options(
            num_cpus=0, max_restarts=0, scheduling_strategy="SPREAD"
        )

        def start() -> Any:
            self._actor = kind.remote()
            return self._actor.begin.remote(entry, options)

        self._thread.ask(start, self._begun)

    def _begun(self, done: Future[str]) -> None:
        problem = done.exception()
        if problem is None:
            self.worker = done.result()
            self._poll()
        else:
            self._lose(problem)

    def _poll(self) -> None:
        self._thread.ask(lambda: self._actor.poll.remote(), self._polled)

    def _polled(self, done: Future[tuple[list[bytes], str | None]]) -> None:
        problem = done.exception()
        if problem is not None:
            self._lose(problem)
            return
        messages, end = done.result()
        for message in messages:
            self.take(self.worker, message)
        if end is None and not self._ended.is_set():
            self._poll()
        else:
            self.lose(end or "it is not needed any more")

    def _lose(self, problem: BaseException) -> None:
        is_lost = isinstance(problem, self._ray.exceptions.RayActorError)
        self.lose(error_text(problem), with_worker=is_lost)

    def _post(self, messages: list[bytes]) -> None:
        def posted(done: Future[None]) -> None:
            self._posted(done.exception())

        self._thread.ask(lambda: self._actor.post.remote(messages), posted)

    def _drop(self) -> None:
        self._thread.do(self._kill)

    def _kill(self) -> None:
        if self._actor is not None and self._ray.is_initialized():
            try:
                self._ray.kill(self._actor)
            except Exception as problem:  # the program uses another cluster meanwhile
                _log.debug("a host on %s was not ended: %s", self.worker, error_text(problem))
