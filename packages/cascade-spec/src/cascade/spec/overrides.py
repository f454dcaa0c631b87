"""``override_resource``: another provider for a resource, for tests."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, overload

from cascade.spec.errors import DefinitionError
from cascade.spec.resource import Provider, ResourceDefinition
from cascade.spec.wording import short

T = TypeVar("T")


class Override(NamedTuple):
    """The replacement of a resource."""

    by: ResourceDefinition[Any]
    #: Whether it inherits the options declared for the resource; otherwise it has its own.
    inherits: bool

    @classmethod
    def of(cls, name: str, provider: Any) -> Override:
        """``provider`` in the place of the resource ``name``.

        Raises:
            DefinitionError: It is neither a generator function nor made by ``@resource``.
        """
        if isinstance(provider, ResourceDefinition):
            return cls(provider, False)
        return cls(ResourceDefinition(provider, name), True)

    def in_place_of(self, replaced: ResourceDefinition[Any] | None) -> ResourceDefinition[Any]:
        """The provider to open instead of ``replaced``; None means an unregistered resource."""
        if replaced is None or not self.inherits:
            return self.by
        return ResourceDefinition(
            self.by.func,
            self.by.name,
            replaced.scope,
            # An async provider has one thread anyway.
            replaced.thread_bound and not self.by.is_async,
            replaced.teardown_timeout,
        )


@overload
def override_resource(
    source: ResourceDefinition[T], by: Provider[T] | ResourceDefinition[T]
) -> ResourceOverride: ...
@overload
def override_resource(
    source: str, by: Provider[Any] | ResourceDefinition[Any]
) -> ResourceOverride: ...
def override_resource(source: Any, by: Any) -> ResourceOverride:
    """Replace the provider of a resource in all runs that begin in a ``with`` block, for tests.

    This affects all engines of the process, also those of ``cs.run``, in all threads, whatever they
    have registered or overridden themselves. Blocks nest; the inner one wins. Runs that began
    before the block keep their provider.

    Args:
        source: The resource, or its name.
        by: A generator function, which inherits the scope, the thread and the deadline of the
            resource; or a resource made by ``@resource``, which has its own.

    Raises:
        DefinitionError: ``source`` or ``by`` is none of these.

    Example::

        def test_report():
            def fake():
                yield FakeDatabase()

            with cs.override_resource(database, fake):
                assert cs.run(report()) == "nothing sold"
    """
    name = source.name if isinstance(source, ResourceDefinition) else source
    if not isinstance(name, str) or not name:
        raise DefinitionError(
            "override_resource() takes a resource's name or a function decorated with @resource, "
            f"but got {short(source)}"
        )
    return ResourceOverride(name, Override.of(name, by))


class ResourceOverride:
    """The result of ``override_resource``: in force within its ``with`` blocks."""

    def __init__(self, name: str, override: Override) -> None:
        self._name = name
        self._override = override
        #: One per block that was entered.
        self._entries: list[_Entry] = []

    def __enter__(self) -> None:
        self._entries.append(_in_force.add(self._name, self._override))

    def __exit__(self, *_error: object) -> None:
        _in_force.remove(self._entries.pop())


def overrides_in_force() -> Mapping[str, Override]:
    """Name → override for a run that begins now. The mapping is replaced, never changed."""
    return _in_force.by_name


class _Entry:
    """One block of one override; compared by identity."""

    def __init__(self, name: str, override: Override) -> None:
        self.name = name
        self.override = override


class _InForce:
    """The overrides of the process. Thread-safe; blocks may end in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self.by_name: Mapping[str, Override] = {}

    def add(self, name: str, override: Override) -> _Entry:
        entry = _Entry(name, override)
        with self._lock:
            self._set([*self._entries, entry])
        return entry

    def remove(self, entry: _Entry) -> None:
        with self._lock:
            self._set([e for e in self._entries if e is not entry])

    def _set(self, entries: list[_Entry]) -> None:
        self._entries = entries
        self.by_name = {entry.name: entry.override for entry in entries}


_in_force = _InForce()
