"""Lending: the parts of an engine that its runs use, in each event loop that uses the engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from cascade.adapters.executors.checks import check_lender
from cascade.adapters.executors.inline import InlineExecutor
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocking_calls import BlockingMonitor
from cascade.runtime.diagnostics.blocking_warnings import OF_A_MAP, BlockedStep, warn
from cascade.runtime.elsewhere.executors import Elsewhere, is_name, named
from cascade.runtime.engine_options import EngineSettings
from cascade.runtime.engine_parts import EngineParts
from cascade.runtime.events import ConstraintRemoved, ConstraintSet, Event, TaskBlocking
from cascade.runtime.execution.abandoned import AbandonedCalls
from cascade.runtime.execution.early_calls import EarlyTasks
from cascade.runtime.execution.event_loop_calls import Patience
from cascade.runtime.execution.placement import Durations
from cascade.runtime.execution.registry import BlueprintRegistry
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.rules import Constraint
from cascade.runtime.middleware import Middleware, Middlewares
from cascade.runtime.overriding import in_force
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.semantics.recording import Record, recorder
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of
from cascade.spec.map_items import item_of
from cascade.spec.protocols import Executor, StateBackend, TaskExecutor
from cascade.spec.task import Task
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.runtime.telemetry.otel import Tracing


class _Lent(NamedTuple):
    """The parts that the last run got, and the reasons to give them to the next one."""

    loop: ref[asyncio.AbstractEventLoop]
    thread: int
    state: StateBackend | None
    hook: Record | None
    parts: EngineParts


class Lending:
    """The parts that an engine lends to its runs.

    Args:
        made: The options of the engine.
        bus: Publishes the events.
        constraints: The rules for running tasks.
        elsewhere: Makes calls in other processes.

    Attributes:
        container: Opens resources.
        blueprints: The targets of ``TailCall(target_blueprint_id=…)``.
        abandoned: The calls that runs no longer wait for (M8).
        durations: The functions found to be slow in the event loop's thread (M6).
        elsewhere: Makes calls in other processes.
        middleware: The functions around each call, or None.

    Raises:
        ExecutorError: ``threads`` or ``executor`` lends no threads of this process.
    """

    def __init__(
        self,
        made: EngineSettings,
        bus: MessageBus,
        constraints: ConstraintManager,
        elsewhere: Elsewhere,
    ) -> None:
        self._threads, self._owns_threads = _lender_of(made)
        self.elsewhere = elsewhere
        lent = made.executor is not None and not self.elsewhere.everything
        self._is_inline = made.threads is None and not lent
        self._bus = bus
        self._constraints = constraints
        self._step_interval = made.step_interval
        self.tracing = None if made.otel is False else _tracing(made.otel, bus)
        self.middleware = _around(made.middleware, self.tracing)
        self._cache = engines_cache(made.cache)
        self._owns_cache = isinstance(made.cache, str)
        self.abandoned = AbandonedCalls()
        self.container = ResourceContainer(bus, made.teardown_timeout, self.abandoned)
        self.blueprints = BlueprintRegistry()
        self.durations = Durations()
        self._patience = Patience()
        #: Thread → monitor, for the thread of each event loop that has used the engine.
        self._monitors: dict[int, BlockingMonitor] = {}
        self._last: _Lent | None = None

    def here(self, state: StateBackend | None, hook: Record | None) -> EngineParts:
        """The parts for a run in this thread's event loop.

        Args:
            state: Keeps the outcomes of nodes.
            hook: Called with each outcome.
        """
        loop, last = asyncio.get_running_loop(), self._last
        if (
            last is not None
            and last.loop() is loop
            and last.thread == threading.get_ident()
            and last.state is state
            and last.hook is hook
            and last.parts.overrides is in_force.now
        ):
            return last.parts
        monitor = self._monitor_here()
        parts = EngineParts(
            bus=self._bus,
            threads=self._threads_of(loop),
            container=self.container,
            blueprints=self.blueprints,
            record=recorder(state, hook),
            abandoned=self.abandoned,
            monitor=monitor,
            durations=self.durations,
            patience=self._patience,
            step_interval=self._step_interval,
            constraints=self._constraints,
            cache=self._cache,
            early=EarlyTasks(loop, monitor),
            elsewhere=self.elsewhere,
            middleware=self.middleware,
        )
        self._last = _Lent(ref(loop), threading.get_ident(), state, hook, parts)
        return parts

    def end(self) -> None:
        """End the threads, in a moment."""
        self._last = None
        for monitor in self._monitors.values():
            monitor.close()
        if self._owns_threads:
            self._threads.shutdown(wait=False)
        if self._owns_cache:
            self._cache.close()
        elif (shared := getattr(self._cache, "shared", None)) is not None:
            shared.flush()
        if self.tracing is not None:
            self.tracing.close()

    def _threads_of(self, loop: asyncio.AbstractEventLoop) -> Executor:
        """In virtual time plain functions run inline, unless the engine was given threads."""
        is_virtual = isinstance(loop, VirtualLoop)
        return InlineExecutor() if is_virtual and self._is_inline else self._threads

    def _monitor_here(self) -> BlockingMonitor:
        thread = threading.get_ident()
        if thread not in self._monitors:
            self._monitors[thread] = BlockingMonitor(_tell_of_blocking)
        return self._monitors[thread]


def _tracing(otel: Any, bus: MessageBus) -> Tracing:
    """What reports to OpenTelemetry.

    Raises:
        ArgumentError: ``otel`` is no such option.
        ImportError: OpenTelemetry is not installed.
    """
    from cascade.runtime.telemetry.otel import OpenTelemetry, Tracing

    options = OpenTelemetry() if otel is True else otel
    if not isinstance(options, OpenTelemetry):
        raise ArgumentError(f"otel= takes True or an OpenTelemetry, but got {short(otel)}")
    return Tracing(bus, options)


def _around(middleware: Sequence[Middleware], tracing: Tracing | None) -> Middlewares | None:
    """The functions around each call, that of OpenTelemetry outside of the others."""
    given = Middlewares(middleware)
    if tracing is not None:
        return Middlewares((tracing.middleware, *given.functions))
    return given if given.functions else None


def engines_cache(cache: Any) -> Any:
    """The policy of an engine's option ``cache``.

    Raises:
        ArgumentError: It is no cache.
    """
    if cache is None:
        return None
    if isinstance(cache, str):
        from cascade.adapters.cache.by_code import ByCode

        return ByCode(cache)
    from cascade.spec.caching import cache_policy

    return cache_policy(cache, None, (), "")


def _lender_of(made: EngineSettings) -> tuple[Executor, bool]:
    """The lender of an engine's threads, and whether the engine owns it."""
    lends = made.executor is not None and not _makes_calls(made.executor)
    name: str
    lender: Any
    name, lender = ("executor", made.executor) if lends else ("threads", made.threads)
    if made.threads is not None and lends:
        raise ArgumentError("an engine takes threads= or executor=, but not both")
    if lender is None:
        return LocalExecutor(), True
    if isinstance(lender, (int, float)):
        check_count(name, lender)
        return LocalExecutor(int(lender)), True
    check_lender(name, lender)
    return lender, False


def _makes_calls(executor: Any) -> bool:
    """Whether an executor makes calls of tasks, and does not lend threads."""
    if isinstance(executor, str):
        return is_name(executor)
    return isinstance(executor, TaskExecutor) and not isinstance(executor, type)


def elsewhere_of(made: EngineSettings) -> Elsewhere:
    """What makes calls of an engine in other processes."""
    executor = made.executor
    if executor is None or not _makes_calls(executor):
        return Elsewhere()
    if isinstance(executor, str):
        return Elsewhere(named(executor), owns=True)
    assert isinstance(executor, TaskExecutor)
    return Elsewhere(executor)


def telling_of_constraints(
    bus: MessageBus, runs: Collection[Run]
) -> Callable[[Constraint, str], None]:
    """A function that tells the active ``runs`` of changes of constraints, and publishes them."""

    def tell(constraint: Constraint, what: str) -> None:
        for run in list(runs):
            run.limits_changed()
        told: Event
        if what == "set":
            if not bus.wants(ConstraintSet):
                return
            told = ConstraintSet("", *constraint.key, constraint.value, constraint.ttl)
        else:
            if not bus.wants(ConstraintRemoved):
                return
            told = ConstraintRemoved("", *constraint.key, constraint.value, what)
        bus.publish(told)

    return tell


def _tell_of_blocking(blocked: BlockedStep) -> None:
    """Warn of a coroutine that blocks the event loop, and publish the event. In any thread."""
    run, task, source, mode = blocked.owner
    if blocked.plain is not None:
        task, source, mode = blocked.plain, None, "auto"
    is_own = isinstance(source, LazyResult) and not isinstance(source.task, Task)
    warn(task, blocked, OF_A_MAP if is_own and mode is None else mode)
    with contextlib.suppress(RuntimeError):  # the loop is closed
        node, item = number_of(source), item_of(source)
        run.publish(TaskBlocking, task, node, blocked.seconds, blocked.stack, item=item)
