"""A graph as JSON and back, for graphs whose tasks can be imported.

The format, version 1: ``{"cascade": 1, "nodes": […]}`` with inputs before users and the target
last. A node is one of::

    {"task": "module:name", "args": […], "kwargs": {…}}
    {"map": "module:name", "over": {…}}              {"gather": value}
    {"router": value, "routes": [[key, value], …]}   {"param": name, …}   {"env": name, …}
    {"operator": "add", "args": […]}  (a name of Python's ``operator``, "slice" or "unpack")

each with ``"if": [node, …]`` and ``"after": [node, …]`` where it has such edges, ``"retry"`` and
``"timeout"`` where it has such policies, and a map with ``"catches"`` where the errors of its items
become values. A cache has no JSON form. A value is JSON, but for objects with one key that starts
with ``$``: ``$node`` (an index), ``$tuple``, ``$set``, ``$dict`` (pairs), ``$namedtuple``,
``$literal``, ``$inject`` (a resource's name), ``$provider`` (``module:name`` of one), ``$float``
(nan and infinities).
Where a call was written is not kept.
"""

from __future__ import annotations

import importlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NoReturn

from cascade.graph.build import build_graph
from cascade.graph.model import Graph
from cascade.spec.arithmetic import item_range
from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER, fill, gathered
from cascade.spec.errors import ArgumentError, SerializationError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.params import MISSING, Env, Param
from cascade.spec.policies import CallPolicies
from cascade.spec.resource import Inject, inject
from cascade.spec.retry import Retry
from cascade.spec.routing import Router
from cascade.spec.task import Task
from cascade.spec.unpacking import unpack
from cascade.spec.wording import short

_VERSION = 1
_KINDS = ("task", "map", "gather", "router", "param", "env", "operator")
#: Functions of nodes that are not Python's own operators, by the names they have here.
_OURS: Mapping[str, Callable[..., Any]] = {"slice": item_range, "unpack": unpack}
_OPERATORS = {func: name for name, func in _OURS.items()}
_RETRY_NUMBERS = ("max_attempts", "delay", "backoff", "max_delay", "jitter")


def to_json(target: LazyResult[Any] | Graph, *, indent: int | None = None) -> str:
    """Write a graph as JSON.

    Raises:
        SerializationError: A task that cannot be imported by its module and name, or an argument
            that has no JSON form; the message names the node.
    """
    lazy = target.target if isinstance(target, Graph) else target
    graph = build_graph(lazy, routes=True)
    nodes = [_Encoder(graph.index, node).node() for node in graph.lazies]
    return json.dumps({"cascade": _VERSION, "nodes": nodes}, indent=indent, allow_nan=False)


def from_json(text: str) -> Graph:
    """Read what ``to_json`` wrote. Imports the modules of the tasks: read only what you trust.

    Returns:
        A graph of new lazy values; ``.target`` is the one to run.

    Raises:
        SerializationError: ``text`` is not such JSON, or a task is not there any more.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise SerializationError(
            f"from_json() takes the text that to_json() gives, but got {short(text)}"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("cascade") != _VERSION:
        raise SerializationError(f"not a cascade graph of version {_VERSION}: {text[:60]!r}")
    nodes = document.get("nodes", [])
    if not isinstance(nodes, list):
        raise SerializationError(f"its nodes are no list but {short(nodes)}")
    lazies: list[LazyResult[Any]] = []
    for place, node in enumerate(nodes):
        try:
            lazies.append(_decode_node(node, lazies))
        except SerializationError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SerializationError(f"node {place} cannot be read: {_told(error)}") from error
    if not lazies:
        raise SerializationError("the graph has no nodes")
    return build_graph(lazies[-1])


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return repr(error) if isinstance(error, (AttributeError, RecursionError)) else str(error)


class _Encoder:
    """Writes one node; knows it for the messages."""

    def __init__(self, index: Mapping[LazyResult[Any], int], lazy: LazyResult[Any]) -> None:
        self.index = index
        self.lazy = lazy

    def node(self) -> dict[str, Any]:
        lazy = self.lazy
        try:
            body = self._body(lazy)
        except RecursionError:
            self._refuse("a container in it is nested too deep")
        if lazy.conditions:
            body["if"] = [self.index[c] for c in lazy.conditions]
        if lazy.predecessors:
            body["after"] = [self.index[p] for p in lazy.predecessors]
        if lazy.policies is not None:
            body |= self._calls(lazy.policies.calls)
        return body

    def _calls(self, calls: CallPolicies) -> dict[str, Any]:
        if calls.cache is not None:
            self._refuse(f"its cache {short(calls.cache)}; give it to what from_json() gives")
        body: dict[str, Any] = {}
        if calls.retry is not None:
            body["retry"] = self._retry(calls.retry)
        if calls.timeout is not None:
            body["timeout"] = self.value(calls.timeout)
        return body

    def _retry(self, retry: Retry) -> dict[str, Any]:
        kinds = retry.on if isinstance(retry.on, tuple) else (retry.on,)
        on = [_reference(kind) or self._refuse(f"its retry on {short(kind)}") for kind in kinds]
        numbers = {name: self.value(getattr(retry, name)) for name in _RETRY_NUMBERS}
        return {**numbers, "on": on if isinstance(retry.on, tuple) else on[0]}

    def _body(self, lazy: LazyResult[Any]) -> dict[str, Any]:
        if isinstance(lazy, MappedLazyResult):
            plan, *columns = lazy.args
            over = {**dict(zip(plan.names, columns, strict=True)), **plan.shared}
            body = {"map": self._task(plan.task), "over": self._named(over)}
            return body | ({"catches": True} if plan.catches else {})
        if isinstance(lazy, Router):
            routes = [[self.value(k), self.value(v)] for k, v in lazy.routes.items()]
            return {"router": self.value(lazy.selector), "routes": routes}
        if isinstance(lazy, Param):
            kind = _reference(lazy.type) or self._refuse(f"its type {lazy.type!r}")
            body = {"param": lazy.param_name, "type": kind, "description": lazy.description}
            return body | self._default(lazy.default)
        if isinstance(lazy, Env):
            return {"env": lazy.param_name} | self._default(lazy.default)
        if lazy.task is GATHER:
            return {"gather": self._container(lazy)}
        if not isinstance(lazy.task, Task):
            name = _OPERATORS.get(lazy.task.func, lazy.name)
            return {"operator": name, "args": [self.value(v) for v in lazy.args]}
        return {
            "task": self._task(lazy.task),
            "args": [self.value(v) for v in lazy.args],
            "kwargs": self._named(lazy.kwargs),
        }

    def _container(self, lazy: LazyResult[Any]) -> Any:
        container = fill(*lazy.args)
        # The recipe has unwrapped the literals: what they held must not be found by a new search.
        try:
            found = gathered(container, lazy._code, lazy._lasti).dependencies
        except ArgumentError:
            self._refuse("a task or an inject(…) inside cs.literal(…)")
        if sorted(f.number for f in found) != sorted(d.number for d in lazy.dependencies):
            self._refuse("a lazy value inside cs.literal(…)")
        return self.value(container)

    def value(self, value: Any) -> Any:
        # Exact types: a StrEnum would come back as a str.
        if value is None or type(value) in (bool, str, int):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, LazyResult):
            if value not in self.index:
                self._refuse("a lazy value inside cs.literal(…)")
            return {"$node": self.index[value]}
        if type(value) in (list, tuple, set):
            items = [self.value(v) for v in value]
            return items if type(value) is list else {f"${type(value).__name__}": items}
        if type(value) is dict:
            if all(type(k) is str and not k.startswith("$") for k in value):
                return self._named(value)
            return {"$dict": [[self.value(k), self.value(v)] for k, v in value.items()]}
        if isinstance(value, Literal):
            return {"$literal": _Encoder({}, self.lazy).value(value.value)}
        if isinstance(value, Inject):
            return self._inject(value)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            kind = _reference(type(value)) or self._refuse(short(value))
            return {"$namedtuple": [kind, [self.value(v) for v in value]]}
        return self._refuse(f"the argument {short(value)} of type {type(value).__name__}")

    def _inject(self, value: Inject) -> dict[str, str]:
        if value.definition is None:
            return {"$inject": value.resource_name}
        provider = _reference(value.definition, value.definition.func)
        return {"$provider": provider or self._refuse(f"the provider of {value!r}")}

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.value(v) for name, v in values.items()}

    def _default(self, default: Any) -> dict[str, Any]:
        return {} if default is MISSING else {"default": self.value(default)}

    def _task(self, task: Task[..., Any]) -> str:
        reference = _reference(task)
        if reference is None:
            self._refuse(
                f"its function {task.__module__}:{task.__qualname__}, which cannot be imported "
                "by that name (define it at the top level of a module)"
            )
        return reference

    def _refuse(self, what: str) -> NoReturn:
        raise SerializationError(
            f"node '{self.lazy.name}' ({self.lazy.callsite}) has no JSON form: {what}"
        )


def _decode_node(node: Mapping[str, Any], lazies: list[LazyResult[Any]]) -> LazyResult[Any]:
    if not isinstance(node, dict):
        raise TypeError(f"it is no object but {short(node)}")
    lazy = _decode_body(node, lambda value: _decode(value, lazies))
    for condition in node.get("if", ()):
        lazy.run_if(_earlier(condition, lazies))
    if "retry" in node:
        retry = _decode(node["retry"], lazies)
        on = retry.pop("on")
        kinds = tuple(map(_import, on)) if isinstance(on, list) else _import(on)
        lazy.with_retry(**retry, on=kinds)
    if "timeout" in node:
        lazy.with_timeout(_decode(node["timeout"], lazies))
    return lazy.after(*(_earlier(p, lazies) for p in node.get("after", ())))


def _earlier(index: Any, lazies: list[LazyResult[Any]]) -> LazyResult[Any]:
    if type(index) is not int or not 0 <= index < len(lazies):
        raise LookupError(f"{short(index)} is the index of no node before it")
    return lazies[index]


def _decode_body(node: Mapping[str, Any], decode: Callable[[Any], Any]) -> LazyResult[Any]:
    if "task" in node:
        arguments = {name: decode(v) for name, v in node["kwargs"].items()}
        return _task_at(node["task"])(*map(decode, node["args"]), **arguments)
    if "map" in node:
        over = {name: decode(v) for name, v in node["over"].items()}
        return _task_at(node["map"]).map(return_exceptions=node.get("catches", False), **over)
    if "router" in node:
        routes = {decode(key): decode(route) for key, route in node["routes"]}
        return Router(selector=decode(node["router"]), routes=routes)
    if "operator" in node:
        args = tuple(map(decode, node["args"]))
        func = _OURS.get(node["operator"]) or getattr(operator, node["operator"])
        first = next((arg for arg in args if isinstance(arg, LazyResult)), None)
        if first is None:
            raise ValueError("none of its args is a node")
        return first._combine(func, args, from_json.__code__, 0)
    default = decode(node["default"]) if "default" in node else MISSING
    if "param" in node:
        kind = _import(node["type"])
        return Param(node["param"], default, kind, node["description"])
    if "env" in node:
        return Env(node["env"], default)
    if "gather" in node:
        return gathered(decode(node["gather"]), from_json.__code__, 0)
    raise ValueError(f"its kind is none of {', '.join(_KINDS)}")


def _decode(value: Any, lazies: list[LazyResult[Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, lazies) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not (key := next(iter(value))).startswith("$"):
        return {name: _decode(item, lazies) for name, item in value.items()}
    content = value[key]
    if key == "$node":
        return _earlier(content, lazies)
    if key == "$dict":
        return {_decode(k, lazies): _decode(v, lazies) for k, v in content}
    if key == "$namedtuple":
        return _import(content[0])._make(_decode(content[1], lazies))
    if key not in _DECODERS:
        raise ValueError(f"'{key}' marks no kind of value")
    return _DECODERS[key](_decode(content, lazies))


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$float": float,
    "$literal": Literal,
    "$inject": inject,
    "$provider": lambda reference: inject(_import(reference)),
}


def _reference(thing: Any, function: Any = None) -> str | None:
    """``module:name`` by which ``thing`` itself can be imported, or None.

    Its name is that of ``function``, where it has none of its own.
    """
    named = thing if function is None else function
    module, name = (getattr(named, attribute, None) for attribute in ("__module__", "__qualname__"))
    reference = f"{module}:{name}"
    try:
        return reference if _import(reference) is thing else None
    except SerializationError:
        return None


def _import(reference: str) -> Any:
    module, _, name = reference.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise SerializationError(f"'{reference}' cannot be imported: {error}") from error


def _task_at(reference: str) -> Task[..., Any]:
    found = _import(reference)
    if not isinstance(found, Task):
        raise SerializationError(f"'{reference}' is not a task but {short(found)}")
    return found
