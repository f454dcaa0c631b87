"""Walks over syntax trees: like ``ast.walk``, in half the time."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The child nodes, in the order in which their fields were set."""
    for value in node.__dict__.values():  # fields and positions; only fields contain nodes
        if type(value) is list:
            for item in value:
                if isinstance(item, ast.AST):
                    yield item
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            yield value


def nodes(*trees: ast.AST) -> list[ast.AST]:
    """All nodes, level by level from the top, without the contexts of names."""
    found: list[ast.AST] = list(trees)
    for node in found:  # and those that are added meanwhile
        for value in node.__dict__.values():
            kind = type(value)
            if kind is int or kind is str:  # most are positions and names
                continue
            if kind is list:
                found += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                found.append(value)
    return found
