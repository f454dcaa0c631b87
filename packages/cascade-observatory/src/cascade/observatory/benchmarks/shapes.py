"""Graphs of trivial tasks: wide, chain and tree, each in two notations.

- *calls*: nested calls of functions. With plain functions they compute the value; with functions
  that make tasks they author the graph.
- *levels*: a generator for systems without graphs. It yields calls that can be made side by side,
  as a name of ``Functions`` and columns of arguments, and is sent the list of results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Levels: TypeAlias = Generator[tuple[str, tuple[Sequence[Any], ...]], Sequence[Any], Any]


class Functions(NamedTuple):
    """The functions of the nodes, or functions that make tasks of them."""

    leaf: Callable[[Any], Any]
    step: Callable[[Any], Any]
    add: Callable[[Any, Any], Any]


def leaf(value: int) -> int:
    """A node without inputs."""
    return value


def step(value: int) -> int:
    """A node with one input."""
    return value + 1


def add(left: int, right: int) -> int:
    """A node with two inputs."""
    return left + right


#: As Python runs them.
PLAIN = Functions(leaf, step, add)


@dataclass(frozen=True, slots=True)
class Shape:
    """A family of graphs by size.

    Attributes:
        name: ``"wide"``, ``"chain"`` or ``"tree"``.
        calls: The graph with about so many nodes, as calls.
        levels: The same, as levels.
        nodes: The exact number of nodes.
        value: Its result.
    """

    name: str
    calls: Callable[[Functions, int], Any]
    levels: Callable[[int], Levels]
    nodes: Callable[[int], int]
    value: Callable[[int], Any]


def _wide_calls(functions: Functions, size: int) -> Any:
    leaf = functions.leaf
    return [leaf(i) for i in range(size)]


def _wide_levels(size: int) -> Levels:
    return list((yield "leaf", (range(size),)))


def _chain_calls(functions: Functions, size: int) -> Any:
    step = functions.step
    value: Any = 0
    for _ in range(size):
        value = step(value)
    return value


def _chain_levels(size: int) -> Levels:
    value: Any = 0
    for _ in range(size):
        (value,) = yield "step", ((value,),)
    return value


def _tree_calls(functions: Functions, size: int) -> Any:
    add = functions.add
    level = _wide_calls(functions, _leaves(size))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [*[add(left, right) for left, right in pairs], *_odd(level)]
    return level[0]


def _tree_levels(size: int) -> Levels:
    level: Sequence[Any] = yield "leaf", (range(_leaves(size)),)
    while len(level) > 1:
        odd = _odd(level)
        even = level[: len(level) - len(odd)]
        level = [*(yield "add", (even[::2], even[1::2])), *odd]
    return level[0]


def _leaves(size: int) -> int:
    return (size + 1) // 2


def _odd(level: Sequence[Any]) -> Sequence[Any]:
    """The last item, if it has no partner: it goes up a level unchanged."""
    return level[-1:] if len(level) % 2 else []


WIDE = Shape("wide", _wide_calls, _wide_levels, lambda size: size, lambda size: list(range(size)))
CHAIN = Shape("chain", _chain_calls, _chain_levels, lambda size: size, lambda size: size)
TREE = Shape(
    "tree",
    _tree_calls,
    _tree_levels,
    lambda size: 2 * _leaves(size) - 1,
    lambda size: sum(range(_leaves(size))),
)
SHAPES = (WIDE, CHAIN, TREE)
