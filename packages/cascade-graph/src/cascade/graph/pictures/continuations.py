"""The tasks that a task continues as by tail calls, as its code names them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any

from cascade.spec.blueprint import TailCall
from cascade.spec.callables import function_of
from cascade.spec.code_names import (
    ATTRIBUTES,
    first_of,
    is_tail,
    names_of,
    path_to,
    steps_of,
    value_at,
)
from cascade.spec.task import Task

#: Most tasks that are followed from one.
_MOST = 16
#: Arguments of a TailCall that name something other than the same task.
_TARGETS = frozenset({"target", "target_blueprint_id"})


def continuations(task: Any) -> Mapping[Task[..., Any], tuple[Task[..., Any], ...]]:
    """``task`` and the tasks that it may continue as, each with the next tasks in its own code.

    Empty for a task without tail calls. Found in the byte code, so the tasks that are chosen while
    it runs are not known.
    """
    found: dict[Task[..., Any], tuple[Task[..., Any], ...]] = {}
    todo = [task]
    while todo and len(found) < _MOST:
        next_one = todo.pop(0)
        if next_one not in found:
            found[next_one] = _named_by(next_one)
            todo += found[next_one]
    if not found[task]:
        return {}
    return {
        one: tuple(other for other in others if other in found) for one, others in found.items()
    }


def _named_by(task: Task[..., Any]) -> tuple[Task[..., Any], ...]:
    """The tasks whose ``tail`` the code of ``task`` names, and itself if it makes a TailCall."""
    function = function_of(task.func)
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType:
        return ()
    paths = _paths(code)
    if not paths:
        return ()
    names = {**names_of(function), **first_of(function, task.owner)}
    found: dict[Task[..., Any], None] = {}
    for path in paths:
        value = value_at(path, names)
        if value is TailCall:
            found[task] = None
        elif is_tail(value):
            target = getattr(value.__self__, "task", value.__self__)
            if isinstance(target, Task):
                found[target] = None
    return tuple(found)


@lru_cache(maxsize=1024)
def _paths(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """The names that lead to a ``tail``, or to ``TailCall``."""
    if not {"tail", "TailCall"}.intersection(code.co_names):
        return ()
    steps = steps_of(code)
    elsewhere = any(isinstance(c, tuple) and _TARGETS.intersection(c) for c in code.co_consts)
    found: dict[tuple[str, ...], None] = {}
    for at, step in enumerate(steps):
        if (step.argval == "tail" and step.opname in ATTRIBUTES) or (
            step.argval == "TailCall" and not elsewhere
        ):
            found[path_to(steps, at)] = None
    found.pop((), None)
    return tuple(found)
