"""Lazy values inside containers (rules R2, M15).

A list, tuple, dict, set or namedtuple that holds a lazy value, at any depth, becomes one node
(``lazy_types.gathered``). Its operation ``fill`` takes the lazy values inside and rebuilds the
container around their results. For the graph, the VM and all later layers a container is therefore
an ordinary dependency, and ``gather`` makes the same node explicitly. This module has the search
and the operation.

- The *search* goes level by level in C (``map``, ``chain``, ``compress``): Python does not visit
  each element of a list of a million numbers.
- The *recipe* tells how to rebuild, as a flat list of steps, inner containers first. It is
  iterative, so any depth is fine; a container that occurs twice is rebuilt once.
- A container without lazy values is handed over as the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, compress, repeat
from types import NoneType
from typing import Any, TypeAlias, TypeVar

from cascade.spec.blueprint import Literal
from cascade.spec.errors import ArgumentError, CycleError
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import LazyValue
from cascade.spec.operation import FacadeOperation, Operation

T = TypeVar("T")

#: Types that can never hold a lazy value. Tested first, because most arguments have them.
ATOMS = frozenset({int, float, str, bool, NoneType, bytes, complex})
#: The search looks for these types. An Operation is a task that was not called: it is refused.
_MARKS = (LazyValue, Literal, Inject, Operation)

#: (container type, items with holes, (index of hole, its source)…). A source ≥ 0 is the
#: index of a leaf; ~n is the result of step n. A dict's items are key, value, key, value, ….
Step: TypeAlias = tuple[type, list[Any], tuple[tuple[int, int], ...]]


class Recipe:
    """How to rebuild a container around the values of its lazy leaves."""

    __slots__ = ("kind", "steps")

    def __init__(self, kind: type, steps: Sequence[Step] = ()) -> None:
        self.kind = kind
        #: Empty for one container that holds only leaves in order, the commonest case by far.
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


GATHER = FacadeOperation(fill, "gather", written="cs.gather(…)")


def uncalled(task: Operation) -> ArgumentError:
    """The error for a task in a place where a call of it, or a literal, is meant."""
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
    """Whether one of ``_MARKS`` is anywhere inside. Handles cycles, O(size), in C."""
    kinds = set(map(type, container))
    if type(container) is not dict and kinds <= ATOMS:
        return False
    # The commonest list has only lazy values.
    if len(kinds) == 1 and issubclass(kinds.pop(), _MARKS):
        return True
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
    # Iterating a dict gives its keys, so only its values must be added.
    return chain(chain.from_iterable(level), chain.from_iterable(map(dict.values, dicts)))


def _of(kinds: AbstractSet[type], items: Sequence[Any], selected: Iterable[T]) -> Iterable[T]:
    """The items of ``selected`` whose counterpart in ``items`` has one of ``kinds``, found in C."""
    return compress(selected, map(kinds.__contains__, map(type, items)))


def recipe_of(root: Any) -> tuple[Recipe, tuple[LazyValue, ...]]:
    """The recipe to rebuild ``root``, and its lazy leaves: post-order over its containers."""
    if type(root) in (list, tuple):
        kinds = set(map(type, root))
        if len(kinds) == 1 and issubclass(kinds.pop(), LazyValue):
            return Recipe(type(root)), tuple(root)
    leaves: list[LazyValue] = []
    steps: list[Step] = []
    #: id of a finished container → its step, or None if it needs no rebuilding.
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
            # A plain cycle stays as it is, and so do all containers that were entered inside it.
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
    items: list[Any], leaves: list[LazyValue], finished: Mapping[int, int | None]
) -> tuple[list[tuple[int, int]], bool]:
    """The holes to fill; appends new leaves to ``leaves`` and unwraps literals in ``items``."""
    holes: list[tuple[int, int]] = []
    changed = False
    kinds = {k for k in set(map(type, items)) if issubclass(k, _MARKS) or is_container(k)}
    for position in _of(kinds, items, range(len(items))):
        item = items[position]
        kind = type(item)
        if issubclass(type(item), LazyValue):
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
