"""RayExecutor: makes calls of tasks on a Ray cluster, where their values may stay."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final
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
from cascade.adapters.executors.ray_host import RayHost
from cascade.adapters.executors.ray_thread import RayThread
from cascade.spec.checks import check_count
from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Capabilities, Host
from cascade.spec.remote_calls import Outcome, RemoteCall, RemoteValue
from cascade.spec.wording import error_text

#: Names of capacities → Ray's own options for them.
_OWN: Final = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "memory"}
_NO_RESULTS: Final[Mapping[int, Any]] = {}
#: The same in the cluster's resources.
_TOTALS: Final = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}


class RayExecutor(ClusterExecutor):
    """A Ray cluster; or one of this machine that this starts, and ends at ``shutdown``.

    ``pip install 'cascade-engine[ray]'``. Use it as a context manager.

    A call that takes too long is ended, with its worker process. If a worker ends, the calls of its
    turn have failed with a WorkerLostError. Values that stayed with a node that has ended are lost:
    calls that need one fail with a ValueLostError.

    Args:
        cluster: The address of a cluster (``"ray://host:10001"``, ``"auto"``). A number starts a
            cluster of so many CPUs on this machine; by default one of all cores. A program that has
            called ``ray.init()`` uses that cluster.
        keep_above: Bytes above which values that only other calls there need stay there; None to
            have all values come back.
        turn_seconds: How long the short calls may take that go to a worker together; 0 sends each
            call by itself.

    Raises:
        ArgumentError: A number is too small.
        ExecutorError: ``ray`` is not installed, or the cluster cannot be reached.
    """

    capabilities: Capabilities = Capabilities(stops=True, once=True, stays=True, mark="ray")

    def __init__(
        self,
        cluster: str | int | None = None,
        *,
        keep_above: int | None = KEEP_ABOVE,
        turn_seconds: float = SECONDS,
    ) -> None:
        super().__init__(keep_above=keep_above, seconds=turn_seconds)
        if isinstance(cluster, int):
            check_count("cluster", cluster)
        self._ray = _ray()
        self._owns = not self._ray.is_initialized()
        if self._owns:
            try:
                self._ray.init(**_options(cluster))
            except Exception as problem:
                found = f"no Ray cluster at {cluster}: {error_text(problem)}"
                raise ExecutorError(found) from problem
        from cascade.adapters.executors.ray_worker import Registry, make_turn, picked

        self._picked = picked
        self._make = self._ray.remote(make_turn)
        self._name = f"cascade-{uuid4().hex}"
        registry = self._ray.remote(Registry)
        self._registry = registry.options(name=self._name, num_cpus=0, max_restarts=0).remote()
        self._workers = self._cpus()
        self._thread = RayThread(self._needs_no_thread)

    @property
    def places(self) -> Mapping[str, float]:
        """The resources of the cluster, by name: ``cpu``, ``gpu``, ``memory``, and its own."""
        found: dict[str, float] = dict(self._ray.cluster_resources())
        named = {name: found.pop(there) for name, there in _TOTALS.items() if there in found}
        return {**found, **named}

    def fetch(self, value: RemoteValue) -> Future[Any]:
        """See ``KeepingExecutor``."""
        found: Future[Any] = Future()
        results, place = value.handle

        def came(done: Future[Any]) -> None:
            problem = done.exception()
            if problem is None:
                found.set_result(self._picked(done.result(), place))
            else:
                found.set_exception(value_lost(value.name, problem))

        self._thread.ask(lambda: results, came)
        return found

    # -- the cluster --------------------------------------------------------------------------

    def _count(self) -> None:
        self._thread.do(lambda: self._counted(self._cpus()))

    def _cpus(self) -> int:
        """The number of CPUs; waits for Ray's answer."""
        return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def _host(self, number: int, told: Callable[[Host, Any], None]) -> RayHost:
        return RayHost(self._ray, self._thread, told)

    def _send(self, turn: Turn, inputs: Sequence[RemoteValue]) -> Any:
        results: dict[Any, int] = {}
        places = []
        for value in inputs:
            result, place = value.handle
            places.append((results.setdefault(result, len(results)), place))
        options = _needs(turn.calls[0].needs)
        name = turn.calls[0].name
        make = self._make.options(num_returns=2, max_retries=0, name=name, **options)
        packed = turn.packed(self._keep_above or 0)
        return make.remote(self._name, packed, places, *results)

    def _needs_no_thread(self) -> bool:
        return self._closed and not self._active and not self._hosts

    def _sent(self, turn: Turn) -> None:
        handle = turn.handle
        if handle is not None:
            if turn.calls and turn.calls[0].on_begin is not None:
                begun = partial(self._registry.wait_for.remote, turn.number)
                self._thread.ask(begun, partial(self._has_begun, turn.number))
            self._thread.ask(lambda: handle[0], partial(self._done, turn))

    def _has_begun(self, number: int, begun: Future[bool]) -> None:
        if begun.exception() is None and begun.result():
            self._begun(number)

    def _done(self, turn: Turn, done: Future[list[End]]) -> None:
        """A turn has ended."""
        problem = done.exception()
        if problem is not None:
            self._fail(turn, partial(self._failure, problem, len(turn.calls)))
            self._is_over(turn.number)
            return
        ends = done.result()
        if any(end[0] != "kept" and end[4] is not None for end in ends):
            self._thread.ask(lambda: turn.handle[1], partial(self._fetched, turn, ends))
        else:
            self._settle(turn, self._outcomes(turn, ends))
        self._is_over(turn.number)

    def _fetched(self, turn: Turn, ends: list[End], done: Future[Any]) -> None:
        """What was too large for a message is here."""
        problem = done.exception()
        if problem is None:
            found = {
                end[4]: self._picked(done.result(), end[4]) for end in ends if end[4] is not None
            }
            self._settle(turn, self._outcomes(turn, ends, found))
        else:
            self._fail(turn, partial(self._failure, problem, len(turn.calls)))

    def _outcomes(
        self, turn: Turn, ends: list[End], results: Mapping[int, Any] = _NO_RESULTS
    ) -> list[tuple[Outcome, float]]:
        return [
            (outcome_of(call, end, (turn.handle[1], end[4]), results), end[5])
            for call, end in zip(turn.calls, ends, strict=False)
        ]

    def _failure(self, problem: BaseException, several: int, call: RemoteCall) -> Exception:
        """The error of a call whose turn Ray has not made."""
        kind = type(problem).__name__
        if kind in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"):
            error = lost("process of Ray", several, call)
            error.__cause__ = problem
            return error
        if call.inputs and "Object" in kind:
            return value_lost(call.inputs[0].name, problem)
        failed = ExecutorError(
            f"Ray has not made the call of task '{call.name}': {error_text(problem)}"
        )
        failed.__cause__ = problem
        return failed

    def _withdraw(self, turn: Turn) -> None:
        def answered(done: Future[list[int]]) -> None:
            if done.exception() is None and done.result():
                self._ray.cancel(turn.handle[0])
                self._withdrawn(turn)

        self._thread.ask(partial(self._registry.withdraw.remote, [turn.number]), answered)

    def _stop(self, turn: Turn) -> None:
        self._thread.do(lambda: self._ray.cancel(turn.handle[0], force=True))

    def _forget(self, turns: list[int]) -> None:
        self._thread.do(partial(self._registry.forget.remote, turns))

    def _leave(self) -> None:
        if self._ray.is_initialized():
            self._ray.kill(self._registry)
            if self._owns:
                self._ray.shutdown()
        self._thread.wake()

    def __repr__(self) -> str:
        return f"<RayExecutor of {self.max_workers} CPUs>"


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ExecutorError("cs.RayExecutor needs ray: pip install 'cascade-engine[ray]'") from None
    return ray


def _options(cluster: str | int | None) -> dict[str, Any]:
    """The options of ``ray.init``."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if isinstance(cluster, str):
        return {"address": cluster, **quiet}
    paths = os.pathsep.join(path for path in sys.path if path)
    return {
        "address": "local",  # also where another one runs, which Ray would connect to
        "num_cpus": cluster,
        "include_dashboard": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": paths}},
        **quiet,
    }


def _needs(needs: Mapping[str, float]) -> dict[str, Any]:
    """The options of a task for the amounts that it takes; without any it takes one CPU."""
    own = {_OWN[name]: amount for name, amount in needs.items() if name in _OWN}
    others = {name: amount for name, amount in needs.items() if name not in _OWN}
    return {**own, **({"resources": others} if others else {})}
