"""Tail calls in the source of a task, and which of them can become assignments.

The analysis finds returns of ``task.tail(…)`` and of ``TailCall(…)`` with displays of arguments,
also within ``x if c else y``. Names in them are looked up as the function would, and their meanings
are noted, so that the entry of the fused loop can check whether they still hold.
"""

from __future__ import annotations

import ast
import builtins
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, Final

from cascade.runtime.loops.ast_walk import nodes
from cascade.runtime.loops.scopes import all_names, outer_names, own_names, scoped
from cascade.runtime.loops.verified_source import (
    FunctionNode,
    Unfit,
    builtins_of,
    refuse,
    source_of,
)
from cascade.spec.blueprint import TailCall
from cascade.spec.errors import ArgumentError
from cascade.spec.task import Task

#: Functions that inspect variables, which differ in a fused body, and names of such functions.
_READERS = (builtins.locals, builtins.vars, builtins.dir, builtins.eval, builtins.exec)
_FRAME_READERS = frozenset({*(reader.__name__ for reader in _READERS), "super", "f_locals"})
_UNKNOWN: Final = object()
#: Its exit may fail: in the task that was left, and with the arguments of the step that was made.
_LEAVES_WITH: Final = "a 'with' is left after it"


@dataclass(frozen=True, slots=True)
class Tail:
    """One tail call of a body.

    Attributes:
        node: The call.
        target: The task that it continues as.
        given: Parameter → expression, in the order of evaluation.
        names: Dotted names in it that decide its meaning, with the meaning of each of their parts.
        obstacle: The reason why it cannot be an assignment; None if it can.
    """

    node: ast.Call
    target: Task[..., Any]
    given: Sequence[tuple[str, ast.expr]]
    names: Mapping[tuple[str, ...], Sequence[Any]]
    obstacle: Unfit | None = None


@dataclass(slots=True)
class Body:
    """A task's function, taken apart.

    Attributes:
        node: Its proven syntax tree.
        inner: All nodes of its body.
        names: All its variables, without those of comprehensions; the parameters first.
        outer: Names in it, or in an inner function, that may be variables of neither.
        imported: The imported names that it was compiled with.
        tails: Its tail calls.
        looked_up: Dotted name → its meaning, for tasks and TailCall.
    """

    task: Task[..., Any]
    func: FunctionType
    node: FunctionNode
    inner: Sequence[ast.AST]
    names: tuple[str, ...]
    outer: frozenset[str]
    imported: tuple[str, ...]
    tails: dict[ast.expr, Tail] = field(default_factory=dict)
    looked_up: dict[tuple[str, ...], Any] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.names[: len(self.task.parameters.signature.parameters)]


def body_of(task: Task[..., Any]) -> Body:
    """Take a task apart.

    Raises:
        Unfit: Its function, or one of its tail calls, cannot become part of a loop.
    """
    refuse(task)
    node, inner, imported = source_of(task.func)
    assert isinstance(task.func, FunctionType)
    func = task.func
    if hasattr(func, "__wrapped__") or hasattr(func, "__signature__"):
        raise Unfit("a decorator has put another function in its place", node.lineno)
    code = func.__code__
    if any(name.startswith("__cs_") for name in all_names(code)):
        raise Unfit("it has names that begin with '__cs_', which fused code needs for itself")
    own = own_names(scoped(node, inner, code, code))
    shared = [name for name in code.co_cellvars if name in own]
    if shared:
        raise Unfit(
            f"an inner function or comprehension uses its variable '{shared[0]}'",
            _line_of(node, shared[0]),
        )
    scope = scope_of(func)
    if "__class__" in code.co_freevars:
        raise Unfit("it uses '__class__', which sees the loop", node.lineno)
    for name in sorted((*code.co_names, *code.co_freevars)):
        if name in _FRAME_READERS or _reads_frames(scope.get(name)):
            raise Unfit(f"it uses '{name}', which sees the loop", _line_of(node, name))
    names = tuple(name for name in code.co_varnames if name in own)
    body = Body(task, func, node, inner, names, outer_names(inner, code), imported)
    for value, obstacle in _returned(node.body, None):
        _note_tail(body, scope, value, obstacle)
    if not body.tails:
        raise Unfit("it returns no tail call that names its task", node.lineno)
    return body


def scope_of(func: FunctionType) -> Mapping[str, Any]:
    """The meanings of names in ``func`` that are not its own variables."""
    closed: dict[str, Any] = {}
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # not bound yet
            closed[name] = _UNKNOWN
    return ChainMap(closed, func.__globals__, builtins_of(func))


def _reads_frames(value: Any) -> bool:
    """Whether it is such a function, under any name."""
    return any(value is reader for reader in _READERS)


def looks_up(func: FunctionType, path: tuple[str, ...]) -> Any:
    """The object that the dotted name ``path`` means in ``func`` now."""
    return _value(scope_of(func), path)


def _returned(
    body: Sequence[ast.stmt], obstacle: str | None, caught: bool = False
) -> Iterator[tuple[ast.expr, str | None]]:
    """The values of return statements, and the obstacles to replacing each by a ``continue``.

    Args:
        body: The statements.
        obstacle: An obstacle that applies to all of them.
        caught: Whether the function may go on after an error in them.
    """
    for statement in body:
        if isinstance(statement, ast.Return):
            if statement.value is not None:
                yield from ((value, obstacle) for value in alternatives(statement.value))
        elif isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            yield from _returned(statement.body, "it is in an inner loop")
            yield from _returned(statement.orelse, obstacle, caught)
        elif isinstance(statement, (ast.Try, ast.TryStar)):
            within = "a 'finally' follows it" if statement.finalbody else obstacle
            yield from _returned(statement.body, within, caught or bool(statement.handlers))
            for part in (*(h.body for h in statement.handlers), statement.orelse):
                yield from _returned(part, within, caught)
            yield from _returned(statement.finalbody, "it is in a 'finally'")
        elif isinstance(statement, ast.Match):
            for case in statement.cases:
                yield from _returned(case.body, obstacle, caught)
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            stops = _exit_of(statement, caught) if obstacle in (None, _LEAVES_WITH) else obstacle
            yield from _returned(statement.body, stops, True)
        elif isinstance(statement, ast.If):
            yield from _returned(statement.body, obstacle, caught)
            yield from _returned(statement.orelse, obstacle, caught)


def _exit_of(statement: ast.With | ast.AsyncWith, caught: bool) -> str:
    """The obstacle for a tail call inside a ``with``."""
    if isinstance(statement, ast.AsyncWith):
        return "an 'async with' is left after it"  # its exit may await, and swallow a cancel
    if caught or len(statement.items) > 1:
        return "a 'with' is left after it, whose failure may be caught"
    return _LEAVES_WITH


def alternatives(value: ast.expr) -> Iterator[ast.expr]:
    """The possible values of ``value``, by the conditions in it."""
    if isinstance(value, ast.IfExp):
        yield from alternatives(value.body)
        yield from alternatives(value.orelse)
    else:
        yield value


def _note_tail(body: Body, scope: Mapping[str, Any], value: ast.expr, obstacle: str | None) -> None:
    """Add ``value`` to the tails of ``body``, if it is a tail call."""
    if not isinstance(value, ast.Call):
        return
    path = _path(value.func)
    if path is None or path[0] in body.names:
        return
    made: tuple[Task[..., Any], Sequence[ast.expr], Sequence[ast.keyword]] | None
    if path[-1] == "tail" and isinstance(target := _value(scope, path[:-1]), Task):
        named = [path[:-1]]
        made = target, value.args, value.keywords
    elif _value(scope, path) is TailCall:
        named = [path]
        made = _made_by_hand(body, scope, value, named)
        if made is None:
            return
    else:
        return
    if obstacle == _LEAVES_WITH and made[0] is body.task:
        obstacle = None  # no code sees the arguments any more
    given = _bound(*made)
    stops: Unfit | None = None
    if obstacle is not None:
        stops = Unfit(f"{obstacle}, so that a tail call cannot be a 'continue'", value.lineno)
    elif isinstance(given, str):
        stops = Unfit(f"the arguments of a tail call {given}", value.lineno)
    body.looked_up |= {name: _value(scope, name) for name in named}
    parts = {name: [_value(scope, name[: n + 1]) for n in range(len(name))] for name in named}
    body.tails[value] = Tail(value, made[0], () if isinstance(given, str) else given, parts, stops)


def _made_by_hand(
    body: Body, scope: Mapping[str, Any], call: ast.Call, named: list[tuple[str, ...]]
) -> tuple[Task[..., Any], Sequence[ast.expr], Sequence[ast.keyword]] | None:
    """Target and arguments of ``TailCall(…)``; None if its target is known only at run time.

    The name of the target is added to ``named``.
    """
    names = ("args", "kwargs", "target_blueprint_id", "target")
    given: dict[str | None, ast.expr] = dict(zip(names, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords}
    target: Any = body.task
    if not _is_none(given.get("target_blueprint_id")) or None in given:
        return None
    if not _is_none(given.get("target")):
        path = _path(given["target"])
        target = _UNKNOWN if path is None or path[0] in body.names else _value(scope, path)
        if path is None or not isinstance(target, Task):
            return None
        named.append(path)
    args, kwargs = given.get("args"), given.get("kwargs")
    unseen = ast.Starred(call)  # stands for arguments that are not spelled out
    positional: Sequence[ast.expr] = [] if args is None else [unseen]
    if isinstance(args, (ast.List, ast.Tuple)):
        positional = args.elts
    keywords = [] if _is_none(kwargs) else [ast.keyword(None, call)]
    if isinstance(kwargs, ast.Dict) and not _has_repeats(kwargs):
        keywords = [
            ast.keyword(str(k.value) if isinstance(k, ast.Constant) else None, v)
            for k, v in zip(kwargs.keys, kwargs.values, strict=True)
        ]
    return target, positional, keywords


def _bound(
    target: Task[..., Any], args: Sequence[ast.expr], keywords: Sequence[ast.keyword]
) -> Sequence[tuple[str, ast.expr]] | str:
    """Parameter → expression, as written; otherwise the fault."""
    if any(isinstance(arg, ast.Starred) for arg in args):
        return "are not written out one by one"
    if not all(isinstance(keyword.arg, str) for keyword in keywords):
        return "are not written out one by one"
    named = {str(keyword.arg): keyword.value for keyword in keywords}
    try:
        target.parameters.bind_some(args, named)
    except ArgumentError as error:
        return f"do not fit: {error}"
    given = [*zip(target.parameters.positional, args, strict=False), *named.items()]
    return sorted(given, key=lambda one: (one[1].lineno, one[1].col_offset))


def _path(expression: ast.expr) -> tuple[str, ...] | None:
    """A dotted name, in parts."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    if not isinstance(expression, ast.Name):
        return None
    return (expression.id, *reversed(parts))


def _value(scope: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The object that a dotted name means, if finding it runs no user code."""
    value = scope.get(path[0], _UNKNOWN) if path else _UNKNOWN
    for name in path[1:]:
        if not isinstance(value, ModuleType):
            return _UNKNOWN
        value = getattr(value, name, _UNKNOWN)
    return value


def _is_none(expression: ast.expr | None) -> bool:
    return expression is None or (isinstance(expression, ast.Constant) and expression.value is None)


def _has_repeats(display: ast.Dict) -> bool:
    keys = [key.value for key in display.keys if isinstance(key, ast.Constant)]
    return len(set(keys)) < len(keys)


def _line_of(node: FunctionNode, name: str) -> int:
    """The line where a name occurs first."""
    lines = [n.lineno for n in nodes(node) if isinstance(n, ast.Name) and n.id == name]
    return min(lines, default=node.lineno)
