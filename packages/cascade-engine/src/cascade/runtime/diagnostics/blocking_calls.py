"""Finding calls that block the event loop: a step of a coroutine task, or a plain function there.

A coroutine that calls ``time.sleep`` or ``requests.get`` blocks everything that shares its event
loop, and nothing shows where. So each *step* of a coroutine task, from one ``await`` to the next,
is marked while it lasts, and a thread looks at the mark from time to time. When the same step is
older than its threshold, that thread takes the stack of the loop's thread, while it blocks.

- The mark costs a step some 60 ns; it takes no lock and wakes no thread.
- The thread is started by the first step, looks once per threshold while there are steps, sleeps
  while there are none, and ends after ``LINGER`` seconds without one.
- Steps are measured in real seconds, also under a virtual clock. A step that stops in a debugger is
  ignored.
- Plain functions that are called in the event loop's thread are marked as well. The last mark
  counts: the time of a marked call does not belong to the step around it.
- Pauses of the garbage collector do not count, nor does time in which the process did not run: then
  the look comes late, and the CPU clock of the loop's thread has stood still. The process was
  suspended, or other processes had the processor.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.runtime.diagnostics.blocked_stacks import (
    Frame,
    as_text,
    frames_of,
    innermost,
    marking,
    place_in,
)
from cascade.runtime.diagnostics.blocking_warnings import BlockedStep
from cascade.runtime.diagnostics.gc_pauses import pauses
from cascade.runtime.diagnostics.usage import usage

T = TypeVar("T")

#: Default of the seconds that a step of a coroutine may take.
THRESHOLD = 0.1
#: Seconds without a step after which the thread ends; the next step starts another.
LINGER = 1.0
#: Seconds that a plain function may keep the event loop's thread.
PLAIN_THRESHOLD = 0.05
#: A look that is later than this, in seconds, could not have been in time.
_LATE = 0.02
#: Delay in seconds of a look that had to wait for the interpreter's lock.
_WAITED = 0.002
#: Least seconds between two looks, whatever the thresholds.
_SHORTEST_LOOK = 0.01

_log = logging.getLogger("cascade.blocking")


class _Marks:
    """The running calls of one thread, for the monitors of all engines there."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        #: The innermost marked call.
        self.current: Marked | None = None


_here = threading.local()


def _marks_here() -> _Marks:
    if not hasattr(_here, "marks"):
        _here.marks = _Marks()
    marks: _Marks = _here.marks
    return marks


class BlockingMonitor:
    """Watches the coroutine steps of one thread. Made in that thread.

    Args:
        on_blocked: Called once for a step that takes too long, as soon as it is found, in the
            monitor's own thread. Its exceptions go to the logger ``cascade.blocking``.
        threshold: Seconds that a step may take.
        clock: Returns seconds.
        linger: Seconds without a step after which the thread ends.
    """

    __slots__ = (
        "_closed",
        "_every",
        "_linger",
        "_lock",
        "_loop_thread",
        "_on_blocked",
        "_parked",
        "_thread",
        "_threshold",
        "_wake",
        "_cpu_clock",
        "_native",
        "_lost",
        "clock",
        "marks",
        "quiet",
    )

    def __init__(
        self,
        on_blocked: Callable[[BlockedStep], object],
        threshold: float = THRESHOLD,
        *,
        clock: Callable[[], float] = perf_counter,
        linger: float = LINGER,
    ) -> None:
        self.clock = clock
        #: The running calls.
        self.marks = _marks_here()
        #: Times of late looks, and the seconds lost up to each.
        self._lost: deque[tuple[float, float]] = deque(maxlen=16)
        self._cpu_clock = _cpu_clock()
        self._native = threading.get_native_id()
        pauses.listen()
        #: Set at each look and cleared by the next step, which makes sure that looks go on.
        self.quiet = True
        self._on_blocked = on_blocked
        self._threshold = threshold
        self._every = _between_looks(threshold)
        self._linger = linger
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._parked = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def watch(self, owner: Any, may_block: bool | float = False) -> Watch | None:
        """A Watch that drives one coroutine; None if it may block without limit.

        Args:
            owner: Passed on in reports.
            may_block: Whether it may block, or for how many seconds.
        """
        if may_block is True:
            return None
        return Watch(self, owner, self.allowed(may_block))

    def allowed(self, may_block: bool | float) -> float:
        """Seconds that a step may take before it is reported; looks are frequent enough for it.

        Args:
            may_block: Whether it may block, or for how many seconds.
        """
        if may_block is True:
            return math.inf
        threshold = self._threshold if may_block is False else may_block
        if threshold < self._every:
            self._every = _between_looks(threshold)
        return threshold

    def watch_call(self, owner: Any, on_late: Callable[[], object] | None = None) -> Watch:
        """A Watch that marks a plain function in this thread.

        Args:
            owner: Passed on in reports.
            on_late: Called, in the monitor's thread, when the call takes too long.
        """
        return Watch(self, owner, self.allowed(PLAIN_THRESHOLD), on_late)

    @property
    def current(self) -> Marked | None:
        """The running call, if this monitor watches it."""
        watch = self.marks.current
        return watch if watch is not None and watch.monitor is self else None

    def close(self) -> None:
        """Stop watching, and end the thread, which takes a moment. From any thread; repeatable."""
        with self._lock:
            self._closed = True
            self._wake.set()

    # -- called by steps ----------------------------------------------------------------------

    def stir(self, watch: Marked) -> None:
        """The first step since the last look: make sure that there is a next look."""
        now, began = self.clock(), watch.began
        if self.clock is perf_counter:
            pauses.check(now)
        watch.began = math.inf  # the thread may take a while to start
        try:
            self._stir()
        finally:
            watch.began = began
            watch.set_back(self.clock() - now)

    def _stir(self) -> None:
        with self._lock:
            self.quiet = False
            if self._closed:
                return
            if self._parked:
                self._wake.set()
            elif self._thread is None:
                self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=self._keep_looking, name="cascade-blocking", daemon=True
        )
        try:
            self._thread.start()
        # Too many threads, or the interpreter ends: no reason to fail a task.
        except RuntimeError as error:
            _log.warning("blocking calls cannot be detected: %s", error)

    # -- the monitor's own thread -------------------------------------------------------------

    def _keep_looking(self) -> None:
        while not self._closed:
            # In this order: the look sees a step that begins before it, and a later step stirs.
            self.quiet = True
            self._sleep(self._look())
            if self.quiet and self.current is None and not self._park():
                return

    def _sleep(self, seconds: float) -> None:
        """Wait for the next look; if it is late, find the reason."""
        if self.clock is not perf_counter or self._cpu_clock is None:
            self._wake.wait(seconds)
            return
        began, used = perf_counter(), _read(self._cpu_clock)
        self._wake.wait(seconds)
        now = perf_counter()
        late = now - began - seconds
        if late > _WAITED:
            usage.waited, usage.disturbed = late, now
        used = _read(self._cpu_clock) - used
        if late > _LATE:
            lost = late - used
        elif used < (now - began) / 2 and self._is_runnable():
            lost = now - began - used  # ready to run, but other threads had the processor
        else:
            return
        if lost > 0:
            self._lost.append((began, lost))

    def _is_runnable(self) -> bool:
        """Whether the loop's thread can run now, and neither waits nor is stopped."""
        try:
            with open(f"/proc/self/task/{self._native}/stat", encoding="ascii") as file:
                return file.read().rpartition(") ")[2].startswith("R")
        except OSError:  # not on Linux
            return False

    def _to_blame(self, watch: Marked) -> float:
        """Seconds during which the running call has occupied the thread by its own work."""
        began = watch.began
        seconds = self.clock() - began
        if self.clock is not perf_counter:
            return seconds
        seconds -= sum(lost for at, lost in self._lost if at >= began - self._every)
        return seconds - pauses.since(began, self._loop_thread)

    def _park(self) -> bool:
        """Wait for a step; False if none came and the thread should end."""
        with self._lock:
            if not self.quiet:
                return True
            self._parked = True
        self._wake.wait(self._linger)
        with self._lock:
            self._parked = False
            if self.quiet or self._closed:
                self._thread = None
                return False
            self._wake.clear()
            return True

    def _look(self) -> float:
        """Report the running step if it is overdue; returns the seconds until the next look."""
        watch = self.current
        if watch is None:
            return self._every
        began, owner = watch.began, watch.owner
        seconds = self._to_blame(watch)
        if watch.dealt_with == began:
            return self._every
        if seconds < watch.threshold:
            return min(max(watch.threshold - seconds, 0.001), self._every)
        frames = frames_of(self._loop_thread)
        if not frames or self.current is not watch or watch.began != began:
            return self._every  # it has ended
        watch.dealt_with = began
        if watch.on_late is not None:
            watch.on_late()
        if not any(frame.is_debugger for frame in frames):
            self._report(owner, seconds, watch.threshold, frames)
        return self._every

    def _report(self, owner: Any, seconds: float, threshold: float, frames: list[Frame]) -> None:
        try:
            plain, frames = innermost(frames)
            place, stack = place_in(frames), as_text(frames)
            step = BlockedStep(owner, seconds, threshold, place, stack, plain)
            self._on_blocked(step)
        except Exception:  # no caller would see it, and other steps need watching
            _log.exception("the report of a blocking call failed")


class Marked:
    """A coroutine, or a call of a plain function, that is marked while it runs.

    Attributes:
        monitor: Looks at the marks.
        on_late: Called, in the monitor's thread, when a step takes too long; or None.
        began: Start of the running step, or of the last one.
        dealt_with: ``began`` of the last step that was reported or ignored.
    """

    if not TYPE_CHECKING:  # the classes below have the slots
        __slots__ = ()

    monitor: BlockingMonitor
    on_late: Callable[[], object] | None
    began: float
    dealt_with: float

    @property
    def owner(self) -> Any:
        """Passed on in reports. From any thread."""
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        """Seconds that a step may take. From any thread."""
        raise NotImplementedError

    def leave_out(self, seconds: float) -> None:
        """Note that something else has occupied the thread for so long, during the running step."""
        self.set_back(seconds)
        if self.monitor.quiet:
            self.monitor.stir(self)

    def set_back(self, seconds: float) -> None:
        """Move the start of the step to a later time."""
        if self.dealt_with == self.began:
            self.dealt_with += seconds
        self.began += seconds


class Watch(Marked):
    """One watched coroutine, or call of a plain function."""

    __slots__ = ("began", "dealt_with", "monitor", "on_late", "owner", "threshold")

    owner: Any
    threshold: float

    def __init__(
        self,
        monitor: BlockingMonitor,
        owner: Any,
        threshold: float,
        on_late: Callable[[], object] | None = None,
    ) -> None:
        self.monitor = monitor
        self.on_late = on_late
        self.owner = owner
        self.threshold = threshold
        self.began = 0.0
        self.dealt_with = -math.inf


def marked(watch: Watch | None, func: Callable[..., T], *args: Any) -> T:
    """Call ``func`` with a mark for the monitor of ``watch``."""
    if watch is None:
        return func(*args)
    monitor = watch.monitor
    marks = monitor.marks
    outer = marks.current
    watch.began = monitor.clock()
    marks.current = watch
    if monitor.quiet:
        monitor.stir(watch)
    try:
        return func(*args)
    finally:
        marks.current = outer
        if outer is not None:
            outer.leave_out(monitor.clock() - watch.began)


marking.add(marked.__code__)


def _cpu_clock() -> int | None:
    """The calling thread's CPU clock, readable in any thread; None if the system has none."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    return time.pthread_getcpuclockid(threading.get_ident())


def _read(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # the thread has ended
        return 0.0


def _between_looks(threshold: float) -> float:
    return max(threshold, _SHORTEST_LOOK)
