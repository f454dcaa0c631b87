"""Serving: a worker process makes the calls that it was sent.

It makes the call, and the ones that follow as tail calls of the task to itself, for a while.
Everything else is the driver's: the next attempt, the next task, a lazy value.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from time import monotonic, perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.elsewhere.marks import Place, TurnMarks
from cascade.runtime.semantics.tail_calls import next_call, searched
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.culprits import unsendable
from cascade.spec.errors import ArgumentError, SendError
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.remote_calls import Kind, Outcome, arrived, serving
from cascade.spec.sent_resources import SentResource
from cascade.spec.task import Task
from cascade.spec.wire import dumps, loads
from cascade.spec.wire_errors import dumps_error
from cascade.spec.wording import error_text

if TYPE_CHECKING:
    from cascade.runtime.elsewhere.worker_resources import WorkerResources

#: Stands for the place of a call, which only nodes have.
_TAIL_CODE: Final = compile("", "<tail call>", "exec")


class Server:
    """Makes calls. One for each worker process.

    Args:
        shares: Whether large buffers of values are to be beside their bytes (``wire.dumps``).
    """

    def __init__(self, *, shares: bool = False) -> None:
        self._shares = shares
        #: Token → task, or provider of a resource, so that each is read once.
        self._known: dict[bytes, Any] = {}
        self._lock = threading.Lock()
        #: The open resources; None if there were none yet.
        self._resources: WorkerResources | None = None

    def learn(self, parts: Mapping[bytes, bytes]) -> None:
        """Take along ``RemoteCall.parts``; one that cannot be read fails at its first use."""
        for token, data in parts.items():
            if token not in self._known:
                try:
                    self._known[token] = loads(data)
                except Exception as error:
                    self._known[token] = _Unreadable(error)

    def measured(self, *call: Any) -> tuple[Outcome, float]:
        """``call``, and its seconds, without those for opening resources that stay open."""
        began, before = perf_counter(), self._opening
        outcome = self.call(*call)
        return outcome, perf_counter() - began - (self._opening - before)

    @property
    def _opening(self) -> float:
        return 0.0 if self._resources is None else self._resources.seconds

    def close(self) -> None:
        """Close the resources that are open."""
        if self._resources is not None:
            self._resources.close()

    def call(
        self,
        name: str,
        token: bytes,
        arguments: Any,
        spins: float,
        links: Sequence[tuple[str, bytes, bytes]] = (),
        inputs: Sequence[Any] = (),
        kept: list[Any] | None = None,
        large: int = 0,
    ) -> Outcome:
        """Make a call. It never raises: any error is that of the call.

        Args:
            name, token, arguments, spins: See ``RemoteCall``; the arguments are the bytes, or a
                tuple of these and the buffers beside them.
            links: Names, tokens and arguments of the calls that take its value, one after the
                other.
            inputs: The values that are here already.
            kept: Takes the value if it is large and plain; None if it must not stay here.
            large: The most bytes of a value that is not large.
        """
        call = name, token, arguments, spins, links, inputs, kept, large
        return copy_context().run(self._call, *call)

    def _call(
        self,
        name: str,
        token: bytes,
        arguments: Any,
        spins: float,
        links: Sequence[tuple[str, bytes, bytes]],
        inputs: Sequence[Any],
        kept: list[Any] | None,
        large: int,
    ) -> Outcome:
        steps, made = [0], 0
        given = [*inputs, None]
        arrived.set(given)
        try:
            value, named = self._one(name, token, arguments, spins, steps)
            for made, link in enumerate(links, 1):
                if not _is_plain(value):
                    made -= 1
                    break
                given[-1] = value
                name = link[0]
                value, named = self._one(*link, 0.0, steps)
            may_stay = kept is not None and made == len(links) and _is_plain(value)
            if may_stay and _least_size(value) > large:
                return _kept(kept, value, steps[0], made)
            is_more = issubclass(type(value), (TailCall, LazyResult))
            beside: list[Any] | None = [] if self._shares else None
            try:
                data = dumps((value, named) if is_more else value, beside)
            except Exception as error:
                raise unsendable(f"the result of task '{name}'", value, error) from None
            if may_stay and len(data) > large:
                return _kept(kept, value, steps[0], made)
        except BaseException as error:
            return Outcome("error", dumps_error(error), steps[0], links=made)
        kind: Kind = "goes on" if is_more else "value"
        return Outcome(kind, data, steps[0], links=made, beside=beside or ())

    def _one(
        self, name: str, token: bytes, arguments: Any, spins: float, steps: list[int]
    ) -> tuple[Any, dict[str, Any] | None]:
        """See ``_make``."""
        serving.set(name)
        task = self._find(token, f"task '{name}'")
        try:
            if type(arguments) is tuple:
                args, kwargs = loads(arguments[0], buffers=arguments[1])
            else:
                args, kwargs = loads(arguments)
        except Exception as error:
            raise _not_read(f"the arguments of task '{name}'", error) from error
        call = task.func
        if SentResource in map(type, (*args, *kwargs.values())):
            call = partial(self._call_with_resources, call)
        return _make(task, call, args, kwargs, spins, steps)

    def _find(self, token: bytes, what: str) -> Any:
        """The task, or the provision, of a token."""
        found = self._known[token]
        if type(found) is _Unreadable:
            raise _not_read(what, found.problem) from found.problem
        return found

    def _call_with_resources(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        if self._resources is None:
            with self._lock:
                self._resources = self._resources or self._made()
        return self._resources.call(func, args, kwargs)

    def _made(self) -> WorkerResources:
        # Imported at the first use: most workers need none, and should start soon.
        from multiprocessing import util

        from cascade.runtime.elsewhere.worker_resources import WorkerResources

        # Processes of multiprocessing end without the functions of atexit, others without these.
        atexit.register(self.close)
        util.Finalize(None, self.close, exitpriority=0)
        return WorkerResources(lambda token: self._find(token, "the provider of a resource"))


def _is_plain(value: Any) -> bool:
    """Whether a result is the value of its node, and not something that it goes on as (R4, R5)."""
    kind = type(value)
    return kind in ATOMS or not (
        issubclass(kind, (LazyResult, TailCall, CoroutineType)) or goes_on(value)
    )


def _least_size(value: Any) -> int:
    """Bytes that a value has at least, as far as that is known before it is written."""
    if type(value) in (bytes, str, bytearray):
        return len(value)
    size = getattr(value, "nbytes", None)  # of an array
    return size if type(size) is int else 0


def _kept(kept: Any, value: Any, steps: int, links: int) -> Outcome:
    """The outcome of a call whose value stays here."""
    kept.append(value)
    return Outcome("kept", b"", steps, links=links)


def _make(
    task: Task[..., Any],
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    spins: float,
    steps: list[int],
) -> tuple[Any, dict[str, Any] | None]:
    """The result of a call and of its tail calls to itself; and the arguments of the last one.

    Args:
        task: The task.
        call: Its function, with its resources.
        args, kwargs: The arguments of the first call.
        spins: Seconds for which tail calls are followed here.
        steps: Its item counts them.
    """
    named: dict[str, Any] | None = None
    value = call(*args, **kwargs)
    if type(value) is not TailCall or not spins:
        return value, None
    until = monotonic() + spins
    while type(value) is TailCall and monotonic() < until:
        if not (value.target is None or value.target is task) or value.target_blueprint_id:
            break
        try:
            if searched(value, (*args, *kwargs.values()), _TAIL_CODE, 0)[1]:
                break  # lazy arguments are computed first
            before = task.parameters.named(args, kwargs) if named is None else named
            _, named = next_call(task, before, value)
        except ArgumentError:
            break  # the driver raises it
        args, kwargs = task.parameters.spread(named)
        steps[0] += 1
        value = call(*args, **kwargs)
    return value, named


def _not_read(what: str, error: Exception) -> SendError:
    """The error for a task or arguments that this process cannot read."""
    hint = "workers import modules by the driver's sys.path, as it was when they started"
    return SendError(
        f"{what} cannot be read in a worker process: {error_text(error)}\n    {hint}", what
    )


class _Unreadable:
    """Stands for a task or a provider that cannot be read."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem


#: The server of this process, for pools that only call functions.
_here: Final = Server()


def serve(
    tasks: Mapping[bytes, bytes],
    calls: Sequence[tuple[str, bytes, bytes, float]],
    place: Place | None = None,
) -> list[tuple[tuple[Any, ...], float]]:
    """Make calls in a worker of a pool: their outcomes as tuples, and the seconds of each.

    Args:
        tasks: Token → bytes of the tasks and providers that the calls need.
        calls: See ``Server.call``.
        place: Where to mark the calls that begin; None for no marks. The outcome of a call that
            was not made has the reason as its data.
    """
    _here.learn(tasks)
    marks = None if place is None else TurnMarks(Place(*place))
    ends = []
    for number, call in enumerate(calls):
        refusal = None if marks is None else marks.refusal(number)
        if refusal is None:
            outcome, seconds = _here.measured(*call)
        else:
            outcome, seconds = Outcome("failed", refusal), 0.0
        ends.append((tuple(outcome), seconds))
    return ends
