"""Tail calls on the graph path: the same node's next call (rule R5, M1–M3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cascade.runtime.run import Run
from cascade.runtime.strategies.segment import Resume, Work
from cascade.runtime.tailcall import entry, is_baked, lazies_of, misfit, next_call, with_values
from cascade.runtime.vm.machine import VirtualMachine
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.containers import gathered
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import NO_KWARGS, LazyResult, Operation
from cascade.spec.task import Task


class TailCalls:
    """Follows the tail calls of one run.

    Args:
        run: Has the blueprints that tail calls may name.
        expand: Has a lazy value computed, and its value given to a Resume.
        resume: Goes on with some work once the values that it waits for are there: called with the
            work, what to do with the values (which says whether it can go on), and the values.
    """

    def __init__(
        self,
        run: Run,
        expand: Callable[[LazyResult[Any], Resume], None],
        resume: Callable[[Work, Callable[[Any], bool], Any], None],
    ) -> None:
        self._run = run
        self._expand = expand
        self._resume = resume

    def follow(self, work: Work, tail: TailCall) -> bool:
        """Make ``work`` the call that ``tail`` asks for; whether it can be made at once."""
        lazies = lazies_of(tail)
        if lazies:
            self._await(work, lazies, lambda values: self.follow(work, with_values(tail, values)))
            return False
        work.attempt = 1
        if tail.target_blueprint_id is not None:
            name = tail.target_blueprint_id
            blueprint = self._run.blueprints.get(name, work.operation.name)
            if blueprint is not work.blueprint:
                return self._enter(work, blueprint, tail, name)
        if work.named is None:
            work.named = arguments_by_name(work)
        operation, work.named = next_call(work.operation, work.named, tail)
        if operation is not work.operation:
            work.operation, work.blueprint = operation, None
        work.args, work.kwargs = operation.parameters.spread(work.named)
        return True

    def _await(
        self, work: Work, lazies: Sequence[LazyResult[Any]], go_on: Callable[[Any], bool]
    ) -> None:
        """Go on with ``work`` once the lazy arguments of its next call have values (M2)."""
        together = gathered(lazies, work.source._code, work.source._lasti)
        self._expand(together, Resume(work, lambda values: self._resume(work, go_on, values)))

    def _enter(self, work: Work, blueprint: Blueprint, tail: TailCall, name: str) -> bool:
        """Continue as a registered blueprint; whether ``work`` is ready for its next call."""
        if not _is_plain_call(blueprint):
            self._execute(work, blueprint, tail, name)
            return True
        try:
            named = entry(blueprint, tail)
        except ArgumentError as error:
            raise misfit(work.operation.name, blueprint.name, error) from None
        lazies = [v for v in named.values() if isinstance(v, LazyResult)]
        if lazies:
            self._await(work, lazies, lambda values: _enter_with(work, blueprint, named, values))
            return False
        return _enter_with(work, blueprint, named, ())

    def _execute(self, work: Work, blueprint: Blueprint, tail: TailCall, name: str) -> None:
        """Continue as a blueprint that the virtual machine executes for us."""
        machine = VirtualMachine(run=self._run)

        async def execute() -> Any:
            return await machine.outcome(blueprint, tail.args, tail.kwargs, nested=True)

        work.operation = Operation(execute, f"blueprint {name}", is_async=True)
        work.args, work.kwargs, work.named = (), NO_KWARGS, None
        work.blueprint = None


def arguments_by_name(work: Work) -> dict[str, Any]:
    """The arguments of a task's call by parameter, complete."""
    assert isinstance(work.operation, Task)
    parameters = work.operation.parameters
    return parameters.complete(parameters.bind(work.args, work.kwargs))


def _is_plain_call(blueprint: Blueprint) -> bool:
    """Whether a blueprint only calls a task, with arguments that its prologue's nodes give."""
    *prologue, root = blueprint.instructions
    return (
        isinstance(blueprint.task, Task)
        and not is_baked(blueprint, blueprint.task)
        and not (root.conditions or root.after)
        and all(call.source is not None for call in prologue)
    )


def _enter_with(
    work: Work,
    blueprint: Blueprint,
    named: Mapping[str, Literal[Any] | LazyResult[Any]],
    values: Sequence[Any],
) -> bool:
    """Enter the task of ``blueprint``, with ``values`` in the place of lazy arguments."""
    assert isinstance(blueprint.task, Task)
    left = iter(values)
    work.named = {n: v.value if isinstance(v, Literal) else next(left) for n, v in named.items()}
    work.operation, work.blueprint = blueprint.task, blueprint
    work.args, work.kwargs = blueprint.task.parameters.spread(work.named)
    return True
