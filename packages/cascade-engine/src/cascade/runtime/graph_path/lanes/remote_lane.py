"""The remote lane: follows calls that a TaskExecutor makes in other processes.

The slow lane hands a call over once it may begin: after its conditions, its cache, its limits. No
thread and no asyncio task waits for it. Its outcome comes in a thread of the executor, and a worker
of the run goes on with it in the slow lane, as after a call of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Any, Final

from cascade.runtime.attempts import timed_out
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.elsewhere.sending import Sending
from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.execution.taken_once import TakenOnce
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import PENDING, Raised, Work
from cascade.runtime.limits.admission import needs_permit
from cascade.runtime.middleware import Layers
from cascade.spec.blueprint import TailCall
from cascade.spec.culprits import unsendable, unsendable_call
from cascade.spec.errors import TaskTimeoutError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of
from cascade.spec.map_items import item_of
from cascade.spec.policies import CallPolicies
from cascade.spec.remote_calls import Link, Outcome, RemoteCall, RemoteValue, collected_inputs
from cascade.spec.sent_resources import PackedResource
from cascade.spec.task import Task
from cascade.spec.wire import dumps_call, loads, pack
from cascade.spec.wire_errors import loads_error

#: Seconds for which a worker follows the tail calls of a task to itself, before it tells of them.
SPINS: Final = 0.1


class Flight(TakenOnce):
    """A call under way.

    Attributes:
        work: The work whose call it is.
        call: The call.
        layers, context: The middlewares around it, and their context; None without middlewares.
        timer: Ends it in time.
        late: Done when the call ends, if that was given up.
        land: Lets virtual time go on.
        since: When it was handed to the executor, by ``time.monotonic``.
        links: The nodes whose calls follow there.
    """

    __slots__ = ("call", "context", "land", "late", "layers", "links", "since", "timer", "work")

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.call: RemoteCall
        self.timer: asyncio.TimerHandle | None = None
        self.late: Future[None] | None = None
        self.land: Callable[[], object] | None = None
        self.links: Sequence[LazyResult[Any]] = ()
        self.since = monotonic()
        self.layers: Layers | None = None
        self.context: Context | None = None

    def settle(self) -> None:
        """Let the middlewares have the outcome that the work was handed, and change it."""
        layers, context, work = self.layers, self.context, self.work
        if layers is None or context is None:
            return
        if type(work.handed) is Raised:
            layers.fail(work.handed.error, work.operation.func)
        else:
            layers.value = work.handed
        try:
            work.handed = context.run(layers.left)
        except BaseException as error:
            work.handed = Raised(error)

    def drop(self) -> None:
        """End the middlewares of a call without an outcome, and forget them."""
        if self.layers is not None and self.context is not None:
            self.context.run(self.layers.drop)
        self.layers = self.context = None


class RemoteLane(Part):
    """The remote calls of one run.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._executor = parts.run.elsewhere.executor
        #: The calls whose outcome is awaited.
        self._flights: dict[Flight, None] = {}
        #: How many calls have ended; changes after the work that they leave to the workers.
        self.landings = 0
        self._flush_planned = self._wake_planned = False
        self._sending = Sending(self._run.resources)
        #: What stays there; None if nothing may, because something here sees each value.
        self._staying = None
        sees = (self._run.record, self._run.journal, self._run.middleware)
        if self._run.elsewhere.keeps and sees == (None, None, None):
            self._staying = parts.staying
        #: What the executor allocates itself, after the first call that takes a capacity.
        self._places: Mapping[str, float] | None = None
        #: Nodes whose calls were made together with those before them → how these have ended.
        self._ahead: dict[LazyResult[Any], Outcome] = {}
        self._quiet: asyncio.Future[None] | None = None
        self._run.watch_remote(self.waiting)

    def waiting(self) -> Iterator[Waiting]:
        """The calls that wait for a worker, and the tasks of this run that have one."""
        waits, flights = self._executor.waits, list(self._flights)
        begun = tuple(flight.call.name for flight in flights if not waits(flight.call))
        reason = f"worker {self._executor.capabilities.mark}"
        for flight in flights:
            if waits(flight.call):
                source = flight.work.source
                place = flight.call.name, number_of(source), reason, begun, None, flight.since
                yield Waiting(*place, item_of(source))

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._flights)

    def begin(self, work: Work, left: object) -> Any:
        """Have the call of ``work`` made. The slow lane goes on with the result, later.

        Returns:
            ``left``; or the value, if a middleware gives one without the call, or the call was made
            together with the one before it.

        Raises:
            BaseException: It has raised this, in that case.
            SendError: The task, an argument or a provider cannot be sent.
            ResourceError: An argument is a resource that no worker can open.
            RunError: The executor was shut down.
        """
        if self._ahead and work.node in self._ahead:
            return self._taken(work, self._ahead.pop(work.node))
        flight = Flight(work)
        args, kwargs = work.args, work.kwargs
        if self._run.middleware is not None:
            wrapping = self._parts.wrapping
            flight.context = context = self._run.context.copy()
            made, flight.layers = context.run(wrapping.entered, work, args, kwargs)
            if not flight.layers.goes_on:
                return context.run(flight.layers.left)
            args, kwargs = made.args, made.kwargs
        try:
            flight.call = call = self._packed(flight, args, kwargs)
        except BaseException:
            flight.drop()
            raise
        loop = self._run.loop
        if VirtualLoop.was_used and isinstance(loop, VirtualLoop):
            flight.land = loop.hold(call.name)
        self._run.calls[call] = call.name
        self._flights[flight] = None
        try:
            self._executor.submit_call(call)
        except BaseException:
            self._landed(flight)
            raise
        if not self._dispatch.has_more:
            self._executor.flush()
        elif not self._flush_planned:  # more calls may go along, but not wait for a long one here
            self._flush_planned = True
            self._run.call_in_loop(self._flush)
        return left

    def _packed(self, flight: Flight, args: Sequence[Any], kwargs: dict[str, Any]) -> RemoteCall:
        work = flight.work
        policies = work.policies
        task: Any = work.operation
        if not isinstance(task, Task):
            task = task.task  # that of an instruction
        resources: Sequence[PackedResource] = ()
        if wants_resources(args, kwargs):
            args, kwargs, resources = self._sending.sent(args, kwargs, task)
        try:
            packed = pack(task)
        except Exception as error:
            raise unsendable(f"task '{task.name}'", task, error) from None
        beside: list[Any] | None = [] if self._executor.capabilities.shares else None
        with collected_inputs() as inputs:
            try:
                arguments = dumps_call(args, kwargs, beside)
            except Exception as error:
                raise unsendable_call(task, args, kwargs, error) from None
            links: Sequence[Link] = ()
            if self._staying is not None and not policies.timeout:
                links, flight.links = self._staying.links(work)
        call = RemoteCall(
            task.name,
            packed,
            arguments,
            partial(self._ended, flight),
            on_begin=None if policies.timeout is None else partial(self._begun, flight),
            needs=self._needs(policies),
        )
        if self._may_spin(work):
            call.spins = SPINS
        call.resources = resources
        call.beside = beside or ()
        if self._staying is not None:
            call.inputs, call.links = tuple(inputs), links
            last = flight.links[-1] if links else work.node
            call.keeps = self._staying.stays(work.segment, last)
        return call

    def _needs(self, policies: CallPolicies) -> Mapping[str, float]:
        """The amounts that the executor allocates itself."""
        if not policies.capacities:
            return {}
        if self._places is None:
            self._places = self._run.elsewhere.places
        return {name: amount for name, amount in policies.capacities if name in self._places}

    def _may_spin(self, work: Work) -> bool:
        """Whether a worker may make several steps of a loop: none is more than a call, or counts
        by itself.
        """
        run, policies = self._run, work.policies
        return isinstance(work.operation, Task) and not (
            policies.needs_attempts
            or run.journal is not None
            or run.middleware is not None
            or run.steps.limit is not None
            or run.max_rounds is not None
            or needs_permit(run.constraints, work.operation, policies)
        )

    def _flush(self) -> None:
        self._flush_planned = False
        self._executor.flush()

    # -- outcomes -----------------------------------------------------------------------------

    def _ended(self, flight: Flight, outcome: Outcome) -> None:
        """A call has ended. In any thread."""
        if not flight.take():
            if flight.late is not None:
                flight.late.set_result(None)
                flight.call.on_end = flight.call.on_begin = _nothing
            return
        work = flight.work
        if outcome.links:
            *passed, last = flight.links[: outcome.links]
            for node in passed:
                self._ahead[node] = Outcome("kept", remote=RemoteValue(node.name))
            self._ahead[last] = outcome._replace(steps=0, links=0)
            name = work.operation.name
            outcome = Outcome("kept", steps=outcome.steps, remote=RemoteValue(name))
        try:
            self._read(work, outcome)
        except BaseException as error:  # of the classes of its parts
            work.handed = Raised(error)
        if self._staying is not None and type(work.handed) is TailCall:
            away = [v for v in (*work.args, *work.kwargs.values()) if type(v) is RemoteValue]
            if away:  # arguments that the next call keeps
                self._staying.fetch(away, partial(self._fetched, flight, away))
                return
        flight.settle()
        self._go_on(flight)

    def _fetched(
        self,
        flight: Flight,
        away: Sequence[RemoteValue],
        values: Sequence[Any],
        error: Exception | None,
    ) -> None:
        """The arguments of a call that goes on are here. In any thread."""
        work = flight.work
        if error is not None:
            work.handed = Raised(error)
        else:
            here: dict[Any, Any] = dict(zip(away, values, strict=True))
            work.args = [here[v] if type(v) is RemoteValue else v for v in work.args]
            work.kwargs = {
                name: here[v] if type(v) is RemoteValue else v for name, v in work.kwargs.items()
            }
        self._go_on(flight)

    def _taken(self, work: Work, outcome: Outcome) -> Any:
        """The result of a call that was made before ``work`` began.

        Raises:
            BaseException: The call has raised it.
        """
        self._read(work, outcome)
        result, work.handed = work.handed, PENDING
        if type(result) is Raised:
            raise result.error
        return result

    def _read(self, work: Work, outcome: Outcome) -> None:
        """Give ``work`` the result of its call, or its error."""
        if outcome.steps:
            work.steps += outcome.steps
            if self._run.steps.many(outcome.steps, work.operation.name):
                self._run.tell_of_steps(work.operation.name)
        if outcome.kind == "failed":
            assert outcome.error is not None
            work.handed = Raised(outcome.error)
        elif outcome.kind == "error":
            work.handed = Raised(loads_error(outcome.data))
        elif outcome.kind == "value":
            work.handed = loads(outcome.data, buffers=outcome.beside)
        elif outcome.kind == "kept":
            work.handed = outcome.remote
        else:
            work.handed, named = loads(outcome.data, buffers=outcome.beside)
            if named is not None:  # of the last call that the worker has made
                assert isinstance(work.operation, Task)
                work.named = named = self._sending.received(named)
                work.args, work.kwargs = work.operation.parameters.spread(named)

    def _go_on(self, flight: Flight) -> None:
        """Have a worker go on with the work of a call that has ended. In any thread."""
        work, dispatch = flight.work, self._dispatch
        if self._parts.end.stopping:
            dispatch.limit_waits.release(work)
        else:
            dispatch.pool.push((work.segment, work))
        self._landed(flight)
        if flight.timer is not None:  # it holds the work
            with suppress(RuntimeError):  # the run was abandoned, and its loop is closed
                self._run.call_in_loop(flight.timer.cancel)
        if not self._wake_planned:
            self._wake_planned = True
            with suppress(RuntimeError):  # as above
                self._run.call_in_loop(self._wake)

    def _landed(self, flight: Flight) -> None:
        self.landings += 1
        self._flights.pop(flight, None)
        self._run.calls.pop(flight.call, None)
        flight.drop()
        if flight.late is None:  # otherwise a cycle, which needs the collector
            flight.call.on_end = flight.call.on_begin = _nothing
        if flight.land is not None:
            flight.land()

    def _wake(self) -> None:
        self._wake_planned = False
        self._dispatch.pool.wake()
        if not self._flights:
            if self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)
            self._dispatch.idle()

    # -- time limits --------------------------------------------------------------------------

    def _begun(self, flight: Flight) -> None:
        """A call with a timeout has begun. In any thread."""
        with suppress(RuntimeError):  # as above
            self._run.call_in_loop(self._arm, flight)

    def _arm(self, flight: Flight) -> None:
        timeout = flight.work.policies.timeout
        if flight in self._flights and timeout is not None:
            flight.timer = self._run.loop.call_later(timeout, self._expire, flight, timeout)

    def _expire(self, flight: Flight, timeout: float) -> None:
        """A call takes too long. In the event loop's thread."""
        if not flight.take():
            return
        work = flight.work
        work.handed = Raised(self._overran(work, timeout))
        flight.settle()
        self._leave(flight)
        self._go_on(flight)

    def _overran(self, work: Work, timeout: float) -> TaskTimeoutError:
        error = timed_out(work.operation.name, timeout)
        if not self._executor.capabilities.stops:
            error.add_note("the call goes on in its worker, and its result is dropped")
        return error

    def _leave(self, flight: Flight) -> None:
        """Wait for a call no longer: it is ended, or given up (M8). It keeps its permit."""
        work, stops = flight.work, self._executor.capabilities.stops
        late = flight.late = Future()
        if self._executor.cancel_call(flight.call, stop=stops):
            self._dispatch.limit_waits.release(work)
            return
        self._dispatch.limit_waits.release_after(work, late)
        if not stops:
            self._run.give_up(late, flight.call.name, work.source)

    # -- the end ------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Withdraw calls that have not begun, and wait for the others. In the loop's thread."""
        for flight in list(self._flights):
            if self._executor.cancel_call(flight.call) and flight.take():
                self._dispatch.limit_waits.release(flight.work)
                self._landed(flight)
        if self._flights:
            self._quiet = self._run.loop.create_future()
            await self._quiet

    def abandon(self) -> None:
        """Wait for no call any longer."""
        for flight in list(self._flights):
            if flight.take():
                self._leave(flight)
                self._landed(flight)

    def close(self) -> None:
        """Stop timers, whose contexts hold the inputs of the run."""
        for flight in list(self._flights):
            if flight.timer is not None:
                flight.timer.cancel()


def _nothing(*_details: object) -> None:
    """What a call tells that nothing waits for."""
