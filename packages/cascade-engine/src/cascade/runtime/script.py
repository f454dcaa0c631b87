"""``run`` and ``run_async``: a target's value in one call, for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult

# The engine and asyncio are imported on the first call: looking a name up is to cost next to
# nothing (observatory/benchmarks/import_cost.py).

R = TypeVar("R")


@overload
def run(
    target: LazyResult[R], params: Mapping[str, Any] | None = None, *, use_vm: bool = False
) -> R: ...
@overload
def run(target: Any, params: Mapping[str, Any] | None = None, *, use_vm: bool = False) -> Any: ...
def run(target: Any, params: Mapping[str, Any] | None = None, *, use_vm: bool = False) -> Any:
    """Compute the value of ``target`` with an engine of its own, and wait for it.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(a, b):
    ...     return a + b
    >>> cs.run(add(add(1, 2), 3))
    6

    Args:
        target: See ``Engine.run``.
        params: What the target's ``Param`` nodes read.
        use_vm: Execute a compiled blueprint instead of running the graph.

    Raises:
        RunError: Inside of a task, or while an event loop runs in this thread.
    """
    import asyncio

    from cascade.runtime.run import current_run
    from cascade.spec.errors import RunError

    if current_run.get(None) is not None:
        raise RunError(
            "cs.run() was called inside of a task; return the lazy value instead and the run "
            "continues as it\n"
            "    wrong:  return cs.run(work(x))\n"
            "    right:  return work(x)"
        )
    if asyncio._get_running_loop() is not None:
        raise RunError(
            "cs.run() was called while an event loop is running, which it would block\n"
            "    wrong:  value = cs.run(target)\n"
            "    right:  value = await cs.run_async(target)"
        )
    return asyncio.run(run_async(target, params, use_vm=use_vm))


@overload
async def run_async(
    target: LazyResult[R], params: Mapping[str, Any] | None = None, *, use_vm: bool = False
) -> R: ...
@overload
async def run_async(
    target: Any, params: Mapping[str, Any] | None = None, *, use_vm: bool = False
) -> Any: ...
async def run_async(
    target: Any, params: Mapping[str, Any] | None = None, *, use_vm: bool = False
) -> Any:
    """``run`` for code that is in an event loop already: ``await cs.run_async(target)``."""
    from cascade.runtime.engine import Engine

    async with Engine() as engine:
        return await engine.run(target, params, use_vm)
