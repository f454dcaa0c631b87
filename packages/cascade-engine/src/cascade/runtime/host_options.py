"""What ``engine.start(…, on=…)`` needs, and what the engines of its processes are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.adapters.stores.urls import absolute
from cascade.graph.build import build_graph
from cascade.runtime.elsewhere.executors import is_name
from cascade.runtime.elsewhere.host_messages import SharedAmounts
from cascade.spec.errors import ExecutorError, RunError, SendError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import HostingExecutor
from cascade.spec.resource import ResourceDefinition
from cascade.spec.wire import problem_of
from cascade.spec.wording import error_text, short

if TYPE_CHECKING:
    from cascade.runtime.limits.capacities import Capacities

#: Where ``engine.start`` has a run executed: an executor, or its name, such as ``"process"``.
On: TypeAlias = HostingExecutor | str


def check_on(on: Any) -> None:
    """Refuse an ``on=`` whose processes do not execute whole runs.

    Raises:
        ExecutorError: It is none of these.
    """
    is_named = isinstance(on, str) and is_name(on)
    if not is_named and (isinstance(on, type) or not isinstance(on, HostingExecutor)):
        raise ExecutorError(
            "on= takes 'process', 'dask://host:8786', 'ray://host:10001', or a cs.ProcessExecutor, "
            "cs.DaskExecutor or cs.RayExecutor, whose processes execute whole runs, but got "
            f"{short(on)}\n"
            "    on other machines:  cs.enqueue(store, target), and `cascade work` there"
        )


def amounts_of(capacities: Capacities, folder: str) -> Mapping[str, float] | SharedAmounts | None:
    """The capacities of an engine, for hosts.

    Raises:
        RunError: Other processes cannot open the store that they are shared through.
    """
    sharing = capacities.sharing
    if sharing is None:
        return capacities.total or None
    store = sharing.store
    if isinstance(store, str) and not store.startswith("memory:"):
        return SharedAmounts(capacities.total, absolute(store, folder), sharing.lease)
    raise RunError(
        "engine.start(…, on=…) needs capacities that other processes can share, by the URL of "
        f"their store, but this engine has cs.Capacities(store={short(store)})\n"
        '    right:  cs.Capacities({…}, store="sqlite:///limits.db")'
    )


def check_sendable(resources: Iterable[ResourceDefinition[Any]]) -> None:
    """Refuse resources that cannot be opened in other processes.

    Raises:
        SendError: The provider of one cannot be sent.
    """
    for resource in resources:
        problem = problem_of(resource)
        if problem is not None:
            place = f"the resource '{resource.name}' of the engine"
            raise SendError(
                f"{place} cannot be sent to the process of a run: {error_text(problem)}\n"
                "    right:  define its provider at the top level of a module, and make there what "
                "it needs",
                place,
            ) from problem


def shared_store(store: Any, folder: str) -> str:
    """The URL of the store of an engine, for hosts.

    Args:
        store: As the engine was given it.
        folder: The working directory at that time.

    Raises:
        RunError: The engine has none, or other processes cannot open it.
    """
    if isinstance(store, str) and not store.startswith("memory:"):
        return absolute(store, folder)
    raise RunError(
        "engine.start(…, on=…) needs a store that other processes can open, by its URL, but the "
        f"engine has {'none' if store is None else short(store)}\n"
        '    right:  cs.Engine(store="sqlite:///runs.db")'
    )


def modules_of(target: LazyResult[Any]) -> list[str]:
    """The modules with the tasks of a target."""
    tasks = [lazy.task for lazy in build_graph(target).lazies]
    named = {str(getattr(task, "__module__", "")) for task in tasks}
    return sorted(name for name in named if name and not name.startswith("cascade."))
