"""``cascade work``: a worker, which executes the durable runs of a store."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cascade.command.connecting import Connect, RunBroker, loop_factory, plane_of
from cascade.command.failures import UsageError
from cascade.command.stores import StoreUrl, opened, signing_key, url_of
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError

if TYPE_CHECKING:
    from cascade.spec.resource import ResourceDefinition
    from cascade.spec.run_store import RunStore


def work(
    modules: Annotated[
        tuple[str, ...],
        Parameter(
            name="MODULE",
            help="Modules with the tasks and schedules: dotted names or .py files.",
            show_default=False,
        ),
    ] = (),
    /,
    *,
    max_runs: Annotated[int, Parameter(metavar="COUNT", help="Most runs at the same time.")] = 100,
    vm: Annotated[
        bool, Parameter(help="Execute them on the virtual machine.", show_default=False)
    ] = False,
    keep: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="STATUS=AGE",
            help="Delete runs so long after their end, such as succeeded=7d; may be repeated.",
            show_default=False,
        ),
    ] = (),
    capacity: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=AMOUNT",
            help="The amount of a capacity; may be repeated.",
            show_default=False,
        ),
    ] = (),
    share_capacities: Annotated[
        bool,
        Parameter(
            name="--share-capacities",
            help="Share the capacities with all workers of the store that do so.",
            show_default=False,
        ),
    ] = False,
    log_format: Annotated[
        Literal["human", "json"] | None,
        Parameter(help="Write a line for each event to standard error."),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Parameter(help="Leave out lines below this level; implies --log-format human."),
    ] = None,
    store: StoreUrl = None,
    connect: Connect = True,
    broker: RunBroker = None,
) -> int:
    """Execute the runs of a store that are due, until SIGTERM or Ctrl-C.

    Due are runs that were enqueued or scheduled, and those whose owners have died. The runs under
    way at the end are handed over to other workers; a second signal does not wait for plain
    functions.
    """
    from cascade.command.amounts import amounts
    from cascade.runtime.engine import Engine
    from cascade.runtime.execution.interrupts import run_on
    from cascade.runtime.limits.capacities import Capacities
    from cascade.runtime.telemetry.attach import attach

    try:
        check_count("--max-runs", max_runs)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    if share_capacities and not capacity:
        raise UsageError("--share-capacities needs capacities: --capacity NAME=AMOUNT")
    url, resources = url_of(store), _imported(modules)
    totals, retention = amounts(capacity), _ages(keep)
    _log_to_stderr(log_level or "info")

    async def serve(there: RunStore) -> None:
        capacities = Capacities(totals, store=there if share_capacities else None)
        async with (
            Engine(
                store=there,
                resources=resources,
                capacities=capacities,
                retention=retention,
                signing_key=signing_key(),
            ) as engine,
            plane_of(engine, connect, broker),
        ):
            with attach(engine.bus, log_format, False, log_level=log_level):
                logging.getLogger("cascade.worker").info("serving %r", there)
                await engine.serve(max_runs=max_runs, use_vm=vm)

    with opened(url, create=True) as there:
        run_on(serve(there), loop_factory(broker))
    return 0


def _imported(names: Sequence[str]) -> tuple[ResourceDefinition[object], ...]:
    """Import the modules; their resources."""
    from cascade.command.modules import load
    from cascade.command.targets import resources_of

    found = [definition for name in names for definition in resources_of(load(name))]
    return tuple(dict.fromkeys(found))


def _ages(given: Sequence[str]) -> Mapping[str, str | float]:
    from cascade.runtime.durable.retention import Retention

    ages = {}
    for text in given:
        status, equals, age = text.partition("=")
        if not equals:
            raise UsageError(f"--keep takes STATUS=AGE, as succeeded=7d, but got {text!r}")
        ages[status] = age
    try:
        Retention(ages)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    return ages


def _log_to_stderr(level: str) -> None:
    """Write the messages of Cascade's loggers, which are about the worker and not about a task."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("cascade")
    logger.addHandler(handler)
    logger.setLevel(level.upper())
