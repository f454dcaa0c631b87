"""Something done to a run at every point of it, in virtual time.

A run in virtual time is the same each time, down to the order of its steps. A *point* is a turn of
the event loop, or a step of one of its tasks.
"""

import asyncio
from collections.abc import Coroutine

from cascade.runtime.clock import VirtualLoop


class Points(VirtualLoop):
    """A loop in virtual time that can do something at a point of the run that it is told to watch.

    Attributes:
        count: Points that have passed.
        jumps: How often the time jumped to that of a timer.
    """

    def __init__(self):
        super().__init__()
        self.count = self.jumps = 0
        self._watching = False
        self._planned = {}
        self.set_task_factory(
            lambda loop, work, **kw: asyncio.Task(Stepping(work, self._point), loop=loop, **kw)
        )

    def watch(self, planned):
        """From now on, call the function in ``planned`` for each point when that is reached."""
        self.count = 0
        self._planned = dict(planned)
        self._watching = True

    def unwatch(self):
        self._watching = False

    def _run_once(self):
        self._point()
        super()._run_once()

    def _advance(self, seconds):
        self.jumps += 1
        super()._advance(seconds)

    def _point(self):
        if self._watching:
            act = self._planned.pop(self.count, None)
            self.count += 1
            if act is not None:
                act()


class Stepping(Coroutine):
    """A coroutine that tells of its steps."""

    def __init__(self, work, tell):
        self._work = work
        self._tell = tell

    def send(self, value):
        self._tell()
        return self._work.send(value)

    def throw(self, *error):
        self._tell()
        return self._work.throw(*error)

    def close(self):
        self._work.close()

    def __await__(self):
        raise NotImplementedError


def in_loop(main):
    with asyncio.Runner(loop_factory=Points) as runner:
        return runner.run(main())


class Cancel:
    """Cancels a run when it is called.

    Attributes:
        accepted: Whether the run was not over.
    """

    def __init__(self, running):
        self._running = running
        self.accepted = False

    def __call__(self):
        self.accepted = self._running.cancel()
