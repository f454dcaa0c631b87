"""Raw Dask and raw Ray, for the benchmark of clusters: each makes the same calls by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import Any, Final, Self

from cascade.observatory.benchmarks.ray_floor import RayFloor

#: Bytes of the store of objects of a local Ray cluster.
_STORE: Final = 512 << 20


class DaskPeer:
    """A Dask cluster of worker processes of this machine.

    Args:
        workers: Number of its processes.
    """

    name, distribution = "Dask", "distributed"

    def __init__(self, workers: int) -> None:
        self._workers = workers
        #: Calls by hand; None before the start.
        self.floor: Any = None

    def __enter__(self) -> Self:
        distributed: Any = import_module("distributed")
        self._stack = ExitStack()
        self.cluster = self._stack.enter_context(
            distributed.LocalCluster(
                n_workers=self._workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        )
        client = distributed.Client(self.cluster, set_as_default=False)
        self._client: Any = self._stack.enter_context(client)
        # Imported here: it needs Dask.
        self.floor = import_module("cascade.observatory.benchmarks.dask_floor").DaskFloor(client)
        return self

    def __exit__(self, *_details: object) -> None:
        self._stack.close()

    def executor(self) -> Any:
        """Cascade's executor for it."""
        from cascade.adapters.executors.dask import DaskExecutor

        return DaskExecutor(self.cluster)

    def calls(self, func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The values of independent calls."""
        found: list[Any] = self._client.gather(self._client.map(func, items, pure=False))
        return found

    def chain(self, func: Callable[[Any], Any], first: Any, length: int) -> Any:
        """The value of calls that each take that of the one before."""
        value = first
        for _ in range(length):
            value = self._client.submit(func, value, pure=False)
        return value.result()

    def hop(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> Any:
        """The value of a call that takes that of another one, which stays there."""
        made = self._client.submit(make, of, pure=False)
        return self._client.submit(use, made, pure=False).result()

    def fan(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> list[Any]:
        """The values of two calls that take that of another one, which stays there."""
        made = self._client.submit(make, of, pure=False)
        uses = [self._client.submit(use, made, pure=False) for _ in range(2)]
        found: list[Any] = self._client.gather(uses)
        return found


class RayPeer:
    """A Ray cluster of this machine.

    Args:
        workers: Number of its CPUs.
    """

    name, distribution = "Ray", "ray"

    def __init__(self, workers: int) -> None:
        self._workers = workers
        #: Turns by hand; None before the start.
        self.floor: RayFloor | None = None

    def __enter__(self) -> Self:
        ray: Any = import_module("ray")
        self._ray = ray
        ray.init(
            "local",
            num_cpus=self._workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=_STORE,
        )
        self.floor = RayFloor(ray)
        return self

    def __exit__(self, *_details: object) -> None:
        self._ray.shutdown()

    def executor(self) -> Any:
        """Cascade's executor for it."""
        from cascade.adapters.executors.ray import RayExecutor

        return RayExecutor()

    def calls(self, func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The values of independent calls."""
        remote = self._ray.remote(func)
        found: list[Any] = self._ray.get([remote.remote(item) for item in items])
        return found

    def chain(self, func: Callable[[Any], Any], first: Any, length: int) -> Any:
        """The value of calls that each take that of the one before."""
        remote, value = self._ray.remote(func), first
        for _ in range(length):
            value = remote.remote(value)
        return self._ray.get(value)

    def hop(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> Any:
        """The value of a call that takes that of another one, which stays there."""
        made = self._ray.remote(make).remote(of)
        return self._ray.get(self._ray.remote(use).remote(made))

    def fan(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> list[Any]:
        """The values of two calls that take that of another one, which stays there."""
        made, remote = self._ray.remote(make).remote(of), self._ray.remote(use)
        found: list[Any] = self._ray.get([remote.remote(made), remote.remote(made)])
        return found
