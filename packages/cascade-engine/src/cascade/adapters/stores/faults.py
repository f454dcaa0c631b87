"""Faults of a database, such as a full disk, among the errors that tasks in transactions raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cascade.spec.errors import StoreError


@contextmanager
def faults_raised(
    is_fault: Callable[[BaseException], bool], made: Callable[[Any], StoreError]
) -> Iterator[None]:
    """Raise a StoreError for each error of the block that a fault of the database has caused.

    All other errors stay as they are.

    Args:
        is_fault: Whether an error is such a fault, and not one of a statement.
        made: Gives the error for it.
    """
    try:
        yield
    except BaseException as raised:
        for error in _linked(raised):
            if is_fault(error):
                raise made(error) from error
        raise


def _linked(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from or while handling, each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        found = todo.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            yield found
            todo += (found.__cause__, found.__context__)
