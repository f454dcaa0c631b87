"""``run`` and ``run_async``: a target's value in one call, for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from cascade.runtime.engine_options import (
    EngineOptions,
    EngineSettings,
    ScriptOptions,
    WatchOptions,
    WatchSettings,
)
from cascade.runtime.options import RunOptions, RunSettings, check_names, takes

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.spec.lazy_types import LazyResult

# The engine and asyncio are imported on the first call: looking up a name must cost next to nothing
# (observatory/benchmarks/import_cost.py).

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")


@overload
def run(
    target: LazyResult[R], params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> R: ...
@overload
def run(
    target: list[LazyResult[R]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> list[R]: ...
@overload
def run(
    target: tuple[LazyResult[R], LazyResult[S]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> tuple[R, S]: ...
@overload
def run(
    target: tuple[LazyResult[R], LazyResult[S], LazyResult[T]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> tuple[R, S, T]: ...
@overload
def run(
    target: dict[K, LazyResult[R]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> dict[K, R]: ...
@overload
def run(
    target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> Any: ...
@takes(ScriptOptions, RunSettings, WatchSettings, EngineSettings)
def run(
    target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> Any:
    """Compute the value of ``target`` with its own engine, and wait for it.

    >>> import cascade as cs
    >>> @cs.task
    ... def add(a, b):
    ...     return a + b
    >>> cs.run(add(add(1, 2), 3))
    6

    Ctrl-C, SIGTERM and SIGHUP end the run (M8), in the main thread and if the program has no
    handlers of its own: the first waits for plain functions, the second abandons them.
    ``run_async`` installs no handlers; those of ``asyncio.run`` apply.

    In a cell of a notebook, whose event loop runs already, the run gets a thread and an event loop
    of its own, and the cell waits for it. Objects that belong to the notebook's loop, such as a
    session that an earlier cell has opened with ``await``, work with ``await cs.run_async(target)``
    only.

    Args:
        target: See ``Engine.run``.
        params: Values for the target's ``Param`` nodes; other names are refused (M22).

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: SIGTERM or SIGHUP ended it; with 128 plus the signal's number.
        RunError: It was called inside a task, or inside a coroutine, whose event loop it would
            block.
        ArgumentError: An option is unknown or has an impossible value.
        Exception: As ``Engine.run``.
    """
    import asyncio

    from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
    from cascade.runtime.execution.interrupts import run_interruptibly
    from cascade.runtime.execution.placement import is_hidden
    from cascade.runtime.notebook import is_in_cell
    from cascade.runtime.run import current_run
    from cascade.spec.errors import RunError
    from cascade.spec.remote_calls import serving

    inside = current_run.get(None) is not None or is_hidden() or serving.get(None) is not None
    if inside:
        raise RunError(
            "cs.run() was called inside a task; return the lazy value instead, and the run "
            "continues as it\n"
            "    wrong:  return cs.run(work(x))\n"
            "    right:  return work(x)"
        )
    execute: Callable[[Coroutine[Any, Any, Any]], Any] = run_interruptibly
    if asyncio._get_running_loop() is not None:
        if not is_in_cell(sys._getframe(1)):
            raise RunError(
                "cs.run() was called while an event loop is running, which it would block\n"
                "    wrong:  value = cs.run(target)\n"
                "    right:  value = await cs.run_async(target)"
            )
        from cascade.runtime.execution.beside import run_beside

        execute = run_beside
    check_names("run", options, ScriptOptions.__optional_keys__)
    try:
        return execute(run_async(target, params, **options))
    except BaseException as error:
        leave_out_machinery(error)
        raise


@overload
async def run_async(
    target: LazyResult[R], params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> R: ...
@overload
async def run_async(
    target: list[LazyResult[R]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> list[R]: ...
@overload
async def run_async(
    target: tuple[LazyResult[R], LazyResult[S]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> tuple[R, S]: ...
@overload
async def run_async(
    target: tuple[LazyResult[R], LazyResult[S], LazyResult[T]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> tuple[R, S, T]: ...
@overload
async def run_async(
    target: dict[K, LazyResult[R]],
    params: Mapping[str, Any] | None = None,
    **options: Unpack[ScriptOptions],
) -> dict[K, R]: ...
@overload
async def run_async(
    target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> Any: ...
@takes(ScriptOptions, RunSettings, WatchSettings, EngineSettings)
async def run_async(
    target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[ScriptOptions]
) -> Any:
    """``run`` for code inside an event loop: ``await cs.run_async(target)``."""
    from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
    from cascade.runtime.engine import Engine

    check_names("run_async", options, ScriptOptions.__optional_keys__)
    try:
        async with Engine(**_of(EngineOptions, options)) as engine:
            with _watching(engine.bus, WatchSettings(**_of(WatchOptions, options))):
                return await engine.run(target, params, **_of(RunOptions, options))
    except BaseException as error:
        leave_out_machinery(error)
        raise


def _of(kind: Any, options: ScriptOptions) -> Any:
    """The options that belong to ``kind``."""
    return {name: value for name, value in options.items() if name in kind.__optional_keys__}


def _watching(bus: MessageBus, watch: WatchSettings) -> AbstractContextManager[object]:
    if watch == WatchSettings():
        return nullcontext()
    from cascade.runtime.telemetry.attach import attach

    return attach(bus, watch.log_format, watch.progress, log_level=watch.log_level)
