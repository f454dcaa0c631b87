"""The types of options: those made from plain text, and those read from JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

#: Types whose constructor takes the text; bool is here because ``Param`` reads "yes" and "off".
_SCALARS = (bool, int, float, str, complex, Decimal, Fraction, UUID)
_ISO = (datetime, date, time)
_JSON = (list, dict, tuple, set, frozenset)


def from_text(kind: type) -> Callable[[str], Any] | None:
    """The function that makes a ``kind`` of text: ``kind`` itself, or one for ISO 8601."""
    if kind in _ISO:
        return kind.fromisoformat
    return kind if kind in _SCALARS or issubclass(kind, PurePath) else None


def json_kind(container: Any) -> type | None:
    """The builtin container that is read from JSON for ``container``; None for other types."""
    if not isinstance(container, type):
        return None
    return next((kind for kind in _JSON if container is kind or _is_meant(kind, container)), None)


def _is_meant(kind: type, container: type) -> bool:
    """Whether a ``kind`` fits ``container``, which may be abstract like Sequence."""
    if container.__module__ != "collections.abc" or not issubclass(container, Collection):
        return False
    return issubclass(kind, container)
