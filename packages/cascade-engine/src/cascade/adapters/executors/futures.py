"""FuturesExecutor: makes calls of tasks with any pool of the shape of ``concurrent.futures``."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import util
from typing import Any, NamedTuple, Protocol

from cascade.adapters.executors.checks import kind_of
from cascade.adapters.executors.process import usable_cores
from cascade.adapters.executors.turns import Turns
from cascade.runtime.elsewhere.marks import MOST_CALLS, Marks, Place
from cascade.runtime.elsewhere.serving import serve
from cascade.spec.checks import check_count
from cascade.spec.errors import ExecutorError, RunError, WorkerLostError
from cascade.spec.protocols import Capabilities
from cascade.spec.remote_calls import Outcome, RemoteCall
from cascade.spec.wording import error_text


class FuturesPool(Protocol):
    """A pool of other processes: loky, Parsl, executorlib, ``ProcessPoolExecutor`` and so on."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` there; both can be pickled."""


class _Turn(NamedTuple):
    """Calls that one worker makes, and their marks."""

    calls: list[RemoteCall]
    place: Place


class FuturesExecutor:
    """Makes calls with a pool that you have made, and that you shut down yourself.

    >>> from concurrent.futures import ProcessPoolExecutor
    >>> import cascade as cs
    >>> with ProcessPoolExecutor(2) as pool:
    ...     cs.FuturesExecutor(pool)
    <FuturesExecutor of concurrent.futures.process.ProcessPoolExecutor, 2 workers>

    The pool cannot end a call that takes too long: it goes on there, and its result is dropped
    (M8). Workers on this machine mark the calls that they begin: each is begun at most once without
    a retry, also by a pool that makes the calls of a dead process again. After the death of a
    worker, its begun calls fail with a WorkerLostError. If the worker was on another machine, all
    calls of its turn fail; such a pool must not repeat calls by itself.

    Args:
        pool: Has ``submit``, which gives futures, and workers that can import ``cascade``.
        max_workers: Most calls, or turns of short calls, that it is given at the same time; by
            default the number that the pool says that it has, or that of the cores.

    Raises:
        ExecutorError: ``pool`` has no such ``submit``.
        ArgumentError: ``max_workers`` is not an int ≥ 1.
    """

    capabilities: Capabilities = Capabilities(stops=False, once=True)

    def __init__(self, pool: FuturesPool, *, max_workers: int | None = None) -> None:
        submit = getattr(pool, "submit", None)
        if isinstance(pool, type) or submit is None or inspect.iscoroutinefunction(submit):
            raise ExecutorError(
                f"cs.FuturesExecutor() takes a pool with a submit() that gives futures, as "
                f"concurrent.futures has them, but got {kind_of(pool)}"
            )
        if max_workers is None:
            max_workers = getattr(pool, "_max_workers", None) or usable_cores()
        check_count("max_workers", max_workers)
        self.max_workers: int = max_workers
        self._pool = pool
        self._lock = threading.RLock()
        self._turns = Turns(MOST_CALLS)
        self._fresh: list[RemoteCall] = []
        #: The turns that the pool has.
        self._active: dict[Future[Any], _Turn] = {}
        #: Turns that are being withdrawn.
        self._withdrawn: set[Future[Any]] = set()
        self._marks = Marks(max_workers)
        self._finalizer = util.Finalize(self, self._marks.close, exitpriority=0)
        self._ended = threading.Condition(self._lock)
        self._closed = False

    def submit_call(self, call: RemoteCall) -> None:
        """See ``TaskExecutor``.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
        """
        with self._lock:
            if self._closed:
                raise RunError("the executor has been shut down and takes no more calls")
            self._fresh.append(call)

    def flush(self) -> None:
        """Begin the submitted calls."""
        with self._lock:
            self._turns.add(self._fresh)
            self._fresh.clear()
        self._fill()

    def cancel_call(self, call: RemoteCall, *, stop: bool = False) -> bool:
        """See ``TaskExecutor``; a call that has begun is not ended."""
        with self._lock:
            turn: Future[Any] | None = call.state
            if turn is None:
                if call in self._fresh:
                    self._fresh.remove(call)
                    return True
                return self._turns.withdraw(call)
            found = self._active.get(turn)
            if found is None:
                return False
            self._marks.withdraw(found.place, found.calls.index(call))
            if len(found.calls) != 1:
                return False
            self._withdrawn.add(turn)
        if turn.cancel():
            return True
        self._withdrawn.discard(turn)
        return False

    def waits(self, call: RemoteCall) -> bool:
        """See ``TaskExecutor``; a call counts as begun if its worker has no marks."""
        with self._lock:
            if call.state is None:
                return True
            turn = self._active.get(call.state)
            return turn is not None and self._has_not_begun(turn, turn.calls.index(call))

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls; the pool itself goes on.

        With ``wait``, return when its calls have ended.
        """
        with self._lock:
            self._closed = True
            calls = [*self._turns.take_all(), *self._fresh]
            self._fresh.clear()
        for call in calls:
            problem = f"the executor was shut down before the call of task '{call.name}'"
            call.on_end(Outcome("failed", error=RunError(problem)))
        with self._ended:
            while wait and self._active:
                self._ended.wait()
            if not self._active:
                self._finalizer()

    def _fill(self) -> None:
        """Give the pool as many turns as it has workers."""
        while True:
            with self._lock:
                free = self.max_workers - len(self._active)
                if free < 1 or not len(self._turns):
                    return
                calls = self._turns.take(free)
                tasks = dict(part for call in calls for part in call.parts())
                sent = [(call.name, call.task.token, call.arguments, call.spins) for call in calls]
                failure: Exception | None = None
                place = self._marks.place()
                try:
                    turn = self._pool.submit(serve, tasks, sent, place)
                except Exception as problem:
                    failure = problem
                    self._marks.forget(place)
                else:
                    self._active[turn] = _Turn(calls, place)
                    for call in calls:
                        call.state = turn
            if failure is not None:
                error = ExecutorError(f"{kind_of(self._pool)} takes no call: {error_text(failure)}")
                error.__cause__ = failure
                for call in calls:
                    call.on_end(Outcome("failed", error=error))
                continue
            if calls[0].on_begin is not None:
                calls[0].on_begin()
            turn.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        """A turn has ended. In any thread."""
        try:
            ends, problem = future.result(), None
        except BaseException as error:  # CancelledError is none of Exception's
            ends, problem = None, error
        with self._ended:
            turn = self._active.pop(future)
            lost = [] if problem is None else self._lost(turn, problem)
            self._marks.forget(turn.place)
            self._ended.notify_all()
            if self._closed and not self._active:
                self._finalizer()
        was_withdrawn = future.cancelled() and future in self._withdrawn
        self._withdrawn.discard(future)
        if problem is None:
            self._settle(turn.calls, ends)
            self._fill()
            return
        if not was_withdrawn:
            for call, loss in lost:
                call.on_end(Outcome("failed", error=loss))
        if len(self._turns):
            # A pool may report its end while it holds the lock that ``submit`` takes; the pool of
            # the standard library does so on newer Pythons.
            threading.Thread(target=self._fill, name="cascade-futures", daemon=True).start()

    def _settle(self, calls: list[RemoteCall], ends: list[Any]) -> None:
        """A worker has made a turn."""
        for call, (end, seconds) in zip(calls, ends, strict=True):
            outcome = Outcome(*end)
            if outcome.kind != "failed":
                with self._lock:
                    self._turns.note(call, seconds)
            elif outcome.data == b"begun":
                problem = RuntimeError("a worker had begun it before, and has ended since")
                outcome = Outcome("failed", error=self._lost_in(call, problem))
            else:
                outcome = Outcome("failed", error=RunError(f"{call!r} was withdrawn"))
            call.on_end(outcome)

    def _has_not_begun(self, turn: _Turn, place: int) -> bool:
        """Whether a call is known not to have begun."""
        return self._marks.is_seen(turn.place) and not self._marks.has_begun(turn.place, place)

    def _lost(self, turn: _Turn, problem: BaseException) -> list[tuple[RemoteCall, Exception]]:
        """The calls of a turn that has failed, with their errors; those not begun wait again."""
        lost: list[tuple[RemoteCall, Exception]] = []
        back = []
        for place, call in enumerate(turn.calls):
            if self._closed or not self._has_not_begun(turn, place):
                lost.append((call, self._lost_in(call, problem)))
            else:
                call.state = None
                back.append(call)
        if not lost:  # it would go on for ever
            return [(call, self._lost_in(call, problem)) for call in back]
        self._turns.add(back, first=True)
        return lost

    def _lost_in(self, call: RemoteCall, problem: BaseException) -> WorkerLostError:
        error = WorkerLostError(
            f"{kind_of(self._pool)} has not made the call of task '{call.name}', or has lost its "
            f"result: {error_text(problem)}",
            call.name,
        )
        error.__cause__ = problem
        return error

    def __repr__(self) -> str:
        return f"<FuturesExecutor of {kind_of(self._pool)}, {self.max_workers} workers>"
