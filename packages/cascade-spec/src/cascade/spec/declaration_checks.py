"""Checks of a function under ``@task``, of its options, and of the defaults of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from cascade.spec.blueprint import Literal
from cascade.spec.callables import called, own_name
from cascade.spec.checks import is_count, is_number
from cascade.spec.containers import ATOMS, holds_marks, is_container
from cascade.spec.errors import DefinitionError
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import LazyValue
from cascade.spec.nearby import did_you_mean
from cascade.spec.operation import Operation
from cascade.spec.parameters import Parameters
from cascade.spec.sent_resources import refusal
from cascade.spec.wording import short

_MODES = ("auto", "blocking", "inline", "process")
#: The types of defaults that must not reach a function as they are.
_MARKS = (LazyValue, Literal, Inject)


def unknown_option(name: str, known: Sequence[str]) -> DefinitionError:
    """The error for an option of ``@task`` that does not exist."""
    hint = did_you_mean(name, known) or f"; it has {', '.join(known)}"
    return DefinitionError(f"@cs.task has no option '{name}'{hint}")


def refuse_unfit(func: Any, name: Any) -> None:
    """Refuse an object that cannot be a task, and a name that is none.

    Raises:
        DefinitionError: It is one of these.
    """
    if isinstance(func, Operation):
        raise DefinitionError(f"{short(func)} is a task already; decorate a function once")
    if isinstance(func, property):
        raise DefinitionError(
            "@task takes a function, but got a property: decorators apply from the function up\n"
            "    wrong:  @cs.task above @property\n"
            "    right:  a task that takes the object: @cs.task def area(shape): …"
        )
    if not callable(func) or isinstance(func, LazyValue):
        raise DefinitionError(f"@task takes a function, but got {short(func)}")
    if name is not None and not isinstance(name, str):
        raise DefinitionError(f"task '{own_name(func)}': name must be a str, but is {short(name)}")
    decides = called(func)
    if inspect.isgeneratorfunction(decides) or inspect.isasyncgenfunction(decides):
        raise DefinitionError(
            f"'{own_name(func)}' is a generator function, and a task returns one value; return a "
            "list, or make one task per item with .map(), or declare a provider with @resource"
        )


def refuse_injections(name: str, mode: str, parameters: Parameters) -> None:
    """Refuse resources that no worker process can open, for a task whose calls are made there.

    Those that are injected by their name are refused before a run.

    Raises:
        DefinitionError: A parameter is given one.
    """
    if mode != "process":
        return
    for injected, wanted in parameters.injections.items():
        definition = wanted.definition
        fault = "" if definition is None else refusal(definition, lambda one: one.definition)
        if fault:
            raise DefinitionError(
                f"task '{name}' has mode='process', and its parameter '{injected}' is injected, "
                f"but {fault}"
            )


def supplied(parameters: Parameters) -> dict[str, Any]:
    """Parameter → default that a call hands over like an argument, where it is left out.

    These are resources to inject, and lazy values, also in a container: the function's own default
    would hand over the marker, or the lazy value itself.

    Raises:
        DefinitionError: Such a parameter is positional-only, or a default is a literal.
    """
    found = {name: d for name, d in parameters.defaults.items() if _is_supplied(d)}
    for name, default in found.items():
        if type(default) is Literal:
            raise DefinitionError(
                f"task '{parameters.owner}': the default of '{name}' is a cs.literal(…), which "
                "only arguments need; write the value itself"
            )
        if name not in parameters.keyword:
            raise DefinitionError(
                f"task '{parameters.owner}': the default of the positional-only parameter '{name}' "
                f"is {short(default)}, a lazy value, which is handed over by name; move the "
                "parameter behind the '/'"
            )
    return found


def _is_supplied(default: Any) -> bool:
    kind = type(default)
    if kind in ATOMS:
        return False
    if issubclass(kind, _MARKS):
        return True
    return is_container(kind) and holds_marks(default, _MARKS)


def check_options(name: str, is_async: bool, mode: Any, nout: Any, may_block: Any) -> None:
    """Refuse options of the task ``name`` that do not fit.

    Raises:
        DefinitionError: One does not.
    """
    if mode not in _MODES:
        *known, last = map(repr, _MODES)
        raise DefinitionError(
            f"task '{name}': mode must be {', '.join(known)} or {last}, but is {short(mode)}"
        )
    if is_async and mode != "auto":
        raise DefinitionError(
            f"task '{name}' is a coroutine function, which always runs in the event loop's "
            f"thread; mode={mode!r} is for plain functions"
        )
    if nout is not None and not is_count(nout):
        why = ", as there is nothing to unpack" if nout == 0 else ""
        raise DefinitionError(f"task '{name}': nout must be an int ≥ 1, but is {short(nout)}{why}")
    if not isinstance(may_block, bool) and not is_number(may_block, 0):
        raise DefinitionError(
            f"task '{name}': may_block must be True, False or seconds, but is {short(may_block)}"
        )
