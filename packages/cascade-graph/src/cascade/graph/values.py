"""Values, references and policies in JSON documents: the common part of graphs and blueprints.

A value has the form of ``cascade.graph.forms``, or one of ``$node`` (an index), ``$known`` (the key
of a node that the reader has, in hex digits), ``$literal``, ``$inject`` (a resource's name),
``$provider`` (``module:name`` of one).
"""

from __future__ import annotations

import math
import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

from cascade.graph.forms import MARK, FormReader, FormWriter
from cascade.graph.references import (
    Resolver,
    reference_to,
    reference_to_condition,
    reference_to_converter,
    reference_to_delay,
)
from cascade.spec.blueprint import Literal
from cascade.spec.caching import CachePolicy
from cascade.spec.digest import SIZE
from cascade.spec.errors import SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.logic import invert
from cascade.spec.params import MISSING, Env, Param, Source
from cascade.spec.policies import ENGINES_CACHE, CallPolicies
from cascade.spec.resource import Inject, inject
from cascade.spec.retry import Retry
from cascade.spec.task import Task
from cascade.spec.unpacking import item_range, unpack
from cascade.spec.wording import short

#: Name → type, of the containers of Python that are searched for lazy values.
BUILTIN_CONTAINERS = {
    kind.__name__: kind
    for kind in (list, tuple, dict, set, frozenset, deque, OrderedDict, defaultdict)
}

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
#: A task, and the arguments of a call of it.
TaskCall: TypeAlias = tuple[Task[..., Any], Sequence[Any], Mapping[str, Any]]
NONE_KNOWN: Final[Mapping[LazyResult[Any], bytes]] = MappingProxyType({})
NO_KEYS: Final[Mapping[bytes, LazyResult[Any]]] = MappingProxyType({})
_RETRY_NUMBERS = ("max_attempts", "delay", "backoff", "max_delay", "jitter")


class ValueWriter(FormWriter):
    """Writes the values of one node or instruction; names it in messages.

    Args:
        owner: Returns its name in messages.
        index: Lazy value → its place among the nodes; others are refused.
        known: Lazy value → its key, for those that the reader knows already.
    """

    def __init__(
        self,
        owner: Callable[[], str],
        index: Mapping[LazyResult[Any], int],
        known: Mapping[LazyResult[Any], bytes] = NONE_KNOWN,
    ) -> None:
        self._owner = owner
        self.index = index
        self.known = known

    def place(self, lazy: LazyResult[Any]) -> int | str:
        """Where the reader finds an input: the index of a node, or the key of one it knows."""
        index = self.index.get(lazy)
        return self.known[lazy].hex() if index is None else index

    def other(self, value: Any, kind: type) -> Any:
        if issubclass(kind, LazyResult):
            if value in self.index:
                return {"$node": self.index[value]}
            if value in self.known:
                return {"$known": self.known[value].hex()}
            self.refuse("a lazy value inside cs.literal(…)")
        if issubclass(kind, Literal):
            return {"$literal": ValueWriter(self._owner, {}).value(value.value)}
        if issubclass(kind, Inject):
            return self._inject(value)
        return super().other(value, kind)

    def source(self, source: Source[Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"env": source.param_name}
        if isinstance(source, Param):
            kind = reference_to_converter(source.type) or self.refuse(
                f"its type {short(source.type)}; {MARK}"
            )
            body = {"param": source.param_name, "type": kind, "description": source.description}
        default = source.default
        return body if default is MISSING else {**body, "default": self.value(default)}

    def calls(self, calls: CallPolicies) -> dict[str, Any]:
        if calls.cache is not None and calls.cache is not ENGINES_CACHE:  # which tasks declare
            self.refuse(
                f"its cache {short(calls.cache)}; set it on the lazy value that from_json() returns"
            )
        body: dict[str, Any] = {} if calls.cache is None else {"cache": "engine"}
        if calls.retry is not None:
            body["retry"] = self._retry(calls.retry)
        if calls.timeout is not None:
            body["timeout"] = self.value(calls.timeout)
        if calls.capacities:
            body["capacities"] = {name: self.value(amount) for name, amount in calls.capacities}
        if calls.priority:
            body["priority"] = calls.priority
        if calls.checkpoint is not None:
            body["checkpoint"] = calls.checkpoint != math.inf and calls.checkpoint
        return body

    def _retry(self, retry: Retry) -> dict[str, Any]:
        kinds = retry.on if isinstance(retry.on, tuple) else (retry.on,)
        on = [
            reference_to_condition(kind) or self.refuse(f"its retry on {short(kind)}; {MARK}")
            for kind in kinds
        ]
        numbers = {name: getattr(retry, name) for name in _RETRY_NUMBERS}
        if callable(retry.delay):
            numbers["delay"] = reference_to_delay(retry.delay) or self.refuse(
                f"its retry with the delay {short(retry.delay)}; {MARK}"
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


class ValueReader(FormReader):
    """Reads values written by a ValueWriter.

    Args:
        resolver: Finds the named objects.
        lazies: The nodes that values refer to; may grow.
        known: Key → lazy value, for those that a document may refer to besides its own.

    Raises:
        SerializationError: An object does not exist, or must not be named.
        Exception: One of ``UNREADABLE``.
    """

    def __init__(
        self,
        resolver: Resolver,
        lazies: Sequence[LazyResult[Any]] = (),
        known: Mapping[bytes, LazyResult[Any]] = NO_KEYS,
    ) -> None:
        super().__init__(resolver)
        self._lazies = lazies
        self._known = known

    def marked(self, tag: str, content: Any) -> Any:
        if tag == "$node" or tag == "$known":
            return self.earlier(content)
        if tag == "$literal":
            return Literal(self.value(content))
        if tag == "$inject":
            return inject(content)
        if tag == "$provider":
            return inject(self.resolver.find(content))
        return super().marked(tag, content)

    def call(self, reference: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskCall:
        """The task of a call, and the arguments to call it with now."""
        return self.resolver.task(reference), args, kwargs

    def mapped(self, reference: Any) -> Task[..., Any]:
        """The task of a map."""
        return self.resolver.task(reference)

    def constant(self, value: Any) -> Any:
        """A value without nodes in it."""
        return ValueReader(self.resolver).value(value)

    def earlier(self, index: Any) -> LazyResult[Any]:
        """The node with this index, or the known one with this key."""
        if type(index) is str and len(index) == 2 * SIZE:
            return self._of_key(index)
        if type(index) is not int or not 0 <= index < len(self._lazies):
            raise LookupError(f"{short(index)} is not the index of an earlier node")
        return self._lazies[index]

    def _of_key(self, key: str) -> LazyResult[Any]:
        found = self._known.get(bytes.fromhex(key))
        if found is None:
            raise LookupError(f"{short(key)} is not the key of a node that is known here")
        return found

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


def cache_in(body: Mapping[str, Any]) -> CachePolicy | None:
    """The cache of a node or instruction: that of its engine, or none."""
    name = body.get("cache")
    if name not in (None, "engine"):
        raise ValueError(f"its cache is {short(name)}, but only the engine's can be written")
    return None if name is None else ENGINES_CACHE


def operator_at(name: Any) -> Callable[..., Any]:
    if name not in OPERATORS:
        raise LookupError(f"{short(name)} is not an operator of lazy values")
    return OPERATORS[name]


def told(error: Exception) -> str:
    """The text for one of ``UNREADABLE``; continues "node 3 cannot be read: "."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return repr(error) if isinstance(error, (AttributeError, RecursionError)) else str(error)
