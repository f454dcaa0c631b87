"""``task.map``: one node for each item of lists that may be known only at run time (R8, M17).

A map is one node whose operation, ``expand``, takes the lists and returns a lazy list of calls.
By rule R4 the run continues as that list, so items are ordinary nodes: each has its own retries
and tail calls, and a mapped task may map again, to any depth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import CodeType
from typing import TYPE_CHECKING, Any

from cascade.spec.blueprint import Literal
from cascade.spec.containers import as_lazy, gathered
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, Operation
from cascade.spec.misuse import written
from cascade.spec.policies import PLAIN_CALLS, Policies
from cascade.spec.resource import Inject
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.task import Task


class MapPlan:
    """What ``expand`` needs besides the lists: the task, the names, and where it was written."""

    __slots__ = ("catches", "code", "lasti", "names", "policies", "shared", "task")

    def __init__(
        self,
        task: Task[..., Any],
        names: tuple[str, ...],
        shared: Mapping[str, Any],
        code: CodeType,
        lasti: int,
        catches: bool = False,
    ) -> None:
        self.task = task
        self.names = names
        self.shared = shared
        self.code = code
        self.lasti = lasti
        #: Whether the error of an item becomes its value.
        self.catches = catches
        #: Of the map; each item gets those that are about calls.
        self.policies: Policies | None = None

    def __repr__(self) -> str:
        return f"<map of {self.task.name} over {', '.join(self.names)}>"


def mapped(
    task: Task[..., Any], iterables: Mapping[str, Any], catches: bool
) -> MappedLazyResult[Any]:
    """The node for ``task.map(**iterables)``, called from ``Task.map``."""
    frame = sys._getframe(2)
    code, lasti = frame.f_code, frame.f_lasti
    shared = {n: v for n, v in iterables.items() if isinstance(v, (Literal, Inject))}
    names = tuple(name for name in iterables if name not in shared)
    if not names:
        raise ArgumentError(
            f"{task.name}.map() needs at least one iterable to go over"
            + (", but all its arguments are literals" if shared else "")
        )
    task.parameters.bind((), iterables)
    given = {name: _column(task.name, name, iterables[name]) for name in names}
    columns = tuple(as_lazy(column, code, lasti) for column in given.values())
    _check_lengths(task.name, given)
    dependencies = tuple(c for c in columns if isinstance(c, LazyResult))
    left_out = [m for n, m in task.parameters.injections.items() if n not in iterables]
    injects = any(isinstance(value, Inject) for value in (*shared.values(), *left_out))
    plan = MapPlan(task, names, shared, code, lasti, catches)
    lazy: MappedLazyResult[Any] = MappedLazyResult(
        Operation(expand, f"{task.name}.map"),
        (plan, *columns),
        {},
        dependencies,
        injects,  # so that the run looks, before it begins, whether they are to be had
        code,
        lasti,
    )
    lazy.factory = task
    lazy.mapping_kwargs = {**iterables, **given}
    return lazy


def unnamed_in_map(task: Task[..., Any], given: Sequence[Any]) -> ArgumentError:
    """The error for ``task.map([1, 2])``, which does not say what the list is for."""
    names = [n for n in task.parameters.keyword if n not in task.parameters.injections] or ["…"]
    shown = [written(v) if isinstance(v, LazyResult) else short(v) for v in given]
    named = ", ".join(f"{n}={v}" for n, v in zip(names, shown, strict=False))
    return ArgumentError(f"{task.name}.map() takes its iterables by name: {task.name}.map({named})")


def expand(plan: MapPlan, *columns: Any) -> LazyResult[list[Any]]:
    """One call of the task per row, as one lazy list."""
    names = plan.names
    lists = [_column(plan.task.name, n, c) for n, c in zip(names, columns, strict=True)]
    _check_lengths(plan.task.name, dict(zip(names, lists, strict=True)))
    make, code, lasti = plan.task.make, plan.code, plan.lasti
    calls = [
        make((), {**dict(zip(names, row, strict=True)), **plan.shared}, code, lasti)
        for row in zip(*lists, strict=True)
    ]
    given = Policies() if plan.policies is None else plan.policies
    policies = replace(given.calls, catches=True) if plan.catches else given.calls
    if policies != PLAIN_CALLS or given.amounts:
        for call in calls:
            own = call._own_policies()
            own.calls, own.amounts = policies, given.amounts
            call.special = call.special or bool(policies.capacities or given.amounts)
    return gathered(calls, code, lasti)


def _column(task: str, name: str, value: Any) -> Any:
    """``value`` as a list, unless it is lazy and its items are not known yet."""
    if isinstance(value, LazyResult):
        return value
    if isinstance(value, Operation):
        raise ArgumentError(
            f"{task}.map() goes over the items of '{name}', but it is the task '{value.name}' "
            f"itself; call it: {value.name}()"
        )
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        what = "a string" if isinstance(value, (str, bytes)) else "no iterable"
        raise ArgumentError(
            f"{task}.map() goes over the items of '{name}', but it is {what}: {short(value)}\n"
            f"    for one item:                  {task}.map({name}=[value])\n"
            f"    for the same in every call:    {task}.map({name}=cs.literal(value), …)"
        )
    return list(value)


def _check_lengths(task: str, columns: Mapping[str, Any]) -> None:
    lengths = {n: len(c) for n, c in columns.items() if not isinstance(c, LazyResult)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise ArgumentError(
            f"{task}.map() goes over its iterables side by side, so they must be equally long, "
            f"but {listed} items"
        )
