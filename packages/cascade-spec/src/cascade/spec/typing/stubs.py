"""Stubs of modules with tasks, for checkers that have no plugins: pyright and ty.

A stub describes a whole module, so the source is copied without the bodies of its functions; each
task becomes a class with exact methods (``task_stubs``). Nothing is imported or executed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from copy import copy
from textwrap import indent

from cascade.spec.typing.annotations import name_of, plain
from cascade.spec.typing.task_stubs import Function, task_stub

#: The statements that declare names.
_DECLARING: tuple[type[ast.stmt], ...] = (
    *(ast.AnnAssign, ast.Assign, ast.ClassDef, ast.If, ast.Import, ast.ImportFrom, ast.Try),
    *filter(None, [getattr(ast, "TypeAlias", None)]),  # from Python 3.12 on
)

_HEADER = """\
# type: ignore
# Written by `cascade stubs`; do not edit. The line above says: what stubs declare is not checked.
from collections.abc import Iterable as _Iterable
from typing import Any as _Any, Literal as _Literal, Never as _Never, Self as _Self
from typing import TypeAlias as _TypeAlias, TypeVar as _TypeVar, overload as _overload

from cascade.spec.fallbacks import Errors as _Errors, NotGiven as _NotGiven
from cascade.spec.lazy_types import LazyResult as _LazyResult
from cascade.spec.lazy_types import MappedLazyResult as _MappedLazyResult
from cascade.spec.task import Task as _Task

_S = _TypeVar("_S")
_W = _TypeVar("_W")
_T = _TypeVar("_T")
_Items: _TypeAlias = _Iterable[_W] | _LazyResult[_Iterable[_T]] | _T
"""


def stub_of(source: str, filename: str = "<source>") -> str:
    """The text of the stub for a module.

    Raises:
        SyntaxError: ``source`` is no Python.
    """
    tree = ast.parse(source, filename)
    module = _Module(tree)
    return "\n".join([_HEADER, *module.lines(tree.body, None), ""])


def tasks_in(source: str, filename: str = "<source>") -> int:
    """The number of tasks that a module declares with ``@task``.

    Raises:
        SyntaxError: ``source`` is no Python.
    """
    tree = ast.parse(source, filename)
    bodies = [tree.body, *(c.body for c in ast.walk(tree) if isinstance(c, ast.ClassDef))]
    return sum(len(task_functions(tree, body)) for body in bodies)


def task_functions(
    tree: ast.Module, body: list[ast.stmt]
) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions in ``body``, a part of ``tree``, that are tasks."""
    module, functions = _Module(tree), (ast.FunctionDef, ast.AsyncFunctionDef)
    return [s for s in body if isinstance(s, functions) and module.is_task(s)]


class _Module:
    """A module that is being described: the names by which it knows ``cs.task``."""

    def __init__(self, tree: ast.Module) -> None:
        self.tasks = {"task"}
        self.facades = {"cascade"}
        self.aliases: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [n for n in node.names if n.name == "cascade"]
                self.facades.update(n.asname or n.name for n in names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascade"):
                self.tasks.update(n.asname or n.name for n in node.names if n.name == "task")
        for statement in tree.body:
            self._note_alias(statement)

    def _note_alias(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        elif sys.version_info >= (3, 12) and isinstance(statement, ast.TypeAlias):
            target, value = statement.name, statement.value
        else:
            return
        if isinstance(target, ast.Name):
            self.aliases[target.id] = value

    def is_task(self, function: Function) -> bool:
        return any(map(self._makes_task, function.decorator_list))

    def _makes_task(self, decorator: ast.expr) -> bool:
        made = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(made, ast.Attribute) and isinstance(made.value, ast.Name):
            return made.attr == "task" and made.value.id in self.facades
        return isinstance(made, ast.Name) and made.id in self.tasks

    def lines(self, body: Sequence[ast.stmt], owner: str | None) -> list[str]:
        """The declarations in a module, or in the body of the class ``owner``."""
        found: list[str] = []
        known: set[str] = set()
        last: Function | None = None
        for statement in body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                overloaded = last is not None and last.name == statement.name and _is_overload(last)
                if overloaded and not _is_overload(statement):
                    continue  # the implementation
                last = statement
                found += self._function(statement, owner)
            elif isinstance(statement, _DECLARING):
                found += self._other(statement, owner)
                known.update(_names_set_in(statement))
            else:  # a loop, a with statement
                names = [name for name in _names_set_in(statement) if name not in known]
                found += [f"{name}: _Any" for name in names]
                known.update(names)
        return found

    def _function(self, function: Function, owner: str | None) -> list[str]:
        if self.is_task(function):
            return task_stub(function, self.aliases, owner is not None)
        head = copy(function)
        head.body = [ast.Expr(ast.Constant(...))]
        text = ast.unparse(head).rsplit("\n", 1)[0]
        if isinstance(function, ast.AsyncFunctionDef) and _yields(function):
            text = text.replace("async def", "def", 1)
        return [*text.split("\n")[:-1], f"{text.split(chr(10))[-1]} ..."]

    def _other(self, statement: ast.stmt, owner: str | None) -> list[str]:
        if isinstance(statement, ast.ClassDef):
            return self._class(statement)
        if isinstance(statement, ast.ImportFrom):
            return _exported(statement)
        if isinstance(statement, ast.If):
            return self._condition(statement, owner)
        if isinstance(statement, ast.Try):
            return self.lines(statement.body, owner)
        return ast.unparse(statement).split("\n")

    def _condition(self, statement: ast.If, owner: str | None) -> list[str]:
        test = ast.unparse(statement.test)
        if "__name__" in test:
            return []
        lines = [
            f"if {test}:",
            indent("\n".join(self.lines(statement.body, owner) or ["..."]), "    "),
        ]
        if statement.orelse:
            others = self.lines(statement.orelse, owner) or ["..."]
            lines += ["else:", indent("\n".join(others), "    ")]
        return lines

    def _class(self, found: ast.ClassDef) -> list[str]:
        head = copy(found)
        head.body = [ast.Expr(ast.Constant(...))]
        first = ast.unparse(head).rsplit("\n", 1)[0]
        declared = {n for statement in found.body for n in _names_set_in(statement)}
        own = [f"{n}: {kind}" for n, kind in _attributes(found).items() if n not in declared]
        body = [*own, *self.lines(found.body, found.name)] or ["..."]
        return [first, indent("\n".join(body), "    ")]


def _exported(statement: ast.ImportFrom) -> list[str]:
    """``from a import b as b``: what the module imports may be imported from it, as before."""
    if statement.module == "__future__":
        return []
    names = [
        alias.name if alias.name == "*" else f"{alias.name} as {alias.asname or alias.name}"
        for alias in statement.names
    ]
    return [f"from {'.' * statement.level}{statement.module or ''} import {', '.join(names)}"]


def _is_overload(function: Function) -> bool:
    return any(name_of(decorator) == "overload" for decorator in function.decorator_list)


def _yields(function: Function) -> bool:
    """Whether it is a generator: a stub has no body by which a checker could tell."""
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _walk_inside(function))


def _walk_inside(node: ast.AST) -> Iterable[ast.AST]:
    """The nodes inside, without those of inner functions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _walk_inside(child)


def _names_set_in(statement: ast.stmt) -> list[str]:
    names = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and _is_set(n)]
    return list(dict.fromkeys(names))


def _is_set(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _attributes(found: ast.ClassDef) -> dict[str, str]:
    """The attributes that methods set: ``self.x = …``, with their types as far as written."""
    kinds: dict[str, str] = {}
    for function in found.body:
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        known = {a.arg: plain(a.annotation) for a in function.args.args if a.annotation}
        for node in ast.walk(function):
            if isinstance(node, ast.AnnAssign) and _is_own(node.target):
                kinds[node.target.attr] = ast.unparse(node.annotation)  # type: ignore[union-attr]
            elif isinstance(node, ast.Assign):
                for target in filter(_is_own, node.targets):
                    value = node.value.id if isinstance(node.value, ast.Name) else ""
                    kinds.setdefault(target.attr, known.get(value, "_Any"))  # type: ignore[attr-defined]
    return kinds


def _is_own(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    )
