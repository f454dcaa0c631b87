"""The stub of one task: a class whose methods have the exact types of arguments."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cascade.spec.typing.annotations import (
    LAZY,
    Aliases,
    is_injected,
    items_of,
    plain,
    value_of,
    widened,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: The options of ``map``, and the items of the list that they give, for a task of ``{0}``.
_MAP_OPTIONS = (
    (
        "return_exceptions: _Literal[False] = ..., skipped: _NotGiven = ..., catch: None = ...",
        "{0}",
    ),
    ("return_exceptions: bool, skipped: _NotGiven = ..., catch: None = ...", "{0} | Exception"),
    ("return_exceptions: _Literal[False] = ..., skipped: _S, catch: None = ...", "{0} | _S"),
    (
        "return_exceptions: _Literal[False] = ..., skipped: _NotGiven = ..., "
        "catch: tuple[_Errors, _Task[..., _S]]",
        "{0} | _S",
    ),
    (
        "return_exceptions: bool = ..., skipped: _Any = ..., "
        "catch: tuple[_Errors, _Any] | None = ...",
        "_Any",
    ),
)


class Parameter(NamedTuple):
    """One parameter of a task's function."""

    name: str
    kind: str  # "/" positional only, "" both ways, "*" all other positional, "key", "**" all others
    annotation: ast.expr | None
    default: ast.expr | None
    injected: bool

    @property
    def optional(self) -> bool:
        return self.default is not None or self.injected


def task_stub(function: Function, aliases: Aliases, in_class: bool) -> list[str]:
    """The lines that declare the task of ``function``: a class, and the name of its instance."""
    parameters = [*_parameters(function, aliases)]
    kinds = {getattr(d, "id", "") for d in function.decorator_list}
    is_method = in_class and "staticmethod" not in kinds
    own = parameters[1:] if is_method and parameters[:1] else parameters
    value, kind = value_of(function.returns), f"_Task_{function.name}"
    generic = _type_parameters(function)
    arguments = _listed(own, aliases, widened, first="self")
    tail = _listed(own, aliases, widened, first="self", optional=True)
    lines = [
        f"class {kind}(_Task[..., {'_Any' if _is_generic(function, aliases) else value}]):",
        *_function_itself(function, parameters),
        f"    def __call__{generic}({arguments}) -> {LAZY}[{value}]: ...",
        f"    def tail{generic}({tail}) -> {value}: ...",
        *_map(own, aliases, value, generic),
    ]
    if is_method and "classmethod" not in kinds:
        lines += [
            "    @_overload",
            f"    def __get__(self, instance: None, owner: _Any = ...) -> _Task[..., {value}]: ...",
            "    @_overload",
            "    def __get__(self, instance: object, owner: _Any = ...) -> _Self: ...",
        ]
    return [*lines, f"{function.name}: {kind}"]


def _parameters(function: Function, aliases: Aliases) -> Iterator[Parameter]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*missing, *arguments.defaults]

    def made(argument: ast.arg, kind: str, default: ast.expr | None) -> Parameter:
        injected = is_injected(argument.annotation, aliases)
        return Parameter(argument.arg, kind, argument.annotation, default, injected)

    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        yield made(argument, "/" if index < len(arguments.posonlyargs) else "", default)
    if arguments.vararg is not None:
        yield made(arguments.vararg, "*", None)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield made(argument, "key", default)
    if arguments.kwarg is not None:
        yield made(arguments.kwarg, "**", None)


def _listed(
    parameters: list[Parameter],
    aliases: Aliases,
    typed: Callable[[ast.expr | None, Aliases], str],
    *,
    optional: bool = False,
    first: str = "",
) -> str:
    """The parameters of a method.

    Args:
        optional: Whether all may be left out.
        first: The parameter before them, ``self``, which is positional only.
    """
    parts = [first] if first else []
    last = max((i for i, p in enumerate(parameters) if p.kind == "/"), default=-1)
    if first and last < 0:
        parts.append("/")
    may_miss = False
    for index, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind == "key" and not any(p.kind in ("*", "key") for p in parameters[:index]):
            parts.append("*")
        stars = kind if kind in ("*", "**") else ""
        # After a parameter that may be left out, the others by position may be, too.
        may_miss = optional or parameter.optional or (may_miss and kind in ("/", ""))
        default = " = ..." if may_miss and not stars else ""
        shown = typed(parameter.annotation, aliases)
        parts.append(f"{stars}{parameter.name}: {shown}{default}")
        if index == last:
            parts.append("/")
    return ", ".join(parts)


def _function_itself(function: Function, parameters: list[Parameter]) -> list[str]:
    arguments = _listed(parameters, {}, lambda annotation, _: plain(annotation))
    returns = "_Any" if function.returns is None else ast.unparse(function.returns)
    word = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    generic = _type_parameters(function)
    return ["    @staticmethod", f"    {word} func{generic}({arguments}) -> {returns}: ..."]


def _map(parameters: list[Parameter], aliases: Aliases, value: str, generic: str) -> list[str]:
    columns = ""
    for parameter in parameters:
        if parameter.kind in ("", "key", "**"):
            stars = "**" if parameter.kind == "**" else ""
            optional = " = ..." if parameter.optional and not stars else ""
            column = items_of(parameter.annotation, aliases)
            columns += f", {stars}{parameter.name}: {column}{optional}"
    lines = []
    for options, items in _MAP_OPTIONS:
        given = f"self, /, *unnamed: _Never, {options}{columns}"
        result = f"_MappedLazyResult[{items.format(value)}]"
        lines += ["    @_overload", f"    def map{generic}({given}) -> {result}: ..."]
    return lines


def _type_parameters(function: Function) -> str:
    found = getattr(function, "type_params", [])  # from Python 3.12 on
    return f"[{', '.join(map(ast.unparse, found))}]" if found else ""


def _is_generic(function: Function, aliases: Aliases) -> bool:
    """Whether the value's type depends on the arguments."""
    if _type_parameters(function):
        return True
    names = {n.id for n in ast.walk(function.returns or ast.Constant(None)) if hasattr(n, "id")}
    return any(_is_type_variable(aliases[name]) for name in names & {*aliases})


def _is_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call)
