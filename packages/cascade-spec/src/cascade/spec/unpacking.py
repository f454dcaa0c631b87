"""Functions of nodes that take a part of a value: ``a, b = split(x)``, ``items[start:stop]``."""

from __future__ import annotations

from typing import Any

from cascade.spec.errors import UnpackError
from cascade.spec.wording import short


def item_range(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """``value[start:stop:step]``, with ends that were lazy."""
    return value[start:stop:step]


def unpack(values: Any, place: int, nout: int, task: str) -> Any:
    """The value at ``place`` of ``nout`` values returned by the task named ``task``.

    Raises:
        UnpackError: Their number differs, or the value cannot be unpacked.
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
