"""Refuses tasks whose code drops a call (no ``return``), or returns a task without calling it.

Python accepts ``other.tail(x)`` and ``other(x)`` as statements, and ``return other.tail`` and
``return other``. The first makes a tail call that is dropped, so that the task ends there; the
second makes a lazy value that nothing uses, so that it never runs; the others give a value that
looks like a result. The byte code shows all four, also where there is no source. Code is taken
apart once, and only if it mentions ``tail``, ``TailCall`` or a task.

A result in a local variable that the code never reads is dropped as well. A variable that is read
anywhere counts as used: which of its values a line reads is known only when it runs.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from types import CodeType, MethodType, ModuleType
from typing import Any, NamedTuple

from cascade.spec.blueprint import TailCall
from cascade.spec.callables import function_of
from cascade.spec.callsite import CallSite
from cascade.spec.checkpoints import checkpoint
from cascade.spec.code_names import (
    ATTRIBUTES,
    UNKNOWN,
    VARIABLES,
    first_of,
    is_tail,
    names_of,
    path_to,
    steps_of,
    value_at,
)
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.operation import Operation

_JUMPS = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
#: Functions that may read any local variable.
_READ_ALL = frozenset({"eval", "exec", "locals", "vars"})
#: The names of what makes tail calls.
_MAKERS = ("tail", "TailCall", "checkpoint")


class Dropped(NamedTuple):
    """A call whose result is dropped.

    Attributes:
        path: The names that lead to the called object, ``("flow", "step", "tail")``.
        line: Its line.
        variable: The local variable that gets the result and is never read; None without one.
    """

    path: tuple[str, ...]
    line: int
    variable: str | None

    def of(self, result: str) -> str:
        """What happens to the result, in a message that calls it so."""
        if self.variable is None:
            return f"drops {result}"
        return f"puts {result} into '{self.variable}', which is never read"


def dropped_tails(func: Any) -> tuple[Dropped, ...]:
    """The calls of something's ``tail``, of a ``TailCall`` and of ``checkpoint``, whose results are
    dropped.
    """
    code = getattr(function_of(func), "__code__", None)
    if type(code) is not CodeType or not {"tail", "TailCall"}.intersection(code.co_names):
        return ()
    return tuple([call for call in _dropped_in(code) if call.path[-1] in _MAKERS])


def refuse_dropped_calls(task: Any) -> None:
    """Refuse calls of tasks in the code of ``task`` whose lazy values are dropped.

    Call it when the names in that code have their values: at the first call of the task.

    Raises:
        DefinitionError: There is one.
    """
    function = function_of(task.func)
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType or not _mentions_task(function, code, task.owner):
        return
    names: dict[str, Any] | None = None
    for call in _dropped_in(code):
        if names is None:
            names = {**names_of(function), **first_of(function, task.owner)}
        found = value_at(call.path, names)
        if type(found) is MethodType and found.__name__ == "map":
            found = found.__self__
        if issubclass(type(found), Operation):
            place = CallSite(code.co_filename, call.line)
            written = f"{'.'.join(call.path)}(…)"
            raise DefinitionError(
                f"task '{task.name}' calls the task '{found.name}' at {place} and "
                f"{call.of('its lazy value')}, so that it would never run\n"
                f"    wrong:  {place.source or written}\n"
                f"    right:  done = {written}; return result.after(done)      # before result\n"
                f"    or:     return {written}      # continue as its value"
            )


def _mentions_task(function: Any, code: CodeType, owner: type | None) -> bool:
    """Whether a name in ``code`` is a task, or that of one in a module or the method's class."""
    if owner is not None:
        inside = {**vars(owner)}
        if any(issubclass(type(inside.get(name)), Operation) for name in code.co_names):
            return True
    space: Mapping[str, Any] = getattr(function, "__globals__", {})
    for cell in function.__closure__ or ():
        try:
            if issubclass(type(cell.cell_contents), Operation):
                return True
        except ValueError:  # it has no value yet
            continue
    for name in code.co_names:
        found = space.get(name)
        if issubclass(type(found), Operation):
            return True
        if type(found) is ModuleType:
            inside = vars(found)
            if any(issubclass(type(inside.get(n)), Operation) for n in code.co_names):
                return True
    return False


def refuse_dropped(task: Any, dropped: Sequence[Dropped]) -> tuple[Dropped, ...]:
    """Refuse the calls among ``dropped`` that are known to make tail calls.

    Returns:
        Those whose names have no value yet.

    Raises:
        DefinitionError: A task's tail call is dropped.
    """
    function = function_of(task.func)
    names = names_of(function)
    names.setdefault(function.__name__, task)  # not bound while it is declared
    names.update(first_of(function, task.owner))
    unknown = []
    for call in dropped:
        target = value_at(call.path, names)
        if target is UNKNOWN:
            unknown.append(call)
        elif target is TailCall or target is checkpoint or is_tail(target):
            place = CallSite(function.__code__.co_filename, call.line)
            written = f"{'.'.join(call.path)}(…)"
            raise DefinitionError(
                f"task '{task.name}' makes a tail call at {place} and {call.of('it')}, so that "
                f"nothing would follow\n    wrong:  {place.source or written}\n"
                f"    right:  return {written}"
            )
    return tuple(unknown)


def refuse_uncalled(result: Any, task: Any) -> None:
    """Refuse a task, or the ``tail`` of one, as the result of ``task``: its call is missing.

    Raises:
        ArgumentError: The result is one of them.
    """
    if issubclass(type(result), Operation):
        name, found = result.name, f"the task '{result.name}'"
    elif type(result) is MethodType and issubclass(type(result.__self__), Operation):
        owner: Any = result.__self__
        name = found = f"{owner.name}.{result.__name__}"
    else:
        return
    place = _place_of_return(task, result)
    at = f" at {place}" if place else ""
    wrong = (place.source if place else "") or f"return {name}"
    right = f"    right:  return {name}(…)"
    if name != found:
        right += f"      # its value\n    or:     return cs.literal({name})      # the task"
    raise ArgumentError(
        f"task '{task.name}' returned {found}{at} without calling it\n    wrong:  {wrong}\n{right}"
    )


def _place_of_return(task: Any, result: Any) -> CallSite | None:
    """The line that returns ``result`` by its name."""
    function = function_of(task.func)
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType:
        return None
    names, steps = names_of(function), steps_of(code)
    names.update(first_of(function, task.owner))
    for at, step in enumerate(steps):
        if step.opname == "RETURN_VALUE" and at:
            path = path_to(steps, at - 1)
            found = value_at(path, names) if path else UNKNOWN
            if found is not UNKNOWN and _same(found, result):
                line = _line(steps[at - 1])
                return None if line is None else CallSite(code.co_filename, line)
    return None


def _same(found: Any, result: Any) -> bool:
    """Whether both are the same task, or the same method of one, bound to whatever object."""
    if type(found) is MethodType and type(result) is MethodType:
        return found.__name__ == result.__name__ and _same(found.__self__, result.__self__)
    return getattr(found, "task", found) is getattr(result, "task", result)


@lru_cache(maxsize=1024)  # a function inside a function is made often, with the same code
def _dropped_in(code: CodeType) -> tuple[Dropped, ...]:
    """The calls whose results are dropped, by names."""
    steps = steps_of(code)
    if not _READ_ALL.isdisjoint(code.co_names):
        return tuple(_dropped(steps, frozenset()))
    written = {step.argval for step in steps if step.opname == "STORE_FAST"}
    read = {step.argval for step in steps if step.opname.startswith("LOAD_FAST")}
    return tuple(_dropped(steps, written - read))


def _dropped(steps: Sequence[dis.Instruction], unread: Set[str]) -> Iterator[Dropped]:
    """The same; ``unread`` are the variables that are never read."""
    #: Start of an expression → the latest instruction that loads an attribute or a name there.
    loaded: dict[Any, int] = {}
    for at, step in enumerate(steps):
        start = _start(step)
        if step.opname in ATTRIBUTES or step.opname in VARIABLES:
            loaded[start] = at
        elif step.opname.startswith("CALL") and start in loaded:
            user = _user_of(steps, at)
            if user is None:
                continue
            variable = user.argval if user.opname == "STORE_FAST" else None
            if user.opname != "POP_TOP" and variable not in unread:
                continue
            path, line = path_to(steps, loaded[start]), _line(step)
            if path and line is not None:
                yield Dropped(path, line, variable)


def _user_of(steps: Sequence[dis.Instruction], at: int) -> dis.Instruction | None:
    """The instruction that gets the result of the call at index ``at``."""
    at += 1
    while at < len(steps) and steps[at].opname in _JUMPS:
        target = steps[at].argval
        at = next((i for i, step in enumerate(steps) if step.offset >= target), len(steps))
    return steps[at] if at < len(steps) else None


def _start(step: dis.Instruction) -> Any:
    """The place where the instruction's expression begins; unique if that is unknown."""
    where = step.positions
    if where is None or where.col_offset is None:
        return step.offset, None
    return where.lineno, where.col_offset


def _line(step: dis.Instruction) -> int | None:
    return None if step.positions is None else step.positions.lineno
