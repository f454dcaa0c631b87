"""The methods of an engine for its store: ``signal``, ``resume`` and ``serve``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from time import time
from typing import Any, Unpack

from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.durable.guarantees import Guarantees
from cascade.runtime.durable.programs import wanted
from cascade.runtime.durable.resuming import resumed
from cascade.runtime.durable.retention import Retention
from cascade.runtime.durable.runs import Begin, DurableRuns, durable_runs
from cascade.runtime.durable.stored_options import left_at, options_of, stored_options
from cascade.runtime.engine_base import EngineBase
from cascade.runtime.engine_options import EngineSettings
from cascade.runtime.host_options import amounts_of, check_on, check_sendable, shared_store
from cascade.runtime.hosting import Hosting
from cascade.runtime.inbox import Letter
from cascade.runtime.options import (
    DEFAULTS,
    MOST_RECOVERIES,
    ResumeOptions,
    RunOptions,
    RunSettings,
    takes,
)
from cascade.spec.checks import check_count, check_flag
from cascade.spec.errors import RunError, RunNotFoundError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.run_rows import FINISHED, Loaded
from cascade.spec.waits import check_signal


class DurableMethods(EngineBase):
    """Inherited by Engine."""

    def _set_up_store(self, made: EngineSettings) -> None:
        self._durable = durable_runs(
            made.store,
            Guarantees(made.durability, made.on_code_change, made.strict),
            made.signing_key,
            made.modules,
        )
        self._retention = Retention(made.retention)
        self._made, self._folder = made, os.getcwd()
        #: The runs in other processes; None if there were none.
        self._hosting: Hosting | None = None
        #: What tells of the end of each ``serve`` under way → what stops it.
        self._serving: dict[asyncio.Event, asyncio.Event] = {}

    async def signal(self, run_id: str, name: str, value: Any = None) -> None:
        """Send a signal to a run, which ``cs.wait_for(name)`` takes (D11).

        A durable run keeps it until it is taken, whichever process executes the run; it may also
        be suspended or enqueued. Other runs get it if they are under way in this engine.

        Args:
            run_id: The id of the run.
            name: The name of the signal.
            value: Its value.

        Raises:
            RunNotFoundError: No run has the id.
            RunConflictError: The run has ended.
            NotStorableError: ``value`` has no stored form, and the run is durable.
            RunError: The engine is closed.
        """
        self._check_open()
        check_signal("signal()", name)
        run = self._runs.find(run_id)
        if run is None and self._runs.has(run_id):
            await asyncio.sleep(0)  # it was started just before, and begins in this turn
            run = self._runs.find(run_id)
        if run is not None and run.journal is None:
            run.call_in_loop(run.inbox.put, Letter(name, value))
        elif self._durable is not None:
            await self._durable.signal(run_id, name, value)
        else:
            raise RunNotFoundError(
                f"no run with run_id {run_id!r} is under way in this engine, and it has no store",
                run_id,
            )

    @takes(ResumeOptions, RunSettings)
    async def resume(self, run_id: str, **options: Unpack[ResumeOptions]) -> Any:
        """Go on with a run of the store, by its id alone; or give its stored value.

        The target, the parameters, and the options that are not given come from the store; but a
        run that has failed has the limits that are given now. What is done is not called again
        (D2); of a run that has failed, what failed is (D8).

        Args:
            run_id: The id that the run was begun or enqueued with.

        Raises:
            RunNotFoundError: No run in the store has the id.
            TaskNotImportedError: The target is in a module that is not imported; import it, or
                name it in ``Engine(modules=[…])``.
            SerializationError: The target is not stored, because another process could not read
                it; run the same target with the same ``run_id``. Or it is gone from the code.
            RunLeasedError: Another process executes the run at this moment.
            RunConflictError: Its steps were deleted.
            RunError: The engine has no store, or executes the run itself.
            Exception: As ``run``.
        """
        given: RunOptions = {**options, "run_id": run_id}  # type: ignore[typeddict-item]
        how = self._how("resume", given)

        def begin(loaded: Loaded) -> Begin:
            stored = stored_options(loaded.code, loaded.run.status in FINISHED)
            left = {name: value for name, value in stored.items() if name not in options}
            return self._beginning(replace(how, **left))

        try:
            return await resumed(self._stored("resume"), run_id, begin)
        except BaseException as error:
            leave_out_machinery(error)
            raise

    async def serve(
        self,
        *,
        max_runs: int = 100,
        modules: Iterable[str] = (),
        use_vm: bool = False,
        max_recoveries: int = MOST_RECOVERIES,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Be a worker: execute the runs of the store that are due, until it is stopped.

        Due are runs that were enqueued, runs whose sleep is over, and runs whose owners have died.
        Of all workers that serve a store, one gets each run; the others take over if it dies. A
        run that names a module which this worker may not import is left to the others.

        SIGTERM, SIGHUP and Ctrl-C, in the main thread and if the program has no handlers of its
        own, end it as ``stop`` does: the runs under way are handed over to other workers. Their
        coroutines are cancelled, and plain functions are waited for, until a second signal (M8).

        A run that fails is logged by the logger ``cascade.worker``, and stays in the store. Old
        runs are deleted as ``Engine(retention=…)`` says, and the schedules of imported modules are
        fired.

        ``await engine.close()`` stops it, too.

        Args:
            max_runs: Most runs at the same time.
            modules: Modules to import before: those with the tasks and schedules.
            use_vm: Execute all runs on the virtual machine, also those that were not begun on it.
            max_recoveries: How often a run is claimed without any progress before it is dead (D3).
            stop: Ends it when it is set.

        Raises:
            ArgumentError: An argument is invalid.
            RunError: The engine has no store, or is closed.
            StoreError: The store cannot be used, and trying again would not help.
        """
        # Most programs do not serve, and need not import this.
        from cascade.runtime.durable.serving import Worker
        from cascade.runtime.durable.stopping import on_signals

        self._check_open()
        check_count("max_runs", max_runs)
        check_count("max_recoveries", max_recoveries)
        check_flag("use_vm", use_vm)
        runs, stop = self._stored("serve"), stop or asyncio.Event()
        for name in modules:
            import_module(name)

        def begin(loaded: Loaded) -> Begin:
            run = loaded.run
            stored = left_at(stored_options(loaded.code), time() - run.created)
            how = replace(DEFAULTS, run_id=run.run_id, priority=run.priority, **stored)
            return self._beginning(replace(how, use_vm=use_vm or how.use_vm))

        worker = Worker(
            runs, begin, max_runs=max_runs, retention=self._retention, max_recoveries=max_recoveries
        )
        ended = asyncio.Event()
        self._serving[ended] = stop
        try:
            with on_signals(stop):
                await worker.work(stop)
        finally:
            del self._serving[ended]
            ended.set()

    def _hosted(
        self, target: LazyResult[Any], params: Mapping[str, Any], how: RunSettings, on: Any
    ) -> Callable[[], Awaitable[Any]]:
        """Gives an awaitable for the value of a run in another process; see ``Hosting``.

        Raises:
            RunError: Other processes cannot open the store of the engine.
            ExecutorError: ``on`` starts no processes for runs.
            SendError: A resource of the engine cannot be sent.
            SerializationError: Another process could not read the target.
        """
        check_on(on)
        url = shared_store(self._made.store, self._folder)
        runs = self._stored("start")
        if self._hosting is None:
            self._hosting = Hosting(runs, self._options_of_hosts(url), self.constraints, self._bus)
            self._runs.hosted = self._hosting.active
        assert how.run_id is not None
        new = wanted(
            runs.codec,
            how.run_id,
            target,
            params,
            priority=how.priority,
            options=options_of(how),
            portable=True,
        )
        strategy = "vm" if how.use_vm else "graph"
        return partial(self._hosting.execute, new, on, strategy)

    def _options_of_hosts(self, url: str) -> Mapping[str, Any]:
        """The options for the engines of other processes.

        Raises:
            RunError: Other processes cannot share the capacities of the engine.
            SendError: A resource cannot be sent.
        """
        made, resources = self._made, self.resource_container.registered_now()[0].values()
        check_sendable(resources)
        return {
            "store": url,
            "durability": made.durability,
            "on_code_change": made.on_code_change,
            "signing_key": made.signing_key,
            "modules": tuple(made.modules),
            "strict": made.strict,
            "tier": made.tier,
            "cache": made.cache if isinstance(made.cache, str) else None,
            "capacities": amounts_of(self.capacities, self._folder),
            "teardown_timeout": made.teardown_timeout,
            "resources": tuple(resources),
        }

    async def _end_hosting(self) -> None:
        """End the processes of hosted runs, none of which is under way."""
        if self._hosting is not None:
            await self._hosting.close()

    async def _end_serving(self) -> None:
        """Stop each ``serve`` under way; the engine is being closed in the same event loop."""
        for ended, stop in list(self._serving.items()):
            stop.set()
            await ended.wait()

    def _stored(self, call: str) -> DurableRuns:
        if self._durable is None:
            raise RunError(
                f'engine.{call}() needs a store\n    right:  cs.Engine(store="sqlite:///runs.db")'
            )
        return self._durable
