"""Remote calls: what a TaskExecutor is given, and what it tells of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from cascade.spec.operation import Operation
from cascade.spec.sent_resources import PackedResource, refusal
from cascade.spec.task_class import Task

if TYPE_CHECKING:
    from cascade.spec.wire import Packed

#: The end of a call. ``value``: it has returned; ``kept``: the same, and its value stays there;
#: ``goes on``: with a lazy value or a tail call; ``error``: it has raised; ``failed``: it was not
#: made, or its worker is lost.
Kind: TypeAlias = Literal["value", "kept", "goes on", "error", "failed"]

_NO_NEEDS: Final[Mapping[str, float]] = MappingProxyType({})

#: The name of the task whose call is being made in this process for another one.
serving: ContextVar[str] = ContextVar("cascade.serving")


class Outcome(NamedTuple):
    """The end of a remote call."""

    kind: Kind
    #: The value, the continuation or the error, as ``wire`` writes them.
    data: bytes = b""
    #: Number of tail calls that the worker has followed by itself.
    steps: int = 0
    #: Of a call that has failed.
    error: Exception | None = None
    #: How many of ``RemoteCall.links`` were made as well; this is the end of the last one.
    links: int = 0
    #: In place of a value that stays.
    remote: RemoteValue | None = None
    #: Large buffers of the data, see ``wire.dumps``.
    beside: Sequence[Any] = ()


class RemoteValue:
    """A value that stays with the workers of an executor; released when this is.

    Args:
        name: The name of the task that has made it.
        handle: For the executor.
    """

    __slots__ = ("__weakref__", "handle", "name")

    def __init__(self, name: str, handle: Any = None) -> None:
        self.name = name
        self.handle = handle

    def __reduce__(self) -> Any:
        inputs = _collected.get(None)
        if inputs is None:
            raise pickle.PicklingError(f"{self!r} can only be an argument of a call there")
        return input_at, (inputs.setdefault(self, len(inputs)),)

    def __repr__(self) -> str:
        return f"<value of task '{self.name}' that stays with its worker>"


class _Previous:
    """Stands for the value of the call before, among the arguments of a link."""

    def __reduce__(self) -> Any:
        return input_at, (-1,)

    def __repr__(self) -> str:
        return "<value of the call before>"


PREVIOUS: Final = _Previous()
#: The remote values among the arguments that are being written, with their places.
_collected: ContextVar[dict[RemoteValue, int]] = ContextVar("cascade.remote_inputs")
#: The values of these, in the worker.
arrived: ContextVar[Sequence[Any]] = ContextVar("cascade.arrived")


@contextmanager
def collected_inputs() -> Iterator[dict[RemoteValue, int]]:
    """The remote values that are written meanwhile, with their places."""
    found: dict[RemoteValue, int] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def input_at(place: int) -> Any:
    """The value that was at this place; in a worker."""
    return arrived.get()[place]


class Link(NamedTuple):
    """A call that takes the value of the one before it, in its place among the inputs."""

    name: str
    task: Packed
    arguments: bytes


class RemoteCall:
    """One call of a task, for a TaskExecutor. Each object is used once.

    Attributes:
        name: The name of the task.
        task: The task as bytes; an executor may send these once to each worker.
        arguments: The arguments as bytes; an executor may put something else in their place.
        spins: Seconds for which the worker may follow tail calls of the task to itself; 0: not at
            all.
        alone: Whether it must not share a worker's turn with other calls, because it may be ended
            or takes amounts there.
        on_end: Called once with the Outcome, in any thread, unless ``cancel_call`` returned True.
        on_begin: Called before that when the worker begins the call, as far as the executor
            notices; None if nothing depends on that.
        needs: Amounts of what the executor allocates itself, by name.
        resources: The providers that the worker needs.
        beside: Large buffers of the arguments (``wire.dumps``), for an executor that ``shares``. It
            copies or sends them in ``submit_call``, as the driver may change them afterwards.
        state: For the executor.

    Only for an executor whose values can stay:

    Attributes:
        inputs: The values among the arguments that are there already.
        links: Calls to make one after the other with its value, as long as that is a plain one. The
            place of this value is behind the inputs.
        keeps: Whether the value may stay there.
    """

    __slots__ = (
        "alone",
        "arguments",
        "beside",
        "inputs",
        "keeps",
        "links",
        "name",
        "needs",
        "on_begin",
        "on_end",
        "resources",
        "spins",
        "state",
        "task",
    )

    def __init__(
        self,
        name: str,
        task: Packed,
        arguments: bytes,
        on_end: Callable[[Outcome], object],
        *,
        on_begin: Callable[[], object] | None = None,
        needs: Mapping[str, float] = _NO_NEEDS,
    ) -> None:
        self.name = name
        self.task = task
        self.arguments: Any = arguments
        self.on_end = on_end
        self.on_begin = on_begin
        self.needs = needs
        self.alone = on_begin is not None or bool(needs)
        self.spins = 0.0
        self.beside: Sequence[Any] = ()
        self.resources: Sequence[PackedResource] = ()
        self.inputs: Sequence[RemoteValue] = ()
        self.links: Sequence[Link] = ()
        self.keeps = False
        self.state: Any = None

    def parts(self) -> Iterator[tuple[bytes, bytes]]:
        """Token and bytes of the tasks and of the providers that the worker needs."""
        yield self.task
        for link in self.links:
            yield link.task
        for resource in self.resources:
            yield resource.token, resource.data

    def __repr__(self) -> str:
        return f"<remote call of {self.name}>"


def goes_elsewhere(operation: Operation) -> bool:
    """Whether an executor for everything makes the calls of ``operation``.

    These are plain functions of the user, with no mode of their own. Those that are given resources
    stay if a worker cannot open one; that is asked again in a run, which may override it.
    """
    if not isinstance(operation, Task) or operation.is_async or operation.mode != "auto":
        return False
    found: bool | None = operation.derived.get("elsewhere")
    if found is None:
        own = str(operation.__module__).startswith("cascade.spec.")
        found = operation.derived["elsewhere"] = not (
            own
            or operation.is_wait
            or any(
                wanted.definition and refusal(wanted.definition, lambda one: one.definition)
                for wanted in operation.parameters.injections.values()
            )
        )
    return found
