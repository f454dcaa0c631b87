"""The names in a function's byte code, and the objects that they stand for, where that is known.

Works without the source. Nothing of the user's code is run: attributes are looked up only where
that calls no function.
"""

from __future__ import annotations

import dis
from collections.abc import Mapping, Sequence
from types import CodeType, MethodType
from typing import Any, Final

from cascade.spec.operation import Operation

#: Instructions that neither load nor use a name.
_SKIPPED: Final = frozenset(
    {"CACHE", "PRECALL", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "PUSH_NULL", "KW_NAMES"}
)
#: Instructions that load an attribute.
ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
#: Instructions that load a variable.
VARIABLES: Final = frozenset(
    {
        "LOAD_GLOBAL",
        "LOAD_DEREF",
        "LOAD_NAME",
        "LOAD_CLASSDEREF",
        "LOAD_FAST",
        "LOAD_FAST_BORROW",
    }
)
#: Instructions of Python 3.13 and later that stand for two, and these.
_PAIRS: Final = {
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST_BORROW", "LOAD_FAST_BORROW"),
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
#: The value of a name that is not known.
UNKNOWN: Final = object()


def names_of(function: Any) -> dict[str, Any]:
    """The values of the names that a function's code may use, as far as they are set."""
    code = function.__code__
    names: dict[str, Any] = dict(getattr(function, "__globals__", {}))
    for name in code.co_varnames:
        names.pop(name, None)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            names.pop(name, None)
    return names


def first_of(function: Any, owner: type | None) -> dict[str, Any]:
    """The first parameter of a method, with its class in place of the object."""
    code = function.__code__
    return {} if owner is None or not code.co_argcount else {code.co_varnames[0]: owner}


def value_at(path: Sequence[str], names: Mapping[str, Any]) -> Any:
    """The object at ``path``; only attributes of modules, classes and tasks are looked up."""
    found = names.get(path[0], UNKNOWN)
    for name in path[1:]:
        if found is UNKNOWN:
            return UNKNOWN
        if not isinstance(found, (type, Operation)) and type(found).__name__ != "module":
            return None  # looking up an attribute of another object might run a user's code
        found = getattr(found, name, UNKNOWN)
    return found


def is_tail(found: Any) -> bool:
    """Whether ``found`` is the ``tail`` of a task."""
    return (
        type(found) is MethodType
        and found.__name__ == "tail"
        and issubclass(type(found.__self__), Operation)
    )


def steps_of(code: CodeType) -> list[dis.Instruction]:
    """The instructions that load or use something, one for each name."""
    steps: list[dis.Instruction] = []
    for step in dis.get_instructions(code):
        if step.opname in _PAIRS:
            names = zip(_PAIRS[step.opname], step.argval, strict=True)
            steps += [step._replace(opname=opname, argval=name) for opname, name in names]
        elif step.opname not in _SKIPPED:
            steps.append(step)
    return steps


def path_to(steps: Sequence[dis.Instruction], at: int) -> tuple[str, ...]:
    """The names in the expression that ends at index ``at``; empty for other expressions."""
    names: list[str] = []
    while at >= 0 and steps[at].opname in ATTRIBUTES:
        names.insert(0, steps[at].argval)
        at -= 1
    if at < 0 or steps[at].opname not in VARIABLES:
        return ()
    return (steps[at].argval, *names)
