"""Providers: the provider of each marker in a run, and checks whether it is available.

They are fixed when the run begins. Later registrations and overrides apply to later runs, so that a
run never has two instances of one resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from cascade.spec.errors import CycleError, ResourceError, ResourceNotFoundError
from cascade.spec.kept_calls import OF_CALLS, transaction, without_store
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.lazy_value import RESOURCES
from cascade.spec.nearby import names_known
from cascade.spec.operation import Operation
from cascade.spec.overrides import Override
from cascade.spec.resource import Inject, ResourceDefinition, outlived
from cascade.spec.sent_resources import refusal
from cascade.spec.task import Task

_NONE: Mapping[Inject, bool] = MappingProxyType({})


class Providers:
    """The providers of one run.

    Args:
        registered: Name → resource.
        overrides: Layers of overrides, by name; an earlier layer wins.
        is_durable: Whether the run is kept in a store.
    """

    def __init__(
        self,
        registered: Mapping[str, ResourceDefinition[Any]],
        *overrides: Mapping[str, Override],
        is_durable: bool = False,
    ) -> None:
        self._registered = registered
        self._is_durable = is_durable
        self._overrides = overrides
        #: Name and provider of a marker → its resource, so that the answer never changes.
        self._found: dict[tuple[str, ResourceDefinition[Any] | None], ResourceDefinition[Any]] = {}
        #: Resource → why no other process can open it, or an empty text.
        self._refusals: dict[ResourceDefinition[Any], str] = {}
        #: Resource that is surely available, with its needs → whether it is bound to a thread.
        self._sound: dict[ResourceDefinition[Any], bool] = {}

    def definition(self, wanted: Inject) -> ResourceDefinition[Any]:
        """The resource of ``wanted``: an override, the provider in it, or a registered one.

        Raises:
            ResourceNotFoundError: There is none of these.
        """
        key = wanted.resource_name, wanted.definition
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look_up(*key)
        return found

    def declared(self, wanted: Inject) -> tuple[str, ResourceDefinition[Any] | None]:
        """The name and the provider of ``wanted`` without overrides: the same for each run."""
        name = wanted.resource_name
        return name, wanted.definition or self._registered.get(name)

    def _look_up(self, name: str, given: ResourceDefinition[Any] | None) -> ResourceDefinition[Any]:
        replaced = given or self._registered.get(name)
        for layer in self._overrides:
            if name in layer:
                return layer[name].in_place_of(replaced)
        if replaced is None:
            known = sorted({*self._registered, *(n for layer in self._overrides for n in layer)})
            raise ResourceNotFoundError(
                f"the resource '{name}' is needed, but the engine has "
                f"{names_known(name, known)}; pass it with "
                "engine.register(…), or inject the provider itself",
                name=name,
            )
        return replaced

    def check(
        self,
        lazies: Iterable[LazyResult[Any]],
        sound: Mapping[Inject, bool] = _NONE,
        note: Callable[[Inject], object] = lambda _marker: None,
    ) -> None:
        """Refuse, before the run starts, nodes whose resources are unavailable.

        Args:
            lazies: The nodes.
            sound: Marker → whether every node may use it, as far as that is known.
            note: Called with each other marker, which may then be ``sound``.

        Raises:
            ResourceNotFoundError: A name is not registered; the note names the task.
            CycleError: Providers need each other.
            ResourceError: A resource outlives one that it needs, a coroutine uses a thread-bound
                resource, or a task with ``mode="process"`` one that its worker cannot open.
        """
        for wanted, task, node in injections(lazies, sound):
            try:
                self.check_use(wanted, task)
            except Exception as error:
                error.add_note(f"asked for by task '{task.name}', called at {node.callsite}")
                raise
            note(wanted)

    def refusal(self, wanted: Inject) -> str:
        """Why no worker process can open ``wanted``; empty if it can.

        Raises:
            ResourceNotFoundError, CycleError, ResourceError: It is unavailable; see ``check``.
        """
        definition = self.definition(wanted)
        found = self._refusals.get(definition)
        if found is None:
            self.is_bound(wanted)
            found = self._refusals[definition] = refusal(definition, self.definition)
        return found

    def check_use(self, wanted: Inject, user: Operation) -> None:
        """Refuse a resource that ``user`` cannot have; see ``check``."""
        if user.mode == "process" and (fault := self.refusal(wanted)):
            raise ResourceError(f"task '{user.name}' has mode='process', but {fault}")
        if self.is_bound(wanted) and user.is_async:
            raise ResourceError(
                f"the coroutine task '{user.name}' uses the resource '{wanted.resource_name}', "
                "which is bound to a thread of its own; use it from a plain function"
            )

        definition = self.definition(wanted)
        if definition in OF_CALLS:
            self._check_call(definition, user)

    def _check_call(self, definition: ResourceDefinition[Any], user: Operation) -> None:
        """Refuse a transaction or an idempotency key that ``user`` cannot have."""
        name = definition.name
        if not self._is_durable:
            raise ResourceError(f"task '{user.name}': {without_store(name)}")
        if definition is not transaction:
            return
        if user.is_async or getattr(user, "mode", "auto") == "inline":
            raise ResourceError(
                f"task '{user.name}' takes cs.transaction, which waits for the database, and is "
                "called in the event loop's thread; make it a plain function without mode='inline'"
            )

    def is_bound(self, wanted: Inject) -> bool:
        """Whether ``wanted`` is bound to a thread, by itself or by its needs (M7).

        Raises:
            ResourceNotFoundError, CycleError, ResourceError: It is unavailable; see ``check``.
        """
        return self._is_bound(self.definition(wanted), ())

    def _is_bound(
        self, definition: ResourceDefinition[Any], users: tuple[ResourceDefinition[Any], ...]
    ) -> bool:
        known = self._sound.get(definition)
        if known is not None:
            return known
        users = (*users, definition)
        bound = definition.thread_bound
        for needed in definition.needs.values():
            inner = self.definition(needed)
            if inner in users:
                cycle = [user.name for user in (*users[users.index(inner) :], inner)]
                raise CycleError(f"resources need each other: {' ← '.join(cycle)}", cycle)
            _check_scopes(definition, inner)
            if inner in OF_CALLS:
                raise ResourceError(
                    f"the provider of '{definition.name}' needs cs.{inner.name}, which only tasks "
                    f"can be given (it is written at {definition.place})"
                )
            if self._is_bound(inner, users):
                _check_thread(definition, inner)
                bound = True
        self._sound[definition] = bound
        return bound


def injections(
    lazies: Iterable[LazyResult[Any]], sound: Mapping[Inject, bool] = _NONE
) -> Iterator[tuple[Inject, Any, LazyResult[Any]]]:
    """The requests of nodes: the marker, the task that gets it, the node.

    Includes those of the items of a map, although only the map exists yet. Leaves out the markers
    that are ``sound``, except for tasks with ``mode="process"``, which have rules of their own.
    """
    last: Any = None  # the next nodes mostly call the same task, and share its keyword arguments
    for lazy in lazies:
        if lazy.kwargs is last and Inject not in map(type, lazy.args):
            continue
        if not lazy._special & RESOURCES:
            continue
        if type(lazy) is not MappedLazyResult:
            known = _NONE if lazy.task.mode == "process" else sound
            for value in lazy.args:
                if type(value) is Inject and not known.get(value):
                    yield value, lazy.task, lazy
            if lazy.kwargs is last:
                continue
            last = lazy.kwargs or None  # nodes of all tasks share those that are empty
            for value in lazy.kwargs.values():
                if type(value) is Inject and not known.get(value):
                    yield value, lazy.task, lazy
        else:
            task: Any = lazy.factory
            known = _NONE if getattr(task, "mode", None) == "process" else sound
            left_out = {
                name: marker
                for name, marker in task.parameters.injections.items()
                if isinstance(task, Task) and name not in lazy.mapping_kwargs
            }
            for value in (*lazy.mapping_kwargs.values(), *left_out.values()):
                if type(value) is Inject and not known.get(value):
                    yield value, task, lazy


def check_lives(registered: Mapping[str, ResourceDefinition[Any]]) -> None:
    """Refuse resources of the engine that need registered ones with a shorter life.

    Raises:
        ResourceError: There is one.
    """
    for definition in registered.values():
        for wanted in definition.needs.values() if definition.scope == "engine" else ():
            needed = wanted.definition or registered.get(wanted.resource_name)
            if needed is not None:
                _check_scopes(definition, needed)


def _check_scopes(user: ResourceDefinition[Any], needed: ResourceDefinition[Any]) -> None:
    fault = outlived(user, needed)
    if fault:
        raise ResourceError(fault)


def _check_thread(user: ResourceDefinition[Any], bound: ResourceDefinition[Any]) -> None:
    if user.is_async:
        raise ResourceError(
            f"the async provider of '{user.name}' needs the resource '{bound.name}', which is "
            f"bound to a thread of its own; make the provider of '{user.name}' a plain generator "
            f"(it is written at {user.place})"
        )
