"""The Blueprint IR: a program as a flat list of instructions over registers.

A Blueprint is what ``BlueprintBuilder`` compiles a LazyResult to and what ``VirtualMachine``
executes. How it runs, as reduction rules (``R[i]`` is register i, ``value`` of a Literal is its
value and of ``Register(i)`` is ``R[i]``)::

    Call(f, out, a…)   R[out] := f(value(a)…)
    end                the value of the last instruction
    TailCall(new…)     inputs := new…; continue at ``entry`` (rule R5)

Registers named in ``input_args``, ``input_kwargs`` are filled on entry; the instructions before
``entry`` (the prologue) compute the inputs that were lazy values where the root was called, and
run once (ruling M3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeAlias, TypeVar

from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.task import Task

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

#: Arguments that a ``repr`` shows at most.
_SHOWN = 20


class _Frozen(dict[K, V]):
    """A dict that does not change; read some nanoseconds slower than one that does.

    A MappingProxyType is 20 to 30 ns slower, and can be neither pickled nor copied.
    """

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise DefinitionError("a blueprint does not change; make another by dataclasses.replace()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Frozen, (dict(self),)  # otherwise items are set one by one


@dataclass(frozen=True, slots=True)
class Literal(Generic[T]):
    """A value known at compile time; as an argument of a task, one that is handed over as it is."""

    value: T

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

    ``func``, ``output``, ``args`` and ``kwargs`` are all that a hand-made blueprint needs; the
    builder adds the rest.
    """

    func: Any
    output: Register
    args: Sequence[Operand] = ()
    kwargs: Mapping[str, Operand] = field(default_factory=dict)
    #: Holds the values of the function's ``*args`` parameter, as a tuple.
    var_args: Register | None = None
    #: Holds the values of the function's ``**kwargs`` parameter, as a dict.
    var_kwargs: Register | None = None
    #: The call is skipped unless all of these are truthy (R6); asked on the first entry only.
    conditions: Sequence[Operand] = ()
    #: These have ended before the call starts, whatever their values (R6).
    after: Sequence[Register] = ()
    #: Capacity → how much of it each attempt takes, besides what ``policies`` say (R10).
    amounts: Mapping[str, Operand] = field(default_factory=dict)
    #: How the call is made: retries, timeout, cache (R10).
    policies: CallPolicies = PLAIN_CALLS
    #: What ``func`` belongs to, for names, policies and tail calls.
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
        """Of function and registers. Values are left out: equal ones may have no equal hashes."""
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
        """The registers that the call uses or comes after."""
        for operand in self.operands():
            if isinstance(operand, Register):
                yield operand.index
        for surplus in (self.var_args, self.var_kwargs):
            if surplus is not None:
                yield surplus.index

    def operands(self) -> Iterator[Operand]:
        """All that the call uses or comes after, but for surplus arguments."""
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
    """A compiled program; immutable, and may be executed any number of times, also at once.

    Attributes:
        instructions: Executed in order; the last one's value is the result.
        register_count: Size of a frame.
        input_args: Register of each positional input, in order.
        input_kwargs: Register of each input that can be named. A parameter that can be given
            both ways has one register in both maps (M1).
        input_var_args, input_var_kwargs: Registers that collect surplus inputs, or None.
        input_defaults: Register → value for inputs that may be left out.
        input_sources: Register of an input → register that the prologue computes for it; moved
            over at ``entry``, unless the caller gave the input explicitly.
        entry: Index of the first instruction after the prologue.
        task: What the root calls; None for a hand-made blueprint.
        origin: The lazy value that it was made from, until somebody looks at what that was compiled
            to; see ``deferred``.
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
    #: Gives what it is compiled to, where nobody has looked so far.
    _compile: Callable[[], Blueprint] | None = field(
        default=None, init=False, compare=False, repr=False
    )

    @classmethod
    def deferred(cls, origin: LazyResult[Any], build: Callable[[], Blueprint]) -> Blueprint:
        """A blueprint of ``origin`` that is built when somebody looks at it; O(1) until then."""
        blueprint = cls.__new__(cls)
        object.__setattr__(blueprint, "origin", origin)
        object.__setattr__(blueprint, "task", origin.task)
        object.__setattr__(blueprint, "_compile", build)
        return blueprint

    def __getattr__(self, name: str) -> Any:
        """A part of a blueprint that is deferred."""
        if name not in _PARTS:
            raise AttributeError(f"a Blueprint has no attribute '{name}'")
        build = object.__getattribute__(self, "_compile")
        built = Blueprint() if build is None else build()
        for part in _PARTS:
            object.__setattr__(self, part, getattr(built, part))
        object.__setattr__(self, "origin", None)
        object.__setattr__(self, "_compile", None)
        return getattr(self, name)

    def __post_init__(self) -> None:
        _freeze(self, "instructions", "input_args")
        _freeze_mappings(self, "input_kwargs", "input_defaults", "input_sources")

    def __hash__(self) -> int:
        """Of the structure, as that of a call; O(size), every time.

        It is not kept: hashes of strings are another process's, were the blueprint sent there.
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
        """The name of the root, as errors show it."""
        if self.task is not None:
            return self.task.name
        return self.instructions[-1].name if self.instructions else "(empty)"

    def input_names(self) -> dict[int, str]:
        """Register → what errors and listings call that input."""
        names = {register: f"#{place}" for place, register in enumerate(self.input_args)}
        names.update({register: name for name, register in self.input_kwargs.items()})
        return names


#: What is compiled.
_PARTS: Final = tuple(part.name for part in fields(Blueprint) if part.init and part.name != "task")


class TailCall:
    """What a task returns to run again, or to run another task, without a stack (rule R5).

    Arguments that are not named keep their last value, as long as the same task runs again. A
    switch to another task starts from that task's defaults (M1). Lazy values among the arguments
    are resolved first, at the top level only (M2).

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
        # One is made in each step of a loop, so what is common is told by its exact type.
        if type(args) is not tuple and type(args) is not list:
            _check_args(args)
        if kwargs is None:
            kwargs = {}
        elif type(kwargs) is not dict:
            _check_kwargs(kwargs)
        # A task is an Operation that is not structural; nothing else has this attribute.
        if target is not None and getattr(target, "structural", True):
            raise ArgumentError(
                f"target must be a task, but is {short(target)}; decorate it with @cs.task"
            )
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
            list(self.args) == list(other.args)
            and dict(self.kwargs) == dict(other.kwargs)
            and self.target_blueprint_id == other.target_blueprint_id
            and self.target is other.target
        )

    __hash__ = None  # type: ignore[assignment]  # holds mutable arguments


def literal(value: T) -> T:
    """Hand ``value`` to a task as it is: lazy values inside are not looked for (rule R2).

    In ``task.map(…)``, the same value for every item (M17). Typed as its value, so that it fits
    where the task expects one.
    """
    return Literal(value)  # type: ignore[return-value]


def _shown(value: Any) -> str:
    """Operands, some of them if there are many. Each shows its own value safely."""
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
    except Exception:  # a callable object may say that it has none
        return 0
