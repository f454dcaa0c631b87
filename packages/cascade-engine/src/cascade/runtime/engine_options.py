"""The options of an engine, and of ``cs.run``, which makes an engine; see ``options``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from cascade.runtime.options import (
    STEP_INTERVAL,
    TEARDOWN_TIMEOUT,
    Durability,
    OnCodeChange,
    RunOptions,
)
from cascade.spec.checks import check_flag
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.limits.capacities import Capacities
    from cascade.runtime.loops.tiers import Tier
    from cascade.runtime.middleware import Middleware
    from cascade.runtime.telemetry.levels import LogLevel
    from cascade.runtime.telemetry.lines import LogFormat
    from cascade.runtime.telemetry.otel import OpenTelemetry
    from cascade.spec.caching import CachePolicy
    from cascade.spec.protocols import (
        CacheBackend,
        Executor,
        Solver,
        StateBackend,
        TaskExecutor,
    )
    from cascade.spec.resource import ResourceDefinition
    from cascade.spec.run_store import RunStore


class EngineOptions(TypedDict, total=False):
    """Options of an engine, ``cs.Engine(threads=4)``; see EngineSettings."""

    solver: Solver | None
    executor: Executor | TaskExecutor | str | None
    threads: Executor | int | None
    bus: MessageBus | None
    state_backend: StateBackend | None
    resources: Iterable[ResourceDefinition[Any]]
    capacities: Capacities | Mapping[str, float] | None
    cache: CachePolicy | CacheBackend | str | None
    tier: Tier
    middleware: Sequence[Middleware]
    otel: OpenTelemetry | bool
    teardown_timeout: float
    step_interval: float
    store: RunStore | str | None
    durability: Durability
    on_code_change: OnCodeChange
    signing_key: bytes | str | None
    modules: Iterable[str]
    retention: Mapping[str, str | float] | None
    strict: bool


class WatchOptions(TypedDict, total=False):
    """Output of a script about its runs, ``cs.run(target, progress=True)``; see WatchSettings."""

    log_format: LogFormat | None
    log_level: LogLevel | None
    progress: bool | None


class ScriptOptions(RunOptions, WatchOptions, EngineOptions, total=False):
    """Options of ``cs.run`` and ``cs.run_async``, which make an engine for one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The parts and the defaults of an engine.

    Attributes:
        threads: The threads for plain functions: a number, or a pool that lends them, such as a
            LocalExecutor or a ``concurrent.futures.ThreadPoolExecutor``, which must live as long as
            the runs. By default, and for a number, the engine makes a pool and ends it.
        executor: Makes the calls of plain functions in other processes: ``"process"`` for all
            cores, ``"dask://host:port"`` for a cluster, which the engine leaves when it is closed;
            or a ProcessExecutor, DaskExecutor or another TaskExecutor, which must live as long as
            the runs.
            Or a LocalExecutor or another pool that lends threads, as an alternative to
            ``threads``.
        solver: Orders nodes that could run at the same time; NativeSolver by default.
        bus: Publishes the events.
        state_backend: Keeps the outcome of every node for reading after a run; none by default.
        resources: Resources to register.
        capacities: The amount of each capacity that ``with_capacity`` takes, by name; or a
            Capacities that several engines share, and with a store several processes. None by
            default.
        cache: The cache of all calls of tasks with ``pure=True``: a policy such as ``cs.ByCode``,
            the URL of a ByCode (``"sqlite:///cache.db"``), or a backend; see ``with_cache``.
        tier: How compiled loops make steps; see ``VirtualMachine``.
        middleware: Generator functions around each call of a task, the outermost one first; see
            ``cascade.runtime.middleware``. Loops are then not compiled.
        otel: Report runs, nodes and attempts to OpenTelemetry: true for the global providers, or a
            ``cascade.runtime.telemetry.otel.OpenTelemetry``. Needs ``cascade-engine[otel]``.
        teardown_timeout: Seconds that closing a resource may take, unless the resource has a
            ``teardown_timeout`` of its own. A teardown that takes longer is cancelled or, on a
            thread, abandoned; that is an error of the run, and the other resources are closed.
        step_interval: Least seconds between two StepsMade events of a run.
        store: Keeps the runs that have a ``run_id``, so that another process can go on with them: a
            URL, such as ``"sqlite:///runs.db"``, or a RunStore.
        durability: What such a run waits for. ``"sync"``: each call for the commit of what it
            depends on, so that no effect is based on a value that a crash takes back. ``"async"``:
            for nothing; the last milliseconds before a crash are made again. ``"exit"``: the run is
            committed when it ends.
        on_code_change: What to do when a run is resumed with other code than it began with:
            ``"warn"``, and go on; ``"refuse"`` it with a CodeChangedError; or ``"recompute"`` what
            the old code has computed, and all that needs it.
        signing_key: Signs what is stored, and refuses to read what was not signed with it.
        modules: Modules that may be imported because a run of the store names tasks or classes in
            them. All others must be imported already.
        retention: For how long ``serve`` lets the store keep runs that have ended, by status:
            ``{"succeeded": "7d", "failed": "30d", "cancelled": "12h", "dead": "4w"}``, or seconds.
            Runs with another status are kept for ever.
        strict: Whether a value that cannot be stored is the error of its node. By default such a
            run goes on; another process that resumes it computes the value again.
    """

    threads: Executor | int | None = None
    executor: Executor | TaskExecutor | str | None = None
    solver: Solver | None = None
    bus: MessageBus | None = None
    state_backend: StateBackend | None = None
    resources: Iterable[ResourceDefinition[Any]] = ()
    capacities: Capacities | Mapping[str, float] | None = None
    cache: CachePolicy | CacheBackend | str | None = None
    tier: Tier = "auto"
    middleware: Sequence[Middleware] = ()
    otel: OpenTelemetry | bool = False
    teardown_timeout: float = TEARDOWN_TIMEOUT
    step_interval: float = STEP_INTERVAL
    store: RunStore | str | None = None
    durability: Durability = "sync"
    on_code_change: OnCodeChange = "warn"
    signing_key: bytes | str | None = None
    modules: Iterable[str] = ()
    retention: Mapping[str, str | float] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        check_flag("strict", self.strict)
        for name, kind in (("durability", Durability), ("on_code_change", OnCodeChange)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise ArgumentError(f"{name} must be {known}, not {short(getattr(self, name))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """The output of a script about its runs, on standard error.

    Attributes:
        log_format: Write a line for each event, ``"human"`` or ``"json"``.
        log_level: Leave out lines for events below ``"debug"``, ``"info"``, ``"warning"`` or
            ``"error"``; see ``LineWriter``. Alone, it asks for lines for people.
        progress: Show how far the run is: a bar in a terminal, a line now and then elsewhere.
            None: only a bar, where there is a terminal.
    """

    log_format: LogFormat | None = None
    log_level: LogLevel | None = None
    progress: bool | None = False

    def __post_init__(self) -> None:
        if self.progress is not None:
            check_flag("progress", self.progress)
