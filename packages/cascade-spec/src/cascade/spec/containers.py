"""Lazy values inside containers (rules R2, R4, M15).

A container that holds a lazy value, at any depth, becomes one node of its own
(``lazy_types.gathered``): an operation ``fill`` that takes the lazy values found and rebuilds the
container around their results. To the graph, the VM and everything after them a container is thus
an ordinary dependency, and ``gather`` is the same node made by hand. Here is the search, and the
operation; ``shapes`` says which types are containers.

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
from typing import Any, TypeAlias, TypeVar

from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.errors import ArgumentError, CycleError
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import LazyValue
from cascade.spec.operation import FacadeOperation, Operation
from cascade.spec.shapes import ATOMS as ATOMS
from cascade.spec.shapes import Shape, shape_of
from cascade.spec.wording import short

T = TypeVar("T")

#: What the arguments of a call are searched for. An Operation is a task that was not called: it is
#: refused.
ARGUMENT_MARKS = (LazyValue, Literal, Inject, Operation)
#: What results of tasks are searched for (R4): tasks in them are values.
RESULT_MARKS = (LazyValue, Literal, Inject, TailCall)

#: (container type, parts with holes, where each hole is and what fills it). A source ≥ 0 is the
#: index of a leaf; ~n is the result of step n. The parts are those of the type's shape.
Step: TypeAlias = tuple[type, list[Any], tuple[tuple[int, int], ...]]
Marks: TypeAlias = tuple[type, ...]


class Recipe:
    """How to rebuild a container around the values of its lazy leaves."""

    __slots__ = ("kind", "steps")

    def __init__(self, kind: type, steps: Sequence[Step] = ()) -> None:
        self.kind = kind
        #: None for one list or tuple of nothing but leaves in order, by far the commonest.
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
    build = _shape(kind).build
    assert build is not None
    return build(parts)


GATHER = FacadeOperation(fill, "gather", written="cs.gather(…)")


def uncalled(task: Operation) -> ArgumentError:
    """The error for a task that stands where a call of it is meant, or a literal."""
    return ArgumentError(
        f"the task '{task.name}' itself was passed; call it: {task.name}()\n"
        f"    to hand over the task:  cs.literal({task.name})"
    )


def is_container(kind: type) -> bool:
    """Whether values of exactly this type are searched for lazy values."""
    return shape_of(kind) is not None


def holds_marks(container: Any, marks: Marks = ARGUMENT_MARKS) -> bool:
    """Whether one of ``marks`` is anywhere inside. Cycle-safe, O(size), in C."""
    kind = type(container)
    if kind is list or kind is tuple:  # most are, and small ones are to cost little
        if ATOMS.issuperset(map(type, container)):
            return False
        inner = set(map(type, container))
    elif (inner := set(map(type, _shape(kind).children((container,))))) <= ATOMS:
        return False
    level: Sequence[Any] = (container,)
    kinds: AbstractSet[type] = {kind}
    seen: set[int] | None = None
    while True:
        if any(issubclass(kind, marks) for kind in inner):
            return True
        containers = set(filter(is_container, inner))
        if not containers:
            return False
        found = list(_children(level, kinds))
        if len(containers) < len(inner):
            found = list(_of(containers, found, found))
        # Nothing is met again one level down, or not often; rows of a table need no look.
        if seen is None:
            seen = {id(container)}
        else:
            by_id = dict(zip(map(id, found), found, strict=True))
            fresh = by_id.keys() - seen
            seen |= fresh
            found = list(map(by_id.__getitem__, fresh))
        level, kinds = found, containers
        inner = set(map(type, _children(level, kinds)))
        if inner <= ATOMS:
            return False


def _children(level: Sequence[Any], kinds: AbstractSet[type]) -> Iterable[Any]:
    """All that stands directly inside of the containers of a level, which are of these types."""
    if len(kinds) == 1:
        (kind,) = kinds
        return _shape(kind).children(level)
    return chain.from_iterable(
        [_shape(kind).children(list(_of({kind}, level, level))) for kind in kinds]
    )


def _shape(kind: type) -> Shape:
    shape = shape_of(kind)
    assert shape is not None
    return shape


def _of(kinds: AbstractSet[type], items: Sequence[Any], selected: Iterable[T]) -> Iterable[T]:
    """Those of ``selected`` whose counterpart in ``items`` is of one of ``kinds``, found in C."""
    return compress(selected, map(kinds.__contains__, map(type, items)))


def recipe_of(root: Any, marks: Marks = ARGUMENT_MARKS) -> tuple[Recipe, tuple[LazyValue, ...]]:
    """How to rebuild ``root`` around its lazy leaves, and those: post-order over its containers.

    Raises:
        ArgumentError: A mark that is refused inside of containers, or one inside of a container
            that cannot be rebuilt.
        CycleError: A container with a mark inside contains itself.
    """
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
        shape = _shape(type(container))
        if inner_done:
            items = shape.parts(container)
            holes, changed = _holes(items, leaves, finished, marks)
            finished[key] = len(steps) if changed or not stack else None
            if finished[key] is not None:
                if shape.build is None:
                    raise _cannot_rebuild(container)
                steps.append((type(container), items, tuple(holes)))
        elif key in finished:
            continue
        elif key in entered:
            if holds_marks(container, marks):
                raise CycleError(
                    f"a {type(container).__name__} with lazy values inside contains itself, so it "
                    "cannot be rebuilt around their results; pass the lazy values without the "
                    "cycle",
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
            items = shape.parts(container)
            kinds = set(map(type, items))
            inner_kinds = {k for k in kinds if is_container(k) and not issubclass(k, marks)}
            stack.extend(zip(_of(inner_kinds, items, items), repeat(False)))
    return Recipe(type(root), steps), tuple(leaves)


def _holes(
    items: list[Any], leaves: list[LazyValue], finished: Mapping[int, int | None], marks: Marks
) -> tuple[list[tuple[int, int]], bool]:
    """The places to fill; puts new leaves into ``leaves`` and unwraps literals in ``items``."""
    holes: list[tuple[int, int]] = []
    changed = False
    kinds = {k for k in set(map(type, items)) if issubclass(k, marks) or is_container(k)}
    for position in _of(kinds, items, range(len(items))):
        item = items[position]
        kind = type(item)
        if issubclass(kind, LazyValue):
            holes.append((position, len(leaves)))
            leaves.append(item)
        elif kind is Literal:
            items[position] = item.value
            changed = True
        elif issubclass(kind, marks):
            raise _misplaced(item)
        elif (step := finished[id(item)]) is not None:
            holes.append((position, ~step))
    return holes, changed or bool(holes)


def _misplaced(item: Any) -> ArgumentError:
    if isinstance(item, Operation):
        return uncalled(item)
    if isinstance(item, TailCall):
        return ArgumentError(
            f"{item!r} stands inside a container; a task returns a tail call by itself, as its "
            "whole result"
        )
    return ArgumentError(
        f"{item!r} stands inside a container, where nothing is injected; pass it as an argument of "
        "its own"
    )


def _cannot_rebuild(container: Any) -> ArgumentError:
    name = type(container).__name__
    return ArgumentError(
        f"a {name} holds a lazy value or a task, and cannot be rebuilt around its result: {name} "
        "is a subclass or a model whose constructor may check what it is given\n"
        f"    wrong:  {short(container)}\n"
        f"    right:  cs.task({name})(…)      # make it of values, in a task\n"
        f"    or:     cs.literal(…)      # hand it over as it is, with the lazy values inside"
    )
