"""``a, b = split(x)``: one lazy value for each value that a task gives (``@task(nout=2)``)."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

from cascade.spec.errors import UnpackError
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult


def unpacked(
    lazy: LazyResult[Any], nout: int, code: CodeType, lasti: int
) -> Iterator[LazyResult[Any]]:
    """The nodes for the ``nout`` values of ``lazy``, unpacked where ``code``, ``lasti`` say."""
    name = lazy.name
    return iter([lazy._combine(unpack, (lazy, i, nout, name), code, lasti) for i in range(nout)])


def unpack(values: Any, place: int, nout: int, task: str) -> Any:
    """The value at ``place`` of ``nout``, which the task called ``task`` gave.

    Raises:
        UnpackError: They are another number, or nothing that can be unpacked.
    """
    try:
        items = values if isinstance(values, (tuple, list)) else tuple(values)
    except TypeError:
        raise UnpackError(
            f"task '{task}' is declared with nout={nout}, but gave {short(values)} of type "
            f"{type(values).__name__}, which cannot be unpacked"
        ) from None
    if len(items) != nout:
        raise UnpackError(
            f"task '{task}' is declared with nout={nout}, but gave {len(items)} values: "
            f"{short(values)}"
        )
    return items[place]
