"""Checks of the executor or pool that lends an engine its threads."""

from __future__ import annotations

import inspect
from typing import Any

from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Executor

#: Names of suitable executors, as part of a message.
LENDERS = (
    "threads are lent by a cascade LocalExecutor, or by a "
    "concurrent.futures.ThreadPoolExecutor that lives as long as the engine's runs"
)
#: What to do with a pool of other processes.
OTHERS = (
    "right:  cs.Engine(executor=cs.FuturesExecutor(pool)), which sends tasks and values there\n"
    "    or:     cs.Engine(executor=cs.ProcessExecutor()), with processes of its own"
)
#: Modules and packages of executors that run calls in other processes, interpreters or machines.
_ELSEWHERE = (
    "concurrent.futures.interpreter",
    "concurrent.futures.process",
    "dask",
    "distributed",
    "executorlib",
    "ipyparallel",
    "joblib",
    "lithops",
    "loky",
    "mpi4py",
    "multiprocessing",
    "parsl",
    "pebble",
    "ray",
)


def check_lender(option: str, executor: Any) -> None:
    """Refuse an object that cannot lend threads; ``option`` names the engine's option in messages.

    Raises:
        ExecutorError: It lacks a method of an Executor, is a class, has coroutine methods, or runs
            calls outside this process, where tasks and their contexts are not available.
    """
    if isinstance(executor, type):
        raise _unfit(option, f"is the class {executor.__qualname__}; give it an instance")
    place = _place_of(type(executor))
    if place is not None:
        raise _unfit(
            option,
            f"is a {kind_of(executor)}, which makes calls elsewhere ({place}); the calls of a run "
            "share its context, locks and open resources, which no other process can have",
            OTHERS,
        )
    if not isinstance(executor, Executor):
        lacking = [n for n in ("submit", "shutdown") if not hasattr(executor, n)]
        methods = " and ".join(f"{name}()" for name in lacking)
        raise _unfit(option, f"is a {kind_of(executor)}, which has no {methods}")
    if inspect.iscoroutinefunction(executor.submit):
        raise _unfit(option, f"is a {kind_of(executor)}, whose submit() is a coroutine function")


def kind_of(executor: object) -> str:
    """The name of an executor in messages: its class, with the module."""
    kind = type(executor)
    return f"{kind.__module__}.{kind.__qualname__}"


def _place_of(kind: type) -> str | None:
    """The module of a base class of ``kind`` whose executors run calls elsewhere."""
    for base in kind.__mro__:
        for module in _ELSEWHERE:
            if base.__module__ == module or base.__module__.startswith(f"{module}."):
                return module
    return None


def _unfit(option: str, what: str, hint: str = LENDERS) -> ExecutorError:
    return ExecutorError(f"Engine({option}=…) {what}\n    {hint}")
