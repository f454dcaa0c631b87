"""Where a call is made: the one place that decides it, for both paths and all tiers (M6).

A coroutine is awaited in the event loop. A plain function of a graph has a worker. Calls that are
too short to be worth a hop to another thread (straight-line code, steps of loops) are made in the
event loop's thread, *inline*, until one call of that function took more than ``SLOW`` seconds; its
next calls have a worker, so that at most one call of each function keeps the event loop.
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

#: Seconds that a call may keep the event loop before the next calls of its function have a worker.
SLOW = 0.005


class Place(Enum):
    """Where a call is made."""

    #: Awaited in the event loop.
    LOOP = "loop"
    #: Called in the event loop's thread.
    INLINE = "inline"
    #: Called on a thread that the executor lends.
    WORKER = "worker"
    #: Called on the thread of the run's thread-bound resources.
    BOUND = "bound"


class Durations:
    """Which functions an engine has found to be slow. From any thread.

    A loop is known by its code, since its steps are not told apart; everything else by its
    function, and an operation that Cascade has added by itself.
    """

    __slots__ = ("_known", "version")

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
        #: Grows whenever another function is found to be slow.
        self.version = 0

    def note(self, called: Any, seconds: float) -> None:
        """Remember how long a call took. A function that was slow once stays so."""
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
        """Whether a call of it was measured."""
        return _key(called) in self._known


class Placement:
    """Decides where the calls of one run are made.

    Args:
        durations: What is known of functions; None where real time is to decide nothing.

    Attributes:
        in_time: Whether the run has a deadline, which a call in the event loop would hold up.
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
        """Where a call of ``operation`` is made.

        Args:
            operation: An Operation; a function, or the code of a loop, that belongs to none.
            timeout: Seconds that the call may take.
            bound: Whether it uses a resource that belongs to one thread.
            short: Whether it may be too short for a worker: a step of a loop, straight-line code,
                an instruction of a blueprint.
            alone: Whether no coroutine of the run is under way, which it would hold up.
            loop: The code of a loop, where the call is a step of it.
        """
        mode = getattr(operation, "mode", "auto")
        if getattr(operation, "is_async", False):
            return Place.LOOP
        if bound:
            return Place.BOUND
        if timeout is not None:  # nothing could end it in time
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

        In a run with a deadline they have to be known, too; all of them unless ``known`` says
        which.
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
        """``func``, for a worker; it notes how long it takes where that is to be found out."""
        durations = self.durations
        if not self.in_time or durations is None or _is_ours(called) or durations.is_known(called):
            return func
        return update_wrapper(partial(timed, called, self.note_since, func), func)

    def note_since(self, began: float, seconds: float, called: Any) -> None:
        """Remember how long a call took that began then, in this thread, where that matters."""
        if seconds > SLOW:
            seconds = usage.blame(began, seconds)
        self.note(called, seconds)

    def note(self, called: Any, seconds: float) -> None:
        """Remember how long a call took, where that may ever matter."""
        if seconds <= SLOW and not self.in_time:
            return
        if self.durations is not None and not _is_ours(called):
            self.durations.note(called, seconds)


def belongs_on_loop(
    operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any], policies: CallPolicies
) -> bool:
    """Whether the event loop sees to a call of the graph path, wherever that is made then."""
    return (
        operation.is_async
        or policies.timeout is not None
        or operation.mode == "inline"
        or wants_resources(args, kwargs)
    )


def wants_resources(args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is the marker of a resource."""
    return Inject in map(type, args) or Inject in map(type, kwargs.values())


# -- calls in the event loop's thread -------------------------------------------------------------

#: Thread → its event loop, which the plain function that is called there does not see.
_hidden: dict[int, asyncio.AbstractEventLoop] = {}


def outside_loop(func: Callable[..., T], *args: Any) -> T:
    """Call ``func`` in the event loop's thread as on a worker: with no event loop running there.

    So a plain function may use ``asyncio.run`` wherever it is called.
    """
    loop = events._get_running_loop()
    if loop is None:
        return func(*args)
    me = get_ident()
    swap: Any = None
    if sys.version_info >= (3, 14) and asyncio.current_task() is not None:
        swap = asyncio.tasks._swap_current_task  # there a thread, and no loop, has a current task
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
    """Whether the calling thread is in a plain function that an event loop waits for."""
    return get_ident() in _hidden


def begin() -> float:
    """Now, when a call begins whose time ``note_since`` is to be told of."""
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
    """Call ``func``, and note how long that took."""
    began = begin()
    try:
        return func(*args, **kwargs)
    finally:
        note(began, perf_counter() - began, called)


def starts_loop(called: Any) -> bool:
    """Whether a call may come to ``asyncio.run``, as far as its code shows; found once per task."""
    if isinstance(called, Task):
        found: bool | None = called.derived.get("starts_loop")
        if found is None:
            found = called.derived["starts_loop"] = may_start_loop(called.func)
        return found
    return not isinstance(called, Operation) or may_start_loop(called.func)


def may_start_loop(func: Callable[..., Any], known: frozenset[Any] = frozenset()) -> bool:
    """The same of a function; not if all that it names is harmless: builtins, tasks, the like.

    Args:
        func: The function.
        known: Functions that are being looked at.
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
            return True  # an attribute of something, which may be anything
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
    """What to raise for ``asyncio.run`` where a task has asked for the event loop's own thread."""
    text = str(error)
    if type(error) is not RuntimeError or not any(part in text for part in _REFUSALS):
        return None
    return RunError(
        f"task '{task}' starts an event loop, but has mode='inline' and so runs in the thread of "
        "an event loop that runs already\n"
        '    let it have a thread of its own:  @cs.task(mode="blocking")\n'
        "    or make it a coroutine function:  async def, and await what it starts now"
    )


#: What asyncio says where an event loop is started in the thread of another one.
_REFUSALS = ("from a running event loop", "while another loop is running", "is already running")
#: Names that stand for nothing that starts a loop: builtins, and what makes tail calls.
_HARMLESS = (frozenset(vars(builtins)) | {"tail", "TailCall"}) - {
    "__import__",
    "__build_class__",
    "eval",
    "exec",
    "getattr",
}
#: Functions that call each other, beyond which none is looked at.
_MOST_FUNCTIONS = 8


def _is_ours(called: Any) -> bool:
    """Whether it is one of what Cascade itself puts into a graph, but for operators."""
    return (
        isinstance(called, Operation)
        and called.structural
        and not _is_operator(called)
        and str(getattr(called.func, "__module__", "")).startswith("cascade.")
    )


def _is_operator(called: Operation) -> bool:
    return called.func is invert or getattr(called.func, "__module__", "") == "_operator"


def _key(called: Any) -> Any:
    """The key under which a function is remembered, for the lifetime of the key."""
    if not isinstance(called, Operation):
        return _kept(called, type(called))
    if called.structural and _is_operator(called):
        return called  # what an operator costs, its operands say, so each place has its own
    return _kept(called.func, called)


def _kept(key: Any, instead: Any) -> Any:
    """``key`` if a weak table can hold it, or what stands for it."""
    try:
        hash(key)
        ref(key)
    except TypeError:
        return instead
    return key
