"""``@cs.schedule("0 7 * * *")``: targets that workers enqueue at the times of a cron expression."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cascade.graph.codec import Codec
from cascade.runtime.durable.programs import wanted
from cascade.spec.errors import ArgumentError, CascadeError, DefinitionError, StoreError
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.run_rows import NewRun
from cascade.spec.run_store import RunStore
from cascade.spec.task import Task
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cronsim import CronSim

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("cascade.worker")
#: Most seconds that a timetable lets pass until it looks at the clock again.
_LONGEST: Final = 60.0
#: Name → schedule, of all modules that are imported.
_schedules: dict[str, Schedule] = {}


def schedule(
    expression: str, *, tz: str | tzinfo = "UTC", name: str | None = None
) -> Callable[[F], F]:
    """Have a target enqueued at certain times, once each, however many workers serve.

    Decorate a task that can be called without arguments, or a function that takes nothing and
    returns a lazy value. The function is called at each time, in a worker that has imported its
    module: ``engine.serve(modules=["flows"])`` or ``cascade work flows``. The run has the id
    ``name@time``, such as ``flows.report@2026-11-30T07:00+01:00``.

    If no worker served at some of the times, the latest of them is made up for; the first time
    after a schedule is new is never in the past. Needs ``pip install "cascade-engine[schedule]"``.

    Args:
        expression: Minute, hour, day of the month, month and day of the week, as in cron:
            ``"*/15 * * * *"``, ``"0 7 * * MON-FRI"``. A time that a change of the clocks leaves out
            comes after it, and one that it repeats comes once, as in Debian's cron.
        tz: The time zone, such as ``"Europe/Berlin"``.
        name: Names the schedule in the store; ``module.function`` by default.

    Raises:
        ArgumentError: The expression or the time zone is invalid.
        DefinitionError: The thing cannot be called without arguments, or the name is taken.
        ImportError: The extra is not installed.
    """
    zone = _zone(tz)
    _cron(expression, datetime.now(zone))  # refuses what is invalid

    def decorate(thing: F) -> F:
        _check_callable(thing)
        named = f"{thing.__module__}.{thing.__qualname__}" if name is None else name
        there = _schedules.get(named)
        # The same place again is a module that is imported again.
        if there is not None and (there.make is thing or _place(there.make) != _place(thing)):
            raise DefinitionError(
                f"there is a schedule named {named!r} already; give this one a name: "
                f"@cs.schedule({expression!r}, name=…)"
            )
        _schedules[named] = Schedule(named, expression, zone, thing)
        return thing

    return decorate


class Schedule:
    """The times of a target.

    Args:
        name: Its name in the store.
        expression: A cron expression.
        zone: Its time zone.
        make: Gives the target.
    """

    def __init__(self, name: str, expression: str, zone: tzinfo, make: Callable[[], Any]) -> None:
        self.name = name
        self.make = make
        self._expression = expression
        self._zone = zone

    def last(self, now: float) -> datetime | None:
        """The latest time that is not after ``now``; None if there was none."""
        # Backwards from the next second, as a time that is now counts; then forwards, because in an
        # hour that occurs twice, going backwards misses the first of the two.
        last = next(_cron(self._expression, self._at(int(now) + 1), reverse=True), None)
        if last is not None:
            for later in _cron(self._expression, last):
                if later.timestamp() > now:
                    break
                last = later
        return last

    def next(self, now: float) -> datetime | None:
        """The first time after ``now``; None if there is none."""
        return next(_cron(self._expression, self._at(now)), None)

    def run(self, codec: Codec, at: datetime) -> NewRun:
        """The run for a time.

        Raises:
            CascadeError: The function returns no target, or one that other processes cannot read.
            Exception: An error of the function.
        """
        made = self.make()
        target = as_lazy(made, Schedule.run.__code__, 0)
        if not isinstance(target, LazyResult):
            raise DefinitionError(
                f"the schedule '{self.name}' is of a function that returned {short(made)}, but a "
                "target is a lazy value; of a task: write @cs.schedule(…) above @cs.task"
            )
        run_id = f"{self.name}@{at.isoformat(timespec='minutes')}"
        return wanted(codec, run_id, target, {}, portable=True).new

    def _at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, self._zone)


class Timetable:
    """When the schedules of this process are to be fired. For one worker.

    Args:
        codec: Encodes the targets.
        now: The time, in seconds since the epoch.
    """

    def __init__(self, codec: Codec, now: Callable[[], float] = time.time) -> None:
        self._codec = codec
        self._now = now
        #: Schedule → its next time; it is new where there is none.
        self._next: dict[Schedule, float] = {}

    def fire(self, store: RunStore) -> float:
        """Create the runs for the times that have come; seconds until the next time.

        Raises:
            StoreError: The store cannot be used.
        """
        if not _schedules:
            return _LONGEST
        now = self._now()
        for one in list(_schedules.values()):
            at = self._next.get(one)
            if at is None:
                self._make_up(store, one, now)
            elif at <= now:
                self._fire(store, one, now)
            else:
                continue
            following = one.next(now)
            self._next[one] = float("inf") if following is None else following.timestamp()
        soonest = min((self._next.get(one, now) for one in _schedules.values()), default=now)
        return min(_LONGEST, max(0.0, soonest - now))

    def _make_up(self, store: RunStore, one: Schedule, now: float) -> None:
        """Fire a schedule that no worker of this process knew yet, if it has missed a time."""
        fired, last = store.fired().get(one.name), one.last(now)
        if fired is not None and last is not None and last.timestamp() > fired:
            self._fire(store, one, now)

    def _fire(self, store: RunStore, one: Schedule, now: float) -> None:
        """Fire a schedule for its latest time, unless another worker has."""
        at = one.last(now)
        if at is None:
            return
        try:
            run = one.run(self._codec, at)
            if store.fire(one.name, at.timestamp(), run):
                _log.info("enqueued %r", run.run_id)
        except StoreError:
            raise
        except Exception as error:
            what = "" if isinstance(error, CascadeError) else f"{type(error).__name__}: "
            _log.error("the schedule %r has no run for %s: %s%s", one.name, at, what, error)


def _cron(expression: str, start: datetime, *, reverse: bool = False) -> CronSim:
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError as error:
        if error.name != "cronsim":
            raise
        raise ImportError(
            'cs.schedule needs cronsim: pip install "cascade-engine[schedule]"'
        ) from error
    try:
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise CronSimError("it does not have five fields")
        return CronSim(expression, start, reverse)
    except CronSimError as error:
        raise ArgumentError(
            "schedule() takes a cron expression such as '0 7 * * MON-FRI', but got "
            f"{short(expression)}: {error}"
        ) from None


def _zone(tz: Any) -> tzinfo:
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ArgumentError(
            f"tz takes the name of a time zone, such as 'Europe/Berlin', but got {short(tz)}; "
            "where the system has no time zones: pip install tzdata"
        ) from None


def _place(thing: Any) -> tuple[str, str]:
    return thing.__module__, thing.__qualname__


def _check_callable(thing: Any) -> None:
    """Refuse targets that cannot be called without arguments."""
    if isinstance(thing, Task):
        signature = thing.parameters.signature
    elif inspect.isfunction(thing):
        signature = inspect.signature(thing)
    else:
        raise DefinitionError(
            f"@cs.schedule(…) decorates a task, or a function that returns a lazy value, but got "
            f"{short(thing)}"
        )
    packs = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = signature.parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in packs]
    if needed:
        raise DefinitionError(
            f"@cs.schedule(…): '{thing.__qualname__}' needs {', '.join(needed)}, but is called "
            "without arguments; decorate a function that returns the call"
        )
