"""Exceptions as values: their class, arguments and attributes, and back without code of theirs."""

from __future__ import annotations

from traceback import format_exception
from types import MemberDescriptorType
from typing import Any

from cascade.spec.errors import StoredError
from cascade.spec.wording import error_text, name_of


def parts_of(error: BaseException) -> tuple[list[Any], dict[str, Any], BaseException | None]:
    """What it takes to rebuild an exception: arguments, attributes (with notes), and its cause.

    Raises:
        TypeError: It cannot be rebuilt from them.
        Exception: The same, from a builtin class that checks its arguments.
    """
    base: Any = builtin_base(type(error))
    _, args, *state = base.__reduce__(error)
    made = rebuilt(type(error), list(args), {}, None)
    if repr(made.args) != repr(error.args):
        raise TypeError("its arguments are not what it is made of")
    return list(args), (state[0] or {}) if state else {}, error.__cause__


def rebuilt(
    kind: type[BaseException],
    args: list[Any],
    state: dict[str, Any],
    cause: BaseException | None,
) -> BaseException:
    """An exception of this class. Only its builtin base class makes it; ``kind`` runs no code."""
    base = builtin_base(kind)
    made: BaseException = base.__new__(kind, *args)
    base.__init__(made, *args)
    for name, value in state.items():
        member = getattr(base, name, None)
        if type(member) is MemberDescriptorType:  # as ImportError.name
            member.__set__(made, value)
        else:
            made.__dict__[name] = value
    if cause is not None:
        made.__cause__ = cause
    return made


def builtin_base(kind: type[BaseException]) -> Any:
    """The builtin class that defines the layout of an exception class."""
    base: Any = kind
    while base.__module__ != "builtins":
        base = base.__base__  # the one that defines the layout, and not the first of several
    return base


def stand_in_for(error: BaseException) -> list[str]:
    """What is kept of an exception that cannot be rebuilt: type, text and traceback."""
    return [name_of(type(error)), error_text(error), "".join(format_exception(error))]


def stand_in(parts: Any) -> StoredError:
    name, text, trace = parts
    if not (type(name) is type(text) is type(trace) is str):
        raise TypeError("its parts are not three texts")
    return StoredError(text, name, trace)
