"""What the store of a durable run gives to a call of a task: a transaction, and a key.

Both are injected as resources are. A test that calls a task without a store replaces them with
``override_resource``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from cascade.spec.errors import ResourceError
from cascade.spec.resource import Inject, resource

# Other processes find both by their names here, as tasks that are stored with a run ask for them.


@resource(scope="task")
def transaction() -> Iterator[Any]:
    """To inject: a DB-API connection of the store's own database, in a transaction of the call's.

    It begins before the call. The store commits it together with the value that the task returns
    (D5), and rolls it back if the task fails; the task does neither. For plain functions in durable
    runs.
    """
    raise ResourceError(without_store("transaction"))
    yield


@resource(scope="task")
def idempotency_key() -> Iterator[str]:
    """To inject: a text that is the same each time that one call is made, and that no other has.

    So after failures, and in other processes (D3). For any task in durable runs.
    """
    raise ResourceError(without_store("idempotency_key"))
    yield ""


#: The resources that the store of a run gives to single calls.
OF_CALLS: Final = frozenset({transaction, idempotency_key})


def of_calls(values: Iterable[Any]) -> bool:
    """Whether one of ``values`` asks for such a resource."""
    return any(type(value) is Inject and value.definition in OF_CALLS for value in values)


def without_store(name: str) -> str:
    """The text of the error for such a resource in a run that is not durable."""
    return (
        f"cs.{name} is for durable runs, and this run is not kept in a store; give it both store= "
        f"and run_id=, or in a test cs.override_resource(cs.{name}, …)"
    )
