"""Picture: the boxes and arrows of a drawing of a graph, in any language.

A map is one box, with the number of its items where that is known. So are many alike calls. A task
that continues by tail calls has an arrow for each, to itself or to boxes for the other tasks. Tasks
that call themselves or each other have arrows for these calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from cascade.graph.durations import duration_text
from cascade.graph.model import EdgeKind, Graph, Node, NodeKind
from cascade.graph.pictures.alike import groups_of
from cascade.graph.pictures.continuations import Way, continuations
from cascade.graph.states import NodeState, state_of_several
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.task import Task
from cascade.spec.wording import visible

#: The kinds of arrows for tail calls, and for calls that make a loop.
TAIL: Final = "tail"
CALLS: Final = "calls"
#: The kind of a box for a task that another continues as, which is no node of its own.
CONTINUATION: Final = "continuation"
#: The kind of a box for inputs that are left out.
LEFT_OUT: Final = "left out"

BoxKind: TypeAlias = NodeKind | Literal["continuation", "left out"]
ArrowKind: TypeAlias = EdgeKind | Literal["tail", "calls"]

_SHOWN_OF_A_NOTE = 60


class Box(NamedTuple):
    """A node, several alike ones, or a task that a node continues as."""

    key: str
    kind: BoxKind
    #: Its text, several lines.
    label: str
    #: The node that it shows, or the first of several; None if it shows none.
    lazy: LazyResult[Any] | None = None
    #: See ``NodeState.state``; None if it is not known.
    state: str | None = None


class Arrow(NamedTuple):
    """``target`` waits for ``source``, or ``source`` continues as ``target``; keys of boxes."""

    source: str
    target: str
    kind: ArrowKind
    label: str = ""


class Picture(NamedTuple):
    """All boxes and arrows; inputs before their users."""

    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def picture_of(graph: Graph, states: Mapping[int, NodeState], limit: int | None) -> Picture:
    """The picture of ``graph``.

    Args:
        graph: Its nodes and edges. Inputs that it has ``outside`` are counted.
        states: ``LazyResult.number`` → state.
        limit: Most alike calls that are drawn one by one; None for all.
    """
    groups = groups_of(graph, limit)
    sizes = Counter(groups)
    known = _known_states(graph, groups, sizes, states)
    boxes: list[Box] = []
    loops: list[Arrow] = []
    followed: dict[Any, Mapping[Any, Mapping[Any, Way]]] = {}
    for node, first in zip(graph.nodes, groups, strict=True):
        if node.index != first:
            continue
        boxes.append(_box(node, sizes[first], known.get(first)))
        task = _called(node)
        if task is not None:
            if task not in followed:
                followed[task] = continuations(task)
            more, arrows = _continued(boxes[-1].key, task, followed[task])
            boxes += more
            loops += arrows
    waits = dict.fromkeys(
        Arrow(f"n{groups[e.source]}", f"n{groups[e.target]}", e.kind, visible(e.label, lines=True))
        for e in graph.edges
    )
    left_out = Counter(groups[index] for index, _ in graph.outside)
    for index, count in left_out.items():
        boxes.append(Box(f"m{index}", LEFT_OUT, f"… {count:,} more"))
        waits[Arrow(f"m{index}", f"n{index}", EdgeKind.DATA)] = None
    return Picture(boxes, [*waits, *loops])


def _known_states(
    graph: Graph, groups: Sequence[int], sizes: Mapping[int, int], states: Mapping[int, NodeState]
) -> dict[int, NodeState]:
    """First node of a group → the state of the group."""
    if not states:
        return {}
    known: dict[int, list[NodeState]] = {}
    for node, first in zip(graph.nodes, groups, strict=True):
        state = states.get(node.lazy.number)
        if state is not None:
            known.setdefault(first, []).append(state)
    found: dict[int, NodeState] = {}
    for first, of_group in known.items():
        several = state_of_several(of_group, sizes[first])
        found[first] = of_group[0] if sizes[first] == 1 or several is None else several
    return found


def _box(node: Node, count: int, state: NodeState | None) -> Box:
    label = visible(node.label, lines=True)
    kind: BoxKind = node.kind
    items = _items(node.lazy) if count == 1 else count
    if items is not None:
        label += f" × {items:,}"
    if count > 1 and kind is NodeKind.TASK:
        kind = NodeKind.MAP
    if state is not None:
        label = "\n".join([label, *_said(state)])
    said = None if state is None else state.state
    return Box(f"n{node.index}", kind, label, node.lazy, said)


def _items(lazy: LazyResult[Any]) -> int | None:
    """The number of a map's items, where it is known before a run."""
    if not isinstance(lazy, MappedLazyResult):
        return None
    columns = lazy.args[1 : 1 + len(lazy.args[0].names)]
    if all(isinstance(column, (list, tuple, range, dict, set, frozenset)) for column in columns):
        return len(columns[0]) if isinstance(columns[0], Sized) else None
    return None


def _called(node: Node) -> Task[..., Any] | None:
    """The user's task that the node calls, itself or for its items."""
    if isinstance(node.lazy, MappedLazyResult):
        task: Any = node.lazy.args[0].task
        return task if isinstance(task, Task) else None
    return node.task if isinstance(node.task, Task) else None


def _continued(
    key: str, task: Task[..., Any], followed: Mapping[Any, Mapping[Any, Way]]
) -> tuple[list[Box], list[Arrow]]:
    """The boxes and arrows for the continuations of ``task``, whose own box is ``key``."""
    keys = {one: f"{key}c{place}" if place else key for place, one in enumerate(followed)}
    boxes = [
        Box(keys[one], CONTINUATION, visible(one.name, lines=True))
        for one in followed
        if one is not task
    ]
    arrows = [
        Arrow(keys[one], keys[other], way)
        for one, others in followed.items()
        for other, way in others.items()
    ]
    return boxes, arrows


def _said(state: NodeState) -> list[str]:
    """The lines of a label about a state: its name or duration, then the note."""
    # The duration already says that a node finished.
    said = [state.state] if state.state != "finished" or state.seconds is None else []
    if state.seconds is not None:
        said.append(duration_text(state.seconds))
    note = visible(" ".join(state.note.split()))
    if len(note) > _SHOWN_OF_A_NOTE:
        note = f"{note[: _SHOWN_OF_A_NOTE - 1]}…"
    return [", ".join(said), *([note] if note else [])]
