"""Sent resources: which ones a worker process can open for the calls that are made there.

A resource never travels, but its provider does, as tasks do. A worker opens one of scope ``engine``
once, for all calls that it makes, and one of scope ``task`` for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cascade.spec.kept_calls import OF_CALLS
from cascade.spec.resource import Inject, ResourceDefinition


class SentResource(NamedTuple):
    """Stands for a resource among the arguments of a call that is made elsewhere."""

    #: That of its Provision.
    token: bytes


class Provision(NamedTuple):
    """A provider for a worker process."""

    definition: ResourceDefinition[Any]
    #: Parameter of the provider → token of the resource that it is given there.
    needs: Mapping[str, bytes]


class PackedResource(NamedTuple):
    """A Provision as bytes. Equal ones have the same token, and are opened once."""

    token: bytes
    data: bytes
    #: Seconds that closing the resource may take.
    teardown_timeout: float


def refusal(
    definition: ResourceDefinition[Any],
    find: Callable[[Inject], ResourceDefinition[Any] | None],
) -> str:
    """Why no worker process can open a resource; empty if it can.

    Args:
        definition: The resource.
        find: The resource of a marker; None if that is not known yet.
    """
    name = definition.name
    if definition in OF_CALLS:
        return f"cs.{name} is given by the store of the run, in the driver's process"
    if definition.scope == "run":
        return (
            f"the resource '{name}' has scope='run', so it is opened once, in the driver's "
            "process\n"
            '    right:  @cs.resource(scope="engine"), opened once in each worker process\n'
            '    or:     @cs.resource(scope="task"), opened for each call'
        )
    if definition.is_async:
        return (
            f"the resource '{name}' has an async provider, for which a worker process has no event "
            f"loop; make it a plain generator (it is written at {definition.place})"
        )
    for wanted in definition.needs.values():
        needed = find(wanted)
        fault = "" if needed is None else refusal(needed, find)
        if fault:
            return f"the resource '{name}' needs another one: {fault}"
    return ""
