"""Paths from nodes up to the target, for notes and for handlers of errors (R9)."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from cascade.graph.wiring import users_of
from cascade.runtime.diagnostics.error_notes import TOP, PathToTarget, step_of
from cascade.runtime.graph_path.segments import Address, Handed, Segment
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import FallbackOperation

_NUMBER = attrgetter("number")
#: How many nodes share one remembered path to the target.
_STRETCH = 16


def names_on_path(
    segment: Segment, node: LazyResult[Any], name: str, source: LazyResult[Any]
) -> list[str]:
    """Names from the target down to a node, without nodes that Cascade added.

    Args:
        segment: The segment of the node.
        node: The node.
        name: Name of the task that runs for it now.
        source: Its present lazy value; differs from the first one if it has continued.
    """
    own = node is not source and not _is_handed_on(segment, node) and not node.task.structural
    return path_to_target(segment, node).all_names(*([step_of(node)] if own else []), name)


def path_to_target(segment: Segment, node: LazyResult[Any]) -> PathToTarget:
    """The nodes between a node without a value and the target of the run.

    If a node has several users, the one that was made first. The result of one in some nodes is
    cached, because it stays the same until the node has its value.
    """
    trail: list[tuple[Segment, LazyResult[Any], Sequence[LazyResult[Any]], bool]] = []
    path = segment.paths.get(node)
    while path is None:
        above = _above(segment, node)
        if above is None:
            path = TOP
            segment.remember_path(node, path)
            break
        trail.append((segment, node, above[2], above[3]))
        segment, node, _, _ = above
        path = segment.paths.get(node)
    names: list[str] = []
    catches: list[type[Exception]] = []
    for left in range(len(trail) - 1, -1, -1):
        segment, node, passed, is_input = trail[left]
        for lazy in reversed(passed):
            if not lazy.task.structural:
                names.append(step_of(lazy))
                if lazy._calls.catches:
                    catches.append(Exception)
            elif is_input and type(lazy.task) is FallbackOperation:
                catches += lazy.args[0].errors
        if catches or not left % _STRETCH:
            path = PathToTarget(names, path, catches)
            segment.remember_path(node, path)
            names, catches = [], []
    return path


def _above(
    segment: Segment, node: LazyResult[Any]
) -> tuple[Segment, LazyResult[Any], Sequence[LazyResult[Any]], bool] | None:
    """The next place on the way up, the nodes passed there, and whether as the input of one.

    A node with a handler catches the errors of its input, but not those of its handler, which it
    continues as.
    """
    onward = segment.continuation
    users = users_of(segment.slots.get(node))
    if isinstance(onward, Handed) and node._index is not None:
        return _above_item(segment, node, onward)
    if users:
        user = min(users, key=_NUMBER)
        return segment, user, (user,), True
    if node in segment.taken:
        segment, node = min(segment.taken[node], key=lambda found: found[1].number)
        return segment, node, (), False
    if isinstance(onward, Address):
        segment, node = onward.place
        return segment, node, (node,), False
    if onward is None or isinstance(onward, Handed):
        return None
    segment, node, source = onward.work.segment, onward.work.node, onward.work.source
    if source is node:
        return segment, node, (node,), False
    passed = (source,) if _is_handed_on(segment, node) else (source, node)
    return segment, node, passed, False


def _above_item(
    segment: Segment, node: LazyResult[Any], onward: Handed
) -> tuple[Segment, LazyResult[Any], Sequence[LazyResult[Any]], bool]:
    """The same for an item that only other maps take: their items, if these exist."""
    for address in segment.foreign.get(node, ()):
        other, item = address.place
        users = users_of(other.slots.get(item))
        if users:
            user = min(users, key=_NUMBER)
            return other, user, (user,), True
    assert node._index is not None
    return *onward.above(node._index), True


def _is_handed_on(segment: Segment, node: LazyResult[Any]) -> bool:
    return node is segment.target and isinstance(segment.continuation, Address)
