"""``cascade runs``: durable runs in their store."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cascade.command.failures import RefusedError, UsageError
from cascade.command.stores import RunId, StoreUrl, codec, found, opened, signing_key, url_of
from cascade.spec.run_rows import FINISHED, Filter, RunStatus

if TYPE_CHECKING:
    from cascade.command.targets import Target
    from cascade.runtime.durable.stored_graphs import StoredGraphs
    from cascade.spec.resource import ResourceDefinition
    from cascade.spec.run_rows import Loaded

AsJson = Annotated[bool, Parameter(help="Print JSON, for scripts.", show_default=False)]

runs = App(name="runs", help="List, inspect and steer durable runs.")


@runs.command(name="list")
def list_runs(
    *,
    status: Annotated[
        tuple[RunStatus, ...],
        Parameter(help="Only runs with this status; may be repeated.", show_default=False),
    ] = (),
    target: Annotated[
        str | None, Parameter(metavar="NAME", help="Only runs of this target.")
    ] = None,
    limit: Annotated[int, Parameter(metavar="COUNT", help="Most runs that are listed.")] = 100,
    store: StoreUrl = None,
    json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from cascade.command.run_views import show_runs

    with opened(store) as there:
        show_runs(there.runs(Filter(statuses=status, target=target, limit=limit)), json)


@runs.command
def show(run: RunId, /, *, store: StoreUrl = None, json: AsJson = False) -> None:
    """Show a run: its state, its parameters, its result or error."""
    from cascade.command.run_views import show_run

    loaded, graphs = _loaded(store, run)
    show_run(codec(), loaded, graphs.steps(), json)


@runs.command
def steps(run: RunId, /, *, store: StoreUrl = None, json: AsJson = False) -> None:
    """List the nodes of a run that are done, or have continued as another call or a graph."""
    from cascade.command.run_views import show_steps

    loaded, graphs = _loaded(store, run)
    show_steps(loaded.run, graphs.steps(), json)


@runs.command
def resume(
    run: RunId,
    target: Annotated[
        str | None,
        Parameter(
            name="MODULE",
            help="The module of its tasks, dotted or a .py file; or MODULE:TARGET, for a run whose "
            "target is not stored.",
        ),
    ] = None,
    /,
    *,
    vm: Annotated[
        bool, Parameter(help="Run it on the virtual machine.", show_default=False)
    ] = False,
    store: StoreUrl = None,
    json: AsJson = False,
) -> None:
    """Go on with a run in this process, and print its value.

    What is done is not called again. The value of a finished run is printed.
    """
    from cascade.command.output import show_json, show_value
    from cascade.runtime.execution.interrupts import run_interruptibly

    value = run_interruptibly(_resumed(run, target, vm, url_of(store)))
    if json:
        show_json(value, f"the value of run {run}")
    else:
        show_value(value)


@runs.command
def cancel(run: RunId, /, *, store: StoreUrl = None) -> None:
    """End a run, wherever it is executed. Exit code 1 if it has ended already."""
    from cascade.adapters.processes import dead_among
    from cascade.command import output

    with opened(store) as there:
        before = found(there, run)
        if before.status in FINISHED:
            raise RefusedError(f"run {run!r} has ended already ({before.status})")
        after = there.cancel(run, dead=dead_among(there.owners()))
    if after.status is RunStatus.CANCELLED:
        output.show(f"run {run} is cancelled")
    else:
        output.show(f"run {run} will be cancelled by {after.owner}")


@runs.command
def signal(
    run: RunId,
    name: Annotated[str, Parameter(name="NAME", help="The name that the run waits for.")],
    value: Annotated[str, Parameter(name="JSON", help="What it gets.")] = "null",
    /,
    *,
    store: StoreUrl = None,
) -> None:
    """Send a signal to a run. Exit code 1 if it has ended."""
    from cascade.command import output

    body = codec().dumps(_json_in(value, "the value"))
    with opened(store) as there:
        there.send(run, name, body)
    output.show(f"run {run} got {name}")


@runs.command
def fork(
    run: RunId,
    new: Annotated[
        str | None, Parameter(name="NEW", help="The id of the new run; random if left out.")
    ] = None,
    /,
    *,
    again: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NODE",
            help="Call this again, and all that needs it: the name of a task, or the first digits "
            "of a key; may be repeated.",
            show_default=False,
        ),
    ] = (),
    set: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=JSON",
            help="Another value for a parameter; may be repeated.",
            show_default=False,
        ),
    ] = (),
    store: StoreUrl = None,
    json: AsJson = False,
) -> None:
    """Create a run from the stored outcomes of another one; print its id.

    The new run waits for a worker, or for `cascade runs resume`.
    """
    from cascade.command import output
    from cascade.runtime.durable import forking
    from cascade.runtime.options import new_id
    from cascade.spec.errors import ArgumentError

    params = {}
    for text in set:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes NAME=JSON, but got {text!r}")
        params[name] = _json_in(value, f"--set {name}")
    with opened(store) as there:
        try:
            made = forking.fork(there, codec(), run, new or new_id(), again=again, params=params)
        except ArgumentError as error:
            raise UsageError(str(error)) from None
    if json:
        output.show_json({"run_id": made.run_id}, "the id")
    else:
        output.show(made.run_id)


@runs.command
def gc(
    *,
    older: Annotated[
        str, Parameter(metavar="AGE", help="Delete runs that ended so long ago, such as 12h, 7d.")
    ] = "30d",
    status: Annotated[
        tuple[RunStatus, ...],
        Parameter(help="Only runs that ended so; may be repeated.", show_default=False),
    ] = (),
    store: StoreUrl = None,
    json: AsJson = False,
) -> None:
    """Delete old runs that have ended, and print how many."""
    from cascade.command import output
    from cascade.runtime.durable.retention import Retention
    from cascade.spec.errors import ArgumentError

    try:
        retention = Retention(dict.fromkeys(status or FINISHED, older))
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    count = 0
    with opened(store) as there:
        while swept := retention.sweep(there):
            count += swept
    if json:
        output.show_json({"deleted": count}, "the count")
    else:
        output.show(f"deleted {count:,} run{'' if count == 1 else 's'}")


def _loaded(store: str | None, run_id: str) -> tuple[Loaded, StoredGraphs]:
    from cascade.runtime.durable.forking import graphs_of

    with opened(store) as there:
        loaded = there.load(found(there, run_id).number)
    return loaded, graphs_of(codec(), loaded)


def _json_in(text: str, what: str) -> Any:
    try:
        return json_module.loads(text)
    except ValueError as error:
        raise UsageError(f"{what} takes JSON, such as 3 or '\"a text\"': {error}") from None


async def _resumed(run_id: str, place: str | None, vm: bool, url: str) -> Any:
    from cascade.runtime.engine import Engine
    from cascade.spec.errors import TaskNotImportedError

    target, resources = _place(place)
    with opened(url) as there:
        async with Engine(store=there, signing_key=signing_key(), resources=resources) as engine:
            if target is not None:
                params = codec().loads(there.load(found(there, run_id).number).params)
                return await engine.run(target.lazy(), params, run_id=run_id, use_vm=vm)
            run = there.find(run_id)
            if run is not None and not (run.portable or run.status is RunStatus.SUCCEEDED):
                raise UsageError(
                    f"the target of run {run_id!r} is not stored, because other processes could "
                    f"not read it; name it: cascade runs resume {run_id} MODULE:TARGET"
                )
            try:
                return await engine.resume(run_id, use_vm=vm)
            except TaskNotImportedError as error:
                raise UsageError(
                    f"run {run_id!r} needs the module {error.module}; name it, because a store may "
                    f"not decide what is imported: cascade runs resume {run_id} {error.module}"
                ) from None


def _place(place: str | None) -> tuple[Target | None, tuple[ResourceDefinition[Any], ...]]:
    """The target of ``MODULE:TARGET``, and the resources of its module."""
    from cascade.command.modules import load
    from cascade.command.targets import find, resources_of

    if place is None:
        return None, ()
    if ":" in place:
        target = find(place)
        return target, target.resources
    return None, resources_of(load(place))
