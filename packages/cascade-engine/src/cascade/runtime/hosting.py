"""Hosting: runs that ``engine.start(…, on=…)`` has executed in other processes.

Such a run is a durable one. The driver creates it in the store and names it to a host process,
whose engine claims it. Its steps, signals and value go through the store; constraints of the
engine are sent to all hosts. If a host is killed, another one goes on with its runs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary, WeakSet

from cascade.runtime.durable.claiming import dead_for
from cascade.runtime.durable.programs import Wanted, check_same
from cascade.runtime.durable.runs import DurableRuns
from cascade.runtime.elsewhere.executors import named
from cascade.runtime.elsewhere.host_events import wanted
from cascade.runtime.elsewhere.host_messages import (
    EndThere,
    LimitThere,
    RunThere,
    TellThere,
    Told,
)
from cascade.runtime.elsewhere.losses import MOST_STARTS, TRIAL, HostLostError, Losses
from cascade.runtime.events import ConstraintRemoved, ConstraintSet, Event
from cascade.runtime.host_options import On, modules_of
from cascade.runtime.hosted_runs import HostedRuns
from cascade.spec.errors import ExecutorError, RunLeasedError, WorkerLostError
from cascade.spec.protocols import Host, HostingExecutor, TaskExecutor
from cascade.spec.run_rows import FINISHED, RunRecord, RunStatus
from cascade.spec.wire import dumps
from cascade.spec.wire_errors import loads_error

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.limits.constraints import ConstraintManager

#: The main function of a host. By its name, because it makes an engine.
_ENTRY: Final = "cascade.runtime.hosted"
#: Seconds until a run is looked at again that is still leased.
_AGAIN: Final = 0.5
_log: Final = logging.getLogger("cascade.executors")


class Hosting:
    """The hosted runs of one engine, in one event loop.

    Args:
        runs: The durable runs of the engine.
        options: Those of the engines of hosts.
        constraints: The rules that hold for hosted runs too.
        bus: Tells of changes of these.
    """

    def __init__(
        self,
        runs: DurableRuns,
        options: Mapping[str, Any],
        constraints: ConstraintManager,
        bus: MessageBus,
    ) -> None:
        self._runs = runs
        self._options = options
        #: For the driver's views.
        self.active = HostedRuns(bus)
        self._bus = bus
        #: The events that were asked of each host.
        self._kinds: WeakKeyDictionary[Host, tuple[str, ...]] = WeakKeyDictionary()
        self._constraints = constraints
        self._loop = asyncio.get_running_loop()
        self._hosts: dict[HostingExecutor, list[Host]] = {}
        #: All of them; replaced, never changed, for other threads.
        self._all: tuple[Host, ...] = ()
        #: Name, such as ``"process"`` or an address of a cluster → its executor.
        self._named: dict[str, asyncio.Future[TaskExecutor]] = {}
        #: Guards the choice of a host, which may start one.
        self._choosing = asyncio.Lock()
        #: Id → the end that its host reports: the error of the run as bytes, or None.
        self._ends: dict[str, asyncio.Future[bytes | None]] = {}
        self._cancelled: set[str] = set()
        #: Executor → the start of a host that is under way.
        self._starts: dict[HostingExecutor, asyncio.Task[Host]] = {}
        #: Held while a run is on trial (``losses``), and the id of that run.
        self._trial, self._on_trial = asyncio.Lock(), cast("str | None", None)
        #: Hosts that have ended.
        self._gone: WeakSet[Host] = WeakSet()
        #: Held while constraints are read and sent, so that hosts get the latest ones last.
        self._telling = threading.Lock()
        self._unsubscribe = [
            bus.subscribe(ConstraintSet, self._limit, at_once=True),
            bus.subscribe(ConstraintRemoved, self._limit, at_once=True),
        ]

    async def _executor(self, on: Any) -> HostingExecutor:
        """The executor for ``on=``; one that is made here for a name ends with the engine.

        Raises:
            ExecutorError: A cluster cannot be reached.
        """
        if not isinstance(on, str):
            return cast("HostingExecutor", on)
        async with self._choosing:
            if on not in self._named:
                # A task of its own, so that a cancel leaves no cluster behind.
                self._named[on] = asyncio.ensure_future(asyncio.to_thread(named, on))
            made = self._named[on]
        try:
            return cast("HostingExecutor", await asyncio.shield(made))
        except Exception:
            if self._named.get(on) is made:
                del self._named[on]  # the next run tries again
            raise

    def cancel(self, run_id: str) -> None:
        """Let a run whose work is cancelled next end for good, and not as interrupted."""
        self._cancelled.add(run_id)

    async def execute(self, new: Wanted, on: On, strategy: str) -> Any:
        """The value of a run, computed by a host.

        Raises:
            RunConflictError: The id belongs to another target.
            ExecutorError: No host can be started.
            Exception: The error of the run.
        """
        run_id, problem = new.new.run_id, None
        self.active.begin(run_id, new.new.target, strategy)
        try:
            run = await self._created(new)
            if run.status is RunStatus.SUCCEEDED:
                return await self._runs.result(run)
            executor = await self._executor(on)
            error = await self._hosted(run, executor, modules_of(new.program.target))
            if error is not None:
                raise loads_error(error)
            ended = await self._runs.call(self._runs.store.find, run_id)
            assert ended is not None
            return await self._runs.result(ended)
        except BaseException as raised:
            problem = raised
            if isinstance(raised, asyncio.CancelledError) and run_id in self._cancelled:
                await self._cancel_stored(run_id)
            raise
        finally:
            self._ends.pop(run_id, None)
            self._cancelled.discard(run_id)
            self.active.end(run_id, problem)
            del problem  # its traceback has this frame

    async def _created(self, new: Wanted) -> RunRecord:
        """The run, created if the store has none with its id. A cancel waits for that."""
        store = self._runs.store
        with self._runs.opening(new.new.run_id):
            creating = asyncio.ensure_future(self._runs.call(store.create, [new.new]))
            try:
                (created,) = await asyncio.shield(creating)
            except asyncio.CancelledError:
                await asyncio.wait([creating])
                raise
        run: RunRecord = created.run
        if not created.new:
            loaded = await self._runs.call(store.load, run.number)
            check_same(self._runs.codec, new, run, loaded)
        return run

    async def _hosted(
        self, run: RunRecord, executor: HostingExecutor, modules: list[str]
    ) -> bytes | None:
        """The error of a run that hosts have executed, as bytes.

        Raises:
            ExecutorError: No host begins it.
            WorkerLostError: It seems to end each host, and is dead now (D3).
        """
        losses = Losses(run)
        while True:
            trial = self._trial if losses.on_trial else nullcontext()
            async with trial:
                host = await self._chosen(executor, run.run_id)
                end: asyncio.Future[bytes | None] = self._loop.create_future()
                self._ends[run.run_id] = end
                self._want_events(host)
                host.send(RunThere(run.run_id, modules))
                if losses.on_trial:
                    await self._tried(host, run.run_id, end)
            await self._wait(host, run.run_id, end)
            try:
                return end.result()
            except HostLostError as lost:
                pause = await self._lost(losses, lost, run.run_id)
            await asyncio.sleep(pause)

    async def _wait(
        self,
        host: Host,
        run_id: str,
        end: asyncio.Future[bytes | None],
        seconds: float | None = None,
    ) -> None:
        """Wait for the end of a run in its host, or of the host; a cancel has the run end before.

        Args:
            seconds: How long at most; None without a limit.
        """
        try:
            await asyncio.wait([end], timeout=seconds)
        except asyncio.CancelledError:
            host.send(EndThere(run_id, run_id in self._cancelled))
            with suppress(HostLostError):
                await end
            raise

    async def _tried(self, host: Host, run_id: str, end: asyncio.Future[bytes | None]) -> None:
        """Put a run on trial for a while: if its host ends in that time, the run is to blame."""
        self._on_trial = run_id
        try:
            await self._wait(host, run_id, end, TRIAL)
        finally:
            self._on_trial = None

    async def _lost(self, losses: Losses, lost: HostLostError, run_id: str) -> float:
        """A host of a run has ended; the seconds until another one goes on with the run.

        Raises:
            ExecutorError: Too many have ended before they began it.
            WorkerLostError: Too many have ended while they executed it.
        """
        self.active.lose(run_id)
        found = await self._runs.call(self._runs.store.find, run_id)
        try:
            pause = losses.add(lost, found)
        except WorkerLostError as error:
            if await self._is_dead(found, error):
                raise
            return 0.0
        _log.warning("a host process was lost; another one goes on with run %r", run_id)
        return pause

    async def _is_dead(self, run: RunRecord | None, error: Exception) -> bool:
        """Have a run end as dead, once its lease is over; False if another process goes on."""
        found = run
        while found is not None and run is not None and found.epoch == run.epoch:
            try:
                await self._runs.declare_dead(run.run_id, error)
            except RunLeasedError:  # its host was on another machine; or a worker has it now
                await asyncio.sleep(_AGAIN)
                found = await self._runs.call(self._runs.store.find, run.run_id)
            else:
                return True
        return False

    async def _cancel_stored(self, run_id: str) -> None:
        """Cancel a run in the store, if its host has not done so."""
        store = self._runs.store
        run = await self._runs.call(store.find, run_id)
        if run is not None and run.status not in FINISHED:
            dead = dead_for(run_id, await self._runs.call(store.owners))
            await self._runs.call(store.cancel, run_id, dead=dead)

    async def _chosen(self, executor: HostingExecutor, run_id: str) -> Host:
        """The host with the fewest runs; a new one if all have some and there may be more hosts.

        Raises:
            ExecutorError: None can be started, or they end at once.
        """
        async with self._choosing:
            for _ in range(MOST_STARTS):
                hosts = self._hosts.setdefault(executor, [])
                host = min(hosts, key=lambda one: len(one.runs), default=None)
                if host is None or (host.runs and len(hosts) < executor.max_workers):
                    # A task of its own, so that a cancel leaves no process behind.
                    host = await asyncio.shield(self._starting(executor))
                if host not in self._gone:  # it may have ended in the turn after its start
                    host.runs.add(run_id)
                    return host
        raise ExecutorError(
            f"{MOST_STARTS} host processes ended one after the other as soon as they had started; "
            "their own errors are on standard error"
        )

    def _starting(self, executor: HostingExecutor) -> asyncio.Task[Host]:
        """The start of a host: the one that a cancelled run has left, or a new one."""
        start = self._starts.get(executor)
        if start is None:
            start = self._starts[executor] = self._loop.create_task(self._start(executor))

            def forget(ended: asyncio.Task[Host]) -> None:
                self._starts.pop(executor)
                if not ended.cancelled():
                    ended.exception()  # is retrieved, if no run waits for it any more

            start.add_done_callback(forget)
        return start

    async def _start(self, executor: HostingExecutor) -> Host:
        """A new host."""
        options = dumps(self._options)
        host = await asyncio.to_thread(executor.start_host, _ENTRY, options, self._told)
        if host not in self._gone:
            self._hosts.setdefault(executor, []).append(host)
            self._all = (*self._all, host)
            self._tell_limits([host])
        return host

    async def close(self) -> None:
        """End the hosts. No hosted run is under way any more, or it is handed over."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        await asyncio.gather(*self._starts.values(), return_exceptions=True)
        hosts, self._all = self._all, ()
        self._hosts.clear()
        await asyncio.gather(*(asyncio.to_thread(host.close) for host in hosts))
        made = await asyncio.gather(*self._named.values(), return_exceptions=True)
        for executor in made:
            if not isinstance(executor, BaseException):
                await asyncio.to_thread(executor.shutdown)

    # -- messages -----------------------------------------------------------------------------

    def _told(self, host: Host, message: Any) -> None:
        """Take a message of a host; None if it has ended. In any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, host, message)

    def _take(self, host: Host, message: Any) -> None:
        if message is None:
            self._gone.add(host)
            self._forget(host)
            blamed = self._on_trial if self._on_trial in host.runs else None
            if len(host.runs) == 1:
                (blamed,) = host.runs
            for run_id in host.runs:
                end = self._ends.get(run_id)
                if end is not None and not end.done():
                    end.set_exception(HostLostError(host.exit_code, blamed))
            host.runs.clear()
            return
        if isinstance(message, Told):
            self.active.take(message)
            return
        host.runs.discard(message.run_id)
        end = self._ends.get(message.run_id)
        if end is not None and not end.done():
            end.set_result(message.error)

    def _forget(self, host: Host) -> None:
        self._all = tuple(one for one in self._all if one is not host)
        for hosts in self._hosts.values():
            if host in hosts:
                hosts.remove(host)

    def _want_events(self, host: Host) -> None:
        """Ask a host for the events that have subscribers now."""
        kinds = wanted(self._bus.wants)
        if kinds != self._kinds.get(host, ()):
            self._kinds[host] = kinds
            host.send(TellThere(kinds))

    def _limit(self, _event: Event) -> None:
        self._tell_limits(self._all)

    def _tell_limits(self, hosts: Iterable[Host]) -> None:
        """Send the constraints in force. In any thread."""
        with self._telling:
            active = self._constraints.active()
            found = [replace(info.constraint, ttl=info.seconds_left) for info in active]
            message = LimitThere(found)
            for host in hosts:
                host.send(message)
