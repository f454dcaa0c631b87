"""Places: which nodes of a run have continued, as what, and which nodes only a step of one needs.

The nodes of a graph that another node, their *owner*, has continued as are needed until the owner
has its value or continues as something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

from cascade.graph.naming import NodeKey
from cascade.runtime.durable.keys import Named


class Place:
    """A node that has continued at least once."""

    __slots__ = (
        "adrift",
        "due",
        "inner",
        "is_recorded",
        "keeps",
        "owner",
        "passed",
        "same",
        "step",
    )

    def __init__(self, owner: NodeKey | None) -> None:
        self.owner = owner
        #: How often it has continued, apart from snapshots of loops of plain functions. The same
        #: in each process, as names and idempotency keys are made of it.
        self.step = 0
        #: When the next record of its loop is due, and how many steps it has made without one.
        self.due = 0.0
        self.passed = 0
        #: Whether it has a record.
        self.is_recorded = False
        #: Whether its outcome is kept, although it is no call of a task.
        self.keeps = False
        #: The target of the graph that it has continued as.
        self.same: NodeKey | None = None
        #: Nodes whose rows are dropped with its present step.
        self.inner: list[NodeKey] = []
        #: Nodes that a step of it has needed, if it is not known which one; None without any.
        self.adrift: dict[NodeKey, None] | None = None


class Places:
    """The places of one run. Use it under the run's lock.

    Args:
        drop: Drops all that is kept of a node which is not needed any more.
        drop_record: Drops the record of a node.
    """

    def __init__(
        self, drop: Callable[[NodeKey], None], drop_record: Callable[[NodeKey], None]
    ) -> None:
        self._drop = drop
        self._drop_record = drop_record
        self._places: dict[NodeKey, Place] = {}
        #: Target of a graph → the node that has continued as it, which gets the same outcome.
        self._same: dict[NodeKey, NodeKey] = {}
        #: Node that an unknown step of its owner has needed → that owner.
        self._adrift: dict[NodeKey, NodeKey] = {}
        #: Collections that stay empty until the first node continues.
        self.all: tuple[Sized, ...] = self._places, self._same

    @property
    def any_adrift(self) -> bool:
        """Whether ``meet`` has something to do."""
        return bool(self._adrift)

    def __getitem__(self, key: NodeKey) -> Place:
        return self._places[key]

    def find(self, key: NodeKey) -> tuple[NodeKey, Place | None]:
        """The place of a node, or of the one that has continued as it; and the key of that."""
        key = self._same.get(key, key)
        return key, self._places.get(key)

    def make(self, named: Named) -> tuple[NodeKey, Place]:
        """The same; a new place if there is none."""
        key, place = self.find(named.key)
        if place is None:
            place = self._places[key] = Place(named.owner)
        elif key == named.key:
            place.owner = named.owner
        return key, place

    def load(self, key: NodeKey, owner: NodeKey | None, step: int) -> None:
        """Note a node that has continued in an earlier process, and has a record."""
        place = self._of(key)
        place.owner, place.step, place.is_recorded = owner, step, True
        self.add_inner(key, owner)

    def take(self, key: NodeKey) -> Place | None:
        """Remove the place of a node that has its outcome; ``forget`` drops what belongs to it."""
        return self._places.pop(key, None)

    def put_back(self, key: NodeKey, place: Place) -> None:
        """Undo ``take``, for a node whose outcome is not kept."""
        self._places[key] = place
        self.add_inner(key, place.owner)

    def leave_as(self, key: NodeKey) -> bool:
        """A node has its outcome; whether another node has continued as it, and keeps that."""
        return self._same.pop(key, None) is not None

    def be_same(self, place: Place, key: NodeKey, target: NodeKey | None) -> None:
        """Note that the target of the graph that ``key`` has continued as has the same outcome."""
        if place.same is not None:
            self._same.pop(place.same, None)
        place.same = target
        if target is not None:
            self._same[target] = key

    def add_inner(self, key: NodeKey, owner: NodeKey | None) -> None:
        """Note that a node is only needed by a step of another one."""
        if owner is not None:
            self._of(owner).inner.append(key)

    def add_adrift(self, key: NodeKey, owner: NodeKey | None) -> None:
        """Note that a node is only needed by some step of another one.

        Until it is met (``meet``), that step may be one which is still to come.
        """
        if owner is not None:
            self._adrift[key] = owner
            place = self._of(owner)
            place.adrift = place.adrift or {}
            place.adrift[key] = None

    def meet(self, key: NodeKey) -> None:
        """The present step of its owner needs a node."""
        owner = self._adrift.pop(key, None)
        if owner is not None:
            place = self._of(owner)
            place.inner.append(key)
            if place.adrift is not None:
                place.adrift.pop(key, None)

    def drop_inner(self, place: Place) -> None:
        """Drop all that is kept of the nodes that only a step of ``place`` has needed."""
        inner, place.inner = place.inner, []
        for key in inner:
            self._drop(key)
            found = self._places.pop(key, None)
            if found is not None:  # it has failed, or was not needed any more
                self.forget(key, found)

    def forget(self, key: NodeKey, place: Place) -> None:
        """Drop the continuation of a node."""
        if place.same is not None:
            self._same.pop(place.same, None)
        if place.is_recorded:
            self._drop_record(key)
        if place.adrift is not None:
            for inner in place.adrift:
                self._adrift.pop(inner, None)
            place.inner += place.adrift
            place.adrift = None
        self.drop_inner(place)

    def forget_all(self) -> None:
        """Drop the continuations of all nodes."""
        while self._places:
            self.forget(*self._places.popitem())

    def _of(self, key: NodeKey) -> Place:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(None)
        return place
