"""Placement of calls, decided here for both paths and all tiers (M6).

A coroutine is awaited in the event loop. A plain function of a graph runs on a worker. Calls that
are too short to be worth a hop to another thread (straight-line code, steps of loops) are made in
the event loop's thread, *inline*, until one call of their function has taken more than ``SLOW``
seconds. Its next calls run on a worker, so that at most one call of each function blocks the event
loop.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
from asyncio import events
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial, update_wrapper
from threading import get_ident
from time import perf_counter
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from cascade.runtime.diagnostics.usage import usage
from cascade.spec.blueprint import TailCall
from cascade.spec.errors import RunError
from cascade.spec.logic import invert
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies
from cascade.spec.resource import Inject
from cascade.spec.task import Task

T = TypeVar("T")

#: Seconds that a call may block the event loop before the next calls of its function use a worker.
SLOW = 0.005


class Place(Enum):
    """The place of a call."""

    #: Awaited in the event loop.
    LOOP = "loop"
    #: Called in the event loop's thread.
    INLINE = "inline"
    #: Called on a thread that the executor lends.
    WORKER = "worker"
    #: Called on the thread of the run's thread-bound resources.
    BOUND = "bound"


class Durations:
    """The functions that an engine has found to be slow. From any thread.

    A loop is identified by its code, because its steps cannot be told apart; every other call by
    its function, or by the operation that Cascade has added.
    """

    __slots__ = ("_known", "version")

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
        #: Grows when a further function is found to be slow.
        self.version = 0

    def note(self, called: Any, seconds: float) -> None:
        """Record the duration of a call. A function that was slow once stays slow."""
        key = _key(called)
        if seconds > SLOW:
            if not self._known.get(key, False):
                self._known[key] = True
                self.version += 1
        elif key not in self._known:
            self._known[key] = False

    def is_slow(self, called: Any) -> bool:
        """Whether a call of it took too long."""
        return self.version > 0 and self._known.get(_key(called), False)

    def is_known(self, called: Any) -> bool:
        """Whether a call of it has been measured."""
        return _key(called) in self._known


class Placement:
    """Decides where the calls of one run are made.

    Args:
        durations: The known durations of functions; None if real time must not matter.

    Attributes:
        in_time: Whether the run has a deadline, which a call in the event loop would delay.
    """

    __slots__ = ("durations", "in_time")

    def __init__(self, durations: Durations | None) -> None:
        self.durations = durations
        self.in_time = False

    def place(
        self,
        operation: Any,
        *,
        timeout: float | None = None,
        bound: bool = False,
        short: bool = False,
        alone: bool = True,
        loop: Any = None,
    ) -> Place:
        """The place of a call of ``operation``.

        Args:
            operation: An Operation; or a function, or the code of a loop, without one.
            timeout: Seconds that the call may take.
            bound: Whether it uses a resource that belongs to one thread.
            short: Whether it may be too short for a worker: a step of a loop, straight-line code,
                an instruction of a blueprint.
            alone: Whether no coroutine of the run is active, which it would delay.
            loop: The code of a loop, if the call is a step of it.
        """
        mode = getattr(operation, "mode", "auto")
        if getattr(operation, "is_async", False):
            return Place.LOOP
        if bound:
            return Place.BOUND
        if timeout is not None:  # in the event loop nothing could end it in time
            return Place.WORKER
        if mode == "inline":
            return Place.INLINE
        if mode == "blocking" or not (short and alone):
            return Place.WORKER
        if loop is None:
            is_quick = self.may_be_inline((operation,))
        else:
            is_quick = self.may_be_inline((loop, *loop.tasks), (loop,))
        return Place.INLINE if is_quick else Place.WORKER

    def may_be_inline(self, called: Iterable[Any], known: Iterable[Any] | None = None) -> bool:
        """Whether none of these functions is known to be slow.

        In a run with a deadline their durations must also be known; if ``known`` is given, only
        those of its functions.
        """
        durations = self.durations
        if durations is None or not (durations.version or self.in_time):
            return True
        called = [one for one in called if not _is_ours(one)]
        if any(map(durations.is_slow, called)):
            return False
        return not self.in_time or all(map(durations.is_known, called if known is None else known))

    def is_slow(self, called: Any) -> bool:
        """Whether a call of it took too long."""
        return self.durations is not None and self.durations.is_slow(called)

    def timed(self, called: Any, func: Callable[..., Any]) -> Any:
        """``func`` for a worker; measures the call if its duration is still needed."""
        durations = self.durations
        if not self.in_time or durations is None or _is_ours(called) or durations.is_known(called):
            return func
        return update_wrapper(partial(timed, called, self.note_since, func), func)

    def note_since(self, began: float, seconds: float, called: Any) -> None:
        """Record the duration of a call in this thread that began at ``began``, if relevant."""
        if seconds > SLOW:
            seconds = usage.blame(began, seconds)
        self.note(called, seconds)

    def note(self, called: Any, seconds: float) -> None:
        """Record the duration of a call, if it can ever matter."""
        if seconds <= SLOW and not self.in_time:
            return
        if self.durations is not None and not _is_ours(called):
            self.durations.note(called, seconds)


def belongs_on_loop(
    operation: Operation,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    policies: CallPolicies,
    asks: Callable[[Operation, Sequence[Any], Mapping[str, Any], bool], bool],
) -> bool:
    """Whether the event loop handles a call of the graph path, wherever that is made then.

    Args:
        operation: The operation of the call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        policies: The policies of the node.
        asks: Whether it has to because of resources among these arguments; the last argument says
            whether the call has a timeout.
    """
    return (
        operation.is_async
        or (operation.mode == "inline" and policies.timeout is None)
        or (
            wants_resources(args, kwargs)
            and asks(operation, args, kwargs, policies.timeout is not None)
        )
    )


def wants_resources(args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is the marker of a resource."""
    return Inject in map(type, args) or Inject in map(type, kwargs.values())


# -- calls in the event loop's thread -------------------------------------------------------------

#: Thread → its event loop, hidden from the plain function that is called there.
_hidden: dict[int, asyncio.AbstractEventLoop] = {}


def outside_loop(func: Callable[..., T], *args: Any) -> T:
    """Call ``func`` in the event loop's thread as on a worker: no event loop is running there.

    A plain function may therefore use ``asyncio.run`` wherever it is called.
    """
    loop = events._get_running_loop()
    if loop is None:
        return func(*args)
    me = get_ident()
    swap: Any = None
    if sys.version_info >= (3, 14) and asyncio.current_task() is not None:
        # There the thread, not the loop, has a current task.
        swap = asyncio.tasks._swap_current_task
    task = None if swap is None else swap(loop, None)
    around = _hidden.get(me)
    events._set_running_loop(None)
    _hidden[me] = loop
    try:
        return func(*args)
    finally:
        events._set_running_loop(loop)
        if around is None:
            del _hidden[me]
        else:
            _hidden[me] = around
        if swap is not None:
            swap(loop, task)


def is_hidden() -> bool:
    """Whether the calling thread is inside a plain function that an event loop waits for."""
    return get_ident() in _hidden


def begin() -> float:
    """The time now, for the later call of ``note_since``."""
    now = perf_counter()
    if now > usage.stale:
        usage.read(now)
    return now


def timed(
    called: Any,
    note: Callable[[float, float, Any], None],
    func: Callable[..., T],
    *args: Any,
    **kwargs: Any,
) -> T:
    """Call ``func``, and record its duration."""
    began = begin()
    try:
        return func(*args, **kwargs)
    finally:
        note(began, perf_counter() - began, called)


def starts_loop(called: Any) -> bool:
    """Whether a call may reach ``asyncio.run``, judging by its code; determined once per task."""
    if isinstance(called, Task):
        found: bool | None = called.derived.get("starts_loop")
        if found is None:
            found = called.derived["starts_loop"] = may_start_loop(called.func)
        return found
    return not isinstance(called, Operation) or may_start_loop(called.func)


def may_start_loop(func: Callable[..., Any], known: frozenset[Any] = frozenset()) -> bool:
    """The same for a function; False if it names only harmless objects: builtins, tasks etc.

    Args:
        func: The function.
        known: Functions that are already being examined.
    """
    code = getattr(func, "__code__", None)
    if code is None:
        return not isinstance(func, BuiltinFunctionType)
    known |= {func}
    if len(known) > _MOST_FUNCTIONS:
        return True
    scope = func.__globals__
    cells = zip(code.co_freevars, func.__closure__ or (), strict=True)
    try:
        values = [cell.cell_contents for _, cell in cells]
    except ValueError:  # not bound yet
        return True
    for name in _names_of(code):
        if name in scope:
            values.append(scope[name])
        elif name not in _HARMLESS:
            return True  # an attribute, which may be any object
    return any(_may_start(value, known) for value in values)


def _may_start(value: Any, known: frozenset[Any]) -> bool:
    if isinstance(value, FunctionType):
        return value not in known and may_start_loop(value, known)
    if isinstance(value, ModuleType):
        return value.__name__ != "cascade"
    harmless = (Operation, BuiltinFunctionType, int, float, str, bytes, NoneType)
    return value is not TailCall and not isinstance(value, harmless)


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)


def refused_loop(error: BaseException, task: str) -> RunError | None:
    """The error for ``asyncio.run`` in a task that asked for the event loop's own thread."""
    text = str(error)
    if type(error) is not RuntimeError or not any(part in text for part in _REFUSALS):
        return None
    return RunError(
        f"task '{task}' starts an event loop, but has mode='inline' and so runs in the thread of "
        "an event loop that runs already\n"
        '    give it a thread of its own:  @cs.task(mode="blocking")\n'
        "    or make it a coroutine function:  async def, and await what it starts now"
    )


#: asyncio's messages when an event loop is started in the thread of another one.
_REFUSALS = ("from a running event loop", "while another loop is running", "is already running")
#: Names that start no loop: builtins, and methods that make tail calls.
_HARMLESS = (frozenset(vars(builtins)) | {"tail", "TailCall"}) - {
    "__import__",
    "__build_class__",
    "eval",
    "exec",
    "getattr",
}
#: Most functions, calling each other, that are examined.
_MOST_FUNCTIONS = 8


def _is_ours(called: Any) -> bool:
    """Whether it is an operation that Cascade itself puts into a graph, except operators."""
    return (
        isinstance(called, Operation)
        and called.structural
        and not _is_operator(called)
        and str(getattr(called.func, "__module__", "")).startswith("cascade.")
    )


def _is_operator(called: Operation) -> bool:
    return called.func is invert or getattr(called.func, "__module__", "") == "_operator"


def _key(called: Any) -> Any:
    """The key of a function in the record, for the lifetime of the key."""
    if not isinstance(called, Operation):
        return _kept(called, type(called))
    if called.structural and _is_operator(called):
        return called  # the cost of an operator depends on its operands, so each place has its own
    return _kept(called.func, called)


def _kept(key: Any, instead: Any) -> Any:
    """``key`` if a weak table can hold it, otherwise ``instead``."""
    try:
        hash(key)
        ref(key)
    except TypeError:
        return instead
    return key
