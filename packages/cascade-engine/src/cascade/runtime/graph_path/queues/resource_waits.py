"""Resource waits: nodes wait here until a shared resource is open, without a thread or a task.

The first node that needs it has it opened, in the event loop's thread. Later ones are kept, and go
on at once when it is open. From then on the resource is a value; see ``ResourceSession.ready``.

Most resources open within a millisecond, or take much longer. So the first thread waits a little:
otherwise it would only take the next nodes, which mostly need the same resource. And if the first
node of a run needs one, it is opened while the thread still begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from cascade.runtime.graph_path.segments import Item, Segment
from cascade.runtime.resources.instance import ResourceInstance
from cascade.runtime.run import Run
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import ResourceDefinition

#: Seconds that the first thread, or the begin of the workers, waits before other nodes are taken.
PATIENCE = 0.002


class _Opening:
    """One resource that opens, and the items that wait for it."""

    __slots__ = ("done", "error", "has_thread", "is_over", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.done = threading.Event()
        #: Whether a thread, or the begin of all of them, waits or has waited for ``done``.
        self.has_thread = False
        self.is_over = False
        self.error: BaseException | None = None


class ResourceWaits:
    """The shared resources of one run that are opening.

    Args:
        run: The run.
        go_on: Takes the items of a resource that is open. In the loop's thread.
        fail: Takes items whose resource could not be opened, and the error. In the loop's thread.
    """

    def __init__(
        self,
        run: Run,
        go_on: Callable[[Iterable[Item]], None],
        fail: Callable[[Iterable[Item], BaseException], None],
    ) -> None:
        self._run = run
        self._go_on = go_on
        self._fail = fail
        #: Whether the run ends; whether it has ended.
        self._ends = self._is_over = False
        self._lock = threading.Lock()
        self._active: dict[ResourceDefinition[Any], _Opening] = {}
        #: Items on their way from a worker to ``fail``.
        self._failing = 0
        #: The keyword arguments of the last node that ``awaits`` a resource, and that resource. The
        #: nodes of a task mostly share them, as one object.
        self._last: tuple[object, _Opening | None] = (None, None)

    @property
    def busy(self) -> bool:
        """Whether any resource is opening, or has items that are about to fail."""
        return bool(self._active or self._failing)

    def opened(
        self, wanted: Inject, item: Item, patience: float = PATIENCE
    ) -> ResourceInstance | None:
        """The instance of a shared resource. From any thread.

        If it is None, the resource is not open yet; then ``item`` goes on later, or fails. The
        first worker that asks waits for ``patience`` seconds.
        """
        resources = self._run.resources
        found = resources.ready(wanted)
        if found is not None:
            return found
        definition = resources.definition(wanted)
        waits = bool(patience) and not self._run.is_own_thread(threading.get_ident())
        with self._lock:
            found = resources.ready(wanted)  # it may have been opened since
            opening = self._active.get(definition)
            if found is not None:
                return found
            is_new = opening is None
            if opening is None:
                opening = self._active[definition] = _Opening()
            elif opening.has_thread or not waits:
                opening.items.append(item)
                return None
            opening.has_thread = waits
        if is_new:
            self._run.call_in_loop(self._begin, wanted, opening)
        if waits:
            opening.done.wait(patience)
        with self._lock:
            if not opening.done.is_set():
                opening.items.insert(0, item)  # other threads may have brought later ones
                return None
            if opening.error is not None:
                self._failing += 1  # the worker leaves, and the run must not seem to stand still
        if opening.error is None:
            return resources.ready(wanted)
        self._run.call_in_loop(self._fail_late, item, opening.error)
        return None

    def _fail_late(self, item: Item, error: BaseException) -> None:
        with self._lock:
            self._failing -= 1
        if not self._is_over:
            self._fail([item], error)

    def begin_early(self, wanted: Inject) -> bool:
        """Open a resource of the run before a worker asks for it. In the event loop's thread.

        Not one of the engine: if that fails, the node that asks for it would open it again. The
        workers should begin ``PATIENCE`` later, and need not wait then.

        Returns:
            Whether it is opening.
        """
        definition = self._run.resources.definition(wanted)
        if definition.scope != "run":
            return False
        with self._lock:
            if definition in self._active:
                return True
            opening = self._active[definition] = _Opening()
            opening.has_thread = True
        self._begin(wanted, opening)
        return not opening.is_over

    def awaits(self, wanted: Inject, segment: Segment, node: LazyResult[Any]) -> bool:
        """Whether a node goes on later, when ``wanted`` is open. In the event loop's thread."""
        if self.opened(wanted, (segment, node), 0) is not None:
            return False
        with self._lock:
            opening = self._active.get(self._run.resources.definition(wanted))
            self._last = node.kwargs, opening
        return True

    def joins(self, segment: Segment, node: LazyResult[Any]) -> bool:
        """``awaits`` for a node with the last one's keyword arguments and no other resources."""
        last, opening = self._last
        if opening is None or node.kwargs is not last or Inject in map(type, node.args):
            return False
        with self._lock:
            if opening.is_over:
                return False
            opening.items.append((segment, node))
        return True

    def _begin(self, wanted: Inject, opening: _Opening) -> None:
        if self._ends:
            return
        try:
            found = self._run.resources.instance(wanted, {})
        except BaseException as error:
            self._settled(wanted, opening, None, error)
            del opening  # the error's traceback holds this frame, and it holds the error
            return
        if found.is_ready:
            self._settled(wanted, opening, found, None)
        else:
            found.when_settled(partial(self._settled, wanted, opening, found))

    def _settled(
        self,
        wanted: Inject,
        opening: _Opening,
        found: ResourceInstance | None,
        error: BaseException | None,
    ) -> None:
        """It is open, or could not be opened. In the event loop's thread."""
        if self._is_over:
            return
        resources = self._run.resources
        if found is not None and error is None and not self._ends:
            resources.share(wanted, found)
        opening.error = error
        with self._lock:
            del self._active[resources.definition(wanted)]
            opening.is_over = True
            opening.done.set()
            self._last = None, None
        if error is not None:
            self._fail(opening.items, error)
        elif not self._ends:
            self._go_on(opening.items)

    def end(self) -> None:
        """Open nothing and resume no items any more: the run ends. From any thread."""
        self._ends = True
        with self._lock:
            for opening in self._active.values():
                opening.done.set()

    def let_go(self) -> None:
        """Drop the functions that resume items; nothing waits any more."""
        self._ends = self._is_over = True
        del self._go_on, self._fail
        self._last = None, None
