"""``cascade cache``: the caches of tasks whose values are kept by code; ``explain --cache``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cascade.command.failures import RefusedError, UsageError
from cascade.command.stores import check_exists, signing_key

if TYPE_CHECKING:
    from cascade.adapters.cache.by_code import ByCode
    from cascade.adapters.cache.entries import Entries

VARIABLE = "CASCADE_CACHE"
SUCCEEDED, FAILED = 0, 1
_STYLES = {
    r"(?m)(?<=  )hit(?=  )": "green",
    r"(?m)(?<=  )computed(?=  )": "yellow",
    r"(?m)(?<=  )(not needed|no cache|not tracked|unknown)(?=  )": "dim",
}
_UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))

CacheUrl = Annotated[
    str | None,
    Parameter(
        name="--cache",
        metavar="URL",
        help="The cache, such as sqlite:///cache.db. Left out: CASCADE_CACHE.",
    ),
]
AsJson = Annotated[bool, Parameter(help="Print JSON, for scripts.", show_default=False)]
TargetName = Annotated[str, Parameter(help="MODULE:TARGET; MODULE is a dotted name or a .py file.")]
Params = Annotated[
    tuple[str, ...],
    Parameter(
        name="--param",
        metavar="NAME=VALUE",
        help="A parameter of the run; may be repeated.",
        show_default=False,
    ),
]

cache = App(name="cache", help="Inspect and clear the cache of pure tasks.")


@cache.command
def stats(*, url: CacheUrl = None, json: AsJson = False) -> None:
    """Show what is kept of each task: entries, bytes, the time that hits save, the last use."""
    from cascade.command.output import add_row, show, show_json, show_table, table
    from cascade.graph.durations import duration_text

    with _opened(url) as entries:
        uses = entries.stats()
    if json:
        show_json([use._asdict() for use in uses], "the list")
    elif not uses:
        show("the cache is empty")
    else:
        made = table("task", "entries", "size", "a hit saves", "last used", right=(1, 2, 3, 4))
        for use in uses:
            mean = duration_text(use.seconds / use.entries)
            used = f"{duration_text(max(0.0, time() - use.used))} ago"
            add_row(made, use.task, f"{use.entries:,}", size_text(use.size), mean, used)
        if len(uses) > 1:
            size, count = sum(use.size for use in uses), sum(use.entries for use in uses)
            add_row(made, "all", f"{count:,}", size_text(size), "", "")
        show_table(made)


@cache.command
def clear(
    task: Annotated[
        str | None, Parameter(name="TASK", help="Only the values of this task, module:name.")
    ] = None,
    /,
    *,
    older: Annotated[
        str | None,
        Parameter(metavar="AGE", help="Only values that were last used so long ago, as 12h, 7d."),
    ] = None,
    url: CacheUrl = None,
    json: AsJson = False,
) -> None:
    """Remove values, and print how many."""
    from cascade.command.output import show, show_json
    from cascade.spec.amounts_in_text import seconds_of
    from cascade.spec.errors import ArgumentError
    from cascade.spec.nearby import did_you_mean

    try:
        before = None if older is None else time() - seconds_of("--older", older)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    with _opened(url) as entries:
        known = [use.task for use in entries.stats()]
        if task is not None and task not in known:
            near = did_you_mean(task, known)
            raise RefusedError(f"{entries!r} has no values of a task {task!r}{near}")
        count = entries.clear(task, before)
    if json:
        show_json({"removed": count}, "the count")
    else:
        show(f"removed {count:,} value{'' if count == 1 else 's'}")


@cache.command
def why(
    target: TargetName,
    task: Annotated[
        str | None, Parameter(name="TASK", help="Only the nodes of this task, by its name.")
    ] = None,
    /,
    *,
    param: Params = (),
    url: CacheUrl = None,
    json: AsJson = False,
) -> int:
    """Show why the nodes of a target would be computed, those that are no hits.

    Nothing is run. Exit code 1 if some are computed, 0 if all are hits.
    """
    nodes, _ = _explained(target, param, url)
    missed = [node for node in nodes if node.status == "computed" and task in (None, node.task)]
    if task is not None and task not in {node.task for node in nodes}:
        from cascade.spec.nearby import did_you_mean

        near = did_you_mean(task, [node.task for node in nodes])
        raise UsageError(f"{target} calls no task {task!r}{near}")
    _show(missed, (), json, f"all of {target} is known")
    return FAILED if missed else SUCCEEDED


def show_explanation(target: str, param: Sequence[str], url: str | None, as_json: bool) -> None:
    """Print which nodes of a target are hits, and what has changed for the others."""
    _show(*_explained(target, param, url), as_json, f"{target} calls no task")


def _show(nodes: Sequence[Any], untracked: Sequence[str], as_json: bool, otherwise: str) -> None:
    from dataclasses import asdict

    from cascade.adapters.cache.explaining import CacheExplanation
    from cascade.command.output import show, show_json

    if as_json:
        told = {"nodes": [asdict(node) for node in nodes], "untracked": [*untracked]}
        show_json(told, "the explanation")
    elif not nodes:
        show(otherwise)
    else:
        show(str(CacheExplanation(tuple(nodes), tuple(untracked))), _STYLES)


def _explained(target: str, param: Sequence[str], url: str | None) -> tuple[Any, Any]:
    from cascade.adapters.cache.explaining import explain_cache
    from cascade.command.targets import find
    from cascade.spec.errors import StoreError

    found = find(target)
    try:
        explained = explain_cache(found.lazy(), pairs(param), cache=cache_of(url))
    except StoreError as error:
        raise RefusedError(str(error)) from None
    return explained.nodes, explained.untracked


def cache_of(url: str | None) -> ByCode | None:
    """The cache of this URL, or that of the environment; None if neither names one.

    Raises:
        UsageError: The URL is invalid.
    """
    from cascade.adapters.cache.by_code import ByCode
    from cascade.spec.errors import ArgumentError

    found = url or os.environ.get(VARIABLE)
    if not found:
        return None
    try:
        return ByCode(found, signing_key=signing_key())
    except ArgumentError as error:
        raise UsageError(str(error)) from None


@contextmanager
def _opened(url: str | None) -> Iterator[Entries]:
    from cascade.adapters.cache.opening import open_entries
    from cascade.spec.errors import ArgumentError, StoreError

    found = url or os.environ.get(VARIABLE)
    if not found:
        raise UsageError(f"no cache is named: give --cache sqlite:///cache.db, or set {VARIABLE}")
    try:
        check_exists(found)
        entries = open_entries(found)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    except StoreError as error:
        raise RefusedError(str(error)) from None
    try:
        yield entries
    except StoreError as error:
        raise RefusedError(str(error)) from None
    finally:
        entries.close()


def pairs(given: Sequence[str]) -> Mapping[str, Any]:
    """Parameters from texts such as ``day=2024-01-20``.

    Raises:
        UsageError: One has another form.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param takes NAME=VALUE, but got {text!r}")
        found[name] = value
    return found


def size_text(size: int) -> str:
    """A number of bytes for people.

    >>> [size_text(n) for n in (12, 1_500, 2_000_000)]
    ['12 B', '1.5 kB', '2.0 MB']
    """
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
