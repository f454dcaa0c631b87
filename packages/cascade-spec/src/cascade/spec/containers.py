"""Lazy values inside containers (rules R2, R4, M15).

A container that holds a lazy value, at any depth, becomes one node of its own
(``lazy_types.gathered``): an operation ``fill`` that takes the lazy values found and rebuilds the
container around their results. So a container is an ordinary dependency to the graph and the VM,
and ``gather`` is the same node made by hand. This module has the search and the operation;
``shapes`` says which types are containers.

- The *search* goes level by level, in C (``map``, ``chain``, ``compress``): Python does not visit
  the elements of a list of a million numbers one by one.
- A *recipe* says how to rebuild a container, as a flat list of steps, inner containers first. It is
  made and followed without recursion, so any depth will do; a shared container is rebuilt once.
- A container without lazy values is passed on as it is: the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, compress, groupby, repeat
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

#: The types that arguments of a call are searched for. An Operation, a task that was not called, is
#: refused, and so is a TailCall.
ARGUMENT_MARKS = (LazyValue, Literal, Inject, Operation, TailCall)
#: The types that results of tasks are searched for (R4). Tasks in them are values.
RESULT_MARKS = (LazyValue, Literal, Inject, TailCall)

#: (container type, parts with holes, (position, source) of each hole). A source ≥ 0 is the index of
#: a leaf; ~n is the result of step n. The type's shape defines the parts.
Step: TypeAlias = tuple[type, list[Any], tuple[tuple[int, int], ...]]
Marks: TypeAlias = tuple[type, ...]
#: The length from which types are compared first, and the most changes of type after which they are
#: looked up; see ``_are_atoms``.
LONG, _FEW = 128, 4


class Recipe:
    """How to rebuild a container around the values of its lazy leaves."""

    __slots__ = ("kind", "literals", "steps")

    def __init__(
        self, kind: type, steps: Sequence[Step] = (), literals: Sequence[Any] = ()
    ) -> None:
        self.kind = kind
        #: The values of literals inside, but for atoms: they may hold lazy values.
        self.literals = literals
        #: Empty for a list or tuple that holds only leaves, in order: by far the most common case.
        self.steps = tuple(steps)

    @property
    def order(self) -> Sequence[int]:
        """The leaves in the order of the container, if it is not that of their numbers."""
        if len(self.steps) < 2:
            return ()
        found: dict[int, None] = {}
        entered: set[int] = set()
        stack = [iter(self.steps[-1][2])]
        while stack:
            for _, source in stack[-1]:
                if source >= 0:
                    found[source] = None
                elif source not in entered:
                    entered.add(source)
                    stack.append(iter(self.steps[~source][2]))
                    break
            else:
                stack.pop()
        return list(found)

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


def refused(value: Operation | TailCall) -> ArgumentError:
    """The error for a task, or a tail call, in place of a call of the task, or of a literal."""
    if isinstance(value, TailCall):
        name = getattr(value.target, "name", "task")
        return ArgumentError(
            f"{short(value)} was passed; only a task can return it, to run again: call {name} "
            f"instead\n"
            f"    wrong:  {name}.tail(…)\n"
            f"    right:  {name}(…)\n"
            f"    to hand over the tail call:  cs.literal({name}.tail(…))"
        )
    return ArgumentError(
        f"the task '{value.name}' itself was passed; call it: {value.name}()\n"
        f"    to hand over the task:  cs.literal({value.name})"
    )


def is_container(kind: type) -> bool:
    """Whether values of exactly this type are searched for lazy values."""
    return shape_of(kind) is not None


def _are_atoms(values: Iterable[Any]) -> bool:
    """Whether all elements have plain types; the fastest way if there are many.

    Most long lists have elements of one type, and to compare types takes less than to look them up.
    """
    rest = iter(values)
    for count, (kind, _) in enumerate(groupby(rest, type)):
        if kind not in ATOMS:
            return False
        if count == _FEW:
            return ATOMS.issuperset(map(type, rest))
    return True


def holds_marks(container: Any, marks: Marks = ARGUMENT_MARKS) -> bool:
    """Whether an instance of ``marks`` is inside, at any depth. Cycle-safe, O(size), in C."""
    kind = type(container)
    if kind is list or kind is tuple:  # most are, and small ones should cost little
        few = len(container) < LONG
        if ATOMS.issuperset(map(type, container)) if few else _are_atoms(container):
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
        # Objects seldom occur again one level down, so rows of a table are not checked.
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
    """The direct children of the containers of one level, which have these types."""
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
    """The elements of ``selected`` at the positions where ``items`` has one of ``kinds``, in C."""
    return compress(selected, map(kinds.__contains__, map(type, items)))


def recipe_of(root: Any, marks: Marks = ARGUMENT_MARKS) -> tuple[Recipe, tuple[LazyValue, ...]]:
    """The recipe for ``root``, and its lazy leaves. Visits the containers in post-order.

    Raises:
        ArgumentError: A container holds a mark that is refused there, or holds a mark and cannot be
            rebuilt.
        CycleError: A container with a mark inside contains itself.
    """
    if type(root) in (list, tuple):
        kinds = set(map(type, root))
        if len(kinds) == 1 and issubclass(kinds.pop(), LazyValue):
            return Recipe(type(root)), tuple(root)
    leaves: list[LazyValue] = []
    literals: list[Any] = []
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
            holes, changed = _holes(items, leaves, literals, finished, marks)
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
            # A cycle without marks stays as it is, with all containers entered inside it.
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
    return Recipe(type(root), steps, tuple(literals)), tuple(leaves)


def _holes(
    items: list[Any],
    leaves: list[LazyValue],
    literals: list[Any],
    finished: Mapping[int, int | None],
    marks: Marks,
) -> tuple[list[tuple[int, int]], bool]:
    """The places to fill; unwraps literals in ``items``, and notes them and new leaves."""
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
            items[position] = value = item.value
            if type(value) not in ATOMS:
                literals.append(value)
            changed = True
        elif issubclass(kind, marks):
            raise _misplaced(item, marks)
        elif (step := finished[id(item)]) is not None:
            holes.append((position, ~step))
    return holes, changed or bool(holes)


def _misplaced(item: Any, marks: Marks) -> ArgumentError:
    if isinstance(item, Operation) or (isinstance(item, TailCall) and marks is ARGUMENT_MARKS):
        return refused(item)
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
    instead = _shape(type(container)).instead
    if instead is not None:
        return ArgumentError(
            f"a {name} holds a lazy value or a task, and cannot be rebuilt around its result, "
            "because it shows what another object holds\n"
            f"    wrong:  {short(container)}\n"
            f"    right:  {instead}(…)      # make it a {instead} first, which is searched\n"
            f"    or:     cs.literal(…)      # hand it over as it is, with the lazy values inside"
        )
    return ArgumentError(
        f"a {name} holds a lazy value or a task, and cannot be rebuilt around its result: {name} "
        "is a subclass or a model whose constructor may check what it is given\n"
        f"    wrong:  {short(container)}\n"
        f"    right:  cs.task({name})(…)      # make it of values, in a task\n"
        f"    or:     cs.literal(…)      # hand it over as it is, with the lazy values inside"
    )
