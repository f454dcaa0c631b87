"""Every error that Cascade itself raises.

Each class also derives from the builtin that people already catch (ruling M18)::

    CascadeError
    ├── definition and use
    │   ├── DefinitionError (TypeError)          a task, resource or route is declared wrongly
    │   ├── LazyUseError (TypeError)             a lazy value is used as if it were there already
    │   │   └── LazyAttributeError (AttributeError) an attribute of its value is asked for
    │   └── ArgumentError (TypeError)            a call's arguments do not fit the signature
    ├── planning and compiling
    │   ├── CycleError (ValueError)              nodes wait for each other; ``.cycle`` names them
    │   ├── BlueprintError (ValueError)          a blueprint that cannot run; ``.instruction``
    │   ├── DrawingError (RuntimeError)          Graphviz is missing or has failed
    │   └── SerializationError (TypeError)       a graph that cannot be written or read as JSON
    │       ├── TaskNotImportedError (ImportError) it names a module that may not be imported
    │       └── NotStorableError (TypeError)     a value has no stored form; ``.place``
    ├── running
    │   ├── ParameterError (ValueError)          a Param or Env is missing or of the wrong type
    │   ├── ResourceNotFoundError (NameError)    an injected resource is not registered
    │   ├── ResourceError (RuntimeError)         a provider breaks its protocol
    │   │   └── ResourceTimeoutError (TimeoutError) a resource takes too long to close
    │   ├── DependencyMissingError (LookupError) the target was skipped; ``.condition``
    │   ├── ReleasedValueError (LookupError)     a value is asked for after its last known use
    │   ├── RouteError (LookupError)             a Router has no route for the selected key
    │   ├── UnpackError (ValueError)             a task returned a number of values other than nout
    │   ├── CapacityError (ValueError)           a task takes more than exists; ``.capacity``
    │   ├── TaskTimeoutError (TimeoutError)      an attempt took longer than with_timeout allows
    │   ├── DeadlineError (TimeoutError)         a run took longer than its deadline allows
    │   ├── StepLimitError (RuntimeError)        its loops make more steps than max_steps allows
    │   ├── TierError (TypeError)                a task cannot get the tier asked for by name
    │   ├── UnknownBlueprintError (LookupError)  a TailCall names an id that is not registered
    │   ├── TaskStopIterationError (RuntimeError) a function let a StopIteration escape
    │   ├── StalledError (RuntimeError)          virtual time can go no further
    │   ├── TaskCancelledError (RuntimeError)    a task was cancelled, and not by the engine
    │   ├── RunError (RuntimeError)              a run is started where none may start
    │   ├── RunCancelledError (RuntimeError)     a run was cancelled by its handle; ``.run_id``
    │   ├── StoredError (RuntimeError)           stands for an error that could not be stored
    │   ├── ExecutorError (RuntimeError)         no thread or process was lent for a call
    │   ├── SendError (TypeError)                a value cannot go to another process; ``.place``
    │   ├── WorkerLostError (RuntimeError)       the process of a call has ended; ``.exit_code``
    │   ├── ValueLostError (RuntimeError)        a value was lost with its worker; ``.task``
    │   ├── RemoteError (RuntimeError)           stands for an error that has no class here
    │   └── ConnectorError (ConnectionError)     a connector cannot connect, or was refused
    ├── durable runs
    │   ├── StoreError (OSError)                 a store cannot be used; ``.transient``
    │   ├── RunNotFoundError (LookupError)       no run in the store has this id; ``.run_id``
    │   ├── RunConflictError (ValueError)        a run cannot do what it is asked to; ``.run_id``
    │   ├── RunLeasedError (RuntimeError)        another process executes the run; ``.owner``
    │   ├── LeaseLostError (RuntimeError)        another process took the run over; ``.run_id``
    │   └── CodeChangedError (RuntimeError)      new code does not fit a stored run; ``.task``
    └── InternalError (RuntimeError)             an invariant of Cascade is broken: please report

An exception raised by a task reaches the caller as itself, with one note added.

All of them can be pickled and copied, with their attributes, notes, cause and context. So can
users' subclasses, whatever parameters their ``__init__`` has. Tracebacks are not pickled, as usual
in Python.
"""

from __future__ import annotations

import _pickle  # with the class of ``pickle``, whose import takes 8 ms
from collections.abc import Mapping, Sequence
from typing import Any, Self

from cascade.spec.pickled_errors import Linked, remade, set_attribute, state_of
from cascade.spec.wording import short


class CascadeError(Exception):
    """Base class of every error that Cascade itself raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return remade, (type(self), self.args), state_of(self, CascadeError)

    def __setstate__(self, state: Mapping[str, Any] | None) -> None:
        for name, value in (state or {}).items():
            set_attribute(self, name, value.error if isinstance(value, Linked) else value)


class DefinitionError(CascadeError, TypeError):
    """A task, resource, parameter or route is declared in a way that can never run."""


class LazyUseError(CascadeError, TypeError):
    """A LazyResult is used as a value before any run has given it one."""


class LazyAttributeError(LazyUseError, AttributeError):
    """An attribute of a LazyResult's value is asked for before any run has given it one."""


class ArgumentError(CascadeError, TypeError):
    """The arguments of a call do not fit the task's signature."""


class CycleError(CascadeError, ValueError):
    """Nodes wait for each other.

    Attributes:
        cycle: The names of the nodes on the cycle; the first is repeated at the end.
    """

    def __init__(self, message: str, cycle: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cycle = tuple(cycle)


class BlueprintError(CascadeError, ValueError):
    """A blueprint that cannot be executed as it stands.

    Attributes:
        instruction: Index of the offending instruction, or None for the blueprint as a whole.
    """

    def __init__(self, message: str, instruction: int | None = None) -> None:
        super().__init__(message)
        self.instruction = instruction


class SerializationError(CascadeError, TypeError):
    """A graph holds something that has no JSON form, or the JSON is not a graph."""


class DrawingError(CascadeError, RuntimeError):
    """Graphviz, which makes pictures as SVG, is missing or has failed."""


class TaskNotImportedError(SerializationError, ImportError):
    """A document or a store names a task or type of a module that is not imported and may not be.

    Attributes:
        module: The module. Import it before, or allow it.
    """

    def __init__(self, message: str, module: str) -> None:
        super().__init__(message)
        self.module = module


class NotStorableError(SerializationError):
    """A durable run cannot store a value.

    Attributes:
        place: Where in the value it is, as ``[3]['user'].session``; empty for the value itself.
    """

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


class ParameterError(CascadeError, ValueError):
    """A ``Param`` or ``Env`` has no value, or one that does not fit its type; or ``params`` has a
    name that the target does not have.

    Attributes:
        name: The parameter's name.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class ResourceNotFoundError(CascadeError, NameError):
    """A task or provider asks for a resource that is not registered."""


class ResourceError(CascadeError, RuntimeError):
    """A resource provider breaks its protocol, or a task cannot use the resource where it runs."""


class ResourceTimeoutError(ResourceError, TimeoutError):
    """A resource was not closed within its ``teardown_timeout``.

    Attributes:
        seconds: The allowed time.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class DependencyMissingError(CascadeError, LookupError):
    """The target of a run, or a value it needs, was skipped (rule R6).

    Attributes:
        condition: Name of the condition that was falsy.
    """

    def __init__(self, message: str, condition: str) -> None:
        super().__init__(message)
        self.condition = condition


class ReleasedValueError(CascadeError, LookupError):
    """A task returned a lazy value whose value was released after its last known use (M21).

    ``lazy.keep()`` keeps it until the run ends.
    """


class RouteError(CascadeError, LookupError):
    """The selector of a Router gave a key that has no route (rule R7)."""


class UnpackError(CascadeError, ValueError):
    """A task with ``nout`` returned another number of values, or a value without parts."""


class CapacityError(CascadeError, ValueError):
    """A task takes more of a capacity than the engine has, so it would wait for ever; or processes
    that share a capacity state different totals.

    Attributes:
        capacity: Its name.
    """

    def __init__(self, message: str, capacity: str) -> None:
        super().__init__(message)
        self.capacity = capacity


class TaskTimeoutError(CascadeError, TimeoutError):
    """An attempt of a task took longer than ``with_timeout`` allows, or a signal did not come
    within the timeout of ``wait_for``.

    Attributes:
        seconds: The allowed time.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class DeadlineError(CascadeError, TimeoutError):
    """A run took longer than its deadline allows.

    Attributes:
        seconds: The allowed time.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class StepLimitError(CascadeError, RuntimeError):
    """A run needs more steps than its ``max_steps`` allows, or a node more than ``max_rounds``.

    Attributes:
        limit: The allowed number of steps or rounds.
    """

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class TierError(CascadeError, TypeError):
    """A tier of the virtual machine was asked for by name, and a task cannot get it."""


class UnknownBlueprintError(CascadeError, LookupError):
    """A TailCall names a ``target_blueprint_id`` that is not registered."""


class TaskStopIterationError(CascadeError, RuntimeError):
    """A function of the user let a StopIteration escape, which cannot pass a coroutine (M13).

    The cause is the StopIteration.
    """

    @classmethod
    def of(cls, function: Any) -> Self:
        """The error for ``function``."""
        name = getattr(function, "__qualname__", None)
        return cls(
            f"the function {short(function) if name is None else repr(name)} raised "
            "StopIteration, which would silently end the loop that runs it; catch it there"
        )


class StalledError(CascadeError, RuntimeError):
    """Virtual time cannot advance: nothing is left to wait for, or a thread takes too long."""


class TaskCancelledError(CascadeError, RuntimeError):
    """A task was cancelled from inside, by neither its run nor its call (ruling M13).

    The cause is the CancelledError.
    """


class RunError(CascadeError, RuntimeError):
    """A run cannot start here: inside a task, in a running event loop, or on a closed engine.

    It is also the stored error of a durable run that is dead (D3).
    """


class _OfRun(CascadeError):
    """An error about one run.

    Attributes:
        run_id: The id of the run.
    """

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunCancelledError(_OfRun, RuntimeError):
    """The result was awaited of a run that its handle has cancelled."""


class StoredError(CascadeError, RuntimeError):
    """Stands for a stored exception that cannot be rebuilt in this process.

    Attributes:
        type_name: ``module:name`` of its class.
        traceback: Its traceback, as Python prints it.
    """

    def __init__(self, message: str, type_name: str, traceback: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback = traceback


class ExecutorError(CascadeError, RuntimeError):
    """A pool did not start a call that it was given, or makes calls in other processes."""


class SendError(CascadeError, _pickle.PicklingError, TypeError):
    """A task, an argument or a result cannot be sent to another process, or be read there.

    Attributes:
        place: The part that cannot, such as ``argument 'config' of task 'score'['client']._lock``.
    """

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


class WorkerLostError(CascadeError, RuntimeError):
    """The process that made a call of a task has ended before the call did.

    The call may have had any part of its effects, so it is made again only if the node has a retry.

    Attributes:
        task: The name of the task.
        exit_code: The exit code of the process; negative for the number of a signal, None if it is
            not known.
    """

    def __init__(self, message: str, task: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.task = task
        self.exit_code = exit_code


class ValueLostError(CascadeError, RuntimeError):
    """A value that stayed with a worker was lost with it, and a call needed it.

    It is not computed again. An executor with ``keep_above=None`` has all values come back.

    Attributes:
        task: The name of the task that has computed it.
    """

    def __init__(self, message: str, task: str) -> None:
        super().__init__(message)
        self.task = task


class RemoteError(CascadeError, RuntimeError):
    """Stands for an exception of another process whose class cannot be found or made here.

    Attributes:
        type_name: ``module:name`` of its class.
    """

    def __init__(self, message: str, type_name: str) -> None:
        super().__init__(message)
        self.type_name = type_name


class ConnectorError(CascadeError, ConnectionError):
    """A connector cannot be opened, or its broker refuses a request."""


class StoreError(CascadeError, OSError):
    """A store of durable runs cannot be used: it is full, locked, read-only, away, or newer.

    Attributes:
        transient: Whether the same call may succeed later, when nothing but time has passed.
    """

    def __init__(self, message: str, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class RunNotFoundError(_OfRun, LookupError):
    """No run in the store has this id."""


class RunConflictError(_OfRun, ValueError):
    """The run with this id cannot do what it is asked to (D1).

    It has another target, or it has ended.
    """


class RunLeasedError(_OfRun, RuntimeError):
    """A process executes the run at this moment (D1, D6).

    Attributes:
        run_id: The id.
        owner: Names the host and the process.
        seconds: How long the lease still holds; its owner renews it as long as it lives.
    """

    def __init__(self, message: str, run_id: str, owner: str, seconds: float) -> None:
        super().__init__(message, run_id)
        self.owner = owner
        self.seconds = seconds


class LeaseLostError(_OfRun, RuntimeError):
    """The run ends in this process: another one has taken it over and goes on with it (D6)."""


class CodeChangedError(CascadeError, RuntimeError):
    """New code does not fit what a durable run has stored (D9).

    A task has another version or other parameters than a stored call of it; or any code of it has
    changed, and the engine has ``on_code_change="refuse"``.

    Attributes:
        task: The name of the task.
    """

    def __init__(self, message: str, task: str) -> None:
        super().__init__(message)
        self.task = task


class InternalError(CascadeError, RuntimeError):
    """An invariant of Cascade itself is broken. Please report it with the traceback."""
