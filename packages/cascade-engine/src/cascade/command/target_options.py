"""The options of a target: one per name that its ``Param`` nodes read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cascade.command.object_options import ObjectOption
from cascade.command.objects import ObjectReader
from cascade.command.option_values import Reading, reading_of
from cascade.command.options import Option
from cascade.graph.sources import sources_of
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Env, Param


def options_of(target: LazyResult[Any], taken: Iterable[str]) -> list[Option]:
    """An option for each name, in the order of the graph.

    Args:
        target: The target of the command.
        taken: Flags with another meaning: a parameter of that name becomes ``--param-…``.
    """
    params: dict[str, list[Param[Any]]] = {}
    for source in sources_of(target):
        if isinstance(source, Param):
            params.setdefault(source.param_name, []).append(source)
    flags = set(taken)
    options: list[Option] = []
    for name, group in params.items():
        flag = _flag(name, flags)
        flags |= {flag, f"--no-{flag[2:]}"}
        reading = _reading(group)
        made = ObjectOption if isinstance(reading.convert, ObjectReader) else Option
        options.append(made(f"option_{len(options)}", flag, tuple(group), reading))
    return options


def variables_of(target: LazyResult[Any]) -> Mapping[str, Env]:
    """The environment variables that the target reads."""
    return {env.param_name: env for env in sources_of(target) if isinstance(env, Env)}


def _flag(name: str, taken: set[str]) -> str:
    """``--start-date`` for ``start_date``; another flag if that is taken."""
    dashed = "-".join(name.replace("_", " ").split()) or "param"
    candidates = [f"--{dashed}", f"--param-{dashed}"]
    number = 2
    while candidates[0] in taken:
        candidates.pop(0)
        if not candidates:
            candidates.append(f"--param-{dashed}-{number}")
            number += 1
    return candidates[0]


def _reading(params: list[Param[Any]]) -> Reading:
    """How to read the option of these Params; as text if they disagree."""
    kinds = {param.type for param in params}
    if len(kinds) > 1:
        return Reading(str, "TEXT")
    (kind,) = kinds
    if not isinstance(kind, type):
        shown = getattr(kind, "shown", None) or _named_after(kind)
        return Reading(kind, shown, tuple(getattr(kind, "values", ())))
    return reading_of(kind) or Reading(kind, kind.__name__.upper())


def _named_after(function: Any) -> str:
    """``DATE`` for ``date.fromisoformat``, ``VALUE`` for functions whose name tells nothing."""
    owner = getattr(function, "__self__", None)
    return owner.__name__.upper() if isinstance(owner, type) else "VALUE"
