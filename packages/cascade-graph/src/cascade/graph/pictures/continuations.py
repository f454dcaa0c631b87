"""Continuations of tasks, found in their code: tail calls, and loops of calls.

A task that returns ``agent.tail(…)`` continues as that task. A task that returns ``fib(n - 1)``, or
a lazy value or container made from it, calls that task. Tail calls are always found, calls only if
they lead to a loop: a drawing of all calls in the code would hide the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from types import CodeType, MethodType
from typing import Any, Final, Literal, TypeAlias

from cascade.spec.blueprint import TailCall
from cascade.spec.callables import function_of
from cascade.spec.code_names import (
    ATTRIBUTES,
    VARIABLES,
    first_of,
    is_tail,
    names_of,
    path_to,
    steps_of,
    value_at,
)
from cascade.spec.methods import BoundTask
from cascade.spec.task import Task

#: The code of a task makes a tail call of another task, or calls it.
Way: TypeAlias = Literal["tail", "calls"]
_AnyTask: TypeAlias = Task[..., Any]
#: Task → the tasks that its code continues as or calls.
_Named: TypeAlias = dict[_AnyTask, Mapping[_AnyTask, Way]]

#: Most tasks that are followed from one.
_MOST: Final = 16
#: Arguments of a TailCall that name something other than the same task.
_TARGETS: Final = frozenset({"target", "target_blueprint_id"})
#: Code inside of a function that belongs to its body.
_INNER: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})


def continuations(task: _AnyTask) -> Mapping[_AnyTask, Mapping[_AnyTask, Way]]:
    """``task`` and the tasks that it may continue as, each with the next tasks in its own code.

    Empty for a task without tail calls and loops. Found in the byte code, so the tasks that are
    chosen while it runs are not known.
    """
    by_tails: _Named = {}
    _follow(by_tails, task, _tails_of)
    every: _Named = {one: _named_by(one) for one in by_tails}
    for one in [*every]:
        for other in every[one]:
            _follow(every, other, _named_by)
    looping = _leading_to_loops(every)
    kept = {one: None for one in [*by_tails, *every] if one in by_tails or one in looping}
    found: _Named = {
        one: {
            other: way
            for other, way in every[one].items()
            if other in kept and (way == "tail" or other in looping)
        }
        for one in kept
    }
    return found if found[task] else {}


def _follow(
    found: _Named, task: _AnyTask, named_by: Callable[[_AnyTask], Mapping[_AnyTask, Way]]
) -> None:
    """Add ``task``, and the tasks that can be reached from it, to ``found``."""
    todo = [task]
    while todo and len(found) < _MOST:
        next_one = todo.pop(0)
        if next_one not in found:
            found[next_one] = named_by(next_one)
            todo += found[next_one]


def _leading_to_loops(named: _Named) -> Collection[_AnyTask]:
    """The tasks on a loop, and those from which a loop can be reached."""
    reached: dict[_AnyTask, set[_AnyTask]] = {}
    for task in named:
        seen: set[_AnyTask] = set()
        todo = [*named[task]]
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += named.get(one, ())
        reached[task] = seen
    loops = {task for task, seen in reached.items() if task in seen}
    return {task for task, seen in reached.items() if task in loops or seen & loops}


def _tails_of(task: _AnyTask) -> Mapping[_AnyTask, Way]:
    return {other: way for other, way in _named_by(task).items() if way == "tail"}


def _named_by(task: _AnyTask) -> Mapping[_AnyTask, Way]:
    """The tasks that the code of ``task`` makes tail calls of, calls or maps."""
    function = function_of(task.func)
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType:
        return {}
    names = {**names_of(function), **first_of(function, task.owner)}
    for name in code.co_cellvars:
        if name not in code.co_varnames:
            names.pop(name, None)
    found: dict[_AnyTask, Way] = {}
    for path in _paths(code):
        value = value_at(path, names)
        if value is TailCall:
            found[task] = "tail"
        elif is_tail(value):
            target = _task_of(value.__self__)
            if target is not None:
                found[target] = "tail"
        elif path[-1] != "TailCall":
            target = _called(value)
            if target is not None:
                found.setdefault(target, "calls")
    return found


def _called(value: Any) -> _AnyTask | None:
    """The task that a call of ``value`` calls."""
    if type(value) is MethodType and value.__name__ == "map":
        value = value.__self__
    return _task_of(value)


def _task_of(value: Any) -> _AnyTask | None:
    if type(value) is BoundTask:
        value = value.task
    return value if isinstance(value, Task) else None


@lru_cache(maxsize=1024)
def _paths(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """The names that the code of a function loads, each with its attributes."""
    elsewhere = any(isinstance(c, tuple) and _TARGETS.intersection(c) for c in code.co_consts)
    found = dict.fromkeys(_loaded(code))
    return tuple(path for path in found if path[-1] != "TailCall" or not elsewhere)


def _loaded(code: CodeType) -> Iterator[tuple[str, ...]]:
    steps = steps_of(code)
    for at, step in enumerate(steps):
        is_whole = at + 1 == len(steps) or steps[at + 1].opname not in ATTRIBUTES
        if is_whole and step.opname in ATTRIBUTES | VARIABLES:
            path = path_to(steps, at)
            if path:
                yield path
    for inner in code.co_consts:
        if type(inner) is CodeType and inner.co_name in _INNER:
            own = set(inner.co_varnames)
            yield from (path for path in _loaded(inner) if path[0] not in own)
