"""The store that a command line or the environment names, and the runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cascade.command.failures import RefusedError, UsageError
from cascade.spec.nearby import did_you_mean

if TYPE_CHECKING:
    from cascade.graph.codec import Codec
    from cascade.spec.run_rows import RunRecord
    from cascade.spec.run_store import RunStore

VARIABLE = "CASCADE_STORE"
KEY_VARIABLE = "CASCADE_SIGNING_KEY"

StoreUrl = Annotated[
    str | None,
    Parameter(
        name="--store",
        metavar="URL",
        help="The store, such as sqlite:///runs.db. Left out: CASCADE_STORE.",
    ),
]
RunId = Annotated[str, Parameter(name="RUN", help="The id of a run.")]


def url_of(store: str | None) -> str:
    """The URL that was given, or that of the environment.

    Raises:
        UsageError: There is none.
    """
    found = store or os.environ.get(VARIABLE)
    if not found:
        raise UsageError(f"no store is named: give --store sqlite:///runs.db, or set {VARIABLE}")
    return found


def signing_key() -> str | None:
    """The key of the environment: a command line can be read by others."""
    return os.environ.get(KEY_VARIABLE) or None


def codec() -> Codec:
    """The codec that reads and writes values; it imports no modules."""
    from cascade.graph.codec import Codec

    return Codec(signing_key=signing_key(), modules=())


def check_exists(url: str) -> None:
    """Refuse a file of SQLite that does not exist.

    Opening it would make an empty file, so that a command which only reads would show no runs where
    the URL has a typing error.

    Raises:
        ArgumentError: The URL names no file.
        RefusedError: There is no such file.
    """
    from cascade.adapters.stores.urls import sqlite_place

    if url.partition(":")[0] != "sqlite":
        return
    path = sqlite_place(url)[0]
    if not os.path.exists(path):
        where = "" if os.path.isabs(path) else " in the working directory"
        raise RefusedError(f"there is no file {path!r}{where}")


@contextmanager
def opened(store: str | None, *, create: bool = False) -> Iterator[RunStore]:
    """The store, until the end of the block.

    Args:
        create: Whether a file that does not exist is made.

    Raises:
        UsageError: No store is named, or the URL is invalid.
        RefusedError: The store does not exist, cannot be used, or refuses the request.
    """
    from cascade.adapters.stores.urls import open_store
    from cascade.spec.errors import (
        ArgumentError,
        RunConflictError,
        RunLeasedError,
        RunNotFoundError,
        StoreError,
    )

    url = url_of(store)
    try:
        if not create:
            check_exists(url)
        there = open_store(url)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    except StoreError as error:
        raise RefusedError(str(error)) from None
    try:
        yield there
    except RunNotFoundError as error:
        raise RefusedError(_not_found(there, error.run_id)) from None
    except (StoreError, RunConflictError, RunLeasedError) as error:
        raise RefusedError(str(error)) from None
    finally:
        there.close()


def found(store: RunStore, run_id: str) -> RunRecord:
    """The run with an id.

    Raises:
        RunNotFoundError: There is none.
    """
    from cascade.spec.errors import RunNotFoundError

    run = store.find(run_id)
    if run is None:
        raise RunNotFoundError("", run_id)
    return run


def _not_found(store: RunStore, run_id: str) -> str:
    near = did_you_mean(run_id, [run.run_id for run in store.runs()])
    return f"{store!r} has no run {run_id!r}{near}"
