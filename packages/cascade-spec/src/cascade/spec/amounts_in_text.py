"""Ages and sizes as people write them: ``"7d"``, ``"10 GB"``."""

from __future__ import annotations

import re
from typing import Any, Final

from cascade.spec.checks import is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_BYTES: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "t": 1_000_000_000_000}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def seconds_of(name: str, age: Any) -> float:
    """An age in seconds, from a number of seconds or a text such as ``"7d"``.

    Raises:
        ArgumentError: It is neither; ``name`` is the option's.
    """
    found = _AGE.fullmatch(age.strip()) if isinstance(age, str) else None
    seconds = float(found[1]) * _UNITS[found[2]] if found else age
    if not is_number(seconds, 0):
        raise ArgumentError(
            f"{name} takes an age such as '12h', '7d' or '4w', or seconds, but got {short(age)}"
        )
    return seconds


def bytes_of(name: str, size: Any) -> int:
    """A size in bytes, from their number or a text such as ``"10 GB"`` or ``"512 MiB"``.

    Raises:
        ArgumentError: It is neither, or it is 0; ``name`` is the option's.
    """
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if found:
        unit = _BYTES[found[2].lower()]
        if found[3]:
            unit = 1 << (10 * list(_BYTES).index(found[2].lower()))
        size = float(found[1]) * unit
    if not is_number(size, 1):
        raise ArgumentError(
            f"{name} takes a size such as '10 GB' or '512 MiB', or a number of bytes ≥ 1, but got "
            f"{short(size)}"
        )
    return int(size)
