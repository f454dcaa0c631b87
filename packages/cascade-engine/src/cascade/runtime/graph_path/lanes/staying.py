"""Staying: values that stay with the workers of a cluster, and calls that go there together.

A value stays if only other calls there need it: directly, or in lists, tuples and dicts. What needs
it here nevertheless waits until it was fetched. A call whose value has one user, which needs
nothing else, goes there together with that one, as long as both are known to be short.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from cascade.graph.build import inputs_of
from cascade.graph.wiring import users_of
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Address, Item, Segment, Shares, Work
from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import RESOURCES
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.protocols import KeepingExecutor
from cascade.spec.remote_calls import PREVIOUS, Link, RemoteValue
from cascade.spec.task import Task
from cascade.spec.wire import dumps_call, pack

#: Most calls, and most seconds, that go to a worker as one.
_MOST_LINKS: Final = 256
_MOST_SECONDS: Final = 0.05
#: Containers that are filled with values that stay.
_CONTAINERS: Final = frozenset({list, tuple, dict})


class Staying(Part):
    """The values of one run that are elsewhere.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._executor = cast("KeepingExecutor", parts.run.elsewhere.executor)
        #: How many nodes wait for values to be fetched.
        self.fetching = 0

    # -- which ones ---------------------------------------------------------------------------

    def takes(self, node: LazyResult[Any]) -> bool:
        """Whether a node is only a call there, so that its inputs need not come here."""
        policies = node._policies
        if policies is not None and (
            policies.conditions
            or policies.predecessors
            or policies.amounts
            or policies.calls.cache is not None
        ):
            return False
        run = self._run
        if not node._special & RESOURCES:
            return run.elsewhere.takes(node.task)
        return run.elsewhere.takes_call(node.task, node.args, node.kwargs, run.resources)

    def stays(self, segment: Segment, node: LazyResult[Any]) -> bool:
        """Whether nothing needs the value of a node here, as far as its users are known."""
        while True:
            place = (segment, node)
            if node in segment.kept or node in segment.taken or place in self._parts.nodes.watched:
                return False
            users = users_of(segment.slots.get(node))
            if not all(self._passes(segment, user) for user in users):
                return False
            onward = segment.foreign.get(node, ())
            for address in onward:
                if address.segment is None or not self.stays(*address.place):
                    return False
            if node is not segment.target:
                return bool(users or onward)
            continuation = segment.continuation
            if not isinstance(continuation, Address) or continuation.segment is None:
                return False
            segment, node = continuation.place

    def _passes(self, segment: Segment, user: LazyResult[Any]) -> bool:
        if user.task is not GATHER:
            return self.takes(user)
        recipe = user.args[0]
        kinds = {recipe.kind, *(kind for kind, _, _ in recipe.steps)}
        return kinds <= _CONTAINERS and user._policies is None and self.stays(segment, user)

    # -- calls that go together ---------------------------------------------------------------

    def links(self, work: Work) -> tuple[list[Link], list[LazyResult[Any]]]:
        """The calls that follow that of ``work`` there, and their nodes."""
        links: list[Link] = []
        nodes: list[LazyResult[Any]] = []
        segment, node, run = work.segment, work.node, self._run
        if (
            work.policies is not PLAIN_CALLS
            or node._policies is not None
            or self._parts.end.any_missing
            or run.constraints.any
            or run.steps.limit is not None
            or run.max_rounds is not None
            or segment.foreign
        ):
            return links, nodes
        task: Any = work.operation
        seconds = self._seconds(task)
        while len(links) < _MOST_LINKS:
            user = segment.slots.get(node)
            if type(user) is not LazyResult or user._policies is not None or node in segment.kept:
                break
            if segment.waits.get(user, 1) != 1 or user._special & RESOURCES or not self.takes(user):
                break
            if not isinstance(user.task, Task):
                break
            seconds += self._seconds(user.task)
            if seconds > _MOST_SECONDS:
                break
            try:
                link = self._link(segment, node, user)
            except Exception:  # what cannot be sent fails when its turn comes
                break
            links.append(link)
            nodes.append(user)
            node = user
        return links, nodes

    def _seconds(self, task: Any) -> float:
        known = self._executor.expects(pack(task).token) if isinstance(task, Task) else None
        return _MOST_SECONDS + 1 if known is None else known

    def _link(self, segment: Segment, node: LazyResult[Any], user: LazyResult[Any]) -> Link:
        def value(found: Any) -> Any:
            if found is node:
                return PREVIOUS
            if issubclass(type(found), LazyResult):
                return segment.value(found)
            return found.value if issubclass(type(found), Literal) else found

        args = [value(found) for found in user.args]
        kwargs = {name: value(found) for name, found in user.kwargs.items()}
        assert isinstance(user.task, Task)
        return Link(user.task.name, pack(user.task), dumps_call(args, kwargs))

    # -- what needs a value here --------------------------------------------------------------

    def is_away(self, item: Item) -> bool:
        """Whether a node that is about to begin needs a value that is elsewhere.

        It then comes again when the value is here.
        """
        segment, node = item
        if isinstance(node, Work) or self.takes(node):
            return False
        if node.task is GATHER and self._passes(segment, node):
            return False
        found = [lazy for lazy in inputs_of(node) if type(segment.value(lazy)) is RemoteValue]
        if not found:
            return False
        values = {lazy: segment.value(lazy) for lazy in found}
        self.fetch([*values.values()], partial(self._arrived, segment, node, [*values]))
        return True

    def fetch(self, values: Sequence[RemoteValue], then: Any) -> None:
        """Call ``then(values, error)`` when all values are here, in any thread."""
        futures = [self._executor.fetch(value) for value in values]
        with self._lock:
            self.fetching += 1
        left = [len(futures)]

        def one_came(_future: Future[Any]) -> None:
            with self._lock:
                left[0] -= 1
                if left[0]:
                    return
            errors = [error for f in futures if (error := f.exception()) is not None]
            try:
                then([] if errors else [f.result() for f in futures], errors[0] if errors else None)
            finally:
                with self._lock:
                    self.fetching -= 1
                with suppress(RuntimeError):  # the run was abandoned, and its loop is closed
                    self._run.call_in_loop(self._wake)

        for future in futures:
            future.add_done_callback(one_came)

    def _wake(self) -> None:
        if not self._parts.end.stopping:
            self._dispatch.pool.wake()
            self._dispatch.idle()

    def _arrived(
        self,
        segment: Segment,
        node: LazyResult[Any],
        inputs: Sequence[LazyResult[Any]],
        values: Sequence[Any],
        error: Exception | None,
    ) -> None:
        if self._parts.end.stopping:
            return
        if error is not None:
            self._parts.failures.fail(error, None, (segment, node))
            return
        with self._lock:
            for lazy, value in zip(inputs, values, strict=True):
                found = segment.slots.get(lazy)
                if type(found) is Shares:
                    found[:] = [value if type(v) is RemoteValue else v for v in found]
                elif type(found) is RemoteValue:
                    segment.slots[lazy] = value
            self._dispatch.activate(segment, node)
