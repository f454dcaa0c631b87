"""The local variables of a function, according to the compiler's symbol table.

Since CPython 3.12 (PEP 709) a comprehension is part of the function around it. Its variables are in
the function's ``co_varnames`` and in the tables of ``symtable``, although the same names may be
globals, builtins or closure variables in the function itself::

    def kinds(items):
        left = [type for type in items]     # a variable, of the comprehension alone
        return left, type(items)            # the builtin

So a function is compiled once more with its comprehensions written as generator expressions, which
have the same scopes and keep their own variables. The names in that code are the function's own.
"""

from __future__ import annotations

import ast
import operator
import sys
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

from cascade.runtime.loops.verified_source import FunctionNode, compiled

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
_INLINED = sys.version_info >= (3, 12)


def scoped(
    node: FunctionNode,
    inner: Iterable[ast.AST],
    code: CodeType,
    like: CodeType,
    free: Iterable[str] | None = None,
) -> CodeType:
    """The code of a function in which comprehensions are functions, for its lists of names only.

    Args:
        node: The function.
        inner: All nodes of its body that may be comprehensions.
        code: The compiled ``node``.
        like, free: As in ``verified_source.compiled``.

    Cost: compiling it, on Pythons with inlined comprehensions, if it has any.
    """
    if _INLINED and any(isinstance(one, _COMPREHENSIONS) for one in inner):
        return compiled(_opened(node), like, free)
    return code


def own_names(scoped: CodeType) -> frozenset[str]:
    """The variables of a function, including parameters, without those of comprehensions."""
    return frozenset((*scoped.co_varnames, *scoped.co_cellvars))


def outer_names(inner: Iterable[ast.AST], code: CodeType) -> frozenset[str]:
    """The names in a function, or in an inner one, that may be variables of neither.

    Args:
        inner: All nodes of its body.
        code: Its code.
    """
    mentioned: set[str] = set()
    for one in inner:
        if isinstance(one, ast.Name):
            mentioned.add(one.id)
        elif isinstance(one, (ast.Global, ast.Nonlocal)):
            mentioned.update(one.names)
    # The others are attributes, and imported modules.
    return frozenset(mentioned).intersection(
        n for c in codes(code) for n in (*c.co_names, *c.co_freevars)
    )


def all_names(code: CodeType) -> Iterator[str]:
    """Every name in a function and its inner functions."""
    for inner in codes(code):
        yield from (*inner.co_varnames, *inner.co_names, *inner.co_freevars, *inner.co_cellvars)


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all its inner functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def _opened(node: Any) -> Any:
    """``node`` with generator expressions for comprehensions; the same object if it has none.

    They become arguments of calls, because the compiler warns of operations that need a list.
    """
    parts = {}
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            items = [_opened(item) if isinstance(item, ast.AST) else item for item in value]
            if any(map(operator.is_not, items, value)):
                parts[name] = items
        elif isinstance(value, ast.AST) and (made := _opened(value)) is not value:
            parts[name] = made
    if isinstance(node, _COMPREHENSIONS):
        fields = {**dict(ast.iter_fields(node)), **parts}
        generators = fields.pop("generators")
        items = [item for item in fields.values() if item is not None]
        written = ast.GeneratorExp(ast.Tuple(items, ast.Load()), generators)
        call = ast.Call(ast.Name("__cs_items", ast.Load()), [written], [])
        for new in (call, call.func, written, written.elt):
            ast.copy_location(new, node)
        return call
    if not parts:
        return node
    return ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **parts}), node)
