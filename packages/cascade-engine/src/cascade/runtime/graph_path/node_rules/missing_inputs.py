"""Missing inputs: nodes that lack one, and whether the run goes on without it (R6, R9)."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from cascade.runtime.graph_path.node_rules.paths_to_target import path_to_target
from cascade.runtime.graph_path.run_parts import Part
from cascade.runtime.graph_path.segments import Handed, Segment
from cascade.runtime.semantics.outcomes import (
    Failed,
    Missing,
    Skipped,
    fallback_for,
    in_order,
    is_error,
    worst,
)
from cascade.spec.expressions import label
from cascade.spec.lazy_types import LazyResult


class MissingInputs(Part):
    """Tells which nodes lack an input, and whether one run goes on then. Call it under the lock."""

    def of(
        self, segment: Segment, node: LazyResult[Any], known: Container[LazyResult[Any]] = ()
    ) -> Missing | None:
        """The reason why ``node`` cannot run: an input without a value, a condition (R6, M16).

        It does not need the values of the ``known`` inputs.
        """
        get = segment.value
        lacks: list[Missing] = []
        if self._end.any_missing:
            for dependency in in_order(node):
                if dependency in known:
                    continue
                value = get(dependency)
                if issubclass(type(value), Missing) and not is_error(value, dependency):
                    lacks.append(value)
            lacks += [v for p in node._predecessors if type(v := get(p)) is Failed]
            lacks += [v for a in node._amounts.values() if issubclass(type(v := get(a)), Missing)]
        for condition in node._conditions:
            value = get(condition)
            if issubclass(type(value), Missing):
                lacks.append(value)
            elif not value:
                lacks.append(Skipped(node.name, label(condition)))
        return worst(lacks)

    def goes_on_without(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        goes_on: bool = False,
        source: LazyResult[Any] | None = None,
    ) -> bool:
        """Publish that a node does not run; whether the run goes on.

        Args:
            segment: The segment of the node.
            node: The node.
            missing: The Skipped or Failed that replaces its value.
            goes_on: Whether the run is known to go on.
            source: The node's last continuation, if it has begun.
        """
        self._reports.skipped(node if source is None else source, missing)
        if goes_on:
            return True
        self._end.note_missing()
        return type(missing) is not Failed or self.goes_on_after(segment, node, missing)

    def goes_on_after(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether the run goes on after a failure of ``node``; otherwise this ends it."""
        self._end.note_missing()
        if not self._is_uncaught(segment, node, failed):
            return True
        if self._run.fail_fast:
            self._end.fail(failed.error)
            return False
        failed.count(self._run.failures)
        return True

    def would_end_run(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether a failure of ``node`` would end the run."""
        return self._run.fail_fast and self._is_uncaught(segment, node, failed)

    @staticmethod
    def _is_uncaught(segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether a failure is one of the run, and is not known as such yet."""
        if node is segment.target and isinstance(segment.continuation, Handed):
            return False  # the maps that take the items decide, each item by itself
        if failed.counted:
            return False
        if not failed.can_be_value:
            return True
        error = failed.error
        return not (node._calls.catches or isinstance(error, path_to_target(segment, node).catches))

    def leave_out_users(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        goes_on: bool,
        todo: list[tuple[Segment, LazyResult[Any], Any]],
        users: list[LazyResult[Any]],
    ) -> LazyResult[Any] | None:
        """Add to ``todo`` the users of a node without a value that wait for nothing else.

        They need no queue. The path to the target of a node is that of its only user. So a run that
        ``goes_on`` after the failure of the one does so after that of the other.

        Returns:
            The only user, if it lacks no more than the node did; it is the last of ``todo``.
        """
        activate, streams = self._parts.dispatch.activate, self._parts.nodes.streams
        waits, lack = segment.waits, None
        for user in users:
            if user in waits:
                waits[user] -= 1
                if waits[user]:
                    continue
            if streams.is_taker(segment, user):
                activate(segment, user)
                continue
            is_only = user._policies is None and user not in waits  # it has no other input
            lack = missing if is_only else self.of(segment, user)
            if lack is None or fallback_for(user, lack) is not None:
                activate(segment, user)
                continue
            if is_only:
                segment.take_any(node)
            else:
                segment.let_go_inputs(user)
            same = lack is missing and len(users) == 1
            if not self.goes_on_without(segment, user, lack, same and goes_on):
                return None
            todo.append((segment, user, lack))
            if same:
                return user
        return None
