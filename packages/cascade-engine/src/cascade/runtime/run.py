"""Run: the state of one execution of a target, shared by everything that takes part in it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextvars import Token
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocking_calls import Watch, marked
from cascade.runtime.events import CallAbandoned, ResultNotStored
from cascade.runtime.execution import active_runs
from cascade.runtime.execution.awaited_call import AwaitedCall
from cascade.runtime.execution.cancels import Cancels, IsCancelled
from cascade.runtime.execution.carried_errors import guarded, in_loop
from cascade.runtime.execution.contexts import held_in
from cascade.runtime.execution.coroutines import Unwatched, watched
from cascade.runtime.execution.event_loop_calls import Patience
from cascade.runtime.execution.placement import Placement, outside_loop, starts_loop, timed
from cascade.runtime.execution.thread_waits import PoolReports, ThreadWaits
from cascade.runtime.execution.worker_calls import WorkerCall, submit
from cascade.runtime.inbox import Inbox
from cascade.runtime.lazily import lazily
from cascade.runtime.limits.gate import Gate
from cascade.runtime.limits.permits import Admissions, current_permit
from cascade.runtime.middleware import Middlewares
from cascade.runtime.options import DEFAULTS, RunSettings
from cascade.runtime.run_waits import RunWaits
from cascade.runtime.semantics.recording import together
from cascade.spec.errors import NotStorableError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import SOURCE, WINDOWS, number_of
from cascade.spec.map_items import item_of
from cascade.spec.operation import Operation
from cascade.spec.params import Source, run_params
from cascade.spec.protocols import Executor

if TYPE_CHECKING:
    from cascade.runtime.durable.journal import Journal
    from cascade.runtime.engine_parts import EngineParts
    from cascade.runtime.resources.session import ResourceSession

T = TypeVar("T")

#: The run of the current code; ``cs.run`` refuses to start another one from inside.
current_run: contextvars.ContextVar[Run] = contextvars.ContextVar("cascade.current_run")


def _refuse_windows(lazies: Iterable[LazyResult[Any]]) -> None:
    for lazy in lazies:
        if lazy._special & WINDOWS:
            raise NotStorableError(
                f"{lazy.name}(…, window=…) in a durable run: nothing records which items it has "
                "read, so another process could not go on with it\n"
                f"    right:  {lazy.name}(…) without window= and fold=, over a list\n"
                "    or:     a loop, agent.tail(…), that takes a part of the items in each step",
                "",
            )


def _nowhere() -> None:
    """Where a run knows no nodes."""


class Run(RunWaits):
    """The state of one run. Made, begun and ended in its event loop's thread.

    Args:
        lent: The parts of the engine that the run uses.
        params: The values for ``Param`` nodes.
        settings: The run's options.

    Attributes:
        params: The values for ``Param`` nodes.
        constraints: The engine's rules for running tasks.
        record: Called with each node and its outcome, or None.
        context: The caller's context variables; every call of a task runs in a copy (M12).
        held: The variables of ``context`` that calls may set, for comparisons; see ``contexts``.
        cancels: The cancels of the asyncio task that the run belongs to.
        failures: The errors of a run with ``fail_fast=False``, in their order.
        patience: The targets for which short waits for workers pay; None for no such waits.
        early: The spare asyncio tasks of the event loop; None without an engine.
        middleware: The functions around each call, or None.
        overrides: Other functions for tasks and nodes, in tests; None if there are none.
        short_cuts: Whether calls of plain values may be made together, without a ``Work``.
        pool_reports: The nodes on the threads of its pool, and those that wait; None without one.
    """

    # Class attributes, as few runs change them: an object with fewer attributes is made faster.
    #: The scope of the run's deadline, if it has one.
    scope: asyncio.Timeout | None = None
    #: The stored state of a durable run; None without a store.
    journal: Journal | None = None
    pool_reports: PoolReports | None = None
    #: Finds the call that is being made in the calling thread, for ``cs.current``.
    locate: Callable[[], Any] = staticmethod(_nowhere)
    #: The parts that execute it as a graph, for views of it; None without a graph.
    inside: Any = None

    def __init__(
        self,
        lent: EngineParts,
        params: Mapping[str, Any] | None = None,
        settings: RunSettings = DEFAULTS,
    ) -> None:
        super().__init__(settings, lent)
        self.failures: list[Exception] = []
        self.params = dict(params) if params else {}
        self.constraints = lent.constraints
        self.record = lent.record
        #: That of tasks with ``pure=True``; None for no cache.
        self.cache = lent.cache
        # Later registrations and overrides apply to later runs.
        self._registered = lent.container.registered_now()
        # In virtual time the speed of the machine must not matter, and threads stop the clock.
        self.is_virtual = VirtualLoop.was_used and isinstance(self.loop, VirtualLoop)
        self.patience: Patience | None = None if self.is_virtual else lent.patience
        self.monitor = lent.monitor
        self.early = lent.early
        self.middleware = lent.middleware
        self.overrides = lent.overrides
        if self.overrides is not None:
            # Each call is made by itself, and no made-up value gets into a cache.
            own = () if lent.middleware is None else lent.middleware.functions
            self.middleware = Middlewares((*self.overrides.middleware, *own))
            self.cache = None
        self.short_cuts = not lent.elsewhere.everything and self.middleware is None
        self._starter = current_run.get(None)
        self.admissions = Admissions(current_permit.get(None))

    # -- parts that few runs need -------------------------------------------------------------

    @lazily
    def resources(self) -> ResourceSession:
        """The injected resources, opened at first use."""
        return self._lent.container.setup(self, self._registered)

    @lazily
    def inbox(self) -> Inbox:
        """The signals that the run has got."""
        return Inbox() if self.journal is None else self.journal.inbox

    @lazily
    def placement(self) -> Placement:
        """Decides where calls are made (M6)."""
        return Placement(None if self.is_virtual else self._lent.durations)

    @lazily
    def gate(self) -> Gate:
        """The limits, in the view of this run."""
        capacities = self.constraints.capacities
        return Gate(self, capacities, self.constraints, self.priority, self.admissions)

    @lazily
    def thread_waits(self) -> ThreadWaits:
        """The calls on threads, and those that wait for one."""
        starter = self._starter
        parent: ThreadWaits | None = None if starter is None else starter.thread_waits
        return ThreadWaits(self, parent, self.is_virtual)

    # -- its life -----------------------------------------------------------------------------

    def keep_journal(self, journal: Journal) -> None:
        """Record the outcomes of the run in ``journal``. Called before the run begins."""
        self.journal = journal
        journal.outcomes.tell = self._tell_not_stored
        if journal.made:
            self.steps.add_earlier(journal.made)
        self.record = together(self.record, journal.record)

    @property
    def is_inner(self) -> bool:
        """Whether a call of another run has begun it."""
        return self._starter is not None

    @property
    def is_recorded(self) -> bool:
        """Whether a state backend or a hook gets each outcome."""
        return self._lent.record is not None

    @property
    def is_durable(self) -> bool:
        """Whether the run is kept in a store."""
        return self.journal is not None

    def _tell_not_stored(self, node: LazyResult[Any], error: BaseException) -> None:
        self.publish(ResultNotStored, node.name, node.number, error, item=item_of(node))

    def begin(self) -> None:
        """Begin the run in the current asyncio task and context; ``end`` must follow."""
        self.cancels = Cancels(self.loop)
        self._tokens = self.enter()
        self.context = contextvars.copy_context()
        self.held = held_in(self.context, (run_params, current_run))
        active_runs.runs.add(self)

    def enter(self) -> tuple[Token[Mapping[str, Any]], Token[Run]]:
        """Let the code in the current context belong to this run."""
        return run_params.set(self.params), current_run.set(self)

    def ends_at_once(self) -> bool:
        """End it as ``end`` does without an error; False if that takes an await."""
        if "resources" in self.__dict__:
            return False
        self._let_go(None)
        return True

    async def end(self, error: BaseException | None) -> None:
        """Close the resources, and let go of everything.

        Args:
            error: The error that has ended the run, if any.
        """
        resources = self.__dict__.get("resources")
        try:
            if resources is not None:
                await resources.close(error)
        finally:
            self._let_go(resources)

    def _let_go(self, resources: ResourceSession | None) -> None:
        run_params.reset(self._tokens[0])
        current_run.reset(self._tokens[1])
        del self._tokens
        gate = self.__dict__.get("gate")
        if gate is not None:
            gate.close()
        active_runs.runs.discard(self)
        thread_waits = self.__dict__.get("thread_waits")
        if thread_waits is not None:
            thread_waits.end()
        self._starter = None
        if self.pool_reports is not None:
            self.pool_reports = None
        self.end_events()
        # The parts of a run refer to it, and cancelled timers to its context, so that its
        # inputs would stay in memory until a collection.
        self.params.clear()
        self.context = contextvars.copy_context()
        self.watch_nothing()
        if self.inside is not None:
            self.locate, self.inside = _nowhere, None
        if gate is None and resources is None:
            return
        if not (self.abandons or self.calls):  # these use its parts, and end later
            if gate is not None:
                gate.let_go()
            if resources is not None:
                resources.let_go()

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        await self.end(error)

    def admit_no_more(self) -> None:
        """Start nothing more that needs a permit, and end all waits for permits."""
        # In this order: a thread that makes the gate after this look finds it closed.
        self.admissions.closed = True
        gate = self.__dict__.get("gate")
        if gate is not None:
            gate.stop()

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse, before the run starts, nodes that cannot succeed: resources, capacities, params.

        Args:
            lazies: At least the ``special`` ones.

        Raises:
            ResourceNotFoundError, ResourceError, CycleError: See ``Providers.check``.
            CapacityError: A node takes more of a capacity than the total.
            ParameterError: A parameter or environment variable is missing or does not fit.
            NotStorableError: A map reads its columns item by item, and the run is durable.
        """
        special = [lazy for lazy in lazies if lazy._special]
        if not special:
            return
        if self.journal is not None:
            _refuse_windows(special)
        self.resources.check(special)
        self.constraints.capacities.check_nodes(special)
        for lazy in special:
            if lazy._special & SOURCE and isinstance(lazy, Source):
                if self.overrides is not None and self.overrides.function(lazy.task, lazy.number):
                    continue
                lazy.read(self.params)

    def replaces(self, work: Any) -> bool:
        """Whether a test has put a function in the place of that of ``work``."""
        if self.overrides is None:
            return False
        return self.overrides.function(work.operation, work.source.number) is not None

    @property
    def expired(self) -> bool:
        """Whether the deadline is over, so that the run waits for nothing more."""
        return self.scope is not None and self.scope.expired()

    @property
    def is_cancelled(self) -> bool:
        """Whether the run's asyncio task was cancelled, or its deadline is over.

        True from the request on. When a whole event loop is ended, as by ``asyncio.run``, the
        cancels of the run's inner asyncio tasks may arrive before that of its own.
        """
        return self.expired or self.cancels.count > 0

    @property
    def abandons(self) -> bool:
        """Whether the run waits for plain calls no longer (M8).

        Its deadline is over, or it was cancelled for the second time. Cancels of its inner asyncio
        tasks do not count, because a failure cancels them as well.
        """
        return self.cancels.count > 1 or self.expired

    # -- threads ------------------------------------------------------------------------------

    @property
    def caller(self) -> Any:
        """The permit of the call that started this run, if limits have admitted that call."""
        return self.admissions.caller

    def submit(self, executor: Executor, name: str, work: WorkerCall[T]) -> Future[T]:
        """Give a call to ``executor``; virtual time stands still until the call has ended.

        Raises:
            RuntimeError: The executor refuses; ``work`` is withdrawn, unless it has begun.
        """
        return submit(self.loop, executor, name, work)

    def note_call(
        self, call: Future[Any], work: WorkerCall[Any], executor: Executor, name: str
    ) -> None:
        """List a call of a provider among those that wait for a thread, or hold one."""
        self.thread_waits.note(call, work, executor, name)
        call.add_done_callback(self.thread_waits.ended)

    def abandon(
        self,
        call: Future[Any],
        name: str,
        source: LazyResult[Any] | None,
        executor: Executor | None = None,
    ) -> None:
        """Record an abandoned call, and publish it (M8)."""
        self.thread_waits.ended(call)
        running = self.abandoned.add(call, name, executor or self.threads)
        self.publish(CallAbandoned, name, number_of(source), running, item=item_of(source))

    def give_up(self, call: Future[Any], name: str, source: LazyResult[Any] | None) -> None:
        """Abandon a call of the pool that takes too long, although the run goes on."""
        self.calls[call] = name
        call.add_done_callback(self.call_ended)
        self.abandon(call, name, source)

    def call_ended(self, call: Future[Any]) -> None:
        """Forget a call on a thread, which has ended. From any thread."""
        self.calls.pop(call, None)
        self.thread_waits.ended(call)

    def call_here(
        self,
        called: Any,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a plain function in the event loop's thread.

        Args:
            called: Its key for ``placement``.
            func: The function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            RunError: It starts an event loop, although it asked for this thread.
        """
        run, watch = self.context.copy().run, self.watch_call(called)
        if getattr(called, "mode", "auto") == "inline":
            return marked(watch, run, in_loop, called.name, guarded, func, args, kwargs)
        # Measured here: the monitor's thread may have to be started first.
        note = self.placement.note_since
        if starts_loop(called):
            return outside_loop(
                marked, watch, timed, called, note, run, guarded, func, args, kwargs
            )
        return marked(watch, timed, called, note, run, guarded, func, args, kwargs)

    def watch_call(self, called: Any, on_late: Callable[[], object] | None = None) -> Watch | None:
        """A mark for a call in the event loop's thread, for ``marked``; see ``BlockingMonitor``."""
        if self.monitor is None or getattr(called, "structural", False):
            return None
        name = getattr(called, "name", None) or getattr(called, "__qualname__", repr(called))
        return self.monitor.watch_call((self, name, None, getattr(called, "mode", "auto")), on_late)

    # -- coroutines ---------------------------------------------------------------------------

    def awaiting(
        self,
        operation: Operation,
        source: LazyResult[Any] | None,
        work: Coroutine[Any, Any, T],
        context: contextvars.Context,
        is_cancelled: IsCancelled,
    ) -> Awaitable[T]:
        """An awaitable for the value of a task's coroutine, each step of it in ``context``.

        One coroutine does everything, because every wait passes through each further coroutine. It
        may raise:

        - CancelledError: the engine has cancelled it, even if the coroutine has swallowed that;
        - TaskCancelledError: it was cancelled, but not by the engine;
        - TaskStopIterationError: it let a StopIteration escape.

        Args:
            operation: The operation that it is a call of.
            source: The lazy value of the call, for events.
            work: The coroutine.
            context: A copy of the caller's, which may be marked (M12).
            is_cancelled: Whether the engine has cancelled the current asyncio task.
        """
        call = AwaitedCall(operation, self.calls, is_cancelled)
        return watched(context, work, self.watch_steps(operation, source), call)

    def watch_steps(
        self, operation: Operation, source: LazyResult[Any] | None
    ) -> Watch | Unwatched:
        """A mark for the steps of a coroutine of ``operation``, for ``watched``."""
        watch: Watch | None = None
        if self.monitor is not None:
            may_block = getattr(operation, "may_block", False)
            watch = self.monitor.watch((self, operation.name, source, None), may_block)
        return watch or Unwatched()
