"""Workers of Dask that execute whole runs, in the view of the driver (``cluster_host``).

A host is a task of Dask that leaves the thread pool of its worker. It begins once, with the
permission of the scheduler's plugin, as turns do. Its messages come as those of turns; messages to
it are calls in its worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cascade.adapters.executors.cluster_host import ClusterHost
from cascade.spec.protocols import Host
from cascade.spec.wording import error_text


class DaskHost(ClusterHost):
    """One host.

    Args:
        client: The executor's client.
        owner: The executor.
        number: The number of the host among the executor's turns.
        hosts: All hosts of the executor: a new one goes to the worker with the fewest.
        told: See ``HostingExecutor``.
    """

    cluster = "Dask"

    def __init__(
        self,
        client: Any,
        owner: str,
        number: int,
        hosts: Mapping[int, DaskHost],
        told: Callable[[Host, Any], None],
    ) -> None:
        super().__init__(told)
        self._client, self._owner, self._number, self._hosts = client, owner, number, hosts
        self._future: Any = None

    def _start(self, entry: str, options: bytes) -> None:
        from cascade.adapters.executors.dask_worker import host_runs

        workers = list(self._client.scheduler_info(n_workers=-1)["workers"])
        busy = [host.worker for host in list(self._hosts.values())]
        # Without any it waits, as calls do: for the first workers, or those that start again.
        self.worker = min(workers, key=busy.count, default="")
        self._future = self._client.submit(
            host_runs,
            self._owner,
            self._number,
            entry,
            options,
            key=f"cascade-host-{self._owner}-{self._number}",
            workers=[self.worker] if workers else None,
            allow_other_workers=bool(workers),
            pure=False,
            retries=0,
        )
        self._future.add_done_callback(self._done)

    def _done(self, future: Any) -> None:
        """Dask has done with it. In a thread of Dask."""
        problem = future.exception() if future.status == "error" else None
        found = "it has ended" if problem is None else error_text(problem)
        # In the client's loop, where its last messages come in before.
        self._client.loop.add_callback(self.lose, found)

    def _post(self, messages: list[bytes]) -> None:
        self._client.loop.add_callback(self._posting, messages)

    async def _posting(self, messages: list[bytes]) -> None:
        from cascade.adapters.executors.dask_worker import post

        given = self._owner, self._number, messages
        try:
            await self._client.run(post, *given, workers=[self.worker], on_error="raise")
        except Exception as problem:
            self._posted(problem)
        else:
            self._posted()

    def _drop(self) -> None:
        """Cancelled if it has not begun; else the cluster forgets it at its end."""
        if self._future is not None and self._client.status == "running":
            self._client.loop.add_callback(self._cancel)

    async def _cancel(self) -> None:
        await self._client.cancel([self._future])
