"""Injected parameters: the marker, and its place in a signature.

A parameter is injected by its default, ``db=inject(database)``, or by its annotation,
``db: Annotated[Connection, inject(database)]``. ``with_injections`` turns the second form into the
first, so that no other module has to know both.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from cascade.spec.errors import DefinitionError
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.resource import ResourceDefinition

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
#: A text annotation that itself injects something.
_INJECTS = re.compile(r"\binject\(")
#: A text annotation that may stand for such an annotation: a name, as in ``Db = Annotated[…]``. All
#: others are left alone, because annotations meant for type checkers may fail or import much when
#: evaluated.
_MAY_INJECT = re.compile(r"[\w.]+|.*\bAnnotated\[.*", re.DOTALL)


class Inject:
    """The marker that ``inject`` returns: "hand me this resource here"."""

    __slots__ = ("definition", "resource_name")

    def __init__(self, resource_name: str, definition: ResourceDefinition[Any] | None) -> None:
        self.resource_name = resource_name
        self.definition = definition

    def __repr__(self) -> str:
        return f"inject({self.resource_name!r})"

    def __cascade_digest__(self) -> str:
        return self.resource_name


def with_injections(
    signature: inspect.Signature, func: Callable[..., Any], owner: str
) -> inspect.Signature:
    """``signature`` with the markers in annotations as the defaults of their parameters.

    Args:
        signature: The signature of ``func``.
        func: The function whose names the text annotations use.
        owner: The name of the function in errors.

    Raises:
        DefinitionError: A marker stands in a place without meaning.
    """
    found = {}
    for parameter in signature.parameters.values():
        marker = _annotated(parameter, func, owner)
        if marker is not None:
            found[parameter.name] = marker
        elif found:
            _refuse_before(parameter, found, owner)
    if not found:
        return signature
    return signature.replace(
        parameters=[
            p.replace(default=found[p.name]) if p.name in found else p
            for p in signature.parameters.values()
        ]
    )


def _annotated(parameter: inspect.Parameter, func: Callable[..., Any], owner: str) -> Inject | None:
    """The marker in a parameter's annotation, if there is one."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = _evaluated(annotation, parameter.name, func, owner)
    name = parameter.name
    if isinstance(annotation, Inject):
        raise DefinitionError(
            f"'{owner}': the annotation of '{name}' is {short(annotation)} itself; write {name}=cs."
            f"inject(…), or {name}: Annotated[<its type>, cs.inject(…)]"
        )
    if get_origin(annotation) is not Annotated:
        return None
    markers = [item for item in annotation.__metadata__ if isinstance(item, Inject)]
    if not markers:
        return None
    if len(markers) > 1:
        raise DefinitionError(
            f"'{owner}': the parameter '{name}' is annotated with several resources, "
            f"{', '.join(map(repr, markers))}; keep one"
        )
    if parameter.kind in _VARIADIC:
        raise DefinitionError(
            f"'{owner}': '{parameter}' takes any number of arguments and cannot be injected; give "
            "the resource a parameter of its own"
        )
    if parameter.default is not parameter.empty:
        raise DefinitionError(
            f"'{owner}': the parameter '{name}' is injected by its annotation, and has the default "
            f"{short(parameter.default)} as well; keep one of them"
        )
    return markers[0]


def _evaluated(text: str, name: str, func: Callable[..., Any], owner: str) -> Any:
    """The object that a text annotation stands for; None if it cannot be evaluated."""
    certain = _INJECTS.search(text)
    if not certain and not _MAY_INJECT.fullmatch(text):
        return None
    inner: Any = inspect.unwrap(func)  # inspect.signature() gave the parameters of this one
    while hasattr(inner, "func"):  # a partial
        inner = inspect.unwrap(inner.func)
    if not hasattr(inner, "__globals__"):  # a callable object
        inner = getattr(type(inner), "__call__", inner)  # noqa: B004  # to have it, not to ask
    try:
        return eval(text, getattr(inner, "__globals__", {}), _closure_of(inner))
    except Exception as error:
        if not certain:
            return None  # for checkers only
        raise DefinitionError(
            f"'{owner}': the annotation of '{name}' cannot be evaluated ({type(error).__name__}: "
            f"{error}); with 'from __future__ import annotations' all its names must be global, "
            f"also when the program runs; or write {name}=cs.inject(…)"
        ) from error


def _closure_of(func: Any) -> dict[str, Any]:
    """The variables of surrounding functions that ``func`` uses, if they are set already."""
    seen = {}
    names = getattr(getattr(func, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(func, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):
            seen[name] = cell.cell_contents
    return seen


def _refuse_before(parameter: inspect.Parameter, injected: dict[str, Inject], owner: str) -> None:
    """Refuse a parameter that positional arguments can reach only through injected ones."""
    by_position = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    if by_position and parameter.default is parameter.empty:
        raise DefinitionError(
            f"'{owner}': the injected parameter '{next(iter(injected))}' stands before "
            f"'{parameter.name}', which has no default; put injected parameters last, or behind "
            "a '*'"
        )
