"""The slots of a ProcessExecutor: threads of the driver, each with a process of its own."""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from cascade.adapters.executors.process_worker import (
    BEGUN,
    LARGE,
    MOST_CALLS,
    READY,
    SHARED,
    SIZE,
    Board,
    Settings,
    main,
)
from cascade.adapters.executors.shared_memory import Parcel, packed, received
from cascade.adapters.executors.turns import Turns
from cascade.runtime.elsewhere.losses import how_ended, memory_hint
from cascade.spec.errors import ExecutorError, RunError, WorkerLostError
from cascade.spec.remote_calls import Outcome, RemoteCall

#: Seconds that a process may take to end by itself, besides those for its resources.
_PATIENCE: Final = 5.0
#: How many processes one after the other may end before they begin the same call.
_MOST_STARTS: Final = 3
#: ``multiprocessing`` starts one process at a time.
starting = threading.Lock()
_log = logging.getLogger("cascade.executors")


class Pool:
    """The state that the threads of one executor share.

    Args:
        context: The context of ``multiprocessing``.
        max_workers: Most processes.
        settings: For each process.
        max_calls: Calls after which a process is replaced, or None.
    """

    def __init__(
        self, context: Any, max_workers: int, settings: Settings, max_calls: int | None
    ) -> None:
        self.context, self.settings, self.max_calls = context, settings, max_calls
        self._max_workers = max_workers
        #: Reentrant: a finalizer may run anywhere.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._turns = Turns(MOST_CALLS)
        #: Calls that were submitted since the last flush.
        self._fresh: list[RemoteCall] = []
        self._slots: list[Slot] = []
        #: Slots that wait for calls, and slots that start a process.
        self._idle = self._starting = 0
        self._closed = False

    def submit(self, call: RemoteCall) -> None:
        """See ``TaskExecutor``."""
        call.arguments, call.beside = packed(call.arguments, call.beside), ()
        with self.lock:
            if self._closed:
                raise RunError("the executor has been shut down and takes no more calls")
            self._fresh.append(call)

    def flush(self) -> None:
        """Give the submitted calls to slots."""
        with self.lock:
            self._turns.add(self._fresh)
            self._fresh.clear()
            waiting = len(self._turns)
            free = self._idle + self._starting
            for _ in range(min(waiting - free, self._max_workers - len(self._slots))):
                slot = Slot(self)
                self._slots.append(slot)
                slot.thread.start()
            self._changed.notify(waiting)

    def wait(self) -> bool:
        """Wait for calls; False when slots have to end. Another slot may take the calls first."""
        with self.lock:
            while not (len(self._turns) or self._closed):
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return not self._closed

    def take(self, slot: Slot) -> list[RemoteCall]:
        """The next turn of a slot; empty if nothing waits."""
        with self.lock:
            if not len(self._turns):
                return []
            slot.calls = calls = self._turns.take(self._idle + self._starting + 1)
            for place, call in enumerate(calls):
                call.state = slot, place
            return calls

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Count the calling slot as one that will be free soon."""
        with self.lock:
            self._starting += 1
        try:
            yield
        finally:
            with self.lock:
                self._starting -= 1

    def put_back(self, calls: Sequence[RemoteCall]) -> None:
        """Let calls that have not begun wait for the next slot, before all others."""
        with self.lock:
            for call in calls:
                call.state = None
            if not self._closed:
                self._turns.add(calls, first=True)
                self._changed.notify(len(calls))
                return
        _fail(calls)

    def note(self, call: RemoteCall, seconds: float) -> None:
        """Record the duration of a call."""
        with self.lock:
            self._turns.note(call, seconds)

    def cancel(self, call: RemoteCall, stop: bool) -> bool:
        """See ``TaskExecutor``."""
        with self.lock:
            if call.state is None:
                is_here = call in self._fresh
                if is_here:
                    self._fresh.remove(call)
                if is_here or self._turns.withdraw(call):
                    _drop_arguments(call)
                    return True
                return False
            slot, place = call.state
            slot.cancel(call, place, stop)
            return False

    def waits(self, call: RemoteCall) -> bool:
        """See ``TaskExecutor``."""
        with self.lock:
            if call.state is None:
                return True
            slot, place = call.state
            return slot.worker is not None and slot.worker.board.begun <= place

    def close(self) -> None:
        """Take no more calls; slots end after their present turn."""
        with self.lock:
            self._closed = True
            calls = [*self._turns.take_all(), *self._fresh]
            self._fresh.clear()
            self._changed.notify_all()
        _fail(calls)

    def join(self) -> None:
        """Wait until all slots have ended."""
        for slot in list(self._slots):
            if slot.thread is not threading.current_thread():
                slot.thread.join()

    def pids(self) -> list[int]:
        """The ids of the processes."""
        with self.lock:
            return [slot.worker.pid for slot in self._slots if slot.worker is not None]

    @staticmethod
    def end(pool: Pool) -> None:
        """The executor was dropped, or the program ends: nothing is waited for."""
        pool.close()
        for slot in list(pool._slots):
            slot.kill_busy()


class Slot:
    """A thread that gives turns to its process, and replaces one that has ended."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.worker: Worker | None = None
        self.calls: list[RemoteCall] = []
        self._made = self._starts = 0
        self.thread = threading.Thread(target=self._work, name="process-worker", daemon=True)

    def cancel(self, call: RemoteCall, place: int, stop: bool) -> None:
        """Withdraw a call of the present turn if it has not begun, or end it. Under the lock."""
        worker = self.worker
        if worker is None or place >= len(self.calls) or self.calls[place] is not call:
            return
        worker.board.withdraw(place)
        if stop and worker.board.begun == place + 1:
            worker.kill()

    def kill_busy(self) -> None:
        """End the process if it makes calls."""
        if self.calls and self.worker is not None:
            self.worker.kill()

    def _work(self) -> None:
        try:
            while self._pool.wait():
                failure = self._start() if self.worker is None else None
                calls = self._pool.take(self)
                if failure is not None:
                    _fail(calls, failure)
                elif calls:
                    self._make(calls)
                with self._pool.lock:
                    self.calls = []
                del calls
        finally:
            self._end_worker()

    def _start(self) -> ExecutorError | None:
        """Start the process, if that is possible; otherwise the reason. Calls wait meanwhile."""
        with self._pool.starting():
            try:
                worker = Worker(self._pool.context, self._pool.settings)
            except Exception as problem:
                error = ExecutorError(f"no process could be started for a call: {problem}")
                error.__cause__ = problem
                return error
            if not worker.is_ready():
                error = not_started(worker.exit_code())
                worker.end()
                return error
        self._made = 0
        with self._pool.lock:
            self.worker = worker
        return None

    def _make(self, calls: list[RemoteCall]) -> None:
        """Have the process make the calls, and tell of their ends."""
        worker = self.worker
        assert worker is not None
        lost = not worker.turn(calls)
        ended = 0
        for (outcome, seconds), call in zip(worker.outcomes(), calls, strict=False):
            ended += 1
            if outcome.kind == "failed":
                outcome = Outcome("failed", error=RunError(f"{call!r} was withdrawn"))
            else:
                self._pool.note(call, seconds)
            _tell(call, outcome)
        self._made += ended
        if ended:
            self._starts = 0
        if lost:
            self._lost(worker, calls, ended)
        elif self._pool.max_calls is not None and self._made >= self._pool.max_calls:
            self._end_worker()

    def _lost(self, worker: Worker, calls: list[RemoteCall], ended: int) -> None:
        """The process has ended in the middle of a turn."""
        begun = worker.board.begun
        code = worker.exit_code()
        self._end_worker()
        rest = calls[ended:]
        if begun > ended:
            self._starts = 0
            call = rest.pop(0)
            error = WorkerLostError(_ending(call.name, code), call.name, code)
            _tell(call, Outcome("failed", error=error))
        elif not ended:
            self._starts += 1
            if self._starts >= _MOST_STARTS:
                self._starts = 0
                problem = f"worker processes have ended{how_ended(code)} before they began the call"
                _fail(rest, ExecutorError(problem))
                return
        self._pool.put_back(rest)

    def _end_worker(self) -> None:
        with self._pool.lock:
            worker, self.worker = self.worker, None
        if worker is not None:
            worker.end()


class Worker:
    """One process, in the view of the driver. Used by one thread, except ``kill``.

    Args:
        context: The context of ``multiprocessing``.
        settings: For the process.

    Raises:
        Exception: The process cannot be started.
    """

    def __init__(self, context: Any, settings: Settings) -> None:
        memory = context.RawArray("B", SIZE)
        self.board = Board(memory)
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._known: set[bytes] = set()
        #: Seconds that the process may take to end by itself.
        self._patience = _PATIENCE
        #: Data and buffers of large outcomes of the turn.
        self._large: list[tuple[Any, Any]] = []
        settings = settings.now()
        name, given = settings.name("cascade worker"), (theirs, memory, settings)
        self._process = context.Process(target=main, args=given, name=name)
        try:
            with starting:
                self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()
        self.pid: int = self._process.pid

    def is_ready(self) -> bool:
        """Whether the process has started; waits for that."""
        return self._message() == READY

    def turn(self, calls: Sequence[RemoteCall]) -> bool:
        """Have the calls made; False if the process has ended before it was done."""
        self.board.clear()
        self._large.clear()
        tasks = dict(part for call in calls for part in call.parts())
        tasks = {token: data for token, data in tasks.items() if token not in self._known}
        resources = {one for call in calls for one in call.resources if one.token in tasks}
        self._patience += sum(one.teardown_timeout for one in resources)
        alone = calls[0].alone
        given: list[Any] = [call.arguments for call in calls]
        parcels = [one for one in given if isinstance(one, Parcel)]
        sent = [
            (call.name, call.task.token, one.spans if isinstance(one, Parcel) else one, call.spins)
            for call, one in zip(calls, given, strict=True)
        ]
        try:
            self._pipe.send_bytes(pickle.dumps((tasks, alone, sent), 5))
            for parcel in parcels:
                parcel.send(self._pipe)
        except OSError:
            return False
        self._known.update(tasks)
        while (message := self._message()) is not None:
            kind = message[:1]
            if kind == LARGE:
                self._large.append((memoryview(message)[1:], ()))
            elif kind == SHARED:
                try:
                    self._large.append(received(self._pipe, pickle.loads(message[1:])))
                except (EOFError, OSError):
                    return False
            elif kind == BEGUN:
                begin = calls[0].on_begin
                if begin is not None:
                    begin()
            else:
                return True
        return False

    def outcomes(self) -> Any:
        """The outcomes of the turn so far, with their seconds. Call it once a turn."""
        large, self._large = self._large, []  # a large value is not kept until the next turn
        return self.board.outcomes(large)

    def kill(self) -> None:
        """End the process at once. From any thread."""
        with contextlib.suppress(Exception):  # it has ended by itself
            self._process.kill()

    def exit_code(self) -> int | None:
        """The exit code of a process that has closed its pipe."""
        self._process.join(_PATIENCE)
        code: int | None = self._process.exitcode
        return code

    def end(self) -> None:
        """Let the process end, and wait for that."""
        self._pipe.close()
        self._process.join(self._patience)
        if self._process.exitcode is None:
            if self._patience > _PATIENCE:
                _log.error("a worker process was killed while it closed its resources")
            self._process.kill()
            self._process.join()

    def _message(self) -> bytes | None:
        try:
            return self._pipe.recv_bytes()
        except (EOFError, OSError):
            return None


def _tell(call: RemoteCall, outcome: Outcome) -> None:
    """Tell of the end of a call; the slot goes on even if that fails."""
    _drop_arguments(call)
    try:
        call.on_end(outcome)
    except Exception:
        _log.exception("the outcome of %r was lost", call)


def _drop_arguments(call: RemoteCall) -> None:
    """Free the shared memory of a call that is not made any more."""
    arguments: Any = call.arguments
    if isinstance(arguments, Parcel):
        arguments.close()


def _fail(calls: Sequence[RemoteCall], error: Exception | None = None) -> None:
    for call in calls:
        closed = RunError(f"the executor was shut down before the call of task '{call.name}'")
        _tell(call, Outcome("failed", error=error or closed))


def _ending(task: str, code: int | None) -> str:
    ending = how_ended(code) + memory_hint(code)
    return f"the worker process of a call of task '{task}' has ended{ending}"


def not_started(code: int | None) -> ExecutorError:
    return ExecutorError(
        f"a worker process ended{how_ended(code)} while it started; "
        "its own error is on standard error\n"
        "    A worker imports the program's main module, so a script needs\n"
        '        if __name__ == "__main__":\n'
        "            main()"
    )
