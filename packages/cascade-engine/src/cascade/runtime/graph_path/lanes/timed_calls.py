"""Plain calls with a timeout, on workers.

Nothing can stop a plain function, so a call that takes too long is given up (M8): its thread is no
longer one of the pool, and what it gives is dropped. The worker that ends a call in time and the
event loop that finds it late race for it, once, and the loser leaves without touching anything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from typing import Any, Final

from cascade.runtime.execution.carried_errors import overran
from cascade.runtime.execution.taken_once import TakenOnce
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work

#: The result of a call that was given up: another thread has its work by now.
GIVEN_UP: Final = object()


class _Timed(TakenOnce):
    """A call under way.

    Attributes:
        work: The work whose call it is.
        cell: The cell of its thread; see ``WorkerPool``.
        due: The time at which it has to end.
    """

    __slots__ = ("cell", "due", "work")

    def __init__(self, work: Work, cell: list[Any], due: float) -> None:
        super().__init__()
        self.work, self.cell, self.due = work, cell, due


class TimedCalls(Part):
    """The plain calls of one run that have to end in time.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._time = self._run.loop.time
        #: Thread → its call.
        self._active: dict[int, _Timed] = {}
        self._dispatch.at_look(self._look)

    def call(self, context: Context, work: Work, func: Callable[..., Any], timeout: float) -> Any:
        """Make the call of ``work`` by ``func`` in ``context``, in a worker's thread.

        GIVEN_UP if it took too long; then the caller must leave at once, and leave ``work`` alone.
        """
        me = get_ident()
        timed = _Timed(work, self._dispatch.pool.cell(), self._time() + timeout)
        self._active[me] = timed
        try:
            value = context.run(func, *work.args, **work.kwargs)
        except BaseException:
            if self._ends(me, timed):
                raise
            return GIVEN_UP
        return value if self._ends(me, timed) else GIVEN_UP

    def _ends(self, thread: int, timed: _Timed) -> bool:
        if not timed.take():
            return False
        del self._active[thread]
        return True

    def _look(self) -> None:
        """Give up calls that take too long. In the event loop's thread."""
        if not self._active:
            return
        now = self._time()
        for thread, timed in list(self._active.items()):
            if timed.due <= now and timed.take():
                del self._active[thread]
                self._give_up(thread, timed)

    def _give_up(self, thread: int, timed: _Timed) -> None:
        work, dispatch = timed.work, self._dispatch
        name, timeout = work.operation.name, work.policies.timeout
        assert timeout is not None
        call = dispatch.pool.give_up(thread, timed.cell)
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
