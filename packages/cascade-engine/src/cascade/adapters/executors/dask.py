"""DaskExecutor: makes calls of tasks on a Dask cluster, where their values may stay.

It has a client of its own. The cluster's scheduler places turns and moves values; three things are
done otherwise than Dask does them:

- *Once.* Dask makes a task again, up to four times, when its worker ends. Here each turn asks a
  plugin of the scheduler for the permission to begin, which gives it once (``begun``).
- *Outcomes* come as messages (``log_event``), with no round trip for each result. Values that stay
  are results of Dask's tasks, and inputs of others.
- *Withdrawing.* Dask's cancel does not say whether a task has begun. The plugin does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

from cascade.adapters.executors.cluster_worker import End
from cascade.adapters.executors.clusters import (
    KEEP_ABOVE,
    SECONDS,
    ClusterExecutor,
    Turn,
    lost,
    outcome_of,
    value_lost,
)
from cascade.adapters.executors.dask_host import DaskHost
from cascade.spec.checks import check_count
from cascade.spec.errors import CascadeError, ExecutorError
from cascade.spec.pickled_errors import keep_own_pickling
from cascade.spec.protocols import Capabilities, Host
from cascade.spec.remote_calls import Outcome, RemoteCall, RemoteValue
from cascade.spec.wording import error_text

_SCHEME: Final = "dask://"


class DaskExecutor(ClusterExecutor):
    """A Dask cluster; or one of this machine that this starts, and ends at ``shutdown``.

    ``pip install 'cascade-engine[dask]'``; on the workers too. Use it as a context manager.

    A call that takes too long goes on in its worker, and its result is dropped (M8). If a worker
    ends, the calls of its turn have failed with a WorkerLostError, and values that stayed with it
    are lost: calls that need one fail with a ValueLostError.

    Args:
        cluster: The address of a scheduler (``"tcp://host:8786"``, ``"dask://host:8786"``), a
            cluster such as a ``LocalCluster`` or a ``SLURMCluster``, or a ``Client``. A number
            starts so many worker processes on this machine; by default one for each core.
        keep_above: Bytes above which values that only other calls there need stay there; None to
            have all values come back.
        turn_seconds: How long the short calls may take that go to a worker together; 0 sends each
            call by itself.
        timeout: Seconds that connecting to the scheduler may take.
        security: The ``distributed.security.Security`` of a cluster with TLS.

    Raises:
        ArgumentError: A number is too small.
        ExecutorError: ``distributed`` is not installed, or the cluster cannot be reached.
    """

    capabilities: Capabilities = Capabilities(stops=False, once=True, stays=True, mark="dask")

    def __init__(
        self,
        cluster: Any = None,
        *,
        keep_above: int | None = KEEP_ABOVE,
        turn_seconds: float = SECONDS,
        timeout: float = 30.0,
        security: Any = None,
    ) -> None:
        super().__init__(keep_above=keep_above, seconds=turn_seconds)
        distributed = _distributed()
        self._cluster: Any = None
        if cluster is None or isinstance(cluster, int):
            if cluster is not None:
                check_count("cluster", cluster)
            cluster = self._cluster = _local(distributed, cluster)
        elif isinstance(cluster, str):
            cluster = cluster.replace(_SCHEME, "tcp://", 1)
        elif isinstance(cluster, distributed.Client):
            security = security or cluster.security
            cluster = cluster.scheduler.address
        try:
            self._client = distributed.Client(
                cluster, set_as_default=False, security=security, name="cascade", timeout=timeout
            )
            from cascade.adapters.executors.dask_worker import TOPIC, plugin

            self._client.register_plugin(plugin())
        except Exception as problem:
            self._close_cluster()
            raise ExecutorError(f"no Dask cluster at {cluster}: {error_text(problem)}") from problem
        self._owner: str = self._client.id
        self._key = uuid4().hex[:12]
        self._workers = max(sum(self._client.nthreads().values()), 1)
        #: Token of a resource that workers may have opened → seconds that closing it may take.
        self._teardown: dict[bytes, float] = {}
        self._topic = TOPIC + self._owner
        self._client.subscribe_topic(self._topic, self._told)

    @property
    def places(self) -> Mapping[str, float]:
        """The resources of the workers, by name, added up."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        found: dict[str, float] = {}
        for worker in workers:
            for name, amount in worker["resources"].items():
                found[name] = found.get(name, 0.0) + amount
        return found

    def fetch(self, value: RemoteValue) -> Future[Any]:
        """See ``KeepingExecutor``."""
        found: Future[Any] = Future()
        future, place = value.handle

        async def fetch() -> None:
            try:
                results = await self._client.gather(future, asynchronous=True)
                found.set_result(results[place])
            except BaseException as problem:
                found.set_exception(value_lost(value.name, problem))

        self._in_loop(fetch)
        return found

    # -- the cluster --------------------------------------------------------------------------

    def _count(self) -> None:
        async def count() -> None:
            self._counted(sum((await self._client.scheduler.ncores()).values()))

        self._in_loop(count)

    def _host(self, number: int, told: Callable[[Host, Any], None]) -> DaskHost:
        hosts = cast("Mapping[int, DaskHost]", self._hosts)
        return DaskHost(self._client, self._owner, number, hosts, told)

    def _send(self, turn: Turn, inputs: Sequence[RemoteValue]) -> Any:
        from cascade.adapters.executors.dask_worker import make_turn

        futures: dict[Any, int] = {}
        places = []
        for value in inputs:
            future, place = value.handle
            places.append((futures.setdefault(future, len(futures)), place))
        needs = turn.calls[0].needs
        for call in turn.calls:
            self._teardown.update((one.token, one.teardown_timeout) for one in call.resources)
        return self._client.submit(
            make_turn,
            self._owner,
            turn.packed(self._keep_above or 0),
            places,
            *futures,
            key=f"{turn.calls[0].name}-{self._key}{turn.number:x}",
            pure=False,
            retries=0,
            resources=dict(needs) or None,
        )

    def _sent(self, turn: Turn) -> None:
        future = turn.handle
        if future is not None:  # it has not ended already
            future.add_done_callback(partial(self._done, turn.number))

    def _done(self, number: int, future: Any) -> None:
        """Dask has done with a turn. In a thread of Dask, or in the loop's."""
        turn = self._turn(number)
        if turn is None:
            return
        if future.status != "finished":
            self._fail(turn, partial(self._failure, turn, _problem(future), len(turn.calls)))

    def _failure(self, turn: Turn, problem: Any, several: int, call: RemoteCall) -> Exception:
        """The error of a call whose turn Dask has not made."""
        error: Exception
        begun = _begun_elsewhere(problem)
        if begun is not None and begun.turn == turn.number:
            return lost(f"{begun.worker} of Dask", several, call)
        if begun is not None:
            (name, *_) = [v.name for v in call.inputs] or [call.name]
            return value_lost(name, problem)
        if type(problem).__name__ == "KilledWorker":
            return lost(f"{problem.last_worker.address} of Dask", several, call)
        error = ExecutorError(
            f"Dask has not made the call of task '{call.name}': {error_text(problem)}"
        )
        error.__cause__ = problem
        return error

    def _withdraw(self, turn: Turn) -> None:
        async def ask() -> None:
            scheduler = self._client.scheduler
            found = await scheduler.cascade_withdraw(owner=self._owner, turns=[turn.number])
            if found:
                self._withdrawn(turn)
                self._is_over(turn.number)

        self._in_loop(ask)

    def _forget(self, turns: list[int]) -> None:
        async def tell() -> None:
            await self._client.scheduler.cascade_forget(owner=self._owner, turns=turns)

        self._in_loop(tell)

    def _in_loop(self, ask: Any) -> None:
        """Make a request, in the client's loop."""
        asyncio.run_coroutine_threadsafe(ask(), self._client.loop.asyncio_loop)

    # -- messages -----------------------------------------------------------------------------

    def _told(self, event: tuple[float, Any]) -> None:
        """A worker has told something. In the client's loop."""
        message = event[1]
        kind = message.get("cascade") if isinstance(message, dict) else None
        if kind == "begun":
            self._begun(message["turn"])
        elif kind == "ended":
            self._told_end(message["turn"], message["content"])
        elif kind == "lost":
            self._told_loss(message["turn"], message["content"])
        elif kind == "host" and message["turn"] in self._hosts:
            content = message["content"]
            self._hosts[message["turn"]].take(content["worker"], content["data"])
        elif kind == "logged":
            _log(message["content"])

    def _told_end(self, number: int, ends: list[End]) -> None:
        turn = self._turn(number)
        if turn is None:
            return
        if any(end[0] != "kept" and end[4] is not None for end in ends):
            self._in_loop(partial(self._gather, turn, ends))
        else:
            self._settle(turn, self._outcomes(turn, ends))
            if all(end[0] != "kept" for end in ends):
                turn.handle = None  # Dask forgets it
                self._is_over(number)

    def _told_loss(self, number: int, worker: str) -> None:
        """A worker has ended that has begun a turn, which may have ended before."""
        host = self._hosts.get(number)
        if host is not None:
            host.lose(f"the worker {worker} has ended", with_worker=True)
        turn = self._turn(number)
        if turn is not None:
            self._fail(turn, partial(lost, f"{worker} of Dask", len(turn.calls)))
            self._is_over(number)

    async def _gather(self, turn: Turn, ends: list[End]) -> None:
        """Fetch values that were too large for a message."""
        try:
            results = await self._client.gather(turn.handle, asynchronous=True)
        except Exception as problem:
            self._fail(turn, partial(self._failure, turn, problem, len(turn.calls)))
        else:
            self._settle(turn, self._outcomes(turn, ends, results))

    def _outcomes(
        self, turn: Turn, ends: list[End], results: Sequence[Any] = ()
    ) -> list[tuple[Outcome, float]]:
        return [
            (outcome_of(call, end, (turn.handle, end[4]), results), end[5])
            for call, end in zip(turn.calls, ends, strict=False)
        ]

    # -- the end ------------------------------------------------------------------------------

    def _leave(self) -> None:
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)
            if self._teardown:
                self._close_resources()
        self._client.close()
        self._close_cluster()

    def _close_resources(self) -> None:
        """Close the resources that the workers have opened for this."""
        from cascade.adapters.executors.dask_worker import leave

        async def close() -> None:
            await self._client.run(leave, self._owner, on_error="ignore")

        seconds = sum(self._teardown.values())
        closing = asyncio.run_coroutine_threadsafe(close(), self._client.loop.asyncio_loop)
        try:
            closing.result(seconds)
        except Exception as problem:  # the workers close them when they end
            logging.getLogger("cascade.executors").error(
                "workers did not close their resources: %s", error_text(problem)
            )

    def _close_cluster(self) -> None:
        if self._cluster is not None:
            self._cluster.close()

    def __repr__(self) -> str:
        address = self._client.scheduler.address
        return f"<DaskExecutor of {address}, {self.max_workers} workers>"


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ExecutorError(
            "cs.DaskExecutor needs distributed: pip install 'cascade-engine[dask]'"
        ) from None
    keep_own_pickling(CascadeError)  # which the import has changed
    return distributed


def _local(distributed: Any, workers: int | None) -> Any:
    """A cluster of worker processes of this machine."""
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=":0",
        silence_logs=logging.ERROR,
    )


def _problem(future: Any) -> BaseException:
    """Why a future has no result."""
    if future.status == "error":
        found: BaseException = future.exception()
        return found
    return ExecutorError(f"its future is {future.status}; is the scheduler still there?")


def _begun_elsewhere(problem: Any) -> Any:
    return problem if type(problem).__name__ == "BegunElsewhereError" else None


def _log(content: dict[str, Any]) -> None:
    """Handle a log record of a worker."""
    record = logging.makeLogRecord(content)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
