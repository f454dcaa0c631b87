"""Lazy values inside containers (rules R2, M15).

A list, tuple, dict, set or namedtuple that holds a lazy value, at any depth, becomes one node of
its own (``lazy_types.gathered``): an operation ``fill`` that takes the lazy values found and
rebuilds the container around their results. To the graph, the VM and everything after them a
container is thus an ordinary dependency, and ``gather`` is the same node made by hand. Here is the
search, and the operation.

- *Search* is by level, in C (``map``, ``chain``, ``compress``): a list of a million numbers is not
  visited element by element from Python.
- *Recipe*: how to rebuild, as a flat list of steps, inner containers first. Iterative, so depth is
  no matter; a container that is met twice is rebuilt once.
- A container without lazy values is handed over as it is, the same object.
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

#: Types that can never hold a lazy value, tested first because most arguments are of these.
ATOMS = frozenset({int, float, str, bool, NoneType, bytes, complex})
#: What a container is searched for. An Operation is a task that was not called: it is refused.
_MARKS = (LazyValue, Literal, Inject, Operation)

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


GATHER = FacadeOperation(fill, "gather", written="cs.gather(…)")


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
    kinds = set(map(type, container))
    if type(container) is not dict and kinds <= ATOMS:
        return False
    # The commonest list has nothing but lazy values.
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
    # A dict iterates over its keys, so that only the values are missing.
    return chain(chain.from_iterable(level), chain.from_iterable(map(dict.values, dicts)))


def _of(kinds: AbstractSet[type], items: Sequence[Any], selected: Iterable[T]) -> Iterable[T]:
    """Those of ``selected`` whose counterpart in ``items`` is of one of ``kinds``, found in C."""
    return compress(selected, map(kinds.__contains__, map(type, items)))


def recipe_of(root: Any) -> tuple[Recipe, tuple[LazyValue, ...]]:
    """How to rebuild ``root`` around its lazy leaves, and those: post-order over its containers."""
    if type(root) in (list, tuple):
        kinds = set(map(type, root))
        if len(kinds) == 1 and issubclass(kinds.pop(), LazyValue):
            return Recipe(type(root)), tuple(root)
    leaves: list[LazyValue] = []
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
    items: list[Any], leaves: list[LazyValue], finished: Mapping[int, int | None]
) -> tuple[list[tuple[int, int]], bool]:
    """The places to fill; puts new leaves into ``leaves`` and unwraps literals in ``items``."""
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
