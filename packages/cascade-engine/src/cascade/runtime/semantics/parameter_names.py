"""Names of the parameters that a run of a target may read, found before it starts (M22).

These are the names of every ``Param`` that stands in the target, in a route, in a map or in a
literal, or that a function of one of its tasks can name, as M21 defines that. A ``Param`` that a
task makes while it runs is unknown before; its name must be declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cascade.graph.sources import everything_below
from cascade.runtime.semantics.pins import hidden_in, literals_in
from cascade.runtime.semantics.reach import named_by, within
from cascade.spec.errors import ParameterError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import LITERALS
from cascade.spec.nearby import did_you_mean
from cascade.spec.operation import Operation
from cascade.spec.params import Param
from cascade.spec.wording import short

#: Most names that a message lists.
_LISTED = 20


def parameter_names(target: LazyResult[Any]) -> Iterator[str]:
    """The names of the parameters that a run of ``target`` may read; a name may come repeatedly.

    First come those of the target itself, then those that need a search of its tasks' functions.
    """
    met: set[LazyResult[Any]] = set()
    seen: dict[int, Any] = {}
    tasks: set[Operation] = set()
    todo = [target]
    while todo:
        new: dict[Operation, None] = {}
        hidden: list[Any] = []
        for root in todo:
            for lazy in everything_below(root, met):
                if isinstance(lazy, Param):
                    yield lazy.param_name
                if lazy.task not in tasks:
                    tasks.add(lazy.task)
                    new[lazy.task] = None
                hidden += hidden_in(lazy)
                if lazy._special & LITERALS:
                    hidden += literals_in(lazy)
        todo = [lazy for task in new for lazy in named_by(task, seen)]
        todo += within(hidden, seen)


def check_parameter_names(
    params: Mapping[str, Any], target: Any, declared: Iterable[str] = ()
) -> None:
    """Refuse values for parameters that no run of ``target`` reads.

    Cost: none without ``params``; otherwise a walk over the target, until all names are found.

    Args:
        params: The given values.
        target: A lazy value, or a plain one, which has no parameters.
        declared: Names that are valid anyhow.

    Raises:
        ParameterError: A name is unknown.
    """
    unknown = dict.fromkeys(params)
    for name in declared:
        unknown.pop(name, None)
    if not unknown:
        return
    known = dict.fromkeys(declared)
    if isinstance(target, LazyResult):
        for name in parameter_names(target):
            known[name] = None
            if name in unknown:
                del unknown[name]
                if not unknown:
                    return
    raise _unknown(next(iter(unknown)), sorted(known), target)


def _unknown(name: Any, known: list[str], target: Any) -> ParameterError:
    whose = f"the target '{target.name}'" if isinstance(target, LazyResult) else "a plain value"
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    listed = ", ".join(map(short, known[:_LISTED]))
    if len(known) > _LISTED:
        listed += f", and {len(known) - _LISTED} more"
    text = f"{whose} has no parameter {short(name)}{hint}; "
    text += f"it has {listed}" if known else "it has none"
    if isinstance(name, str) and not hint:
        text += (
            "\n    if a task makes and returns this Param during the run, declare it:  "
            f"late_params=[{short(name)}]"
        )
    return ParameterError(text, name)
