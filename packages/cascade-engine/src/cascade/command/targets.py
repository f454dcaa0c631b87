"""``MODULE:TARGET``: what the words on a command line stand for."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cascade.command.failures import UsageError
from cascade.command.modules import load
from cascade.command.readings import Reading, reading_like, reading_of
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.nearby import did_you_mean
from cascade.spec.params import MISSING, Param
from cascade.spec.resource import ResourceDefinition
from cascade.spec.task import Task
from cascade.spec.wording import short

#: How many targets of a module a message names.
_NAMED = 10
_WHAT_IT_IS = "a lazy value, a task, or a function that takes nothing and returns a lazy value"


@dataclass(frozen=True)
class Target:
    """What a command is to run or to show.

    Attributes:
        name: As it was typed.
        file: The module's source.
        value: What has this name in the module.
        resources: The resources that the module knows, for the engine.
    """

    name: str
    file: str
    value: Any
    resources: tuple[ResourceDefinition[Any], ...]

    @property
    def description(self) -> str:
        """The first paragraph of its docstring; empty if it has none."""
        found = self.value.task if isinstance(self.value, LazyResult) else self.value
        documented = found.func if isinstance(found, Task) else found
        if not inspect.isroutine(documented):
            return ""
        return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())

    def lazy(self) -> LazyResult[Any]:
        """The lazy value: the task called with a ``Param`` for each argument, or what the function
        returns.

        Raises:
            UsageError: There is no such value.
            Exception: What the function raises.
        """
        value, said = self.value, "is"
        # Where a container is said to be written, that stands for the lazy values in it.
        place = compile("", self.file, "exec")
        if inspect.isroutine(value):
            _check_callable(value, self.name)
            place = getattr(value, "__code__", place)
            value, said = value(), "returned"
        if isinstance(value, Task):
            return _called_with_params(value, self.name)
        value = as_lazy(value, place, -1)  # its first line
        if not isinstance(value, LazyResult):
            raise UsageError(f"{self.name} {said} {short(value)}, but a target is {_WHAT_IT_IS}")
        return value


def find(name: str) -> Target:
    """The target that ``MODULE:TARGET`` names; ``TARGET`` may have dots.

    Raises:
        UsageError: There is none; says what there is.
        Exception: What the module's own code raises.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(_without_target(name))
    module = load(place)
    value: Any = module
    for part in attribute.split("."):
        owner, value = value, getattr(value, part, MISSING)
        if value is MISSING:
            near = did_you_mean(part, (n for n in dir(owner) if not n.startswith("_")))
            raise UsageError(f"{place} has no {attribute!r}{near}{_listed(module)}")
    known = (v for v in vars(module).values() if isinstance(v, ResourceDefinition))
    return Target(name, module.__file__ or place, value, tuple(dict.fromkeys(known)))


def _without_target(name: str) -> str:
    """What to say of a name without a colon; it may be that of a module, which says more."""
    try:
        module = load(name)
    except UsageError:
        return f"{name!r} names no target; write MODULE:TARGET, like flows.py:report"
    return f"{name!r} is a module; write {name}:TARGET{_listed(module)}"


def _listed(module: ModuleType) -> str:
    """The targets of a module, for a message."""
    names = [name for name, value in vars(module).items() if _is_own_target(value, module)]
    if len(names) > _NAMED:
        names[_NAMED:] = [f"… {len(names) - _NAMED} more"]
    return f"; its targets: {', '.join(names)}" if names else ""


def _is_own_target(value: Any, module: ModuleType) -> bool:
    if isinstance(value, Task):
        return value.__module__ == module.__name__
    return isinstance(value, LazyResult)


def _check_callable(function: Any, name: str) -> None:
    """Refuse a function that cannot be called with nothing, or that is no plain one."""
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{name} is a coroutine function; make it a task with @cs.task")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # a builtin that hides its signature
        parameters = []
    needed = [p.name for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    needed += [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    if needed:
        raise UsageError(
            f"{name} is a function that takes {', '.join(needed)}, but a target takes nothing; "
            "make it a task with @cs.task, whose arguments become options"
        )


def _called_with_params(task: Task[..., Any], name: str) -> LazyResult[Any]:
    """A call of ``task`` with a Param for each of its arguments."""
    parameters = task.parameters
    hints = _hints(task)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in parameters.signature.parameters.values():
        if parameter.name in parameters.injections or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        value = _param(parameter, hints.get(parameter.name, parameter.empty), task, name)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            args.append(value)
        elif value is not parameter.default:
            kwargs[parameter.name] = value
    return task.make(tuple(args), kwargs, *_written_at(task))


def _param(parameter: inspect.Parameter, hint: Any, task: Task[..., Any], name: str) -> Any:
    """The Param for one argument; its default, if no option can give it."""
    optional = parameter.default is not parameter.empty
    reading: Reading | None
    if hint is parameter.empty or hint is Any:
        reading = reading_like(parameter.default if optional else None)
    else:
        reading = reading_of(hint)
    if reading is None:
        if optional:
            return parameter.default
        raise UsageError(
            f"{name} needs '{parameter.name}', which no option can give: "
            f"{inspect.formatannotation(hint)}; name a lazy value: target = {task.name}(…)"
        )
    default = parameter.default if optional else MISSING
    param = Param(parameter.name, default, reading.convert)
    param._code, param._lasti = _written_at(task)
    return param


def _hints(task: Task[..., Any]) -> dict[str, Any]:
    """The annotations of a task's function; as far as they can be resolved."""
    function = inspect.unwrap(task.func)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name that only checkers import
        return dict(getattr(function, "__annotations__", {}))


def _written_at(task: Task[..., Any]) -> tuple[Any, int]:
    """Where a call that nobody wrote is said to be: at the function."""
    code = getattr(inspect.unwrap(task.func), "__code__", None)
    return (code or _written_at.__code__), 0


def distinct_tasks(lazies: Iterable[LazyResult[Any]]) -> list[Task[..., Any] | LazyResult[Any]]:
    """The tasks that nodes call, each once; a call where its policies count."""
    found: dict[Any, Task[..., Any] | LazyResult[Any]] = {}
    for lazy in lazies:
        task = getattr(lazy, "factory", None) or lazy.task
        if isinstance(task, Task):
            steps = lazy._calls.needs_attempts
            found.setdefault((task, steps), lazy if steps and lazy.task is task else task)
    return list(found.values())
