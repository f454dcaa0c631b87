"""Elsewhere: which calls of an engine are made in other processes, and by which executor."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from cascade.spec.errors import ExecutorError, RunError
from cascade.spec.operation import Operation
from cascade.spec.protocols import KeepingExecutor, TaskExecutor
from cascade.spec.remote_calls import goes_elsewhere, serving

if TYPE_CHECKING:
    from cascade.runtime.resources.session import ResourceSession


class Elsewhere:
    """The TaskExecutor of one engine. From any thread.

    Args:
        executor: Makes the calls of all plain functions; None if only tasks with
            ``mode="process"`` go elsewhere, to processes that are started for the first of them.
        owns: Whether ``close`` shuts it down.

    Attributes:
        everything: Whether it makes the calls of all plain functions without a mode.
    """

    def __init__(self, executor: TaskExecutor | None = None, owns: bool = False) -> None:
        self.everything = executor is not None
        self._executor = executor
        self._owns = owns
        self._lock = threading.Lock()

    @property
    def executor(self) -> TaskExecutor:
        """The executor.

        Raises:
            ExecutorError: This is a worker process, and the engine was given none.
        """
        if self._executor is None:
            self._executor = self._made()
        return self._executor

    def _made(self) -> TaskExecutor:
        with self._lock:
            if self._executor is None:
                task = serving.get(None)
                if task is not None:
                    raise ExecutorError(
                        f"task '{task}' runs in a worker process, where an engine starts no "
                        "further ones by itself\n"
                        "    right:  return the lazy value, and the driver's run goes on as it\n"
                        "    or:     cs.Engine(executor=cs.ProcessExecutor(2))"
                    )
                self._executor, self._owns = processes(), True
            return self._executor

    @property
    def keeps(self) -> bool:
        """Whether values may stay with the workers."""
        return self.everything and self.executor.capabilities.stays

    @property
    def places(self) -> Mapping[str, float]:
        """The capacities that the executor allocates, and how much of each it has."""
        if not self.keeps:
            return {}
        found = cast("KeepingExecutor", self.executor).places
        return {name: amount for name, amount in found.items() if name.isidentifier() and amount}

    @property
    def is_started(self) -> bool:
        """Whether ``close`` has something to end."""
        return self._owns and self._executor is not None

    def takes(self, operation: Operation) -> bool:
        """Whether calls of ``operation`` are made elsewhere, unless they are given resources."""
        if operation.mode == "process":
            return True
        return self.everything and goes_elsewhere(operation)

    def takes_call(
        self,
        operation: Operation,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        resources: ResourceSession,
    ) -> bool:
        """Whether a call of ``operation`` is made elsewhere: if workers can open its resources."""
        if operation.mode == "process":
            return True
        return self.everything and goes_elsewhere(operation) and resources.travel(args, kwargs)

    def close(self, wait: bool = True) -> None:
        """End what this has started; waits for the end of its processes."""
        if self.is_started:
            self.executor.shutdown(wait)


def processes() -> TaskExecutor:
    """A ProcessExecutor for all cores."""
    # Imported at the first use: it takes 50 ms, with multiprocessing, which few programs need.
    from cascade.adapters.executors.process import ProcessExecutor

    return ProcessExecutor()


def is_name(executor: str) -> bool:
    """Whether a text names an executor that makes calls of tasks: ``process``, or a URL."""
    return executor == "process" or executor.startswith(("dask://", "ray://"))


def named(executor: str) -> TaskExecutor:
    """The executor of a name.

    Raises:
        ExecutorError: Its library is not installed, or the cluster cannot be reached.
    """
    if executor.startswith("dask://"):
        from cascade.adapters.executors.dask import DaskExecutor

        return DaskExecutor(executor)
    if executor.startswith("ray://"):
        from cascade.adapters.executors.ray import RayExecutor

        return RayExecutor(executor)
    return processes()


def refuse_in_import() -> None:
    """Refuse a run that a script begins while a worker process imports the script.

    Raises:
        RunError: It is such a one.
    """
    # multiprocessing has no public sign of this; its own refusal asks the same attribute.
    module = sys.modules.get("multiprocessing.process")
    if module is not None and getattr(module.current_process(), "_inheriting", False):
        raise RunError(
            "the script begins a run while a worker process imports it, as each of them does: "
            "without an end, if it went on\n"
            "    wrong:  cs.run(work(x))\n"
            '    right:  if __name__ == "__main__":\n'
            "                cs.run(work(x))"
        )
