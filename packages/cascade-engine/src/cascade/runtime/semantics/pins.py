"""Pins: the lazy values that the tasks of a run can name, and so may return at any time (M21).

A value is released after its last known use. The edges of the graph are known; but a task may also
return a lazy value that was made before the run, or one that needs it. The run therefore searches
for the lazy values that its function can name (``reach``), and those in routes, maps and literals.
The values found are kept until the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cascade.graph.build import inputs_of
from cascade.graph.wiring import Wiring, wire
from cascade.runtime.semantics.reach import named_by, within
from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import FallbackResult, LazyResult, MappedLazyResult
from cascade.spec.lazy_value import LITERALS
from cascade.spec.operation import Operation
from cascade.spec.routing import Router


def named_in(target: LazyResult[Any]) -> set[LazyResult[Any]]:
    """The lazy values that the tasks in the graph of ``target`` can name."""
    wiring = wire(target)
    known: set[LazyResult[Any]] = set()

    def is_known(lazy: LazyResult[Any]) -> bool:
        if not known:  # most tasks name none
            known.update(wiring.nodes())
        return lazy in known

    pins = Pins()
    pins.search(wiring, is_known)
    return pins.found


class Pins:
    """The lazy values that the tasks of one run can name. Not thread-safe.

    Args:
        named: Lazy values that any task can name, by the id of a blueprint.

    Attributes:
        found: The lazy values whose values must be kept.
    """

    __slots__ = ("_entered", "_named", "_tasks", "found")

    def __init__(self, named: Sequence[LazyResult[Any]] = ()) -> None:
        self.found: set[LazyResult[Any]] = set()
        self._named = named
        #: Tasks whose functions have been searched.
        self._tasks: set[Operation] = set()
        #: Lazy values unknown to the run whose inputs have been searched.
        self._entered: set[LazyResult[Any]] = set()

    def search(self, wiring: Wiring, is_known: Callable[[LazyResult[Any]], bool]) -> None:
        """Find the lazy values that the nodes of a new graph can name.

        Args:
            wiring: The graph.
            is_known: Recognises the lazy values that the run computes, or has computed.
        """
        special, hiding = wiring.special, wiring.hiding
        if not (special or hiding or self._named) and self._tasks.issuperset(wiring.tasks):
            return  # the usual case after the first graphs of a run
        seen: dict[int, Any] = {}
        todo: list[LazyResult[Any]] = [*self._named]
        self._named = ()
        for task in wiring.tasks:
            if task not in self._tasks:
                self._tasks.add(task)
                todo += named_by(task, seen)
        if hiding or special:
            values = [v for lazy in hiding for v in hidden_in(lazy)]
            values += [v for z in special if z._special & LITERALS for v in literals_in(z)]
            todo += within(values, seen)
        while todo:
            self._name(todo.pop(), todo, seen, is_known)

    def _name(
        self,
        lazy: LazyResult[Any],
        todo: list[LazyResult[Any]],
        seen: dict[int, Any],
        is_known: Callable[[LazyResult[Any]], bool],
    ) -> None:
        """Keep a named lazy value, and those of its inputs that other nodes need as well."""
        self.found.add(lazy)
        stack = [lazy]
        while stack:
            lazy = stack.pop()
            if lazy in self._entered or is_known(lazy):
                self.found.add(lazy)
                continue
            self._entered.add(lazy)
            if lazy.task not in self._tasks:
                self._tasks.add(lazy.task)
                todo += named_by(lazy.task, seen)
            todo += within((*hidden_in(lazy), *literals_in(lazy)), seen)
            stack += inputs_of(lazy)


def hidden_in(lazy: LazyResult[Any]) -> list[Any]:
    """The values that a node may continue as, or hand to its continuation."""
    if isinstance(lazy, Router):
        return [*lazy.routes.values()]
    if isinstance(lazy, FallbackResult):
        return [lazy.args[0].instead]
    if isinstance(lazy, MappedLazyResult):
        plan, policies = lazy.args[0], lazy._policies
        amounts = policies.amounts.values() if policies else ()
        reducer = () if plan.window is None else (plan.window.reducer,)
        fallbacks = (f.instead for _, f in plan.fallbacks)
        return [plan.task, *reducer, *plan.shared.values(), *amounts, *fallbacks]
    return []


def literals_in(lazy: LazyResult[Any]) -> list[Any]:
    """The values of the literals among the arguments, also of those in containers."""
    if lazy.task is GATHER:
        return [*lazy.args[0].literals]
    return [v.value for v in (*lazy.args, *lazy.kwargs.values()) if type(v) is Literal]
