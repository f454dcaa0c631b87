"""Checks of the arguments of stores, and whether they can be used here. For all stores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import isfinite

from cascade.spec.checks import check_priority
from cascade.spec.errors import ArgumentError, StoreError
from cascade.spec.run_rows import Commit, NewRun
from cascade.spec.wording import short, visible

_LONGEST_ID = 500


def check_text(what: str, text: object) -> None:
    """Refuse values that are no text, and texts that some database does not take.

    Raises:
        ArgumentError: ``text`` is not a str, or has a NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"{what} must be a str, but is {short(text)}")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ArgumentError(f"{what} must not have a NUL or a surrogate, but is {short(text)}")


def check_new(runs: Sequence[NewRun]) -> None:
    """Refuse runs that one of the databases could not keep.

    Raises:
        ArgumentError: An id, a priority or a time is invalid, or two ids are equal.
    """
    for run in runs:
        if not isinstance(run.run_id, str) or not 0 < len(run.run_id) <= _LONGEST_ID:
            raise ArgumentError(
                f"run_id must be a text of 1 to {_LONGEST_ID} characters, but is "
                f"{short(run.run_id)}"
            )
        if visible(run.run_id) != run.run_id:
            raise ArgumentError(
                f"run_id must not have control or invisible characters, but is {short(run.run_id)}"
            )
        check_text("the name of a target", run.target)
        check_priority("priority=", run.priority)
        if run.at is not None and not isfinite(run.at):
            raise ArgumentError(f"at= takes a time in seconds since the epoch, but got {run.at}")
    if len({run.run_id for run in runs}) < len(runs):
        raise ArgumentError("the runs to create must have different ids")


def check_batch(batch: Sequence[Commit]) -> None:
    """Refuse a batch with two commits of one run: no order is defined for them.

    Raises:
        ArgumentError: There are two.
    """
    if len({commit.run for commit in batch}) < len(batch):
        raise ArgumentError("a batch takes at most one Commit of each run")


def check_usable(store: object, closed: bool, opened_by: int) -> None:
    """Refuse the use of a store that is closed, or that a fork has copied.

    Args:
        opened_by: The id of the process that has opened it.

    Raises:
        StoreError: It cannot be used here.
    """
    if closed:
        raise StoreError(f"{store!r} is closed")
    if os.getpid() != opened_by:
        raise StoreError(
            f"{store!r} was opened by process {opened_by}, and its connections cannot be used in "
            "a fork of it: open the store in each process"
        )
