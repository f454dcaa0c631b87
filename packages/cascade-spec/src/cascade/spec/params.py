"""Param and Env: values that a run gets from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final, Generic, TypeVar, get_origin, overload

from cascade.spec.errors import ArgumentError, DefinitionError, ParameterError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS, SOURCE
from cascade.spec.operation import FacadeOperation, Operation
from cascade.spec.wording import short

T = TypeVar("T")
T2 = TypeVar("T2")
D = TypeVar("D")


#: Most names that a message lists.
_LISTED = 20


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "(required)"


MISSING: Final = _Missing()

#: The ``params`` of the run that the current code belongs to. The engine sets it for each run.
run_params: ContextVar[Mapping[str, Any]] = ContextVar("cascade.run_params")

#: Types that are read from text as JSON; their constructors would split the text.
_CONTAINERS = (list, dict, tuple, set, frozenset)
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "off", "n", "f", ""})


class Source(LazyResult[T], Generic[T]):
    """A leaf of the graph whose value comes from the run's surroundings."""

    __slots__ = ("default", "param_name")

    _from_outside = True

    param_name: str
    default: Any

    def read(self, params: Mapping[str, Any]) -> T:
        """The value in a run with ``params``.

        Raises:
            ParameterError: It is missing and has no default, or does not fit the type.
        """
        raise NotImplementedError

    def _read_here(self, _name: str) -> T:
        return self.read(run_params.get({}))

    def _place(self, kind: str, name: str, default: Any) -> None:
        written = type(self).__name__
        if not isinstance(name, str) or not name:
            raise DefinitionError(f"{written} needs a name, but got {short(name)}")
        operation = FacadeOperation(
            self._read_here, f"{kind} {name}", written=f"cs.{written}({name!r})"
        )
        self.param_name = name
        self.default = default
        frame = sys._getframe(2)
        # Special, so that a run checks it before any call: it may be missing.
        super().__init__(operation, (name,), NO_KWARGS, (), SOURCE, frame.f_code, frame.f_lasti)


class Param(Source[T], Generic[T]):
    """A named input of the run: ``engine.run(target, params={"region": "eu"})``.

    Args:
        name: The key in ``params``.
        default: Used if ``params`` has no such key. Without a default the parameter is required.
        type: A type. Values have it, or are strings (and ints for float) that convert to it;
            "yes/no", "on/off", "true/false", "1/0" for bool. A list, tuple, set or dict is read
            from text as JSON; the items of a ``list[int]`` are not checked. Or a function that
            converts the value.
        description: For people: command-line help and drawings.

    Raises:
        DefinitionError: ``type`` is neither, or a default other than None does not fit it. A
            default is handed over unconverted; without ``type`` it may have any type.
    """

    __slots__ = ("description", "type")

    @overload
    def __init__(self: Param[str], name: str, *, description: str = "") -> None: ...
    @overload  # the default, of any type, or a str
    def __init__(self: Param[Any], name: str, default: Any, *, description: str = "") -> None: ...
    @overload
    def __init__(self, name: str, *, type: Callable[..., T], description: str = "") -> None: ...
    @overload
    def __init__(
        self, name: str, default: T, type: Callable[..., T], description: str = ""
    ) -> None: ...
    @overload
    def __init__(
        self: Param[T2 | D], name: str, default: D, type: Callable[..., T2], description: str = ""
    ) -> None: ...
    def __init__(
        self,
        name: str,
        default: Any = MISSING,
        type: Callable[..., Any] = str,
        description: str = "",
    ) -> None:
        self.type = type
        self.description = description
        self._place("param", name, default)
        self._check()

    def read(self, params: Mapping[str, Any]) -> T:
        value = params.get(self.param_name, MISSING)
        if value is not MISSING:
            if type(value) is self.type:  # as below, for the commonest case
                return value  # type: ignore[no-any-return]
            return self._convert(value)  # type: ignore[no-any-return]
        if self.default is MISSING:
            given = ", ".join(map(short, islice(params, _LISTED))) or "none"
            raise ParameterError(
                f"the parameter '{self.param_name}' (at {self.callsite}) is required, but the run "
                f"was given {given}; pass params={{'{self.param_name}': …}} or give a default",
                self.param_name,
            )
        return self.default  # type: ignore[no-any-return]

    def _check(self) -> None:
        kind: Any = self.type
        if not callable(kind) or isinstance(kind, (LazyResult, Operation)):
            raise DefinitionError(
                f"Param '{self.param_name}': type takes a type, or a function that converts, but "
                f"got {short(kind)}"
            )
        # Only a converter knows its results; and str is the type of a Param without one.
        default = self.default
        if not isinstance(kind, type) or kind is str or default is None or default is MISSING:
            return
        try:
            self._convert(default)
        except ParameterError:
            raise DefinitionError(
                f"Param '{self.param_name}': the default must be {kind.__name__}, but is "
                f"{short(default)} of type {type(default).__name__}"
            ) from None

    def _convert(self, value: Any) -> Any:
        kind: Any = self.type
        origin = get_origin(kind)
        if isinstance(origin, type):  # list for list[int]
            kind = origin
        if isinstance(kind, type) and type(value) is kind:
            return value
        try:
            if kind is bool:
                return _to_bool(value)
            if not isinstance(kind, type):
                return kind(value)
            if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
                return value
            if kind in _CONTAINERS and isinstance(value, str):
                return _from_json(kind, value)
            if isinstance(value, str) or (kind is float and type(value) is int):
                return kind(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise self._unfit(value) from error
        raise self._unfit(value)

    def _unfit(self, value: Any) -> ParameterError:
        generic = get_origin(self.type) is not None
        wanted = short(self.type) if generic else getattr(self.type, "__name__", short(self.type))
        return ParameterError(
            f"the parameter '{self.param_name}' (at {self.callsite}) must be {wanted}, "
            f"but is {short(value)} of type {type(value).__name__}",
            self.param_name,
        )


class Env(Source[str]):
    """An environment variable, read when the node runs.

    Args:
        name: The variable.
        default: Used if it is not set. Without a default the variable is required.
    """

    __slots__ = ()

    def __init__(self, name: str, default: Any = MISSING) -> None:
        self._place("env", name, default)

    def read(self, params: Mapping[str, Any]) -> str:
        value = os.environ.get(self.param_name, self.default)
        if value is MISSING:
            raise ParameterError(
                f"the environment variable '{self.param_name}' (at {self.callsite}) is not set "
                "and has no default",
                self.param_name,
            )
        return value  # type: ignore[no-any-return]


def check_params(params: object) -> Mapping[str, Any]:
    """What ``run`` was given as ``params``; empty for None.

    Raises:
        ArgumentError: It is no mapping.
    """
    if params is None:
        return {}
    if isinstance(params, (LazyResult, Operation)):
        raise ArgumentError(
            f"run() takes one target, but params is {short(params)}; for several targets pass a "
            "list\n"
            "    wrong:  cs.run(a, b)\n"
            "    right:  cs.run([a, b])"
        )
    if not isinstance(params, Mapping):
        raise ArgumentError(
            f"params takes a dict of names and values, but got {short(params)}\n"
            "    right:  params={'name': value}"
        )
    return params


def check_param_names(names: Any, call: str, written: str) -> tuple[str, ...]:
    """Names of parameters that were given to an option.

    Args:
        names: Any iterable of them.
        call: The name of the called function, for the message.
        written: The option.

    Raises:
        ArgumentError: It is none, or a single name.
    """
    listed = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else None
    if listed is None or not all(isinstance(name, str) for name in listed):
        raise ArgumentError(
            f"{call}() takes names of parameters, but got {written}={short(names)}\n"
            f"    right:  {written}=['name']"
        )
    return listed


def _from_json(kind: type, text: str) -> Any:
    import json  # only parameters that are containers need it

    value = json.loads(text)
    if not isinstance(value, dict if kind is dict else list):
        raise ValueError(f"not a JSON {'object' if kind is dict else 'array'}")
    return kind(value)


def _to_bool(value: Any) -> bool:
    text = value.strip().lower() if isinstance(value, str) else value
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(value)
