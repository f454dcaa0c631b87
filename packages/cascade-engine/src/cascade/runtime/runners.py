"""``run`` and ``run_async``: a target's value in one call, for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.telemetry.levels import LogLevel
    from cascade.spec.lazy_types import LazyResult

# The engine and asyncio are imported on the first call: looking up a name must cost next to nothing
# (observatory/benchmarks/import_cost.py).

R = TypeVar("R")
LogFormat: TypeAlias = Literal["human", "json"]


@overload
def run(
    target: LazyResult[R],
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> R: ...
@overload
def run(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> Any: ...
def run(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> Any:
    """Compute the value of ``target`` with its own engine, and wait for it.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(a, b):
    ...     return a + b
    >>> cs.run(add(add(1, 2), 3))
    6

    Args:
        target: See ``Engine.run``.
        params: Values for the target's ``Param`` nodes.
        use_vm: Execute a compiled blueprint instead of running the graph.
        fail_fast: Whether the first error ends the run; see ``Engine.run``.
        deadline: Seconds that the run may take.
        max_steps: Most steps of its loops together.
        capacities: Name → total amount, for ``with_capacity``.
        log_format: Write a line per event to standard error, ``"human"`` or ``"json"``.
        log_level: Leave out lines for events below ``"debug"``, ``"info"``, ``"warning"`` or
            ``"error"``; see ``LineWriter``. Alone, it turns on lines for people.
        progress: Show progress: a bar in a terminal, a line at intervals elsewhere. None: only a
            bar, if there is a terminal.

    Ctrl-C, SIGTERM and SIGHUP end the run (M8), in the main thread and if the program has no
    handlers of its own: the first waits for plain functions, the second abandons them.
    ``run_async`` installs no handlers; those of ``asyncio.run`` apply.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: SIGTERM or SIGHUP ended it; with 128 plus the signal's number.
        RunError: It was called inside a task, or while an event loop runs in this thread.
    """
    import asyncio

    from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
    from cascade.runtime.execution.interrupts import run_interruptibly
    from cascade.runtime.execution.placement import is_hidden
    from cascade.runtime.run import current_run
    from cascade.spec.errors import RunError

    if current_run.get(None) is not None or is_hidden():
        raise RunError(
            "cs.run() was called inside a task; return the lazy value instead, and the run "
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
    running = run_async(
        target,
        params,
        use_vm=use_vm,
        fail_fast=fail_fast,
        deadline=deadline,
        max_steps=max_steps,
        capacities=capacities,
        log_format=log_format,
        log_level=log_level,
        progress=progress,
    )
    try:
        return run_interruptibly(running)
    except BaseException as error:
        leave_out_machinery(error)
        raise


@overload
async def run_async(
    target: LazyResult[R],
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> R: ...
@overload
async def run_async(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> Any: ...
async def run_async(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    use_vm: bool = False,
    fail_fast: bool = True,
    deadline: float | None = None,
    max_steps: int | None = None,
    capacities: Mapping[str, float] | None = None,
    log_format: LogFormat | None = None,
    log_level: LogLevel | None = None,
    progress: bool | None = False,
) -> Any:
    """``run`` for code inside an event loop: ``await cs.run_async(target)``."""
    from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
    from cascade.runtime.engine import Engine

    try:
        async with Engine(capacities=capacities) as engine:
            with _watching(engine.bus, log_format, log_level, progress):
                return await engine.run(
                    target,
                    params,
                    use_vm,
                    fail_fast=fail_fast,
                    deadline=deadline,
                    max_steps=max_steps,
                )
    except BaseException as error:
        leave_out_machinery(error)
        raise


def _watching(
    bus: MessageBus,
    log_format: LogFormat | None,
    log_level: LogLevel | None,
    progress: bool | None,
) -> AbstractContextManager[object]:
    if log_format is None and log_level is None and progress is False:
        return nullcontext()
    from cascade.runtime.telemetry.attach import attach

    return attach(bus, log_format, progress, log_level=log_level)
