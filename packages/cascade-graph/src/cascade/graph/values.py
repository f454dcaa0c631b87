"""Values, references and policies as JSON: the common part of graphs and blueprints.

A value is JSON, but for objects with one key that starts with ``$``: ``$node`` (an index),
``$tuple``, ``$set``, ``$frozenset``, ``$deque``, ``$dict``, ``$ordered`` and ``$defaultdict``
(pairs), ``$namedtuple``, ``$dataclass``, ``$literal``, ``$inject`` (a resource's name),
``$provider`` (``module:name`` of one), ``$float`` (nan and infinities), ``$unset`` (a field without
a value).
"""

from __future__ import annotations

import json
import math
import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from cascade.graph.references import (
    Resolver,
    reference_to,
    reference_to_condition,
    reference_to_converter,
    reference_to_delay,
)
from cascade.spec.blueprint import Literal
from cascade.spec.errors import SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.logic import invert
from cascade.spec.params import MISSING, Env, Param, Source
from cascade.spec.policies import CallPolicies
from cascade.spec.resource import Inject, inject
from cascade.spec.retry import Retry
from cascade.spec.shapes import UNSET, is_plain_dataclass, shape_of
from cascade.spec.task import Task
from cascade.spec.unpacking import item_range, unpack
from cascade.spec.wording import short

#: Name → function, of the operators that lazy values have. No others: some functions of that
#: module would let a document call anything.
OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{
        func.__name__: func
        for func in (
            *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
            *(operator.add, operator.sub, operator.mul, operator.matmul, operator.truediv),
            *(operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift),
            *(operator.and_, operator.or_, operator.xor),
            *(operator.neg, operator.pos, operator.abs, operator.getitem),
            *(round, divmod, math.floor, math.ceil, math.trunc),
        )
    },
    "pow_modulo": pow,
    "invert": invert,
    "slice": item_range,
    "unpack": unpack,
}
OPERATOR_NAMES: Mapping[Any, str] = {func: name for name, func in OPERATORS.items()}
#: Errors that reading a malformed document leads to, besides a SerializationError.
UNREADABLE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_RETRY_NUMBERS = ("max_attempts", "delay", "backoff", "max_delay", "jitter")
#: The remedy for a function that documents cannot name.
_MARK = "define it at the top level of a module, and decorate it with @cs.portable"
#: Python refuses to read or write longer ints as decimal digits.
_MOST_BITS = 14_000


class ValueWriter:
    """Writes the values of one node or instruction; names it in messages.

    Args:
        owner: Returns its name in messages.
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
                self.refuse(
                    f"an int of {value.bit_length()} bits; at most {_MOST_BITS} are allowed"
                )
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
        if type(value) in (set, frozenset):  # sorted, because hashes differ between processes
            items = sorted([self.value(v) for v in value], key=json.dumps)
            return {f"${type(value).__name__}": items}
        if type(value) is deque:
            return {"$deque": [value.maxlen, [self.value(v) for v in value]]}
        if type(value) is OrderedDict:
            return {"$ordered": self._pairs(value)}
        if type(value) is defaultdict:
            return {"$defaultdict": [self.factory(value.default_factory), self._pairs(value)]}
        if type(value) is dict:
            if all(type(k) is str and not k.startswith("$") for k in value):
                return self.named(value)
            return {"$dict": self._pairs(value)}
        if isinstance(value, Literal):
            return {"$literal": ValueWriter(self._owner, {}).value(value.value)}
        if isinstance(value, Inject):
            return self._inject(value)
        if value is UNSET:
            return {"$unset": None}
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return {"$namedtuple": [self.kind(type(value)), [self.value(v) for v in value]]}
        if is_plain_dataclass(type(value)):
            return {"$dataclass": [self.kind(type(value)), self._fields(value)]}
        return self.refuse(f"the argument {short(value)} of type {type(value).__name__}")

    def named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.value(v) for name, v in values.items()}

    def _pairs(self, values: Mapping[Any, Any]) -> list[Any]:
        return [[self.value(k), self.value(v)] for k, v in values.items()]

    def _fields(self, value: Any) -> dict[str, Any]:
        """The fields of a dataclass that have a value."""
        names = [field.name for field in fields(value)]
        if rest := getattr(value, "__dict__", {}).keys() - names:
            self.refuse(
                f"the attribute '{min(rest)}' of a {type(value).__name__}, which is no field"
            )
        return {name: self.value(getattr(value, name)) for name in names if hasattr(value, name)}

    def factory(self, factory: Any) -> str | None:
        """The name of the factory that a defaultdict calls for a missing key."""
        if factory is None:
            return None
        return reference_to_converter(factory) or self.refuse(
            f"a defaultdict of {short(factory)}; {_MARK}"
        )

    def kind(self, kind: type) -> str:
        """The name of a namedtuple or dataclass."""
        return reference_to(kind) or self.refuse(f"a value of the type {short(kind)}")

    def task(self, task: Task[..., Any]) -> str:
        return reference_to(task) or self.refuse(
            f"its function {task.__module__}:{task.__qualname__}, which cannot be imported "
            "by that name (define it at the top level of a module)"
        )

    def source(self, source: Source[Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"env": source.param_name}
        if isinstance(source, Param):
            kind = reference_to_converter(source.type) or self.refuse(
                f"its type {short(source.type)}; {_MARK}"
            )
            body = {"param": source.param_name, "type": kind, "description": source.description}
        default = source.default
        return body if default is MISSING else {**body, "default": self.value(default)}

    def calls(self, calls: CallPolicies) -> dict[str, Any]:
        if calls.cache is not None:
            self.refuse(
                f"its cache {short(calls.cache)}; set it on the lazy value that from_json() returns"
            )
        body: dict[str, Any] = {}
        if calls.retry is not None:
            body["retry"] = self._retry(calls.retry)
        if calls.timeout is not None:
            body["timeout"] = self.value(calls.timeout)
        if calls.capacities:
            body["capacities"] = {name: self.value(amount) for name, amount in calls.capacities}
        if calls.priority:
            body["priority"] = calls.priority
        return body

    def _retry(self, retry: Retry) -> dict[str, Any]:
        kinds = retry.on if isinstance(retry.on, tuple) else (retry.on,)
        on = [
            reference_to_condition(kind) or self.refuse(f"its retry on {short(kind)}; {_MARK}")
            for kind in kinds
        ]
        numbers = {name: getattr(retry, name) for name in _RETRY_NUMBERS}
        if callable(retry.delay):
            numbers["delay"] = reference_to_delay(retry.delay) or self.refuse(
                f"its retry with the delay {short(retry.delay)}; {_MARK}"
            )
        written = {name: self.value(number) for name, number in numbers.items()}
        return {**written, "on": on if isinstance(retry.on, tuple) else on[0]}

    def _inject(self, value: Inject) -> dict[str, str]:
        if value.definition is None:
            return {"$inject": value.resource_name}
        provider = reference_to(value.definition, value.definition.func)
        return {"$provider": provider or self.refuse(f"the provider of {value!r}")}

    def refuse(self, what: str) -> NoReturn:
        raise SerializationError(f"{self._owner()} has no JSON form: {what}")


class ValueReader:
    """Reads values written by a ValueWriter.

    Args:
        resolver: Finds the named objects.
        lazies: The nodes that values refer to; may grow.

    Raises:
        SerializationError: An object does not exist, or must not be named.
        Exception: One of ``UNREADABLE``.
    """

    def __init__(self, resolver: Resolver, lazies: Sequence[LazyResult[Any]] = ()) -> None:
        self.resolver = resolver
        self._lazies = lazies
        self._readers: Mapping[str, Callable[[Any], Any]] = {
            **_READERS,
            "$provider": lambda reference: inject(resolver.find(reference)),
        }

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1 or not (key := next(iter(value))).startswith("$"):
            return {name: self.value(item) for name, item in value.items()}
        content = value[key]
        if key == "$node":
            return self.earlier(content)
        if key == "$dict":
            return {self.value(k): self.value(v) for k, v in content}
        if key in ("$ordered", "$defaultdict", "$deque", "$namedtuple", "$dataclass"):
            return self._special(key, content)
        if key not in self._readers:
            raise ValueError(f"{short(key)} marks no kind of value")
        return self._readers[key](self.value(content))

    def _special(self, key: str, content: Any) -> Any:
        if key == "$ordered":
            return OrderedDict([(self.value(k), self.value(v)) for k, v in content])
        first, inner = content
        if key == "$deque":
            return deque(self.value(inner), first)
        if key == "$defaultdict":
            pairs = [(self.value(k), self.value(v)) for k, v in inner]
            return defaultdict(self.factory(first), pairs)
        if key == "$namedtuple":
            return self.resolver.namedtuple(first)._make(self.value(inner))
        return self._dataclass(self.resolver.dataclass(first), inner)

    def _dataclass(self, kind: type, values: Mapping[str, Any]) -> Any:
        """An instance with these values, made without code of its own."""
        names = [field.name for field in fields(kind)]
        if unknown := values.keys() - set(names):
            raise ValueError(f"{short(kind)} has no field {short(min(unknown))}")
        shape = shape_of(kind)
        assert shape is not None
        assert shape.build is not None
        found = {name: self.value(value) for name, value in values.items()}
        return shape.build([found.get(name, UNSET) for name in names])

    def factory(self, reference: Any) -> Callable[..., Any] | None:
        """The factory that a defaultdict calls for a missing key."""
        return None if reference is None else self.resolver.converter(reference)

    def constant(self, value: Any) -> Any:
        """A value without nodes in it."""
        return ValueReader(self.resolver).value(value)

    def earlier(self, index: Any) -> LazyResult[Any]:
        if type(index) is not int or not 0 <= index < len(self._lazies):
            raise LookupError(f"{short(index)} is not the index of an earlier node")
        return self._lazies[index]

    def retry(self, body: Any) -> dict[str, Any]:
        """The arguments of a Retry."""
        retry: dict[str, Any] = self.constant(body)
        if isinstance(retry.get("delay"), str):
            retry["delay"] = self.resolver.delay(retry["delay"])
        on, find = retry.pop("on"), self.resolver.condition
        return {**retry, "on": tuple(map(find, on)) if isinstance(on, list) else find(on)}

    def source(self, body: Mapping[str, Any]) -> Source[Any]:
        source: Source[Any]
        if "param" in body:
            kind = self.resolver.converter(body["type"])
            source = Param(body["param"], type=kind, description=body["description"])
        else:
            source = Env(body["env"])
        if "default" in body:
            # Bypasses the check in Param, which would call the type.
            source.default = self.constant(body["default"])
        return source


def operator_at(name: Any) -> Callable[..., Any]:
    if name not in OPERATORS:
        raise LookupError(f"{short(name)} is not an operator of lazy values")
    return OPERATORS[name]


def told(error: Exception) -> str:
    """The text for one of ``UNREADABLE``; continues "node 3 cannot be read: "."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return repr(error) if isinstance(error, (AttributeError, RecursionError)) else str(error)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$unset": lambda _: UNSET,
    "$float": float,
    "$literal": Literal,
    "$inject": inject,
}
