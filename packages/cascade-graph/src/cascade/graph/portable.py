"""A blueprint as JSON and back, and a hash of its content, for tasks that can be imported.

The format, version 1::

    {"blueprint": 1, "registers": 3, "entry": 1, "rooted": true,
     "args": [0], "kwargs": {"n": 0}, "var_args": 1, "var_kwargs": 2,
     "defaults": [[register, value], …], "sources": [[register, register], …],
     "nodes": [node, …], "instructions": [instruction, …]}

``rooted``: the blueprint has the task of its last instruction; otherwise it has none. ``nodes`` are
the lazy values of routes and fallbacks, as in ``cascade.graph.serialize``. An instruction names
its callable by one of ::

    {"task": "module:name"}        {"map": {"task": "module:name", "names": […], "shared": {…}}}
    {"operator": "add"}            {"gather": {"kind": kind, "steps": [[kind, items, holes], …]}}
    {"param": name, …}             {"router": [[key, value], …]}              {"env": name, …}
    {"or_else": {…}}               {"catch": {…}}               (``cascade.graph.fallbacks``)

and has ``"out": register``. Parts that are not empty follow: ``"args"`` and ``"kwargs"`` (a value
of ``cascade.graph.values``, or ``{"$register": 0}``), ``"var_args"``, ``"var_kwargs"`` and
``"after"`` (registers), ``"if"``, ``"retry"``, ``"timeout"``, ``"capacities"`` (amounts by name),
``"amounts"`` (the same, of values or registers), ``"priority"``, ``"checkpoint"`` (seconds, or
false) and ``"catches"``. The recipe of a container, the plan of a map, the routes of a router and a
fallback are the first argument of the callable, so ``args`` has only the others. A cache has no
JSON form. The compiled lazy values are not kept: if a route or a fallback uses one that the
blueprint computes too, it is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cascade.graph.blueprint_reader import read_blueprint
from cascade.graph.blueprint_writer import TOO_DEEP, VERSION, blueprint_form
from cascade.graph.forms import UNREADABLE
from cascade.graph.references import Resolver
from cascade.graph.values import (
    told,
)
from cascade.spec.blueprint import Blueprint
from cascade.spec.errors import SerializationError
from cascade.spec.wording import short


def blueprint_to_json(blueprint: Blueprint, *, indent: int | None = None) -> str:
    """Write a blueprint as JSON.

    Raises:
        SerializationError: A function belongs to no task, a task cannot be imported by its module
            and name, or a value has no JSON form; the message names the instruction or the input.
        CycleError: Routes of a router wait for each other.
    """
    return _dumps(blueprint, blueprint_form(blueprint), indent=indent)


def blueprint_from_json(text: str, *, modules: Iterable[str] = ()) -> Blueprint:
    """Read a blueprint written by ``blueprint_to_json``.

    Imports and calls are bounded as in ``cascade.graph.serialize.from_json``. The blueprint is not
    verified; use ``cs.verify``.

    Args:
        text: JSON.
        modules: Names of modules that may be imported for it. Modules that are imported already
            may always be used.

    Raises:
        TaskNotImportedError: It names an object of another module.
        ArgumentError: ``modules`` is not a collection of module names.
        SerializationError: ``text`` is not the JSON of a blueprint, or a task no longer exists.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise SerializationError(
            f"blueprint_from_json() takes text made by blueprint_to_json(), but got {short(text)}"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("blueprint") != VERSION:
        raise SerializationError(f"not a blueprint of version {VERSION}: {text[:60]!r}")
    try:
        return read_blueprint(document, Resolver(modules))
    except UNREADABLE as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(f"the blueprint cannot be read: {told(error)}") from error


def content_hash(blueprint: Blueprint) -> str:
    """A SHA-256, as hex digits, of everything that ``blueprint_to_json`` writes;
    process-independent.

    The order of dicts and sets makes no difference. Values count with their types, so
    ``Literal(1)`` and ``Literal(1.0)`` differ. Tasks count by name, whatever their code.

    Raises:
        SerializationError, CycleError: As ``blueprint_to_json``.
    """
    document = blueprint_form(blueprint)
    text = _dumps(blueprint, document, canonical=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _dumps(
    blueprint: Blueprint, document: Any, *, indent: int | None = None, canonical: bool = False
) -> str:
    try:
        if canonical:
            return _canonical_text(_canonical(document))
        return json.dumps(document, indent=indent, allow_nan=False)
    except RecursionError:
        raise SerializationError(
            f"the blueprint '{blueprint.name}' has no JSON form: {TOO_DEEP}"
        ) from None


def _canonical(document: Mapping[str, Any]) -> Any:
    """``document`` with dicts in one order. Objects are sorted when they are written."""
    lists = {name: list(map(_canonical_form, document[name])) for name in ("nodes", "instructions")}
    header = {name: part for name, part in document.items() if name not in lists}
    return {**_canonical_form(header), **lists}


def _canonical_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """A node or instruction. Only these contain argument names, which may look like a mark."""
    made: dict[str, Any] = {}
    for key, part in form.items():
        if key in ("kwargs", "shared", "over"):
            made[key] = {name: _canonical_value(value) for name, value in part.items()}
        elif key == "map" and isinstance(part, dict):
            made[key] = _canonical_form(part)
        else:
            made[key] = _canonical_value(part)
    return made


def _canonical_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonical_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _canonical_value(item) for name, item in value.items()}
    for tag in ("$dict", "$counter"):
        if tag in inner:
            return {tag: sorted(inner[tag], key=_canonical_text)}
    return inner


def _canonical_text(part: Any) -> str:
    return json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)
