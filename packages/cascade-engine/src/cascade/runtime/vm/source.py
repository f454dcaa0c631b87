"""The source of a function, proven to be what it was compiled from (M10).

A function's lines are looked up by its file and line number, which say nothing for sure: the file
may have been edited since, a decorator may have put another function in its place, an import hook
may have rewritten it. So the lines are compiled again, as they are, and only if the outcome is the
function's code to the last byte, its line table included, are they taken for its source.
"""

from __future__ import annotations

import __future__
import ast
import functools
import inspect
import linecache
import operator
import sys
import tokenize
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any, TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
_OUTER = "__cs_outer"


class Unfit(Exception):
    """Why a function cannot be fused.

    Attributes:
        reason: A clause that says it.
        line: Where in its file; None where it is no matter of a line.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def source_of(func: Any) -> FunctionNode:
    """The syntax tree of a function, with the line numbers and columns of its file.

    Raises:
        Unfit: It has no source, or another than its code.

    Cost: some tenths of a millisecond, for reading and compiling it.
    """
    if not isinstance(func, FunctionType):
        raise Unfit(f"it is no function written in Python, but a {type(func).__name__}")
    code = func.__code__
    if code.co_name == "<lambda>":
        raise Unfit("it is a lambda", code.co_firstlineno)
    node = _parsed(func)
    if compiled(node, code) != code:
        raise Unfit(
            "its lines are not what it was compiled from: the file was changed since, or "
            "something has rewritten the function",
            code.co_firstlineno,
        )
    return node


def compiled(node: FunctionNode, like: CodeType, free: Iterable[str] | None = None) -> CodeType:
    """The code of ``node``, compiled as ``like`` was.

    Args:
        node: Its decorators count as its first lines, and are not evaluated.
        like: Gives the file, what is imported from ``__future__``, and whether it is nested.
        free: Names that are variables of the functions around it; as in ``like`` if left out.
    """
    body: list[ast.stmt] = [node]
    if like.co_flags & inspect.CO_NESTED:
        names = [ast.arg(name) for name in (like.co_freevars if free is None else free)]
        around = ast.arguments([], names, None, [], [], None, [])
        outer = ast.FunctionDef(_OUTER, around, body, [], None, None)
        if sys.version_info >= (3, 12):
            outer.type_params = []
        body = [ast.fix_missing_locations(ast.copy_location(outer, node))]
    module = compile(
        ast.Module(body, []),
        like.co_filename,
        "exec",
        flags=like.co_flags & _FUTURES,
        dont_inherit=True,
    )
    return _code_in(module, node.name)


def _parsed(func: FunctionType) -> FunctionNode:
    code = func.__code__
    lines = linecache.getlines(code.co_filename, func.__globals__)
    try:
        block = inspect.getblock(lines[code.co_firstlineno - 1 :])
        indented = block[0][:1].isspace()
        # Columns and continued strings stay as they are, which dedenting would change.
        tree = ast.parse(("if 1:\n" if indented else "") + "".join(block))
    except (IndexError, SyntaxError, tokenize.TokenError):
        raise Unfit("its source is not at hand", code.co_firstlineno) from None
    ast.increment_lineno(tree, code.co_firstlineno - 1 - indented)
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode) and node.name == code.co_name:
            return node
    raise Unfit("its source is not at hand", code.co_firstlineno)


def _code_in(module: CodeType, name: str) -> CodeType:
    todo = [module]
    while todo:
        for constant in todo.pop().co_consts:
            if isinstance(constant, CodeType):
                if constant.co_name == name:
                    return constant
                if constant.co_name == _OUTER:
                    todo.append(constant)
    raise Unfit("its source does not compile to a function of its name")
