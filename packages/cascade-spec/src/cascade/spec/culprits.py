"""Culprits: the exact part of a task, an argument or a result that cannot be sent, in an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType
from typing import Any, Final

from cascade.spec.errors import SendError
from cascade.spec.task_class import Task
from cascade.spec.wire import goes_by_name, problem_of
from cascade.spec.wording import error_text, short

#: Most levels of containers and objects that are searched.
_DEEPEST: Final = 12
#: Most parts of one container that are searched.
_MOST: Final = 10_000


def unsendable(what: str, value: Any, error: Exception) -> SendError:
    """The error for a value that cannot be sent.

    Args:
        what: What it is: ``argument 'config' of task 'score'``.
        value: The value.
        error: The error of sending it.
    """
    found = _culprit(value, what, _DEEPEST, set())
    place, part, why = (what, value, error) if found is None else found
    kind = type(part)
    is_builtin = kind.__module__ == "builtins"
    it = short(part) if is_builtin else f"a {kind.__module__}.{kind.__qualname__}"
    refused = SendError(
        f"{place} cannot be sent to another process: it is {it} ({error_text(why)})\n"
        "    right:  make it inside the task, from values that can be sent\n"
        "    or:     keep the task in this process: mode='blocking'",
        place,
    )
    refused.__cause__ = why
    return refused


def unsendable_call(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
) -> SendError:
    """The error for the arguments of a call, one of which cannot be sent."""
    names = task.parameters.positional
    named = [(names[i] if i < len(names) else f"*{i}", value) for i, value in enumerate(args)]
    for name, value in (*named, *kwargs.items()):
        problem = problem_of(value)
        if problem is not None:
            return unsendable(f"argument '{name}' of task '{task.name}'", value, problem)
    return unsendable(f"the arguments of task '{task.name}'", (args, kwargs), error)


def _culprit(
    value: Any, path: str, deepest: int, seen: set[int]
) -> tuple[str, Any, Exception] | None:
    """Path, part and error of the smallest part of ``value`` that cannot be sent; None if all
    can.
    """
    error = None if id(value) in seen else problem_of(value)
    if error is None:
        return None
    seen.add(id(value))
    if deepest:
        for step, part in _parts_of(value):
            found = _culprit(part, step.format(path), deepest - 1, seen)
            if found is not None:
                return found
    return path, value, error


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object, each with a format for its path."""
    kind = type(value)
    if issubclass(kind, dict):
        for at, (key, part) in enumerate(value.items()):
            if at == _MOST:
                return
            yield f"{{}}[{_brace(short(key))}]", part
            yield f"the key {_brace(short(key))} of {{}}", key
    elif issubclass(kind, (list, tuple)):
        names = getattr(kind, "_fields", None)
        for at, part in enumerate(value[:_MOST]):
            yield (f"{{}}[{at}]" if names is None else f"{{}}.{names[at]}"), part
    elif issubclass(kind, (set, frozenset)):
        for part in list(value)[:_MOST]:
            yield "an element of {}", part
    elif issubclass(kind, Task):
        yield "{}", value.func
    elif kind is FunctionType:
        yield from _captured(value)
    elif kind is MethodType:
        yield "the object of {}", value.__self__
    elif not issubclass(kind, type):
        if is_dataclass(value):
            for field in fields(value):
                if hasattr(value, field.name):
                    yield f"{{}}.{field.name}", getattr(value, field.name)
        for name, part in list(getattr(value, "__dict__", {}).items()):
            yield f"{{}}.{name}", part


def _captured(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function takes along by value."""
    if goes_by_name(function, function.__module__, function.__qualname__):
        return
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable '{name}' of {{}}", cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield f"the global variable '{name}' of {{}}", function.__globals__[name]
    for name, default in zip(code.co_varnames, function.__defaults__ or (), strict=False):
        yield f"the default of '{name}' of {{}}", default


def _brace(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
