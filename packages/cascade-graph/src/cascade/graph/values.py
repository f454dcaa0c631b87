"""Values, references and policies as JSON: what graphs and blueprints have in common.

A value is JSON, but for objects with one key that starts with ``$``: ``$node`` (an index),
``$tuple``, ``$set``, ``$dict`` (pairs), ``$namedtuple``, ``$literal``, ``$inject`` (a resource's
name), ``$provider`` (``module:name`` of one), ``$float`` (nan and infinities).
"""

from __future__ import annotations

import importlib
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NoReturn

from cascade.spec.arithmetic import item_range
from cascade.spec.blueprint import Literal
from cascade.spec.errors import SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import MISSING, Env, Param, Source
from cascade.spec.policies import CallPolicies
from cascade.spec.resource import Inject, inject
from cascade.spec.retry import Retry
from cascade.spec.task import Task
from cascade.spec.unpacking import unpack
from cascade.spec.wording import short

#: Name → function, of the operators that lazy values have. No others: some of the same module
#: would let a document call whatever it likes.
OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{
        func.__name__: func
        for func in (
            *(operator.lt, operator.le, operator.gt, operator.ge),
            *(operator.add, operator.sub, operator.mul, operator.matmul, operator.truediv),
            *(operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift),
            *(operator.and_, operator.or_, operator.xor, operator.invert),
            *(operator.neg, operator.pos, operator.abs, operator.getitem),
        )
    },
    "slice": item_range,
    "unpack": unpack,
}
OPERATOR_NAMES: Mapping[Any, str] = {func: name for name, func in OPERATORS.items()}
#: What reading a document that is not as it should be leads to, besides a SerializationError.
UNREADABLE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_RETRY_NUMBERS = ("max_attempts", "delay", "backoff", "max_delay", "jitter")
#: Python refuses to read or write longer ints as decimal digits.
_MOST_BITS = 14_000


class ValueWriter:
    """Writes the values of one node or instruction; knows it for the messages.

    Args:
        owner: Gives what messages call it.
        index: Lazy value → its place among the nodes; others are refused.
    """

    def __init__(self, owner: Callable[[], str], index: Mapping[LazyResult[Any], int]) -> None:
        self._owner = owner
        self.index = index

    def value(self, value: Any) -> Any:
        # Exact types: a StrEnum would come back as a str.
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            if value.bit_length() > _MOST_BITS:
                self.refuse(f"an int of {value.bit_length()} bits, of {_MOST_BITS} at most")
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, LazyResult):
            if value not in self.index:
                self.refuse("a lazy value inside cs.literal(…)")
            return {"$node": self.index[value]}
        if type(value) is list:
            return [self.value(v) for v in value]
        if type(value) is tuple:
            return {"$tuple": [self.value(v) for v in value]}
        if type(value) is set:  # in one order, whatever the hashes are in this process
            return {"$set": sorted([self.value(v) for v in value], key=json.dumps)}
        if type(value) is dict:
            if all(type(k) is str and not k.startswith("$") for k in value):
                return self.named(value)
            return {"$dict": [[self.value(k), self.value(v)] for k, v in value.items()]}
        if isinstance(value, Literal):
            return {"$literal": ValueWriter(self._owner, {}).value(value.value)}
        if isinstance(value, Inject):
            return self._inject(value)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return {"$namedtuple": [self.namedtuple(type(value)), [self.value(v) for v in value]]}
        return self.refuse(f"the argument {short(value)} of type {type(value).__name__}")

    def named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.value(v) for name, v in values.items()}

    def namedtuple(self, kind: type) -> str:
        return reference(kind) or self.refuse(f"a value of the namedtuple {short(kind)}")

    def task(self, task: Task[..., Any]) -> str:
        return reference(task) or self.refuse(
            f"its function {task.__module__}:{task.__qualname__}, which cannot be imported "
            "by that name (define it at the top level of a module)"
        )

    def source(self, source: Source[Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"env": source.param_name}
        if isinstance(source, Param):
            kind = reference(source.type) or self.refuse(f"its type {source.type!r}")
            body = {"param": source.param_name, "type": kind, "description": source.description}
        default = source.default
        return body if default is MISSING else {**body, "default": self.value(default)}

    def calls(self, calls: CallPolicies) -> dict[str, Any]:
        if calls.cache is not None:
            self.refuse(f"its cache {short(calls.cache)}; give it to what from_json() gives")
        body: dict[str, Any] = {}
        if calls.retry is not None:
            body["retry"] = self._retry(calls.retry)
        if calls.timeout is not None:
            body["timeout"] = self.value(calls.timeout)
        if calls.capacities:
            body["capacities"] = {name: self.value(amount) for name, amount in calls.capacities}
        return body

    def _retry(self, retry: Retry) -> dict[str, Any]:
        kinds = retry.on if isinstance(retry.on, tuple) else (retry.on,)
        on = [reference(kind) or self.refuse(f"its retry on {short(kind)}") for kind in kinds]
        numbers = {name: self.value(getattr(retry, name)) for name in _RETRY_NUMBERS}
        return {**numbers, "on": on if isinstance(retry.on, tuple) else on[0]}

    def _inject(self, value: Inject) -> dict[str, str]:
        if value.definition is None:
            return {"$inject": value.resource_name}
        provider = reference(value.definition, value.definition.func)
        return {"$provider": provider or self.refuse(f"the provider of {value!r}")}

    def refuse(self, what: str) -> NoReturn:
        raise SerializationError(f"{self._owner()} has no JSON form: {what}")


def read_value(value: Any, lazies: Sequence[LazyResult[Any]]) -> Any:
    """What ``ValueWriter.value`` wrote, with ``lazies`` for the nodes.

    Raises:
        SerializationError: Something cannot be imported.
        Exception: One of ``UNREADABLE``.
    """
    if isinstance(value, list):
        return [read_value(item, lazies) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not (key := next(iter(value))).startswith("$"):
        return {name: read_value(item, lazies) for name, item in value.items()}
    content = value[key]
    if key == "$node":
        return earlier(content, lazies)
    if key == "$dict":
        return {read_value(k, lazies): read_value(v, lazies) for k, v in content}
    if key == "$namedtuple":
        return namedtuple_at(content[0])._make(read_value(content[1], lazies))
    if key not in _READERS:
        raise ValueError(f"'{key}' marks no kind of value")
    return _READERS[key](read_value(content, lazies))


def read_retry(body: Any) -> dict[str, Any]:
    """The arguments of a Retry."""
    retry: dict[str, Any] = read_value(body, ())
    on = retry.pop("on")
    return {**retry, "on": tuple(map(imported, on)) if isinstance(on, list) else imported(on)}


def read_source(body: Mapping[str, Any]) -> Source[Any]:
    source: Source[Any]
    if "param" in body:
        source = Param(body["param"], type=imported(body["type"]), description=body["description"])
    else:
        source = Env(body["env"])
    if "default" in body:
        # Past the check of Param: it calls the type, which may be any class that a document names.
        source.default = read_value(body["default"], ())
    return source


def operator_at(name: Any) -> Callable[..., Any]:
    if name not in OPERATORS:
        raise LookupError(f"{short(name)} is no operator of lazy values")
    return OPERATORS[name]


def earlier(index: Any, lazies: Sequence[LazyResult[Any]]) -> LazyResult[Any]:
    if type(index) is not int or not 0 <= index < len(lazies):
        raise LookupError(f"{short(index)} is the index of no node before it")
    return lazies[index]


def told(error: Exception) -> str:
    """How one of ``UNREADABLE`` is told; goes on after "node 3 cannot be read: "."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return repr(error) if isinstance(error, (AttributeError, RecursionError)) else str(error)


def reference(thing: Any, function: Any = None) -> str | None:
    """``module:name`` by which ``thing`` itself can be imported, or None.

    Its name is that of ``function``, where it has none of its own.
    """
    named = thing if function is None else function
    module, name = (getattr(named, attribute, None) for attribute in ("__module__", "__qualname__"))
    found = f"{module}:{name}"
    try:
        return found if imported(found) is thing else None
    except SerializationError:
        return None


def imported(reference: str) -> Any:
    """What ``module:name`` names.

    Raises:
        SerializationError: There is no such module or name, or the import of it fails.
    """
    module, _, name = reference.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except (Exception, SystemExit) as error:  # it runs the module, which may raise anything
        raise SerializationError(f"'{reference}' cannot be imported: {error}") from error


def task_at(reference: str) -> Task[..., Any]:
    found = imported(reference)
    if not isinstance(found, Task):
        raise SerializationError(f"'{reference}' is not a task but {short(found)}")
    return found


def namedtuple_at(reference: str) -> Any:
    found = imported(reference)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_make")):
        raise TypeError(f"'{reference}' is not a namedtuple but {short(found)}")
    return found


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$float": float,
    "$literal": Literal,
    "$inject": inject,
    "$provider": lambda reference: inject(imported(reference)),
}
