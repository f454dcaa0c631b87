"""The JSON form of fallbacks, for graphs and blueprints.

``{"or_else": {"instead": value}}``, or ``{"catch": {"errors": ["module:name", …]}}`` with
``"handler"`` (the ``module:name`` of a task) or ``"instead"``, or neither if the error is the
value. ``cascade.graph.values`` has the form of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cascade.graph.references import reference_to_condition
from cascade.graph.values import ValueReader, ValueWriter
from cascade.spec.fallbacks import CATCH, ITS_ERROR, OR_ELSE, Catch, Fallback, Kept, catching
from cascade.spec.task import Task


def kind_of(body: Mapping[str, Any]) -> str | None:
    """The name of the operation in the form of a node or an instruction, if that is a fallback."""
    return next((name for name in _OPERATIONS if name in body), None)


def fallback_body(fallback: Fallback, writer: ValueWriter) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if isinstance(fallback, Catch):
        body["errors"] = [
            reference_to_condition(kind)
            or writer.refuse(f"its error {kind.__name__}, which cannot be imported by its name")
            for kind in fallback.errors
        ]
    if isinstance(fallback.instead, Task):
        return body | {"handler": writer.task(fallback.instead)}
    if fallback.instead is ITS_ERROR:
        return body
    return body | {"instead": writer.value(fallback.instead)}


def bodies(fallbacks: Iterable[Kept], writer: ValueWriter) -> list[dict[str, Any]]:
    return [{operation.name: fallback_body(f, writer)} for operation, f in fallbacks]


def read_fallback(name: str, body: Any, reader: ValueReader) -> Kept:
    """Read what ``fallback_body`` wrote.

    Raises:
        Exception: One of ``UNREADABLE``.
    """
    if name == OR_ELSE.name:
        return OR_ELSE, Fallback(reader.value(body["instead"]))
    errors = tuple(map(reader.resolver.condition, body["errors"]))
    handler: Any = ITS_ERROR
    if "handler" in body:
        handler = reader.resolver.task(body["handler"])
    elif "instead" in body:
        handler = reader.value(body["instead"])
    return CATCH, catching(errors, handler, _as_it_is, read_fallback.__code__, 0)


def read_bodies(bodies: Any, reader: ValueReader) -> tuple[Kept, ...]:
    found = []
    for body in bodies:
        ((name, inner),) = body.items()
        found.append(read_fallback(name, inner, reader))
    return tuple(found)


def _as_it_is(value: Any, *_place: Any) -> Any:
    """Containers with lazy values are nodes in JSON, so a value has none inside."""
    return value


_OPERATIONS = {OR_ELSE.name: OR_ELSE, CATCH.name: CATCH}
