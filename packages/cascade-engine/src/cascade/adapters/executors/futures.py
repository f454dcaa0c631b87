"""FuturesExecutor: makes calls of tasks with any pool of the shape of ``concurrent.futures``."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Protocol

from cascade.adapters.executors.checks import kind_of
from cascade.adapters.executors.process import usable_cores
from cascade.adapters.executors.turns import Turns
from cascade.runtime.elsewhere.serving import serve
from cascade.spec.checks import check_count
from cascade.spec.errors import ExecutorError, RunError, WorkerLostError
from cascade.spec.protocols import Capabilities
from cascade.spec.remote_calls import Outcome, RemoteCall
from cascade.spec.wording import error_text

#: Most calls of one turn.
_MOST_CALLS: Final = 256


class FuturesPool(Protocol):
    """A pool of other processes: loky, Parsl, executorlib, ``ProcessPoolExecutor`` and so on."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` there; both can be pickled."""


class FuturesExecutor:
    """Makes calls with a pool that you have made, and that you shut down yourself.

    >>> from concurrent.futures import ProcessPoolExecutor
    >>> import cascade as cs
    >>> with ProcessPoolExecutor(2) as pool:
    ...     cs.FuturesExecutor(pool)
    <FuturesExecutor of concurrent.futures.process.ProcessPoolExecutor, 2 workers>

    The pool cannot end a call that takes too long: it goes on there, and its result is dropped
    (M8). And it does not tell which calls have begun: if one of its processes dies, all calls that
    were sent together have failed, with a WorkerLostError. It must not repeat calls by itself.

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
        self._turns = Turns(_MOST_CALLS)
        self._fresh: list[RemoteCall] = []
        #: The turns that the pool has, with their calls.
        self._active: dict[Future[Any], list[RemoteCall]] = {}
        #: Turns that are being withdrawn.
        self._withdrawn: set[Future[Any]] = set()
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
            if len(self._active.get(turn, ())) != 1:
                return False
            self._withdrawn.add(turn)
        if turn.cancel():
            return True
        self._withdrawn.discard(turn)
        return False

    def waits(self, call: RemoteCall) -> bool:
        """See ``TaskExecutor``; a call that was sent to the pool counts as begun."""
        return call.state is None

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
                try:
                    turn = self._pool.submit(serve, tasks, sent)
                except Exception as problem:
                    failure = problem
                else:
                    self._active[turn] = calls
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

    def _done(self, turn: Future[Any]) -> None:
        """A turn has ended. In any thread."""
        with self._ended:
            calls = self._active.pop(turn)
            self._ended.notify_all()
        if not (turn.cancelled() and turn in self._withdrawn):
            self._settle(turn, calls)
        self._withdrawn.discard(turn)
        self._fill()

    def _settle(self, turn: Future[Any], calls: list[RemoteCall]) -> None:
        try:
            ends = turn.result()
        except BaseException as problem:  # CancelledError is none of Exception's
            for call in calls:
                call.on_end(Outcome("failed", error=self._lost(call, problem)))
            return
        for call, (outcome, seconds) in zip(calls, ends, strict=True):
            with self._lock:
                self._turns.note(call, seconds)
            call.on_end(Outcome(*outcome))

    def _lost(self, call: RemoteCall, problem: BaseException) -> WorkerLostError:
        error = WorkerLostError(
            f"{kind_of(self._pool)} has not made the call of task '{call.name}', or has lost its "
            f"result: {error_text(problem)}",
            call.name,
        )
        error.__cause__ = problem
        return error

    def __repr__(self) -> str:
        return f"<FuturesExecutor of {kind_of(self._pool)}, {self.max_workers} workers>"
