"""Gate: where the attempts of one run ask whether they may begin."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from cascade.runtime.events import TaskWaiting
from cascade.runtime.limits.capacities import ResourceManager, exact
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.permits import OUT, Admissions, Ticket, current_ticket
from cascade.spec.checks import is_amount, no_amount
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope

_log = logging.getLogger("cascade.limits")


class Gate:
    """What one run asks of the limits of its engine.

    Args:
        run: The run.
        resources: Has the capacities, and the queue.
        constraints: Those of the engine.
    """

    def __init__(
        self, run: RunScope, resources: ResourceManager, constraints: ConstraintManager
    ) -> None:
        self._run = run
        self.resources = resources
        self.constraints = constraints
        self._admissions = Admissions()
        #: That of the call which has started the run, if limits have let that in.
        self.caller = current_ticket.get(None)
        #: Warnings given so far: thousands of nodes may wait for the same limit.
        self._warned: set[tuple[str, Ticket, str]] = set()

    def taking(self, policies: CallPolicies, amounts: Mapping[str, Any], task: str) -> CallPolicies:
        """The policies with amounts that nodes have given.

        Raises:
            ArgumentError: One is no amount.
            CapacityError: There is not that much.
        """
        whose = f"task '{task}'"
        for name, amount in amounts.items():
            if not is_amount(amount):
                raise no_amount(f"with_constraints() of {whose}", name, amount)
        self.resources.check(amounts.items(), whose)
        return policies.with_capacities({**dict(policies.capacities), **amounts})

    def governs(self, operation: Operation, policies: CallPolicies) -> bool:
        """Whether a call has to ask for a ticket."""
        if policies.capacities:
            return True
        constraints = self.constraints
        return constraints.any and not operation.structural and constraints.governs(operation.name)

    def asks_again(self, operation: Operation, ticket: Ticket | None) -> bool:
        """Whether constraints were set that a call, which is about to begin, was not let in by.

        Asked where much may have happened since: it has waited for a thread. From any thread.
        """
        constraints = self.constraints
        if not constraints.any or operation.structural:
            return False
        known = () if ticket is None else ticket.rules
        return any(rule not in known for rule in constraints.rules_of(operation.name))

    def ticket(
        self,
        operation: Operation,
        node: int,
        policies: CallPolicies,
        on_admitted: Callable[[], None],
        most: int = 1,
    ) -> Ticket:
        """A ticket for a call; to be entered, and left."""
        amounts = tuple([(name, exact(amount)) for name, amount in policies.capacities])
        return Ticket(
            self._run,
            self.constraints,
            operation.name,
            node,
            amounts,
            on_admitted,
            most,
            self._admissions,
        )

    async def admitted(
        self, operation: Operation, node: int, policies: CallPolicies, most: int = 1
    ) -> Ticket:
        """A ticket that is in, after waiting for it. In the loop's thread; to be left.

        Raises:
            CancelledError: The run is about to end, and begins nothing any more.
        """
        loop = self._run.loop
        opened: asyncio.Future[None] = loop.create_future()

        def on_admitted() -> None:
            if self._run.is_own_thread(threading.get_ident()):
                open_()
            else:
                with suppress(RuntimeError):  # the loop is closed by now, and the ticket left
                    loop.call_soon_threadsafe(open_)

        def open_() -> None:
            if not opened.done():  # the waiting call may have been cancelled
                opened.set_result(None)

        ticket = self.ticket(operation, node, policies, on_admitted, most)
        try:
            if self.resources.enter(ticket):
                return ticket
            while ticket.state != OUT:
                self.tell(ticket)
                await opened
                if self.resources.begin(ticket):
                    return ticket
                opened = loop.create_future()  # constraints were set before it could begin
            raise asyncio.CancelledError
        except BaseException:
            self.resources.leave(ticket)
            raise

    def tell(self, ticket: Ticket) -> None:
        """Tell that a ticket waits, and for what; warn where that may be for ever."""
        if self.caller is not None:
            self._warn_of_caller(ticket)
        if self._run.bus.wants(TaskWaiting):
            why = self.resources.why(ticket)
            if why is not None:
                self._run.publish(TaskWaiting, ticket.task, ticket.node, *why)

    def mark(self, context: Context, ticket: Ticket) -> None:
        """Make code that runs in ``context`` part of the call that ``ticket`` belongs to."""
        context.run(current_ticket.set, ticket)

    def _warn_of_caller(self, ticket: Ticket) -> None:
        """Warn of a call that waits for a limit held by the call that started its run."""
        callers: list[Ticket] = []
        caller = self.caller
        while caller is not None:
            callers.append(caller)
            caller = caller.run.caller
        found = self.resources.held_up_by(ticket, callers)
        if found is not None and (ticket.task, *found) not in self._warned:
            self._warned.add((ticket.task, *found))
            holder, limit = found
            _log.warning(
                "task '%s' waits for %s, which task '%s' has, that has started its run: if '%s' "
                "waits for that run, both stand still for ever; run it outside of '%s', or take "
                "less there",
                ticket.task,
                limit,
                holder.task,
                holder.task,
                holder.task,
            )

    def leave(self, ticket: Ticket, unused: int = 0) -> None:
        """Give back what a ticket has. From any thread."""
        self.resources.leave(ticket, unused)

    def leave_after(self, ticket: Ticket, call: Any) -> None:
        """The same, once an abandoned call has ended (M8): it uses what the ticket has."""
        ticket.outlives = True
        call.add_done_callback(lambda _call: self.leave(ticket))

    # -- the end of the run -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any ticket of the run waits or is in."""
        return bool(self._admissions.tickets)

    def stop(self) -> None:
        """Let nothing of the run begin any more, and nothing wait. May be repeated."""
        self.resources.stop(self._admissions)

    def abandon(self) -> None:
        """Let admitted tickets stay until they leave: their calls were abandoned (M8)."""
        for ticket in list(self._admissions.tickets):
            ticket.outlives = True

    def close(self) -> None:
        """See to it that the run, which has ended, holds nothing; say so if it did."""
        for ticket, held in self.resources.close(self._admissions):
            _log.error(
                "a run has ended and task '%s' still held %s, which was given back; this is a "
                "fault of Cascade: please report it, with what the run did",
                ticket.task,
                held,
            )
