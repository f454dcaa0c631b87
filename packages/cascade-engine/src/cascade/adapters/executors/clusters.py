"""Clusters: the common part of the executors on Dask and Ray.

The driver gives the cluster a few *turns* more than it has workers, so that the calls that wait
here can share turns, and the cluster's scheduler still has something to place. The cluster decides
which worker makes a turn, near the values that it needs. Before that worker begins, it asks for the
permission to (``begun``); so each turn is begun once.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Self

from cascade.adapters.executors.cluster_host import ClusterHost
from cascade.adapters.executors.cluster_worker import End
from cascade.adapters.executors.turns import Turns
from cascade.runtime.elsewhere.host_messages import DONE
from cascade.spec.checks import check_seconds
from cascade.spec.errors import (
    ArgumentError,
    ExecutorError,
    RunError,
    ValueLostError,
    WorkerLostError,
)
from cascade.spec.protocols import Host
from cascade.spec.remote_calls import Outcome, RemoteCall, RemoteValue
from cascade.spec.wording import error_text, short

#: Most calls of one turn, and the seconds that these should take.
MOST_CALLS: Final = 256
SECONDS: Final = 0.05
#: Bytes above which values stay with the workers.
KEEP_ABOVE: Final = 1 << 16
#: Seconds for which the number of workers is remembered.
_FRESH: Final = 1.0
#: How many workers may end one after the other before a host is ready in one.
_STARTS: Final = 3
#: Ended turns are forgotten so many at a time.
_FORGOTTEN: Final = 64
_log = logging.getLogger("cascade.executors")


class Turn:
    """Calls that one worker makes, one after the other.

    Attributes:
        number: Its number in this executor.
        calls: The calls.
        handle: That of the cluster.
        cancelled: The calls that nothing waits for any more.
    """

    __slots__ = ("__weakref__", "calls", "cancelled", "handle", "number", "withdrawing")

    def __init__(self, number: int, calls: list[RemoteCall]) -> None:
        self.number = number
        self.calls = calls
        self.handle: Any = None
        self.cancelled: list[RemoteCall] = []
        #: Whether the cluster was asked to withdraw it.
        self.withdrawing = False

    def packed(self, large: int) -> bytes:
        """Its tasks and calls, for ``ClusterWorker.make``."""
        tasks: dict[bytes, bytes] = {}
        calls, inputs = [], self.inputs()
        for call in self.calls:
            tasks.update(call.parts())
            links = [(link.name, link.task.token, link.arguments) for link in call.links]
            places = [inputs[value] for value in call.inputs]
            one = call.name, call.task.token, call.arguments, call.spins
            calls.append((*one, links, places, call.keeps))
        is_timed = self.calls[0].on_begin is not None
        return pickle.dumps((self.number, is_timed, large, tasks, calls), 5)

    def inputs(self) -> dict[RemoteValue, int]:
        """The values that it needs, and their places."""
        found: dict[RemoteValue, int] = {}
        for call in self.calls:
            for value in call.inputs:
                found.setdefault(value, len(found))
        return found


class ClusterExecutor(ABC):
    """The driver's side of a cluster.

    Args:
        keep_above: Bytes above which values may stay with the workers; None to keep none there.
        seconds: How long the calls of a turn may take together; 0 for one call a turn.
    """

    def __init__(self, *, keep_above: int | None, seconds: float) -> None:
        if keep_above is not None and (type(keep_above) is not int or keep_above < 0):
            raise ArgumentError(f"keep_above takes bytes ≥ 0, or None, but got {short(keep_above)}")
        if seconds != 0:
            check_seconds("turn_seconds", seconds)
        self._keep_above = keep_above
        #: Reentrant: a value may be released anywhere.
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._turns = Turns(MOST_CALLS if seconds else 1, seconds or SECONDS)
        self._fresh: list[RemoteCall] = []
        #: Of turns and of hosts.
        self._numbers = itertools.count(1)
        #: Number → a turn that the cluster has.
        self._active: dict[int, Turn] = {}
        #: Ended turns that no worker needs to refuse any more.
        self._forgotten: list[int] = []
        #: Number → a worker that executes whole runs.
        self._hosts: dict[int, ClusterHost] = {}
        self._workers, self._seen = 1, monotonic()
        self._closed = False

    # -- of the cluster -----------------------------------------------------------------------

    @abstractmethod
    def _count(self) -> None:
        """Ask how many workers there are, without waiting; ``_counted`` gets the answer."""

    @abstractmethod
    def _host(self, number: int, told: Callable[[Host, Any], None]) -> ClusterHost:
        """A host that has not begun."""

    @abstractmethod
    def _send(self, turn: Turn, inputs: Sequence[RemoteValue]) -> Any:
        """Give a turn to the cluster; returns its handle. Under the lock."""

    @abstractmethod
    def _withdraw(self, turn: Turn) -> None:
        """Ask for a turn back; ``_withdrawn`` gets the answer."""

    def _stop(self, turn: Turn) -> None:  # noqa: B027  # not every cluster can
        """End a turn that may have begun, if that is possible."""

    @abstractmethod
    def _forget(self, turns: list[int]) -> None:
        """Tell the cluster that no worker can begin these turns any more."""

    # -- TaskExecutor -------------------------------------------------------------------------

    @property
    def max_workers(self) -> int:
        """The number of threads of all workers, or of the CPUs of Ray: that of a second ago."""
        now = monotonic()
        if now > self._seen + _FRESH:
            self._seen = now
            self._count()
        return self._workers

    def submit_call(self, call: RemoteCall) -> None:
        """See ``TaskExecutor``.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
        """
        with self._lock:
            if self._closed:
                raise RunError("the executor has been shut down and takes no more calls")
            if self._keep_above is None:
                call.keeps = False
            self._fresh.append(call)

    def flush(self) -> None:
        """Begin the submitted calls."""
        with self._lock:
            self._turns.add(self._fresh)
            self._fresh.clear()
        self._fill()

    def cancel_call(self, call: RemoteCall, *, stop: bool = False) -> bool:
        """See ``TaskExecutor``."""
        with self._lock:
            turn: Turn | None = call.state
            if turn is None:
                if call in self._fresh:
                    self._fresh.remove(call)
                    return True
                return self._turns.withdraw(call)
            if turn.number not in self._active:
                return False
            turn.cancelled.append(call)
            is_new, turn.withdrawing = not turn.withdrawing, True
            stops = stop and len(turn.cancelled) == len(turn.calls)
        if is_new:
            self._withdraw(turn)
        if stops:
            self._stop(turn)
        return False

    def waits(self, call: RemoteCall) -> bool:
        """See ``TaskExecutor``; a call that was sent to the cluster counts as begun."""
        return call.state is None

    def expects(self, token: bytes) -> float | None:
        """See ``KeepingExecutor``."""
        return self._turns.expects(token)

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls and runs, and leave the cluster after the calls that have begun.

        Whole runs that it executes are handed over: they can be resumed anywhere.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
            calls = [*self._turns.take_all(), *self._fresh]
            self._fresh.clear()
            turns = [turn for turn in self._active.values() if not turn.withdrawing]
            for turn in turns:
                turn.withdrawing = True
        for call in calls:
            _tell(call, _shut_down(call))
        if was_closed:
            return
        for turn in turns:
            self._withdraw(turn)
        hosts = list(self._hosts.values())
        for host in hosts:
            host.send(DONE)
        with self._ended:
            while wait and self._active:
                self._ended.wait()
        for host in hosts if wait else ():
            host.close()
        self._leave()
        for host in list(self._hosts.values()):
            host.lose("the executor has left the cluster")

    @abstractmethod
    def _leave(self) -> None:
        """Leave the cluster."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()

    def start_host(self, entry: str, options: bytes, told: Callable[[Host, Any], None]) -> Host:
        """See ``HostingExecutor``: a worker of the cluster, which makes calls as well."""
        for left in reversed(range(_STARTS)):
            host = self._new_host(told)
            try:
                host.begin(entry, options)
                break
            except BaseException as error:
                self._forget_host(host)
                if not (left and host.was_lost and isinstance(error, ExecutorError)):
                    raise
        return host

    def _new_host(self, told: Callable[[Host, Any], None]) -> ClusterHost:
        def tell(host: Host, message: Any) -> None:
            if message is None:
                self._forget_host(host)
            told(host, message)

        with self._lock:
            if self._closed:
                raise ExecutorError("the executor has been shut down and starts no more hosts")
            number = next(self._numbers)
            host = self._hosts[number] = self._host(number, tell)
        return host

    def _forget_host(self, host: Host) -> None:
        """A host has ended."""
        with self._lock:
            found = [number for number, one in self._hosts.items() if one is host]
            for number in found:
                del self._hosts[number]
        for number in found:
            self._is_over(number)

    # -- turns --------------------------------------------------------------------------------

    def _slots(self) -> int:
        """How many turns the cluster should have."""
        return max(2 * self.max_workers, 4)

    def _counted(self, workers: float) -> None:
        """The number of workers now."""
        self._workers = max(int(workers), 1)
        self._fill()

    def _fill(self) -> None:
        """Give the cluster as many turns as it has room for."""
        while True:
            with self._lock:
                free = self._slots() - len(self._active)
                if free < 1 or not len(self._turns):
                    return
                calls = self._turns.take(free)
                turn = Turn(next(self._numbers), calls)
                failure: Exception | None = None
                try:
                    turn.handle = self._send(turn, list(turn.inputs()))
                except Exception as problem:
                    failure = problem
                else:
                    self._active[turn.number] = turn
                    for call in calls:
                        call.state = turn
            if failure is None:
                self._sent(turn)
            else:
                self._fail(turn, partial(_not_taken, failure))

    @abstractmethod
    def _sent(self, turn: Turn) -> None:
        """A turn was given to the cluster."""

    def _begun(self, number: int) -> None:
        """A turn with a timeout has begun."""
        turn = self._turn(number)
        begin = turn.calls[0].on_begin if turn is not None and turn.calls else None
        if begin is not None:
            begin()

    def _turn(self, number: int) -> Turn | None:
        """A turn that has not ended."""
        with self._lock:  # the cluster may be quicker than the thread that has given it the turn
            return self._active.get(number)

    def _withdrawn(self, turn: Turn) -> None:
        """The cluster gives a turn back."""
        with self._lock:
            calls = self._end(turn)
            back = [] if self._closed else [c for c in calls if c not in turn.cancelled]
            self._turns.add(back, first=True)
        for call in calls:
            if call not in back:
                _tell(call, _withdrawn_outcome(call))
        self._fill()

    def _settle(self, turn: Turn, ends: Iterable[tuple[Outcome, float]]) -> None:
        """A turn has ended."""
        calls = self._end(turn)
        for call, (outcome, seconds) in zip(calls, ends, strict=False):
            if not call.links:
                # A large value goes by itself: a call that needs it should not get others along,
                # unless it is the only one, as a link.
                with self._lock:
                    self._turns.note(call, seconds, alone=outcome.kind == "kept")
            _tell(call, outcome)
        self._fill()

    def _fail(self, turn: Turn, error: Callable[[RemoteCall], Exception]) -> None:
        """A turn has not been made, or not to its end."""
        for call in self._end(turn):
            _tell(call, Outcome("failed", error=error(call)))
        self._fill()

    def _end(self, turn: Turn) -> list[RemoteCall]:
        """Count a turn as ended; returns its calls, or none if it has ended before."""
        with self._ended:
            self._active.pop(turn.number, None)
            self._ended.notify_all()
            calls, turn.calls = turn.calls, []
            for call in calls:
                call.state = None
        return calls

    def _is_over(self, number: int) -> None:
        """No worker can begin a turn any more, or will be able to soon."""
        with self._lock:
            self._forgotten.append(number)
            if len(self._forgotten) < 2 * _FORGOTTEN or self._closed:
                return
            turns, self._forgotten = self._forgotten[:_FORGOTTEN], self._forgotten[_FORGOTTEN:]
        self._forget(turns)


def lost(where: str, several: int, call: RemoteCall) -> WorkerLostError:
    """The error of a call whose worker has ended, with ``several`` calls of its turn."""
    during = f"a call of task '{call.name}'"
    if several > 1:
        during = f"a turn of {several} calls, among them {during}"
    return WorkerLostError(f"the worker {where} has ended during {during}", call.name)


def value_lost(name: str, problem: BaseException) -> ValueLostError:
    """The error of a call that needs a value of task ``name``, which is lost."""
    error = ValueLostError(
        f"the value of task '{name}' was lost with its worker, and is not computed again; "
        "keep_above=None has values come back to the driver",
        name,
    )
    error.__cause__ = problem
    return error


def outcome_of(
    call: RemoteCall, end: End, handle: Any, results: Sequence[Any] | Mapping[int, Any]
) -> Outcome:
    """The outcome of a call.

    Args:
        call: The call.
        end: What the worker has told.
        handle: That of its value, if that stays there.
        results: Those of its turn by place, if one was too large for a message.
    """
    kind, data, steps, links, place, _ = end
    outcome = Outcome(kind, data, steps, links=links)  # type: ignore[arg-type]
    if kind == "kept":
        name = call.links[-1].name if call.links else call.name
        return outcome._replace(remote=RemoteValue(name, handle))
    return outcome if place is None else outcome._replace(data=results[place])


def _not_taken(problem: Exception, call: RemoteCall) -> Exception:
    error = ExecutorError(f"the cluster takes no call of task '{call.name}': {error_text(problem)}")
    error.__cause__ = problem
    return error


def _tell(call: RemoteCall, outcome: Outcome) -> None:
    """Tell of the end of a call; the executor goes on even if that fails."""
    try:
        call.on_end(outcome)
    except Exception:
        _log.exception("the outcome of %r was lost", call)


def _shut_down(call: RemoteCall) -> Outcome:
    problem = f"the executor was shut down before the call of task '{call.name}'"
    return Outcome("failed", error=RunError(problem))


def _withdrawn_outcome(call: RemoteCall) -> Outcome:
    return Outcome("failed", error=RunError(f"{call!r} was withdrawn"))
