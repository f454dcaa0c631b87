"""Remote calls: what a TaskExecutor is given, and what it tells of it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from cascade.spec.operation import Operation
from cascade.spec.task import Task

if TYPE_CHECKING:
    from cascade.spec.wire import Packed

#: The end of a call. ``value``: it has returned; ``goes on``: with a lazy value or a tail call;
#: ``error``: it has raised; ``failed``: it was not made, or its worker is lost.
Kind: TypeAlias = Literal["value", "goes on", "error", "failed"]

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


class RemoteCall:
    """One call of a task, for a TaskExecutor. Each object is used once.

    Attributes:
        name: The name of the task.
        task: The task as bytes; an executor may send these once to each worker.
        arguments: The arguments as bytes.
        spins: Seconds for which the worker may follow tail calls of the task to itself; 0: not at
            all.
        alone: Whether it must not share a worker's turn with other calls, because it may be ended.
        on_end: Called once with the Outcome, in any thread, unless ``cancel_call`` returned True.
        on_begin: Called before that when the worker begins the call, as far as the executor
            notices; only if ``alone``.
        state: For the executor.
    """

    __slots__ = ("alone", "arguments", "name", "on_begin", "on_end", "spins", "state", "task")

    def __init__(
        self,
        name: str,
        task: Packed,
        arguments: bytes,
        on_end: Callable[[Outcome], object],
        *,
        spins: float = 0.0,
        alone: bool = False,
        on_begin: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self.task = task
        self.arguments = arguments
        self.on_end = on_end
        self.on_begin = on_begin
        self.spins = spins
        self.alone = alone
        self.state: Any = None

    def __repr__(self) -> str:
        return f"<remote call of {self.name}>"


def goes_elsewhere(operation: Operation) -> bool:
    """Whether an executor for everything makes the calls of ``operation``.

    These are plain functions of the user, with no mode of their own, into which no resources are
    injected.
    """
    if not isinstance(operation, Task) or operation.is_async or operation.mode != "auto":
        return False
    found: bool | None = operation.derived.get("elsewhere")
    if found is None:
        own = str(operation.__module__).startswith("cascade.spec.")
        found = operation.derived["elsewhere"] = not (
            own or operation.is_wait or operation.parameters.injections
        )
    return found
