"""Run: the state of one execution of a target, shared by everything that takes part in it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, TypeVar

from cascade.graph.build import inputs_of
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocking_calls import Watch, marked
from cascade.runtime.events import (
    CallAbandoned,
    Event,
    InputsAwaited,
    NodesPlanned,
    StepsMade,
    TaskFailed,
    TaskFinished,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.execution import interrupts
from cascade.runtime.execution.cancels import Cancels, IsCancelled, cancelled_inside
from cascade.runtime.execution.contexts import held_in
from cascade.runtime.execution.coroutines import Unwatched, watched
from cascade.runtime.execution.placement import (
    Placement,
    outside_loop,
    refused_loop,
    starts_loop,
    timed,
)
from cascade.runtime.execution.step_counter import Batch, Steps
from cascade.runtime.execution.thread_waits import ThreadWaits
from cascade.runtime.execution.worker_calls import (
    WorkerCall,
    end_of,
    not_begun,
    result_of,
    submit,
)
from cascade.runtime.limits.gate import Gate
from cascade.runtime.options import DEFAULTS, RunSettings
from cascade.spec.errors import TaskStopIterationError, TaskTimeoutError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of
from cascade.spec.map_items import Item, item_of
from cascade.spec.operation import Operation
from cascade.spec.params import Source, run_params
from cascade.spec.protocols import Executor
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.runtime.resources.session import ResourceSession
    from cascade.runtime.surroundings import Surroundings

T = TypeVar("T")

#: The run of the current code; ``cs.run`` refuses to start another one from inside.
current_run: contextvars.ContextVar[Run] = contextvars.ContextVar("cascade.current_run")


#: Most nodes in a list without a visit to all nodes that wait for a thread.
_MOST_LISTED = 1000


def new_id() -> str:
    """A random id for a run."""
    return os.urandom(8).hex()


class Waiting(NamedTuple):
    """The reason why a node does not run now."""

    task: str
    #: ``LazyResult.number`` of the node; 0 if there is none.
    node: int
    #: ``"inputs"``, ``"retry delay"``, ``"worker thread"``, ``"thread of the resources"``, or the
    #: limit: ``"capacity gpu"``, ``"pause global"``, ``"concurrency task:fetch 4"``,
    #: ``"rate_limit global 10/s"``.
    reason: str
    #: Names of the inputs, or of the tasks that hold the limit or the threads.
    holders: tuple[str, ...] = ()
    #: Expected duration, if known.
    seconds: float | None = None
    #: Start of the wait, by ``time.monotonic``; None for inputs. Of nodes that wait for a thread
    #: together, the time since which none has become free.
    since: float | None = None
    #: Its place in a map, if it is an item of one.
    item: Item | None = None


class Run:
    """The state of one run. Made, entered and left in its event loop's thread.

    Args:
        lent: The parts of the engine that the run uses.
        params: The values for ``Param`` nodes.
        settings: The run's options.

    Attributes:
        id: Names the run in events.
        params: The values for ``Param`` nodes.
        threads: Lends the threads for plain functions.
        resources: The injected resources, opened at first use.
        blueprints: The targets of ``TailCall(target_blueprint_id=…)``.
        record: Called with each node and its outcome, or None.
        context: The caller's context variables; every call of a task runs in a copy (M12).
        held: The variables of ``context`` that calls may set, for comparisons; see ``contexts``.
        placement: Decides where calls are made (M6).
        fail_fast: Whether the first error ends the run (R9).
        failures: The errors of a run with ``fail_fast=False``, in their order.
        steps: The steps of its loops.
        max_rounds: Most rounds of each node (M20), or None.
        priority: Added to the priorities of its nodes (M24).
    """

    def __init__(
        self,
        lent: Surroundings,
        params: Mapping[str, Any] | None = None,
        settings: RunSettings = DEFAULTS,
    ) -> None:
        self.id = settings.run_id or new_id()
        self.fail_fast = settings.fail_fast
        self.failures: list[Exception] = []
        #: The scope of the run's deadline, if it has one.
        self.scope: asyncio.Timeout | None = None
        self.params = dict(params or {})
        self.bus = lent.bus
        self.threads = lent.threads
        self.blueprints = lent.blueprints
        self.record = lent.record
        self.resources: ResourceSession = lent.container.setup(self)
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # In virtual time the speed of the machine must not matter.
        is_virtual = isinstance(self.loop, VirtualLoop)
        self.placement = Placement(None if is_virtual else lent.durations)
        self._monitor = lent.monitor
        self._abandoned = lent.abandoned
        self._resting: dict[object, Waiting] = {}
        caller = current_run.get(None)
        parent: ThreadWaits | None = None if caller is None else caller.thread_waits
        #: The calls on threads, and those that wait for one.
        self.thread_waits: ThreadWaits = ThreadWaits(self, parent, is_virtual)
        #: Key of a begun call of a task or resource → its name.
        self.calls: dict[object, str] = {}
        self._worked_on: Callable[[], Iterable[str]] = tuple
        self._lacking: Callable[[], Iterable[Waiting]] = tuple
        self.steps = Steps(settings.max_steps, lent.step_interval, self.loop.time)
        self.max_rounds = settings.max_rounds
        self._will_tell = False
        self._next_tell: asyncio.TimerHandle | None = None
        self.priority = settings.priority
        self.gate = Gate(self, lent.constraints.capacities, lent.constraints, settings.priority)
        self._published: deque[Event] = deque()
        self._flush_planned = False

    async def __aenter__(self) -> Self:
        self._cancels = Cancels()
        self._tokens = (run_params.set(self.params), current_run.set(self))
        self.context = contextvars.copy_context()
        self.held = held_in(self.context, (run_params, current_run))
        interrupts.runs.add(self)
        self.thread_waits.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.resources.close(error)
        finally:
            run_params.reset(self._tokens[0])
            current_run.reset(self._tokens[1])
            del self._tokens
            self.gate.close()
            interrupts.runs.discard(self)
            self.thread_waits.end()
            if self._next_tell is not None:
                self._next_tell.cancel()
            self._flush()
            # The parts of a run refer to it, and cancelled timers to its context, so that its
            # inputs would stay in memory until a collection.
            self.params.clear()
            self.context = contextvars.copy_context()
            self._lacking = self._worked_on = tuple
            if not (self.abandons or self.calls):  # these use its parts, and end later
                self.gate.let_go()
                self.resources.let_go()

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse, before the run starts, nodes that cannot succeed: resources, capacities, params.

        Args:
            lazies: At least the ``special`` ones.

        Raises:
            ResourceNotFoundError, ResourceError, CycleError: See ``Providers.check``.
            CapacityError: A node takes more of a capacity than the total.
            ParameterError: A parameter or environment variable is missing or does not fit.
        """
        special = [lazy for lazy in lazies if lazy._special]
        self.resources.check(special)
        self.gate.capacities.check_nodes(special)
        for lazy in special:
            if isinstance(lazy, Source):
                lazy.read(self.params)

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
        return self.expired or self._cancels.count > 0

    @property
    def abandons(self) -> bool:
        """Whether the run waits for plain calls no longer (M8).

        Its deadline is over, or it was cancelled for the second time. Cancels of its inner asyncio
        tasks do not count, because a failure cancels them as well.
        """
        return self.expired or self._cancels.count > 1

    # -- waiting nodes ------------------------------------------------------------------------

    def watch_waits(self, lacking: Callable[[], Iterable[Waiting]]) -> None:
        """Let ``waiting`` call ``lacking`` for the nodes that wait for inputs."""
        self._lacking = lacking

    def watch_work(self, worked_on: Callable[[], Iterable[str]]) -> None:
        """Let ``under_way`` call ``worked_on`` for the calls that are not in ``calls``."""
        self._worked_on = worked_on

    def under_way(self) -> list[str]:
        """The names of the active calls. In the loop's thread."""
        return [*list(self.calls.values()), *self._worked_on()]

    def waiting(self, inputs: bool = True) -> list[Waiting]:
        """The nodes that do not run now, and the reasons. In the loop's thread."""
        held_up = [
            Waiting(
                *(permit.task, permit.node, limit, holders, None, permit.since),
                item_of(permit.source),
            )
            for permit, limit, holders in self.gate.capacities.waiting(self)
        ]
        unthreaded = self.thread_waits.waiting(None if inputs else _MOST_LISTED)
        held_up += [Waiting(*wait) for wait in unthreaded]
        return [*self._resting.values(), *held_up, *(self._lacking() if inputs else ())]

    def report_plan(self, nodes: Callable[[], Iterable[LazyResult[Any]]]) -> None:
        """Publish the nodes added to the run, if there are subscribers."""
        if self.bus.is_silent:
            return
        if self.bus.wants(NodesPlanned):
            self.publish(NodesPlanned, sum(not lazy.task.structural for lazy in nodes()))
        if self.bus.wants(InputsAwaited):
            for lazy in nodes():
                inputs = dict.fromkeys(source.name for source in inputs_of(lazy))
                if inputs and not lazy.task.structural:
                    self.publish(
                        InputsAwaited, lazy.name, lazy.number, tuple(inputs), item=item_of(lazy)
                    )

    def begin_rest(self, task: str, source: LazyResult[Any] | None, seconds: float) -> object:
        """Report that a node waits for its next attempt, until ``end_rest`` gets the result."""
        key = object()
        node, item = number_of(source), item_of(source)
        self._resting[key] = Waiting(task, node, "retry delay", (), seconds, monotonic(), item)
        if seconds:
            self.publish(TaskWaiting, task, node, "retry delay", (), seconds, item=item)
        return key

    def end_rest(self, key: object) -> None:
        """Report that it no longer waits."""
        del self._resting[key]

    # -- events -------------------------------------------------------------------------------

    @property
    def watches_tasks(self) -> bool:
        """Whether events of tasks have subscribers, so that times must be measured."""
        wants = self.bus.wants
        return wants(TaskStarted) or wants(TaskFinished) or wants(TaskFailed) or wants(TaskSkipped)

    def publish(self, event_type: type[Event], *details: Any, **more: Any) -> None:
        """Publish an event of this run, from any thread, if there are subscribers.

        Handlers are called in the loop's thread, in the order of these calls.
        """
        if self.bus.is_silent or not self.bus.wants(event_type):
            return
        self._published.append(event_type(self.id, *details, **more))
        if threading.get_ident() == self._thread:
            self._flush()
        elif not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        while self._published:
            self.bus.publish(self._published.popleft())

    def call_in_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the loop's thread, soon. From any thread."""
        if threading.get_ident() == self._thread:
            self.loop.call_soon(function, *args)
        else:
            self.loop.call_soon_threadsafe(function, *args)

    def step(self, task: str) -> None:
        """Count a step of ``task``. From any thread.

        Raises:
            StepLimitError: It is one too many.
        """
        if self.steps.one(task):
            self.tell_of_steps(task)
        elif not self.bus.is_silent:
            self.tell_soon(task)

    def made(self, count: int, task: str, batch: Batch) -> None:
        """Count the steps of a batch of a loop of ``task``. In the event loop's thread.

        Raises:
            StepLimitError: They are too many.
        """
        if self.steps.many(count, task, batch):
            self.tell_of_steps(task)

    def limits_changed(self) -> None:
        """End the batches of loops, so that the next ones obey new limits. From any thread."""
        if self.is_own_thread(threading.get_ident()):
            self.steps.end_batches()  # now; steps that are ready already were made before
            return
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self.steps.end_batches)

    def tell_soon(self, task: str) -> None:
        """Report the steps of ``task`` at the next interval, whatever follows. From any thread."""
        if self._will_tell or not self.bus.wants(StepsMade):
            return
        self._will_tell = True
        if self.is_own_thread(threading.get_ident()):
            self._tell_later(task)
        else:
            self.loop.call_soon_threadsafe(self._tell_later, task)

    def _tell_later(self, task: str) -> None:
        self._next_tell = self.loop.call_later(self.steps.next_tell(), self._tell, task)

    def _tell(self, task: str) -> None:
        self._will_tell = False
        if self.steps.tell(task):
            self.tell_of_steps(task)

    def tell_of_steps(self, task: str) -> None:
        """Publish the number of steps, if there are subscribers."""
        if self.bus.wants(StepsMade):
            self.publish(StepsMade, task, self.steps.count, self.steps.per_second)

    # -- threads ------------------------------------------------------------------------------

    @property
    def caller(self) -> Any:
        """The permit of the call that started this run, if limits have admitted that call."""
        return self.gate.caller

    def is_own_thread(self, ident: int) -> bool:
        """Whether ``ident`` is the thread of the run's event loop."""
        return ident == self._thread

    def submit(self, executor: Executor, name: str, work: WorkerCall[T]) -> Future[T]:
        """Give a call to ``executor``; virtual time stands still until the call has ended.

        Raises:
            RuntimeError: The executor refuses; ``work`` is withdrawn, unless it has begun.
        """
        return submit(self.loop, executor, name, work)

    async def in_worker(
        self,
        func: Callable[..., T],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        executor: Executor | None = None,
        *,
        name: str = "",
        source: LazyResult[Any] | None = None,
        priority: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109  # of the call, not of this
        on_abandon: Callable[[Future[T]], None] | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> T:
        """Call ``func`` on a thread of the executor, in a copy of the caller's context (M12).

        Cancelling waits for the call to end, because it cannot be stopped (M8). A second cancel of
        the run abandons it, and so does the timeout.

        Args:
            func: A plain function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            executor: The run's by default.
            name: Its name in events and errors.
            source: The lazy value of the call, for events.
            priority: The priority of the node (M24).
            timeout: Seconds from the beginning on a thread.
            on_abandon: Called with the call when it is abandoned.
            on_cancel: Called when this was cancelled and is about to wait for the call.

        Raises:
            TaskTimeoutError: It took longer than ``timeout``.
            ExecutorError: The executor ended the call before a thread had begun it.
        """
        executor = executor or self.threads
        name = name or getattr(func, "__qualname__", short(func))
        begun: asyncio.Future[None] = self.loop.create_future()
        work: WorkerCall[T] = WorkerCall(
            self.context.copy().run,
            guarded if timeout is None else self._telling(begun),
            func,
            args,
            kwargs,
        )
        work.cascade_priority = self.priority + priority
        call = self.submit(executor, name, work)
        self.calls[call] = name
        timer = self.thread_waits.submitted(call, work, executor, name, source)
        call.add_done_callback(self._call_ended)
        ended = end_of(call, self.loop)
        try:
            if timeout is not None:
                await asyncio.wait([begun, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await asyncio.wait([ended], timeout=timeout)
        except asyncio.CancelledError:
            if on_cancel is not None and not ended.done():
                on_cancel()
            if work.withdraw():
                self.calls.pop(call, None)
            else:
                await self._end_of(call, ended, name, source, executor, on_abandon)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if ended.done():
            if work.withdraw():
                raise not_begun(executor, f"task '{name}'", call)
            return result_of(call)
        assert timeout is not None  # otherwise the call has ended
        self._leave(call, name, source, executor, on_abandon)
        raise TaskTimeoutError(
            f"an attempt of task '{name}' took longer than {timeout:g} s; it goes on in its "
            "thread, because a plain function cannot be stopped, and its result is dropped",
            timeout,
        )

    def _call_ended(self, call: Future[Any]) -> None:
        self.calls.pop(call, None)
        self.thread_waits.ended(call)

    def _telling(self, begun: asyncio.Future[None]) -> Callable[..., Any]:
        """``guarded``, which also reports its beginning to the event loop."""

        def begin() -> None:
            if not begun.done():
                begun.set_result(None)

        def call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            self.loop.call_soon_threadsafe(begin)
            return guarded(func, args, kwargs)

        return call

    async def _end_of(self, call: Future[T], ended: asyncio.Future[None], *abandon: Any) -> None:
        """Wait for a call that was cancelled and has begun, until the run abandons it."""
        try:
            while not (ended.done() or self.abandons):
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([ended])
        finally:
            if not ended.done():
                self._leave(call, *abandon)

    def _leave(
        self,
        call: Future[T],
        name: str,
        source: LazyResult[Any] | None,
        executor: Executor,
        on_abandon: Callable[[Future[T]], None] | None,
    ) -> None:
        if on_abandon is not None:
            on_abandon(call)
        self.abandon(call, name, source, executor)

    def abandon(
        self,
        call: Future[Any],
        name: str,
        source: LazyResult[Any] | None,
        executor: Executor | None = None,
    ) -> None:
        """Record an abandoned call, and publish it (M8)."""
        self.thread_waits.ended(call)
        running = self._abandoned.add(call, name, executor or self.threads)
        self.publish(CallAbandoned, name, number_of(source), running, item=item_of(source))

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

    def watch_call(self, called: Any, end: Callable[[], object] | None = None) -> Watch | None:
        """A mark for a call in the event loop's thread, for ``marked``; see ``BlockingMonitor``."""
        if self._monitor is None or getattr(called, "structural", False):
            return None
        name = getattr(called, "name", None) or getattr(called, "__qualname__", repr(called))
        return self._monitor.watch_call((self, name, None, getattr(called, "mode", "auto")), end)

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
        if self._monitor is not None:
            may_block = getattr(operation, "may_block", False)
            watch = self._monitor.watch((self, operation.name, source, None), may_block)
        return watch or Unwatched()


class AwaitedCall(Cancels):
    """An awaited call of a coroutine task; one of the run's calls until it is over."""

    __slots__ = ("_calls", "_is_cancelled", "_operation")

    def __init__(
        self,
        operation: Operation,
        calls: dict[object, str],
        is_cancelled: IsCancelled | None = None,
    ) -> None:
        super().__init__()
        self._operation = operation
        self._is_cancelled = is_cancelled
        self._calls = calls
        calls[self] = operation.name

    async def end(self, error: BaseException | None) -> None:
        try:
            if error is None or self.own > 0 or isinstance(error, asyncio.CancelledError):
                await self.settle(error, self.is_cancelled)
            if isinstance(error, RuntimeError):
                raise_named(error, self._operation)
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    def is_cancelled(self, outside: int) -> bool:
        """Whether the engine has cancelled the current asyncio task; see ``IsCancelled``."""
        assert self._is_cancelled is not None
        return self._is_cancelled(outside)

    def over(self) -> None:
        del self._calls[self]
        # An error's traceback holds this object, which holds the run.
        del self._is_cancelled, self._calls


def raise_named(error: RuntimeError, operation: Operation) -> NoReturn:
    """Raise ``error``; or one with the task's name if Python raised it for a StopIteration (M13).

    Raises:
        TaskStopIterationError: A coroutine of ``operation`` let a StopIteration escape.
        RuntimeError: ``error`` has another cause.
    """
    if isinstance(error.__cause__, StopIteration):
        raise stop_iteration(operation.func) from error.__cause__
    raise error


def guarded(func: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call ``func``; errors are replaced by ones that futures and coroutines can carry (M13).

    Raises:
        TaskStopIterationError: The function let a StopIteration escape.
        TaskCancelledError: It raised CancelledError.
    """
    try:
        return func(*args, **kwargs)
    except (StopIteration, asyncio.CancelledError) as error:
        raise carried(func, error) from error


def in_loop(task: str, func: Callable[..., T], *args: Any) -> T:
    """Call a function of the task ``task`` that asked for the event loop's thread.

    Raises:
        RunError: It starts an event loop there.
    """
    try:
        return func(*args)
    except RuntimeError as error:
        refused = refused_loop(error, task)
        if refused is None:
            raise
        raise refused from error


def stop_iteration(func: Callable[..., Any]) -> TaskStopIterationError:
    """The error for a function that let a StopIteration escape."""
    name = getattr(func, "__qualname__", short(func))
    return TaskStopIterationError(
        f"the task function '{name}' raised StopIteration, which would silently end the loop "
        "that runs it; catch it in the task"
    )


def carried(func: Callable[..., Any], error: BaseException) -> BaseException:
    """``error`` of a call of ``func``; or a replacement that futures can carry (M13).

    ``error`` is the cause of the replacement.
    """
    if isinstance(error, StopIteration):
        replaced: BaseException = stop_iteration(func)
    elif isinstance(error, asyncio.CancelledError):
        replaced = cancelled_inside()
    else:
        return error
    replaced.__cause__ = error
    return replaced
