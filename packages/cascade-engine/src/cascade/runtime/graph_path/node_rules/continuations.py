"""Continuations on the graph path: the next call of a node after its last one (rules R4, R5).

A returned lazy value becomes a segment with all that it needs, and its target's value goes to the
node's address; if it needs nothing, it is simply the node's next call. A tail call is the node's
next call, once the lazy values among its arguments have been computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cascade.graph.build import inputs_of
from cascade.graph.wiring import wire
from cascade.runtime.execution.step_counter import LOOK_MASK
from cascade.runtime.graph_path.compiled_loops.loop_entries import PROMOTED
from cascade.runtime.graph_path.rounds import Rounds
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Address, Resume, Work, arguments_by_name
from cascade.runtime.graph_path.templates import Instruction, instantiate
from cascade.runtime.semantics.outcomes import Missing
from cascade.runtime.semantics.tail_calls import (
    entry,
    fault,
    is_baked,
    misfit,
    next_call,
    searched,
    supplied,
    with_values,
)
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.lazy_value import TOLD
from cascade.spec.policies import CallPolicies
from cascade.spec.repeatable import check_step, check_values
from cascade.spec.task import Task


class Continuations(Part):
    """Follows the results of the calls of one run.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._next_step = self._run.steps.next
        self._rounds = Rounds.of(self._run)
        self._is_limited = self._run.steps.limit is not None or self._rounds is not None
        self._bus = self._run.bus

    def become(self, work: Work, lazy: LazyResult[Any], on_loop: bool) -> bool:
        """Rule R4: continue as ``lazy``; whether ``work`` is ready for its next call."""
        if self._reports.wanted:
            self._reports.finished(work)
        # First of all: the number of steps must not depend on what the run has met before (M20).
        self.count_step(work)
        nodes, segment, node = self._nodes, work.segment, work.node
        alone = not lazy._dependencies and lazy._policies is None and not lazy._special
        # The run can know only lazy values that are older than the newest it has met.
        if alone or lazy.number <= nodes.newest:
            with self._lock:
                is_old = lazy.number <= nodes.newest
                if is_old and nodes.join(segment, node, work.operation.name, lazy):
                    return False
                if alone:
                    address = work.address
                    if address is None:
                        address = work.address = nodes.address(segment, node)
                    nodes.remember(lazy, address)
        if alone:
            work.continue_as(lazy)
            if self._reports.wanted:
                self._run.report_plan(lambda: (lazy,))
                self._reports.started(work)
            return True
        ready = None
        has_one_input = len(lazy._dependencies) == 1
        if has_one_input and not on_loop and self._reports.silent and nodes.simple:
            ready = self._parts.chains.go_along(work, lazy)
        if ready:
            return True
        if ready is None:
            with self._lock:
                # Another thread may have returned the same lazy value since, and have added it.
                if lazy.number <= nodes.newest and nodes.join(
                    segment, node, work.operation.name, lazy
                ):
                    return False
                self._add(lazy, self._address_of(work), work)
            self._dispatch.wake_later()
        if node is segment.target and isinstance(segment.continuation, Address):
            with self._lock:
                nodes.let_go(segment)  # nothing else of it is left
        return False

    def count_step(self, work: Work) -> None:
        """Count a step of the run, and a round of a node (M20).

        Raises:
            StepLimitError: It is one too many.
        """
        work.steps += 1
        before = self._next_step()
        if not (before & LOOK_MASK and self._bus.is_silent) or self._is_limited:
            self._note_step(before, work)

    def tail(self, work: Work, tail: TailCall) -> bool:
        """Rule R5: make the call that ``tail`` asks for; whether it can be made at once."""
        last = (*work.args, *work.kwargs.values())
        tail = supplied(tail, work.operation)
        if work.policies.repeats:
            check_step(work.operation, tail, last)
        tail, lazies = searched(tail, last, work.source._code, work.source._lasti)
        if lazies:
            self._await(work, lazies, lambda values: self._tail(work, with_values(tail, values)))
            return False
        return self._tail(work, tail)

    def _tail(self, work: Work, tail: TailCall) -> bool:
        """The same, where the arguments have values."""
        self.count_step(work)
        work.attempt = 1
        blueprint = None
        if tail.target_blueprint_id is not None:
            blueprint = self._run.blueprints.get(tail.target_blueprint_id, work.operation.name)
        if type(work.operation) is Instruction and self._is_again(work, tail, blueprint):
            return self._go_again(work, tail)
        if blueprint is not None and blueprint is not work.blueprint:
            return self._enter(work, blueprint, tail)
        if work.named is None:
            work.named = arguments_by_name(work) if isinstance(work.operation, Task) else {}
        operation, work.named = next_call(work.operation, work.named, tail)
        if operation is not work.operation:
            work.operation, work.blueprint, work.stays = operation, None, -1
        work.args, work.kwargs = operation.parameters.spread(work.named)
        work.tails += 1
        work.stays += 1
        if work.tails >= PROMOTED:
            self._parts.entries.promote(work)
        return True

    def _address_of(self, work: Work) -> Address:
        """The address of the value of ``work``, which continues as another node."""
        address = self._nodes.address(work.segment, work.node)
        if work.rounds is not None:
            address.rounds = work.rounds
        return address

    def _note_step(self, before: int, work: Work) -> None:
        task = work.operation.name
        if self._rounds is not None:
            self._rounds.count(work)
        if self._run.steps.is_due(before, task):
            self._run.tell_of_steps(task)
        elif not self._bus.is_silent:
            self._run.tell_soon(task)

    def _expand(self, lazy: LazyResult[Any], continuation: Resume | Address, work: Work) -> None:
        """Add the nodes that ``lazy`` needs and the run does not compute yet."""
        with self._lock:
            self._add(lazy, continuation, work)
        self._dispatch.wake_later()

    def _add(self, lazy: LazyResult[Any], continuation: Resume | Address, work: Work) -> None:
        """``_expand``, under the lock."""
        newest = self._nodes.newest

        def known(found: LazyResult[Any]) -> bool:
            return found.number <= newest and self._nodes.known(found) is not None

        if self._run.journal is None:
            wiring = wire(lazy, known)
        else:
            wiring = self._parts.commits.add(work.node, lazy, known)
        if wiring.special:
            self._run.check(wiring.special)
            for node in wiring.special:
                if node._special & TOLD:
                    node.args[0].run = self._dispatch
        self._run.report_plan(wiring.nodes)
        self._nodes.add(wiring, continuation)

    def _resume(self, work: Work, go_on: Callable[[Any], bool], values: Any) -> None:
        """Make a tail call whose lazy arguments now have values. Under the lock."""
        if isinstance(values, Missing):
            self._parts.failures.leave_out_rest(work, values)
            return
        try:
            if work.policies.repeats:
                check_values(work.operation, values, {})
            if go_on(values):
                self._dispatch.send(work)
        except BaseException as error:
            self._parts.failures.fail(error, work)

    def _await(
        self, work: Work, lazies: Sequence[LazyResult[Any]], go_on: Callable[[Any], bool]
    ) -> None:
        """Resume ``work`` once the lazy arguments of its next call have values (M2)."""
        if len(lazies) == 1 and _is_plain_node(lazies[0]):  # most agents ask one tool at a time
            with self._lock:
                is_new = self._nodes.known(lazies[0]) is None
                if is_new:
                    resume = Resume(work, partial(self._resume_with, work, go_on))
                    self._add(lazies[0], resume, work)
            if is_new:
                self._dispatch.wake_later()
                return
        together = gathered(lazies, work.source._code, work.source._lasti)
        resume = Resume(work, lambda values: self._resume(work, go_on, values))
        self._expand(together, resume, work)

    def _resume_with(self, work: Work, go_on: Callable[[Any], bool], value: Any) -> None:
        """The same with the value of the only lazy argument. Under the lock."""
        self._resume(work, go_on, value if isinstance(value, Missing) else [value])

    def _enter(self, work: Work, blueprint: Blueprint, tail: TailCall) -> bool:
        """Continue as a registered blueprint; whether ``work`` is ready for its next call."""
        if not _is_plain_call(blueprint):
            try:
                target = instantiate(blueprint, tail.args, tail.kwargs, policies=_later(work))
            except ArgumentError as error:
                found = fault(blueprint, False, tail) or error
                raise misfit(work.operation.name, blueprint.name, found) from None
            return self._continue_as(work, target)
        try:
            named = entry(blueprint, tail)
        except ArgumentError as error:
            raise misfit(work.operation.name, blueprint.name, error) from None
        lazies = [v for v in named.values() if isinstance(v, LazyResult)]
        if lazies:
            self._await(work, lazies, lambda values: _enter_with(work, blueprint, named, values))
            return False
        return _enter_with(work, blueprint, named, ())

    def _is_again(self, work: Work, tail: TailCall, blueprint: Blueprint | None) -> bool:
        """Whether an instruction's tail call repeats its own blueprint."""
        operation = work.operation
        assert isinstance(operation, Instruction)
        body = operation.body
        if body is None:
            if blueprint is None and tail.target is None:
                work.operation = Task(operation.func)  # it loops alone (M3)
            return False
        if blueprint is not None:
            return blueprint is body.blueprint
        return tail.target is None or tail.target is body.blueprint.task

    def _go_again(self, work: Work, tail: TailCall) -> bool:
        """Run the part of a blueprint from its entry on again; whether ``work`` is ready for it."""
        operation = work.operation
        assert isinstance(operation, Instruction)
        assert operation.body is not None
        name = operation.body.blueprint.name
        try:
            target = operation.body.again(tail.args, tail.kwargs, _later(work))
        except ArgumentError as error:
            raise misfit(name, name, error) from None
        return self._continue_as(work, target)

    def _continue_as(self, work: Work, target: LazyResult[Any]) -> bool:
        """Continue as a node made by a blueprint; whether ``work`` is ready for its call."""
        if not inputs_of(target):
            work.enter(target)
            return True
        if self._reports.wanted:
            self._reports.finished(work)
        nodes, segment, node = self._nodes, work.segment, work.node
        self._expand(target, self._address_of(work), work)
        if node is segment.target and isinstance(segment.continuation, Address):
            with self._lock:
                nodes.let_go(segment)  # nothing else of it is left
        return False


def _is_plain_node(lazy: LazyResult[Any]) -> bool:
    """Whether it is a call of a task whose value need not be kept."""
    return isinstance(lazy.task, Task) and not (lazy._policies and lazy._policies.keeps)


def _later(work: Work) -> CallPolicies:
    """The policies of a node for its continuation; its cache was asked before."""
    policies = work.policies
    return policies if policies.cache is None else replace(policies, cache=None)


def _is_plain_call(blueprint: Blueprint) -> bool:
    """Whether a blueprint only calls a task, with arguments from its prologue's nodes."""
    *prologue, root = blueprint.instructions
    return (
        isinstance(blueprint.task, Task)
        and not is_baked(blueprint, blueprint.task)
        and not (root.conditions or root.after or root.amounts)
        and all(call.source is not None for call in prologue)
    )


def _enter_with(
    work: Work,
    blueprint: Blueprint,
    named: Mapping[str, Literal[Any] | LazyResult[Any]],
    values: Sequence[Any],
) -> bool:
    """Enter the task of ``blueprint``, with ``values`` in place of lazy arguments."""
    assert isinstance(blueprint.task, Task)
    left = iter(values)
    work.named = {n: v.value if isinstance(v, Literal) else next(left) for n, v in named.items()}
    work.operation, work.blueprint = blueprint.task, blueprint
    work.args, work.kwargs = blueprint.task.parameters.spread(work.named)
    return True
