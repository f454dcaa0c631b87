"""Tasks that return the lazy value of another task, for the plugin (R4).

``def outer(n: int) -> int: return inner(n)`` is right under ``@cs.task``: the task continues as
that lazy value, so its value is an int. In such a place mypy takes the call for the value.
"""

from __future__ import annotations

from mypy.checker import TypeChecker
from mypy.maptype import map_instance_to_supertype
from mypy.nodes import (
    CallExpr,
    ConditionalExpr,
    Decorator,
    DictExpr,
    Expression,
    FuncDef,
    ListComprehension,
    ListExpr,
    MypyFile,
    RefExpr,
    SetExpr,
    TupleExpr,
    TypeInfo,
)
from mypy.plugin import MethodContext
from mypy.traverser import all_return_statements
from mypy.types import Instance, Type, get_proper_type

TASK = "cascade.spec.task.task"
LAZY = "cascade.spec.lazy_types.LazyResult"


def value_if_returned(context: MethodContext) -> Type:
    """The type of a call that makes a lazy value: of its value, where a task returns it as such.

    An annotation that names a lazy value, ``-> LazyResult[int]``, is taken as it is.
    """
    given = get_proper_type(context.default_return_type)
    checker = context.api
    if not isinstance(given, Instance) or not isinstance(checker, TypeChecker):
        return given
    if not checker.return_types or "cascade.spec." in str(checker.return_types[-1]):
        return given
    call = context.context
    if not isinstance(call, CallExpr) or not _is_returned(call, checker):
        return given
    base = next((base for base in given.type.mro if base.fullname == LAZY), None)
    return given if base is None else map_instance_to_supertype(given, base).args[0]


def _is_returned(expression: Expression, checker: TypeChecker) -> bool:
    """Whether the expression is, or is an item of, what a task returns."""
    function = checker.scope.current_function()
    if not isinstance(function, FuncDef) or not function.is_decorated:
        return False
    definition = _definition(function, checker)
    if definition is None or not any(map(_is_task, definition.original_decorators)):
        return False
    wanted = [s.expr for s in all_return_statements(function.body) if s.expr is not None]
    while wanted:
        found = wanted.pop()
        if found is expression:
            return True
        wanted += _parts(found)
    return False


def _definition(function: FuncDef, checker: TypeChecker) -> Decorator | None:
    """The decorated definition of a function that is being checked."""
    stack = checker.scope.stack
    outer = stack[stack.index(function) - 1]
    if isinstance(outer, (MypyFile, TypeInfo)):
        symbol = outer.names.get(function.name)
        nodes = [] if symbol is None else [symbol.node]
    else:
        nodes = [s for s in outer.body.body if isinstance(s, Decorator)]
    return next((n for n in nodes if isinstance(n, Decorator) and n.func is function), None)


def _parts(expression: Expression) -> list[Expression]:
    if isinstance(expression, ConditionalExpr):
        return [expression.if_expr, expression.else_expr]
    if isinstance(expression, (ListExpr, TupleExpr, SetExpr)):
        return list(expression.items)
    if isinstance(expression, DictExpr):
        return [value for _, value in expression.items]
    if isinstance(expression, ListComprehension):
        return [expression.generator.left_expr]
    return []


def _is_task(decorator: Expression) -> bool:
    if isinstance(decorator, CallExpr):
        decorator = decorator.callee
    return isinstance(decorator, RefExpr) and decorator.fullname == TASK
