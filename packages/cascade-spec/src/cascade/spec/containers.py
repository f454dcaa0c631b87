"""Lazy values inside containers (rules R2, M15).

A list, tuple, dict, set or namedtuple that holds a lazy value, at any depth, becomes one node of
its own: an operation ``fill`` that takes the lazy values found and rebuilds the container around
their results. To the graph, the VM and everything after them a container is thus an ordinary
dependency, and ``gather`` is the same node made by hand.

- *Search* is by level, in C (``map``, ``chain``, ``compress``): a list of a million numbers is not
  visited element by element from Python.
- *Recipe*: how to rebuild, as a flat list of steps, inner containers first. Iterative, so depth is
  no matter; a container that is met twice is rebuilt once.
- A container without lazy values is handed over as it is, the same object.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, compress, repeat
from types import CodeType, NoneType
from typing import Any, TypeAlias, TypeVar

from cascade.spec.blueprint import Literal
from cascade.spec.errors import ArgumentError, CycleError
from cascade.spec.lazy_types import NO_KWARGS, LazyResult, Operation
from cascade.spec.resource import Inject

T = TypeVar("T")

#: Types that can never hold a lazy value, tested first because most arguments are of these.
ATOMS = frozenset({int, float, str, bool, NoneType, bytes, complex})
#: What a container is searched for. An Operation is a task that was not called: it is refused.
_MARKS = (LazyResult, Literal, Inject, Operation)

#: (container type, items with holes, where each hole is and what fills it). A source ≥ 0 is the
#: index of a leaf; ~n is the result of step n. A dict's items are key, value, key, value, ….
Step: TypeAlias = tuple[type, list[Any], tuple[tuple[int, int], ...]]


class Recipe:
    """How to rebuild a container around the values of its lazy leaves."""

    __slots__ = ("kind", "steps")

    def __init__(self, kind: type, steps: Sequence[Step] = ()) -> None:
        self.kind = kind
        #: None for one container of nothing but leaves in order, by far the commonest.
        self.steps = tuple(steps)

    def __repr__(self) -> str:
        return f"<recipe of a {self.kind.__name__}>"

    def __cascade_digest__(self) -> Any:
        steps = []
        for kind, items, holes in self.steps:
            filled = items.copy()
            for position, source in holes:
                filled[position] = ("hole", source)
            steps.append((kind, filled, [position for position, _ in holes]))
        return self.kind, steps


def fill(recipe: Recipe, *values: Any) -> Any:
    """Rebuild the container with ``values`` in place of its lazy leaves."""
    if not recipe.steps:
        return _assemble(recipe.kind, list(values))
    built: list[Any] = []
    for kind, items, holes in recipe.steps:
        parts = items.copy()
        for position, source in holes:
            parts[position] = values[source] if source >= 0 else built[~source]
        built.append(_assemble(kind, parts))
    return built[-1]


def _assemble(kind: type, parts: list[Any]) -> Any:
    if kind is list:
        return parts
    if kind is dict:
        return dict(zip(parts[::2], parts[1::2], strict=True))
    if kind is tuple or kind is set:
        return kind(parts)
    return kind._make(parts)  # type: ignore[attr-defined]  # a namedtuple


GATHER = Operation(fill, "gather")


def gather(*values: Any) -> LazyResult[list[Any]]:
    """Make one lazy list of many values, lazy or not, in their order.

    Containers among the values are searched as the arguments of a task are (R2).

    Raises:
        ArgumentError: A value is a task itself, or an ``inject(…)``.
    """
    frame = sys._getframe(1)
    return gathered(list(values), frame.f_code, frame.f_lasti)


def gathered(container: Any, code: CodeType, lasti: int) -> LazyResult[Any]:
    """The node that rebuilds ``container``; ``code`` and ``lasti`` say where it was written."""
    recipe, leaves = _recipe(container)
    return LazyResult(GATHER, (recipe, *leaves), NO_KWARGS, leaves, False, code, lasti)


def settle(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], bool]:
    """Find the lazy values among a call's arguments.

    Returns:
        ``args`` and ``kwargs`` with containers that hold lazy values replaced by one lazy value,
        the lazy values among them, and whether a Literal or Inject is left to unwrap.

    Raises:
        ArgumentError: A task is among them that was not called.
    """
    # Most calls have nothing but atoms and calls of tasks, which need no rewriting.
    dependencies: list[LazyResult[Any]] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is LazyResult:
            dependencies.append(value)
        elif kind not in ATOMS:
            return _settle_any(args, kwargs, code, lasti)
    # One tuple for both where it can be: what the fast lane looks for, and memory.
    same = len(dependencies) == len(args) and not kwargs
    return args, kwargs or NO_KWARGS, args if same else tuple(dependencies), False


def _settle_any(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], bool]:
    dependencies: list[LazyResult[Any]] = []
    special = False

    def settled(value: Any) -> Any:
        nonlocal special
        if issubclass(type(value), LazyResult):
            dependencies.append(value)
        elif issubclass(type(value), (Literal, Inject)):
            special = True
        elif is_container(type(value)):
            if holds_marks(value):
                value = gathered(value, code, lasti)
                dependencies.append(value)
        elif issubclass(type(value), Operation):
            raise uncalled(value)
        return value

    new_args = tuple([v if type(v) in ATOMS else settled(v) for v in args])
    new_kwargs = {k: v if type(v) in ATOMS else settled(v) for k, v in kwargs.items()}
    same = len(dependencies) == len(new_args) and not kwargs
    return (
        new_args,
        new_kwargs or NO_KWARGS,
        new_args if same else tuple(dependencies),
        special,
    )


def as_lazy(value: Any, code: CodeType, lasti: int) -> Any:
    """A container that holds lazy values as one lazy value; anything else as it is.

    Raises:
        ArgumentError: The container holds a task that was not called.
    """
    if is_container(type(value)) and holds_marks(value):
        return gathered(value, code, lasti)
    return value


def uncalled(task: Operation) -> ArgumentError:
    """The error for a task that stands where a call of it is meant, or a literal."""
    return ArgumentError(
        f"the task '{task.name}' itself was passed; call it: {task.name}()\n"
        f"    to hand over the task:  cs.literal({task.name})"
    )


def is_container(kind: type) -> bool:
    """Whether values of exactly this type are searched for lazy values."""
    return (
        kind is list
        or kind is tuple
        or kind is dict
        or kind is set
        or (issubclass(kind, tuple) and hasattr(kind, "_make"))
    )


def holds_marks(container: Any) -> bool:
    """Whether one of ``_MARKS`` is anywhere inside. Cycle-safe, O(size), in C."""
    if set(map(type, container)) <= ATOMS and type(container) is not dict:
        return False
    level: list[Any] = [container]
    seen = {id(container)}
    while level:
        items = list(_children(level))
        kinds = set(map(type, items))
        if any(issubclass(kind, _MARKS) for kind in kinds):
            return True
        inner = list(_of(set(filter(is_container, kinds)), items, items))
        by_id = dict(zip(map(id, inner), inner, strict=True))
        fresh = by_id.keys() - seen
        seen |= fresh
        level = list(map(by_id.__getitem__, fresh))
    return False


def _children(level: Sequence[Any]) -> Iterable[Any]:
    dicts = list(_of({dict}, level, level))
    if not dicts:
        return chain.from_iterable(level)
    # A dict iterates over its keys, so that only the values are missing.
    return chain(chain.from_iterable(level), chain.from_iterable(map(dict.values, dicts)))


def _of(kinds: AbstractSet[type], items: Sequence[Any], selected: Iterable[T]) -> Iterable[T]:
    """Those of ``selected`` whose counterpart in ``items`` is of one of ``kinds``, found in C."""
    return compress(selected, map(kinds.__contains__, map(type, items)))


def _recipe(root: Any) -> tuple[Recipe, tuple[LazyResult[Any], ...]]:
    """Work out how to rebuild ``root``: post-order over the containers in it."""
    if type(root) in (list, tuple) and set(map(type, root)) == {LazyResult}:
        return Recipe(type(root)), tuple(root)
    leaves: list[LazyResult[Any]] = []
    steps: list[Step] = []
    #: id of a finished container → its step, or None where it needs no rebuilding.
    finished: dict[int, int | None] = {}
    entered: set[int] = set()
    stack = [(root, False)]
    while stack:
        container, inner_done = stack.pop()
        key = id(container)
        if inner_done:
            items = _items(container)
            holes, changed = _holes(items, leaves, finished)
            finished[key] = len(steps) if changed or not stack else None
            if finished[key] is not None:
                steps.append((type(container), items, tuple(holes)))
        elif key in finished:
            continue
        elif key in entered:
            if holds_marks(container):
                raise CycleError(
                    f"a {type(container).__name__} with lazy values inside contains itself, so it "
                    "cannot be rebuilt around their results; pass the lazy values without the loop",
                    [type(container).__name__] * 2,
                )
            # A plain loop: it stays as it is, and so does all that was begun since it was entered.
            inner = container
            while inner is not container or not inner_done:
                inner, inner_done = stack.pop()
                finished[id(inner)] = None
        else:
            entered.add(key)
            stack.append((container, True))
            items = _items(container)
            inner_kinds = set(filter(is_container, set(map(type, items))))
            stack.extend(zip(_of(inner_kinds, items, items), repeat(False)))
    return Recipe(type(root), steps), tuple(leaves)


def _items(container: Any) -> list[Any]:
    if type(container) is dict:
        return list(chain.from_iterable(container.items()))
    return list(container)


def _holes(
    items: list[Any], leaves: list[LazyResult[Any]], finished: Mapping[int, int | None]
) -> tuple[list[tuple[int, int]], bool]:
    """The places to fill; puts new leaves into ``leaves`` and unwraps literals in ``items``."""
    holes: list[tuple[int, int]] = []
    changed = False
    kinds = {k for k in set(map(type, items)) if issubclass(k, _MARKS) or is_container(k)}
    for position in _of(kinds, items, range(len(items))):
        item = items[position]
        kind = type(item)
        if issubclass(type(item), LazyResult):
            holes.append((position, len(leaves)))
            leaves.append(item)
        elif kind is Literal:
            items[position] = item.value
            changed = True
        elif kind is Inject:
            raise ArgumentError(
                f"{item!r} stands inside a container; a resource is injected as an argument of "
                "its own"
            )
        elif issubclass(type(item), Operation):
            raise uncalled(item)
        elif (step := finished[id(item)]) is not None:
            holes.append((position, ~step))
    return holes, changed or bool(holes)
