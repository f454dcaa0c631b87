"""Functions of nodes that take a value apart: ``a, b = split(x)``, ``items[start:stop]``."""

from __future__ import annotations

from typing import Any

from cascade.spec.errors import UnpackError
from cascade.spec.wording import short


def item_range(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """``value[start:stop:step]``, with ends that may have been lazy."""
    return value[start:stop:step]


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
