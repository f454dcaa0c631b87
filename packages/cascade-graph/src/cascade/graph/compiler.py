"""BlueprintBuilder: from the graph of lazy values to a Blueprint.

Every node becomes one Call, inputs before users, a shared node once. The root is special in
*template* mode: its arguments become input registers, so that the blueprint is a function that a
tail call can enter again with other values. For ``f(g(1), y=2)`` with ``def f(x, y, z=3)``::

    input r0 x = r3 (prologue)     an argument that was lazy: the prologue computes it once (M3)
    input r1 y                     no default: the caller of the blueprint must give it
    input r2 z = 3                 parameters with defaults follow those of the call (M1)
      0  r3 = g(1)
    entry:
      1  r4 = f(r0, y=r1, z=r2)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any

from cascade.graph.build import build_graph
from cascade.graph.model import Graph
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.containers import GATHER, Recipe
from cascade.spec.errors import DefinitionError
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.resource import Inject
from cascade.spec.task import Task
from cascade.spec.wording import short


def template_of(task: Task[..., Any]) -> Blueprint:
    """``BlueprintBuilder().build_task(task)``, compiled once per task."""
    found: Blueprint | None = task.derived.get("template")
    if found is None:
        found = task.derived["template"] = BlueprintBuilder().build_task(task)
    return found


class BlueprintBuilder:
    """Compiles lazy values. One builder may build any number of blueprints, one at a time."""

    def build(self, target: LazyResult[Any], template: bool = True) -> Blueprint:
        """Compile ``target`` and its inputs, at the first use of the blueprint.

        Args:
            target: A lazy value.
            template: Turn the root's arguments into inputs. With False all arguments become
                constants and the blueprint has no inputs. A root that is not a call of a task (a
                container, a map, a router, a parameter) has no inputs in either case.

        Raises:
            DefinitionError: ``target`` is not a lazy value.

        The first use of the blueprint may raise a CycleError: nodes wait for each other.

        Cost: O(1); the first use costs O(nodes + edges).
        """
        if not isinstance(target, LazyResult):
            build_graph(target)  # raises the error
        return Blueprint.deferred(target, partial(_compiled, target, template))

    def build_task(self, task: Task[..., Any]) -> Blueprint:
        """Compile a call of ``task`` alone; all its parameters are inputs, in the signature's
        order.

        A tail call to a task, or a returned call of it, enters this blueprint: one per task,
        whatever the arguments.
        """
        return _Template(task, None).blueprint()

    def build_all(
        self, targets: Mapping[str, LazyResult[Any] | Task[..., Any]]
    ) -> dict[str, Blueprint]:
        """Compile blueprints that continue as each other by ``TailCall(target_blueprint_id=…)``.

        Register them under the same ids, with an engine or a VirtualMachine.

        Args:
            targets: Id → a lazy value, compiled as a template, or a task by itself.

        Raises:
            DefinitionError: There are no targets, or one is neither; the message has its id.
            CycleError: Nodes wait for each other.
        """
        if not isinstance(targets, Mapping) or not targets:
            raise DefinitionError(
                "build_all() takes a dict of id → lazy value or task, with at least one entry, but "
                f"got {short(targets)}"
            )
        return {name: self._build_for(name, target) for name, target in targets.items()}

    def _build_for(self, name: str, target: LazyResult[Any] | Task[..., Any]) -> Blueprint:
        if not isinstance(name, str):
            raise DefinitionError(f"the id of a blueprint must be a str, but is {short(name)}")
        if isinstance(target, Task):
            return self.build_task(target)
        if isinstance(target, LazyResult):
            return _compiled(target, True)
        raise DefinitionError(
            f"the target of '{name}' must be a lazy value or a task, but is {short(target)}"
        )


def _compiled(target: LazyResult[Any], template: bool) -> Blueprint:
    graph = build_graph(target)
    if template and isinstance(target.task, Task):
        return _Template(target.task, graph).blueprint()
    outputs = {lazy: Register(i) for i, lazy in enumerate(graph.lazies)}
    calls = [_call(lazy, outputs) for lazy in graph.lazies]
    return Blueprint(calls, len(calls), entry=len(calls) - 1, task=target.task)


class _Template:
    """The state of one build in template mode. Without a graph, it is for a task by itself."""

    def __init__(self, task: Task[..., Any], graph: Graph | None) -> None:
        self.task = task
        self.root = graph.target if graph else None
        self.inner = list(graph.lazies[:-1]) if graph else []
        self.count = 0
        self.inputs: dict[str, int] = {}
        self.defaults: dict[int, Any] = {}
        self.sources: dict[int, LazyResult[Any]] = {}
        #: Nodes made here: each collects surplus arguments with lazy values in one register.
        self.collected: list[LazyResult[Any]] = []
        self.var_args: int | None = None
        self.var_kwargs: int | None = None

    def blueprint(self) -> Blueprint:
        parameters = self.task.parameters
        if self.root is None:
            self._allocate(dict.fromkeys((*parameters.positional, *parameters.keyword)))
        else:
            self._allocate(parameters.bind(self.root.args, self.root.kwargs))
        prologue = [*self.inner, *self.collected]
        outputs = {lazy: self._register() for lazy in prologue}
        calls = [_call(lazy, outputs) for lazy in prologue]
        return Blueprint(
            [*calls, self._root_call(outputs)],
            self.count,
            input_args=[self.inputs[name] for name in parameters.positional],
            input_kwargs={name: self.inputs[name] for name in parameters.keyword},
            input_var_args=self.var_args,
            input_var_kwargs=self.var_kwargs,
            input_defaults=self.defaults,
            input_sources={i: outputs[lazy].index for i, lazy in self.sources.items()},
            entry=len(calls),
            task=self.task,
        )

    def _register(self) -> Register:
        self.count += 1
        return Register(self.count - 1)

    def _allocate(self, given: Mapping[str, Any]) -> None:
        """Input registers: those that the call gave, then the parameters left out."""
        parameters = self.task.parameters
        collecting = (parameters.var_positional, parameters.var_keyword)
        singles = [name for name in given if name not in collecting]
        singles += [name for name in parameters.defaults if name not in given]
        for name in singles:
            register = self.inputs[name] = self._register().index
            value: Any = given.get(name)
            if issubclass(type(value), LazyResult):
                self.sources[register] = value
            elif issubclass(type(value), Inject):
                self.defaults[register] = value  # left out by the caller, supplied by the call
            elif name in parameters.defaults and (self.root is None or name not in given):
                default = parameters.defaults[name]
                is_late = name in self.task.supplied and not issubclass(type(default), Inject)
                self.defaults[register] = as_lazy(default, *_HERE) if is_late else default
        self.var_args = self._allocate_surplus(parameters.var_positional, given, ())
        self.var_kwargs = self._allocate_surplus(parameters.var_keyword, given, {})

    def _allocate_surplus(
        self, name: str | None, given: Mapping[str, Any], empty: Any
    ) -> int | None:
        if name is None:
            return None
        register = self._register().index
        self.defaults[register] = empty
        if self.root is not None:
            collected = _collected(given.get(name, empty), self.root)
            if collected is not None:
                self.collected.append(collected)
                self.sources[register] = collected
        return register

    def _root_call(self, outputs: Mapping[LazyResult[Any], Register]) -> Call:
        """The root's call: positional where the user's was, the rest by name.

        A task with ``*args`` takes all its positional parameters by position, because surplus
        values may come later.
        """
        parameters = self.task.parameters
        by_position = parameters.positional
        conditions: tuple[LazyResult[Any], ...] = ()
        predecessors: tuple[LazyResult[Any], ...] = ()
        if self.root is not None:
            conditions, predecessors = self.root._conditions, self.root._predecessors
            if parameters.var_positional is None:
                only = [name for name in by_position if name not in parameters.keyword]
                by_position = by_position[: max(len(only), len(self.root.args))]
        by_name = [name for name in self.inputs if name not in by_position]
        return Call(
            self.task.func,
            self._register(),
            [Register(self.inputs[name]) for name in by_position],
            {name: Register(self.inputs[name]) for name in by_name},
            var_args=None if self.var_args is None else Register(self.var_args),
            var_kwargs=None if self.var_kwargs is None else Register(self.var_kwargs),
            conditions=[outputs[lazy] for lazy in conditions],
            after=[outputs[lazy] for lazy in predecessors],
            amounts={} if self.root is None else _amounts(self.root, outputs),
            policies=PLAIN_CALLS if self.root is None else self.root._calls,
            task=self.task,
        )


def _collected(surplus: Any, root: LazyResult[Any]) -> LazyResult[Any] | None:
    """The node that collects surplus arguments; None if the caller can, because none is lazy.

    The root's call has searched their insides already, and an Inject among them belongs to the
    root.
    """
    items = list(chain.from_iterable(surplus.items()) if isinstance(surplus, dict) else surplus)
    holes = [place for place, item in enumerate(items) if isinstance(item, LazyResult)]
    if not holes:
        return None
    leaves = tuple([items[place] for place in holes])
    items = [item.value if isinstance(item, Literal) else item for item in items]
    fillings = tuple(zip(holes, range(len(holes)), strict=True))
    recipe = Recipe(type(surplus), [(type(surplus), items, fillings)])
    return LazyResult(GATHER, (recipe, *leaves), NO_KWARGS, leaves, 0, root._code, root._lasti)


def _amounts(
    lazy: LazyResult[Any], outputs: Mapping[LazyResult[Any], Register]
) -> dict[str, Register]:
    return {name: outputs[source] for name, source in lazy._amounts.items()}


def _call(lazy: LazyResult[Any], outputs: Mapping[LazyResult[Any], Register]) -> Call:
    """An inner node. Known arguments become literals, lazy ones the registers of their calls."""

    def operand(value: Any) -> Operand:
        if issubclass(type(value), LazyResult):
            return outputs[value]
        return value if issubclass(type(value), Literal) else Literal(value)

    return Call(
        lazy.task.func,
        outputs[lazy],
        [operand(value) for value in lazy.args],
        {name: operand(value) for name, value in lazy.kwargs.items()},
        conditions=[outputs[condition] for condition in lazy._conditions],
        after=[outputs[predecessor] for predecessor in lazy._predecessors],
        amounts=_amounts(lazy, outputs),
        policies=lazy._calls,
        task=lazy.task,
        source=lazy,
    )


_HERE = (BlueprintBuilder.build_task.__code__, 0)
