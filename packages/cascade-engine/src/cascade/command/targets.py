"""``MODULE:TARGET``: lookup of the target that a command line names."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cascade.command.failures import UsageError
from cascade.command.modules import load
from cascade.command.option_values import Reading, reading_like, reading_of
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.nearby import did_you_mean
from cascade.spec.params import MISSING, Param
from cascade.spec.resource import ResourceDefinition
from cascade.spec.task import Task
from cascade.spec.wording import short

#: Most targets of a module that a message names.
_NAMED = 10
_WHAT_IT_IS = "a lazy value, a task, or a function that takes nothing and returns a lazy value"


@dataclass(frozen=True)
class Target:
    """The target of a command.

    Attributes:
        name: The name as typed.
        file: The module's source.
        value: The object of this name in the module.
        resources: The resources in the module, for the engine.
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
        """The lazy value of the target.

        A task is called with a ``Param`` for each argument; a function returns the lazy value.

        Raises:
            UsageError: There is no such value.
            Exception: An error of the function.
        """
        value, said = self.value, "is"
        # The call site of the node that stands for a container.
        place = compile("", self.file, "exec")
        if inspect.isroutine(value) and not isinstance(value, Task):
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
    """The target named ``MODULE:TARGET``; ``TARGET`` may have dots.

    Raises:
        UsageError: There is no such target; the message lists the existing ones.
        Exception: An error of the module's own code.
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
    return Target(name, module.__file__ or place, value, resources_of(module))


def resources_of(module: ModuleType) -> tuple[ResourceDefinition[Any], ...]:
    """The resources in a module, imported ones too."""
    known = (v for v in vars(module).values() if isinstance(v, ResourceDefinition))
    return tuple(dict.fromkeys(known))


def _without_target(name: str) -> str:
    """The message for a name without a colon; more specific if it is a module's."""
    try:
        module = load(name)
    except UsageError:
        return f"{name!r} names no target; write MODULE:TARGET, such as flows.py:report"
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
    """Refuse a function that needs arguments, or is not a plain function."""
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{name} is a coroutine function; make it a task with @cs.task")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # a builtin without a signature
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
    """The Param for one argument; its default if no option can set it."""
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
            f"{name} needs '{parameter.name}', which no option can set: "
            f"{inspect.formatannotation(hint)}; name a lazy value: target = {task.name}(…)"
        )
    default = parameter.default if optional else MISSING
    param = Param(parameter.name, default, reading.convert)
    param._code, param._lasti = _written_at(task)
    return param


def _hints(task: Task[..., Any]) -> dict[str, Any]:
    """The annotations of a task's function that can be resolved."""
    function = inspect.unwrap(task.func)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a name imported only for type checkers
        return dict(getattr(function, "__annotations__", {}))


def _written_at(task: Task[..., Any]) -> tuple[Any, int]:
    """The call site of a call that is not in any source: the function itself."""
    code = getattr(inspect.unwrap(task.func), "__code__", None)
    return (code or _written_at.__code__), 0


def distinct_tasks(lazies: Iterable[LazyResult[Any]]) -> list[Task[..., Any] | LazyResult[Any]]:
    """The tasks of the nodes, each once; calls with policies of their own are kept apart."""
    found: dict[Any, Task[..., Any] | LazyResult[Any]] = {}
    for lazy in lazies:
        task = getattr(lazy, "factory", None) or lazy.task
        if isinstance(task, Task):
            steps = lazy._calls.needs_attempts
            found.setdefault((task, steps), lazy if steps and lazy.task is task else task)
    return list(found.values())
