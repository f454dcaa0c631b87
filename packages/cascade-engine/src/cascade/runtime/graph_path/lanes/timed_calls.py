"""Plain calls with a timeout, on workers.

Nothing can stop a plain function, so a call that takes too long is given up (M8): its thread is no
longer one of the pool, and what it gives is dropped. The worker that ends a call in time and the
event loop that finds it late race for it, once, and the loser leaves without touching anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from threading import get_ident
from typing import Any, Final, TypeAlias

from cascade.runtime.execution.carried_errors import overran
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Segment, Work
from cascade.spec.lazy_types import LazyResult

#: The result of a call that was given up: another thread has its work by now.
GIVEN_UP: Final = object()
#: A node that is called without a Work: its segment, the node, its arguments, its start.
Called: TypeAlias = tuple[Segment, LazyResult[Any], Sequence[Any], dict[str, Any], float]


class InTime:
    """See ``IN_TIME``."""

    def __repr__(self) -> str:
        return "(in time)"


#: Of a light call that has to end in time.
IN_TIME: Final = InTime()


class _Timed:
    """A call under way.

    Attributes:
        thread: The thread that makes it.
        cell: The cell of this thread; see ``WorkerPool``.
        due: The time at which it has to end.
        called: The work; for a light call, the arguments with which ``Work.called`` makes it.
    """

    __slots__ = ("called", "cell", "due", "thread")

    def __init__(self, thread: int, cell: list[Any], due: float, called: Work | Called) -> None:
        self.thread, self.cell, self.due, self.called = thread, cell, due, called


class TimedCalls(Part):
    """The plain calls of one run that have to end in time.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._time = self._run.loop.time
        #: The calls under way. To take one out is atomic: the thread that succeeds ends the call.
        self._active: dict[_Timed, None] = {}
        self._dispatch.at_look(self._look)

    def call(self, context: Context, work: Work, func: Callable[..., Any], timeout: float) -> Any:
        """Make the call of ``work`` by ``func`` in ``context``, in a worker's thread.

        GIVEN_UP if it took too long; then the caller must leave at once, and leave ``work`` alone.
        """
        active, me = self._active, get_ident()
        timed = _Timed(me, self._dispatch.pool.cell(), self._time() + timeout, work)
        active[timed] = None
        try:
            value = context.run(func, *work.args, **work.kwargs)
        except BaseException:
            if active.pop(timed, timed) is None:
                raise
            return GIVEN_UP
        return GIVEN_UP if active.pop(timed, timed) else value

    def call_light(self, called: Called, cell: list[Any]) -> Any:
        """``call`` for a light call; ``cell`` belongs to the calling thread."""
        active = self._active
        _, lazy, args, kwargs, _ = called
        timeout = lazy._calls.timeout
        assert timeout is not None
        timed = _Timed(get_ident(), cell, self._time() + timeout, called)
        active[timed] = None
        try:
            value = lazy.task.func(*args, **kwargs)
        except BaseException:
            if active.pop(timed, timed) is None:
                raise
            return GIVEN_UP
        return GIVEN_UP if active.pop(timed, timed) else value

    def _look(self) -> None:
        """Give up calls that take too long. In the event loop's thread."""
        if not self._active:
            return
        now = self._time()
        for timed in list(self._active):
            if timed.due <= now and self._active.pop(timed, timed) is None:
                self._give_up(timed)

    def _give_up(self, timed: _Timed) -> None:
        called, dispatch = timed.called, self._dispatch
        work = called if isinstance(called, Work) else Work.called(*called)
        name, timeout = work.operation.name, work.policies.timeout
        assert timeout is not None
        call = dispatch.pool.give_up(timed.thread, timed.cell)
        if call is None:  # it has just ended
            dispatch.limit_waits.release(work)
        else:
            dispatch.limit_waits.release_after(work, call)
            self._run.give_up(call, name, work.source)
        error = overran(name, timeout)
        try:
            if not self._parts.after_call.tries_again(work, error):
                self._parts.failures.fail(error, work)
        except BaseException as other:  # of a function that decides about another attempt
            self._parts.failures.fail(other, work)
        dispatch.pool.wake()
        dispatch.idle()
