"""The place of the part that keeps a value from having a digest, for messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, Final

from cascade.spec.digest import UndigestibleError, content_of
from cascade.spec.wording import short

#: Most steps of a place; beyond, the nesting itself is mostly the fault.
_SHOWN: Final = 12


def place_of_fault(value: Any, is_faulty: Callable[[Any], bool]) -> str:
    """Where in ``value`` the part without a digest is, as ``['clients'][3].session``.

    Empty if it is the value itself, or if the fault is how deep the value is nested. Digests the
    containers on the way there again, so it takes a multiple of the time of a digest.

    Args:
        is_faulty: Whether a part is at fault, or holds the one that is.
    """
    steps: list[str] = []
    while len(steps) < _SHOWN:
        try:
            fault = next(((step, part) for step, part in _parts(value) if is_faulty(part)), None)
        except UndigestibleError:
            fault = None  # its own content cannot be told, such as that of a file that is gone
        if fault is None:
            return "".join(steps)
        steps.append(fault[0])
        value = fault[1]
    return ""


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    content = content_of(kind)
    if content is not None:
        yield " (its content)", content(value)
    elif isinstance(value, (dict, MappingProxyType)):
        for key, item in value.items():
            yield f" (the key {short(key)})", key
            yield f"[{short(key)}]", item
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        for name, item in zip(kind._fields, value, strict=False):
            yield f".{name}", item
    elif isinstance(value, (list, tuple, deque)):
        for place, item in enumerate(value):
            yield f"[{place}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f" (the member {short(item)})", item
    elif is_dataclass(kind):
        for field in fields(kind):
            if field.compare and hasattr(value, field.name):
                yield f".{field.name}", getattr(value, field.name)
    elif hasattr(kind, "__pydantic_fields__") and isinstance(vars(value), Mapping):
        for name, item in vars(value).items():
            yield f".{name}", item
