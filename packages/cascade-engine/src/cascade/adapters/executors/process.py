"""ProcessExecutor: makes calls of tasks in processes of this machine.

A thread of the driver owns each worker process, and speaks to it through a pipe. Not through pools
of ``concurrent.futures``: these cannot tell which of several calls have begun when a process ends,
end a call, or go on after a process has died.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from multiprocessing import util
from typing import Any, Final, Literal, Self, TypeAlias

from cascade.adapters.executors.process_slots import Pool
from cascade.adapters.executors.process_worker import Settings
from cascade.adapters.executors.shared_memory import CAN_SHARE
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError
from cascade.spec.protocols import Capabilities, Host
from cascade.spec.remote_calls import RemoteCall
from cascade.spec.wording import short

StartMethod: TypeAlias = Literal["forkserver", "spawn"]
_METHODS: Final = ("forkserver", "spawn")


class ProcessExecutor:
    """Worker processes that are started on demand and live until ``shutdown``.

    Use it as a context manager, or drop it: its processes end in both cases, and when the driver
    ends, however that ends.

    >>> import cascade as cs
    >>> cs.ProcessExecutor(2)
    <ProcessExecutor of 2 workers (0 started)>

    Args:
        max_workers: Most processes at once; by default the number of cores that this process may
            use.
        start_method: ``"forkserver"``, the default on Linux, or ``"spawn"``.
        threads_per_worker: For libraries of numbers (OpenMP, BLAS), as long as the environment
            does not set theirs.
        max_calls_per_worker: Calls after which a process is replaced; None for no limit.
        preload: Modules that a process imports when it starts.

    Raises:
        ArgumentError: A number is not an int ≥ 1, or the start method is unknown here.
    """

    capabilities: Capabilities = Capabilities(stops=True, once=True, shares=CAN_SHARE)

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        start_method: StartMethod | None = None,
        threads_per_worker: int = 1,
        max_calls_per_worker: int | None = None,
        preload: Iterable[str] = (),
    ) -> None:
        self.max_workers = usable_cores() if max_workers is None else max_workers
        check_count("max_workers", self.max_workers)
        check_count("threads_per_worker", threads_per_worker)
        if max_calls_per_worker is not None:
            check_count("max_calls_per_worker", max_calls_per_worker)
        method = start_method or ("forkserver" if sys.platform == "linux" else "spawn")
        if method not in _METHODS or method not in multiprocessing.get_all_start_methods():
            raise ArgumentError(
                f"start_method must be 'forkserver' or 'spawn', where the system has it, but is "
                f"{short(start_method)}; 'fork' copies locks that threads of this process hold"
            )
        folder = util.get_temp_dir() if method == "forkserver" else None
        settings = Settings(threads_per_worker, tuple(preload), folder)
        context: Any = multiprocessing.get_context(method)
        self._pool = Pool(context, self.max_workers, settings, max_calls_per_worker)
        # Before multiprocessing waits for its processes, when the program ends.
        self._finalizer = util.Finalize(self, Pool.end, (self._pool,), exitpriority=10)

    def submit_call(self, call: RemoteCall) -> None:
        """See ``TaskExecutor``.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
            ExecutorError: This is a worker process itself.
        """
        self._pool.submit(call)

    def flush(self) -> None:
        """Begin the submitted calls."""
        self._pool.flush()

    def cancel_call(self, call: RemoteCall, *, stop: bool = False) -> bool:
        """See ``TaskExecutor``; ``stop`` kills the process that makes the call."""
        return self._pool.cancel(call, stop)

    def waits(self, call: RemoteCall) -> bool:
        """See ``TaskExecutor``."""
        return self._pool.waits(call)

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls, and end the processes after their present turn."""
        self._finalizer.cancel()
        self._pool.close()
        if wait:
            self._pool.join()

    def start_host(self, entry: str, options: bytes, told: Callable[[Host, Any], None]) -> Host:
        """See ``HostingExecutor``; ``shutdown`` does not end it."""
        from cascade.adapters.executors.host_process import HostProcess

        return HostProcess(self._pool.context, self._pool.settings, entry, options, told)

    @property
    def pids(self) -> list[int]:
        """The ids of the worker processes."""
        return self._pool.pids()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        started = len(self._pool.pids())
        return f"<ProcessExecutor of {self.max_workers} workers ({started} started)>"


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
