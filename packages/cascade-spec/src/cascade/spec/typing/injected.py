"""Which parameters of a function are filled by ``Annotated[…, cs.inject(…)]``, for the plugin."""

from __future__ import annotations

import re

from mypy.nodes import FuncDef
from mypy.types import CallableType, RawExpressionType, Type, UnboundType


def injected_names(function: CallableType) -> set[str]:
    """The names of its parameters that need no argument.

    mypy drops what ``Annotated`` holds besides the type, so the annotation is read as written.
    An alias of such an annotation is not followed.
    """
    definition = function.definition
    if not isinstance(definition, FuncDef):
        return set()
    unanalyzed = definition.unanalyzed_type
    if not isinstance(unanalyzed, CallableType):
        return set()
    pairs = zip(unanalyzed.arg_names, unanalyzed.arg_types, strict=True)
    return {name for name, written in pairs if name is not None and _is_injected(written)}


def _is_injected(written: Type) -> bool:
    if not isinstance(written, UnboundType) or written.name.split(".")[-1] != "Annotated":
        return False
    return any(_is_inject(argument) for argument in written.args[1:])


def _is_inject(argument: Type) -> bool:
    # mypy keeps of ``inject(db)`` no more than a note: "use inject[...] instead of inject(...)".
    return (
        isinstance(argument, RawExpressionType)
        and argument.note is not None
        and re.search(r"\binject\(", argument.note) is not None
    )
