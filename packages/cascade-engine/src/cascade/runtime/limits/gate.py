"""Gate: the limits in the view of one run, whose attempts ask it whether they may begin."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from cascade.runtime.events import TaskWaiting
from cascade.runtime.limits.amounts import exact
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.permits import NEW, OUT, Admissions, Holding, Permit, current_permit
from cascade.spec.checks import is_amount, no_amount
from cascade.spec.lazy_types import LazyResult
from cascade.spec.map_items import item_of
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope

_log = logging.getLogger("cascade.limits")


class Gate:
    """The requests of one run to the limits of its engine.

    Args:
        run: The run.
        capacities: The capacities and the queue.
        constraints: The engine's constraints.
        priority: That of the run, which is added to those of its nodes (M24).
        admissions: The permits of the run.
    """

    def __init__(
        self,
        run: RunScope,
        capacities: Capacities,
        constraints: ConstraintManager,
        priority: int = 0,
        admissions: Admissions | None = None,
    ) -> None:
        self._run = run
        self._priority = priority
        self.capacities = capacities
        self.constraints = constraints
        self._admissions = admissions or Admissions(current_permit.get(None))
        #: Warnings given so far, because thousands of nodes may wait for the same limit.
        self._warned: set[tuple[str, Holding, str]] = set()

    def taking(self, policies: CallPolicies, amounts: Mapping[str, Any], task: str) -> CallPolicies:
        """The policies with amounts that nodes have computed.

        Raises:
            ArgumentError: An amount is invalid.
            CapacityError: The total is smaller.
        """
        whose = f"task '{task}'"
        for name, amount in amounts.items():
            if not is_amount(amount):
                raise no_amount(f"with_capacity() of {whose}", name, amount)
        self.capacities.check(amounts.items(), whose)
        return policies.with_capacities({**dict(policies.capacities), **amounts})

    def permit(
        self,
        operation: Operation,
        source: LazyResult[Any] | None,
        policies: CallPolicies,
        on_admitted: Callable[[], None],
        most: int = 1,
    ) -> Permit:
        """A permit for a call, for ``may_begin``; the caller leaves it."""
        amounts = tuple([(name, exact(amount)) for name, amount in policies.capacities])
        permit = Permit(
            self._run,
            self.constraints,
            operation.name,
            source,
            amounts,
            on_admitted,
            most,
            self._admissions,
        )
        if policies.priority or self._priority:
            permit.prefer(policies.priority + self._priority)
        return permit

    def take(self, task: str, policies: CallPolicies) -> Holding | None:
        """The capacities of a call without constraints, if it need not wait for them.

        From any thread; the caller must leave it.
        """
        amounts: tuple[tuple[str, Any], ...] = policies.capacities
        for _, amount in amounts:
            if type(amount) is not int:
                amounts = tuple([(name, exact(amount)) for name, amount in amounts])
                break
        holding = Holding(self._run, task, amounts, self._admissions)
        return holding if self.capacities.take(holding) else None

    def may_begin(self, permit: Permit) -> bool:
        """Whether the call of ``permit`` begins now. From any thread.

        If not, it waits: its ``on_admitted`` is called later, and then this must be asked again.
        """
        capacities = self.capacities
        if capacities.enter(permit) if permit.state == NEW else capacities.begin(permit):
            return True
        # From here on another thread may own the permit, if it was told that it is in.
        self.tell(permit)
        return False

    async def admitted(
        self,
        operation: Operation,
        source: LazyResult[Any] | None,
        policies: CallPolicies,
        most: int = 1,
    ) -> Permit:
        """A permit that is in, after waiting for it. In the loop's thread; the caller must leave
        it.

        Raises:
            CancelledError: The run is about to end, and starts nothing more.
        """
        run, loop = self._run, self._run.loop
        opened: asyncio.Future[None] = loop.create_future()

        def on_admitted() -> None:
            if run.is_own_thread(threading.get_ident()):
                open_()
            else:
                with suppress(RuntimeError):  # the loop is closed, and the permit was left
                    loop.call_soon_threadsafe(open_)

        def open_() -> None:
            if not opened.done():  # the waiting call may have been cancelled
                opened.set_result(None)

        permit = self.permit(operation, source, policies, on_admitted, most)
        try:
            while not self.may_begin(permit):
                if permit.state == OUT:
                    raise asyncio.CancelledError
                await opened
                opened = loop.create_future()  # before it asks: it may have to wait again
            return permit
        except BaseException:
            self.capacities.leave(permit)
            raise

    def tell(self, permit: Permit) -> None:
        """Report that a permit waits, and for which limit; warn if that may be for ever."""
        if self._admissions.caller is not None:
            self._warn_of_caller(permit)
        if self._run.bus.wants(TaskWaiting):
            why = self.capacities.why(permit)
            if why is not None:
                item = item_of(permit.source)
                self._run.publish(TaskWaiting, permit.task, permit.node, *why, item=item)

    def mark(self, context: Context, permit: Permit) -> None:
        """Make code that runs in ``context`` part of the call that holds ``permit``."""
        context.run(current_permit.set, permit)

    def _warn_of_caller(self, permit: Permit) -> None:
        """Warn of a call that waits for a limit held by the call that started its run."""
        callers: list[Holding] = []
        caller = self._admissions.caller
        while caller is not None:
            callers.append(caller)
            caller = caller.run.caller
        found = self.capacities.held_up_by(permit, callers)
        if found is not None and (permit.task, *found) not in self._warned:
            self._warned.add((permit.task, *found))
            holder, limit = found
            _log.warning(
                "task '%s' waits for %s, held by task '%s', which started this run: if '%s' waits "
                "for the run, both wait for ever; start the run outside of '%s', or take less "
                "there",
                permit.task,
                limit,
                holder.task,
                holder.task,
                holder.task,
            )

    def leave(self, permit: Holding, unused: int = 0) -> None:
        """Return all that a permit holds. From any thread."""
        self.capacities.leave(permit, unused)

    def leave_after(self, permit: Permit, call: Any) -> None:
        """The same, once an abandoned call has ended (M8): until then it uses the permit."""
        permit.outlives = True
        call.add_done_callback(lambda _call: self.leave(permit))

    # -- the end of the run -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any permit of the run waits or is in."""
        return bool(self._admissions.permits)

    def stop(self) -> None:
        """Start nothing more in the run, and end all waits. May be repeated."""
        self.capacities.stop(self._admissions)

    def abandon(self) -> None:
        """Let admitted permits stay until they leave: their calls were abandoned (M8)."""
        for permit in list(self._admissions.permits):
            permit.outlives = True

    def let_go(self) -> None:
        """Drop the reference to the ended run, so that no cycle needs the collector."""
        del self._run

    def close(self) -> None:
        """Make sure that the ended run holds nothing; log an error if it did."""
        for permit, held in self.capacities.close(self._admissions):
            _log.error(
                "a run has ended and task '%s' still held %s, which was returned; this is a bug "
                "in Cascade: please report it, with a description of the run",
                permit.task,
                held,
            )
