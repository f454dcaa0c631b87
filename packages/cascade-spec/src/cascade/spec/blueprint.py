"""The Blueprint IR: a program as a flat list of instructions over registers.

``BlueprintBuilder`` compiles a LazyResult to a Blueprint, and ``VirtualMachine`` executes it. The
meaning, as reduction rules (``R[i]`` is register i, ``value`` of a Literal is its value and of
``Register(i)`` is ``R[i]``)::

    Call(f, out, a…)   R[out] := f(value(a)…)
    end                the value of the last instruction
    TailCall(new…)     inputs := new…; continue at ``entry`` (rule R5)

The registers named in ``input_args`` and ``input_kwargs`` are filled on entry. The instructions
before ``entry`` (the prologue) compute inputs that were lazy values in the root's call; they run
once (ruling M3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeAlias, TypeVar

from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.lazy_value import alike
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.shown import notebook_view
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.task_class import Task

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

#: Most arguments that a ``repr`` shows.
_SHOWN = 20


class _Frozen(dict[K, V]):
    """An immutable dict; reading costs some nanoseconds more than from a plain dict.

    A MappingProxyType is 20 to 30 ns slower, and can be neither pickled nor copied.
    """

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise DefinitionError(
            "a blueprint is immutable; make a changed copy with dataclasses.replace()"
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Frozen, (dict(self),)  # otherwise pickle would set the items one by one


@dataclass(frozen=True, slots=True)
class Literal(Generic[T]):
    """A value known at compile time; as an argument, a value that is handed over unsearched."""

    value: T

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return alike(self.value, other.value)

    def __hash__(self) -> int:
        return hash((self.value,))

    def __repr__(self) -> str:
        return f"Literal(value={short(self.value)})"

    def __cascade_digest__(self) -> Any:
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Register:
    """A value known at run time: the content of one slot of the frame."""

    index: int


Operand: TypeAlias = Literal[Any] | Register


@dataclass(frozen=True, slots=True)
class Call:
    """Call ``func`` and keep its result in ``output``.

    A handwritten blueprint needs only ``func``, ``output``, ``args`` and ``kwargs``; the builder
    adds the rest.
    """

    func: Any
    output: Register
    args: Sequence[Operand] = ()
    kwargs: Mapping[str, Operand] = field(default_factory=dict)
    #: Holds the values of the function's ``*args`` parameter, as a tuple.
    var_args: Register | None = None
    #: Holds the values of the function's ``**kwargs`` parameter, as a dict.
    var_kwargs: Register | None = None
    #: The call is skipped unless all of these are truthy (R6). Tested on the first entry only.
    conditions: Sequence[Operand] = ()
    #: Registers whose calls end before this one starts, whatever their values (R6).
    after: Sequence[Register] = ()
    #: Capacity → amount that each attempt takes, besides those in ``policies`` (R10).
    amounts: Mapping[str, Operand] = field(default_factory=dict)
    #: How the call is made: retries, timeout, cache (R10).
    policies: CallPolicies = PLAIN_CALLS
    #: The operation that owns ``func``: gives names, policies and tail calls.
    task: Operation | None = field(default=None, compare=False)
    #: The lazy value that this call computes, for once-per-run sharing (M14) and error notes.
    source: LazyResult[Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _freeze(self, "args", "conditions", "after")
        _freeze_mappings(self, "kwargs", "amounts")

    def __repr__(self) -> str:
        shown = [f"{short(self.func)}, {self.output!r}"]
        for name in ("args", "kwargs", "var_args", "var_kwargs", "conditions", "after", "amounts"):
            if value := getattr(self, name):
                shown.append(f"{name}={_shown(value)}")
        if self.policies is not PLAIN_CALLS:
            shown.append(f"policies={short(self.policies)}")
        return f"Call({', '.join(shown)})"

    def __hash__(self) -> int:
        """Of function and registers, without values: equal ones may hash differently."""
        return hash(
            (
                _hash_of(self.func),
                self.output,
                tuple(map(_place, self.args)),
                frozenset([(name, _place(operand)) for name, operand in self.kwargs.items()]),
                self.var_args,
                self.var_kwargs,
                tuple(map(_place, self.conditions)),
                self.after,
                frozenset([(name, _place(operand)) for name, operand in self.amounts.items()]),
            )
        )

    def reads(self) -> Iterator[int]:
        """The registers that the call reads, or waits for."""
        for operand in self.operands():
            if isinstance(operand, Register):
                yield operand.index
        for surplus in (self.var_args, self.var_kwargs):
            if surplus is not None:
                yield surplus.index

    def operands(self) -> Iterator[Operand]:
        """The operands that the call reads or waits for, without surplus arguments."""
        yield from self.args
        yield from self.kwargs.values()
        yield from self.conditions
        yield from self.amounts.values()
        yield from self.after

    @property
    def name(self) -> str:
        """The name that listings and errors show."""
        if self.task is not None:
            return self.task.name
        return getattr(self.func, "__name__", None) or short(self.func)


Instruction: TypeAlias = Call


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A compiled program; immutable. It may be executed any number of times, also concurrently.

    Attributes:
        instructions: Executed in order; the value of the last one is the result.
        register_count: Size of a frame.
        input_args: Register of each positional input, in order.
        input_kwargs: Register of each input that has a name. A parameter that can be given both
            ways has one register in both maps (M1).
        input_var_args, input_var_kwargs: Registers that collect surplus inputs, or None.
        input_defaults: Register → value of inputs that may be left out.
        input_sources: Register of an input → register that the prologue computes for it. Its
            value is moved at ``entry``, unless the caller gave the input explicitly.
        entry: Index of the first instruction after the prologue.
        task: The root's task; None for a handwritten blueprint.
        origin: The lazy value that a deferred blueprint compiles at the first use of its
            instructions; see ``deferred``.
    """

    instructions: Sequence[Instruction] = ()
    register_count: int = 0
    input_args: Sequence[int] = ()
    input_kwargs: Mapping[str, int] = field(default_factory=dict)
    input_var_args: int | None = None
    input_var_kwargs: int | None = None
    input_defaults: Mapping[int, Any] = field(default_factory=dict)
    input_sources: Mapping[int, int] = field(default_factory=dict)
    entry: int = 0
    task: Operation | None = field(default=None, compare=False)
    origin: LazyResult[Any] | None = field(default=None, init=False, compare=False, repr=False)
    #: Compiles a deferred blueprint; None once that is done.
    _compile: Callable[[], Blueprint] | None = field(
        default=None, init=False, compare=False, repr=False
    )

    @classmethod
    def deferred(cls, origin: LazyResult[Any], build: Callable[[], Blueprint]) -> Blueprint:
        """A blueprint of ``origin`` that ``build`` compiles at its first use; O(1) until then."""
        blueprint = cls.__new__(cls)
        object.__setattr__(blueprint, "origin", origin)
        object.__setattr__(blueprint, "task", origin.task)
        object.__setattr__(blueprint, "_compile", build)
        return blueprint

    def __getattr__(self, name: str) -> Any:
        """A part of a deferred blueprint, compiled now."""
        if name not in _PARTS:
            raise AttributeError(f"a Blueprint has no attribute '{name}'")
        build = object.__getattribute__(self, "_compile")
        if build is None:
            # Another thread has compiled it since this one looked; or it has no parts, as a copy
            # that is being made.
            with suppress(AttributeError):
                return object.__getattribute__(self, name)
        built = Blueprint() if build is None else build()
        for part in _PARTS:
            object.__setattr__(self, part, getattr(built, part))
        object.__setattr__(self, "origin", None)
        object.__setattr__(self, "_compile", None)
        return getattr(self, name)

    def __post_init__(self) -> None:
        _freeze(self, "instructions", "input_args")
        _freeze_mappings(self, "input_kwargs", "input_defaults", "input_sources")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The listing of its instructions, for notebooks."""
        return notebook_view(self)

    def __hash__(self) -> int:
        """Of the structure, as the hash of a call is; O(size), every time.

        It is not kept: hashes of strings differ in another process, and a blueprint may be sent
        there.
        """
        return hash(
            (
                self.instructions,
                self.register_count,
                self.input_args,
                frozenset(self.input_kwargs.items()),
                self.input_var_args,
                self.input_var_kwargs,
                frozenset(self.input_defaults),
                frozenset(self.input_sources.items()),
                self.entry,
            )
        )

    @property
    def name(self) -> str:
        """The name of the root in error messages."""
        if self.task is not None:
            return self.task.name
        return self.instructions[-1].name if self.instructions else "(empty)"

    def input_names(self) -> dict[int, str]:
        """Register → name of that input in errors and listings."""
        names = {register: f"#{place}" for place, register in enumerate(self.input_args)}
        names.update({register: name for name, register in self.input_kwargs.items()})
        return names


#: The compiled parts.
_PARTS: Final = tuple(part.name for part in fields(Blueprint) if part.init and part.name != "task")


class TailCall:
    """A task returns this to run again, or to run another task, without a stack (rule R5).

    Arguments that are not named keep their last value while the same task runs again. A switch to
    another task starts from the defaults of that task (M1). Lazy values anywhere among the
    arguments are computed first (M2).

    Args:
        args: New positional arguments.
        kwargs: New keyword arguments.
        target_blueprint_id: Continue with the blueprint registered under this id instead.
        target: Continue with this task instead; ``Task.tail(…)`` sets it.

    Raises:
        ArgumentError: ``args`` are no sequence, ``kwargs`` no mapping, or ``target`` is no task.
    """

    __slots__ = ("args", "kwargs", "target", "target_blueprint_id")

    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def __init__(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        target_blueprint_id: str | None = None,
        target: Task[..., Any] | None = None,
    ) -> None:
        # One is made in each step of a loop, so the common types are tested by identity.
        if type(args) is not tuple and type(args) is not list:
            _check_args(args)
        if kwargs is None:
            kwargs = {}
        elif type(kwargs) is not dict:
            _check_kwargs(kwargs)
        # A task is an Operation that is not structural; nothing else has this attribute.
        if target is not None and getattr(target, "structural", True):
            hint = "decorate it with @cs.task"
            if getattr(target, "instance", None) is not None:
                hint = "for the task of an object, return the result of its tail(…)"
            raise ArgumentError(f"target must be a task, but is {short(target)}; {hint}")
        self.args = args
        self.kwargs = kwargs
        self.target_blueprint_id = target_blueprint_id
        self.target = target

    def __repr__(self) -> str:
        parts = [short(value) for value in islice(self.args, _SHOWN)]
        parts += [f"{name}={short(v)}" for name, v in islice(self.kwargs.items(), _SHOWN)]
        more = max(len(self.args) - _SHOWN, 0) + max(len(self.kwargs) - _SHOWN, 0)
        if more:
            parts.append(f"… {more} more")
        if self.target_blueprint_id is not None:
            parts.append(f"target_blueprint_id={short(self.target_blueprint_id)}")
        if self.target is not None:
            parts.append(f"target={self.target.name}")
        return f"TailCall({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TailCall):
            return NotImplemented
        return (
            alike(list(self.args), list(other.args))
            and alike(dict(self.kwargs), dict(other.kwargs))
            and self.target_blueprint_id == other.target_blueprint_id
            and self.target is other.target
        )

    __hash__ = None  # type: ignore[assignment]  # holds mutable arguments


def literal(value: T) -> T:
    """Hand ``value`` to a task as it is, without a search for lazy values inside (rule R2).

    In ``task.map(…)`` it is the same value for every item (M17). The declared type is that of the
    value, so that it fits the parameter's annotation.
    """
    return Literal(value)  # type: ignore[return-value]


def _shown(value: Any) -> str:
    """Operands, the first ones if there are many. Each shows its own value safely."""
    if isinstance(value, Mapping):
        pairs = [f"{short(name)}: {v!r}" for name, v in islice(value.items(), _SHOWN)]
        return f"{{{_listed(pairs, len(value))}}}"
    if isinstance(value, Sequence):
        return f"({_listed([*map(repr, islice(value, _SHOWN))], len(value))})"
    return repr(value)


def _listed(shown: list[str], count: int) -> str:
    return ", ".join([*shown, f"… {count - _SHOWN} more"] if count > _SHOWN else shown)


def _check_args(args: Any) -> None:
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        right = "TailCall(kwargs={'n': 3})" if isinstance(args, Mapping) else "TailCall([3])"
        raise ArgumentError(
            "TailCall takes the positional arguments in a list or tuple, but got "
            f"{short(args)}\n"
            f"    right:  {right}"
        )


def _check_kwargs(kwargs: Any) -> None:
    if not isinstance(kwargs, Mapping):
        raise ArgumentError(
            f"TailCall takes the keyword arguments in a dict, but got kwargs={short(kwargs)}\n"
            "    right:  TailCall(kwargs={'n': 3})"
        )


def _freeze(instance: object, *names: str) -> None:
    for name in names:
        object.__setattr__(instance, name, tuple(getattr(instance, name)))


def _freeze_mappings(instance: object, *names: str) -> None:
    for name in names:
        object.__setattr__(instance, name, _Frozen(getattr(instance, name)))


def _place(operand: Operand) -> int | None:
    return operand.index if isinstance(operand, Register) else None


def _hash_of(func: Any) -> int:
    try:
        return hash(func)
    except Exception:  # a callable object may be unhashable
        return 0
