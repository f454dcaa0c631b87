"""A graph as JSON and back, for graphs whose tasks can be imported.

The format, version 1: ``{"cascade": 1, "nodes": […]}`` with inputs before users and the target
last. A node is one of::

    {"task": "module:name", "args": […], "kwargs": {…}}
    {"map": "module:name", "over": {…}}              {"gather": value}
    {"router": value, "routes": [[key, value], …]}   {"param": name, …}   {"env": name, …}
    {"operator": "add", "args": […]}  (a name of Python's ``operator`` that lazy values have,
                                       "slice" or "unpack")
    {"or_else": {…}, "of": node}   {"catch": {…}, "of": node}   (``cascade.graph.fallbacks``)

each with ``"if": [node, …]``, ``"after": [node, …]`` and ``"amounts": {name: node}`` for such
edges, ``"retry"``, ``"timeout"``, ``"capacities"``, ``"priority"`` and ``"checkpoint"`` for such
policies, ``"named"`` for a name, and for a map ``"catches"`` (``return_exceptions=True``) and
``"fallbacks"`` (of items). In a record (``cascade.graph.records``) a key in hex digits may stand
where ``node`` is an index. A cache has no form. ``cascade.graph.values`` has the form of values.
The place in the source is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from operator import is_
from typing import Any

from cascade.graph import fallbacks
from cascade.graph.build import build_graph, in_order
from cascade.graph.forms import JSON_ATOMS, UNREADABLE
from cascade.graph.model import Graph
from cascade.graph.references import Resolver
from cascade.graph.values import (
    NO_KEYS,
    NONE_KNOWN,
    OPERATOR_NAMES,
    ValueReader,
    ValueWriter,
    cache_in,
    operator_at,
    told,
)
from cascade.spec.containers import GATHER, fill, is_container
from cascade.spec.errors import ArgumentError, SerializationError
from cascade.spec.lazy_types import (
    FallbackResult,
    LazyResult,
    MappedLazyResult,
    gathered,
    with_fallback,
)
from cascade.spec.operation import Operation
from cascade.spec.params import Source
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.routing import Router
from cascade.spec.task import Task
from cascade.spec.wording import short

_VERSION = 1
#: Types of arguments that are written as they are.
_ATOMS = frozenset((str, bool, type(None)))
#: Python refuses to write ints of very many digits in decimal.
_HUGE = 1 << 64
_LEAST = -_HUGE
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
#: The members of a call without policies.
_CALL = {"task", "args", "kwargs"}
#: What a node's operation is named by, also in blueprints.
KINDS = ("task", "map", "gather", "router", "param", "env", "operator", "or_else", "catch")


def to_json(target: LazyResult[Any] | Graph, *, indent: int | None = None) -> str:
    """Write a graph as JSON.

    Raises:
        SerializationError: A task cannot be imported by its module and name, or an argument has no
            JSON form; the message names the node.
    """
    lazy = target.target if isinstance(target, Graph) else target
    nodes = nodes_of(in_order(lazy, routes=True))
    return json.dumps({"cascade": _VERSION, "nodes": nodes}, indent=indent, allow_nan=False)


def nodes_of(
    lazies: Sequence[LazyResult[Any]], known: Mapping[LazyResult[Any], bytes] = NONE_KNOWN
) -> list[dict[str, Any]]:
    """The nodes as they stand in a document.

    Args:
        lazies: The nodes, inputs first.
        known: Lazy value → its key, for inputs that the reader knows already.

    Raises:
        SerializationError: As ``to_json``.
    """
    index = {lazy: place for place, lazy in enumerate(lazies)}
    return [*map(NodeWriter(index, known).node, lazies)]


def texts_of(
    lazies: Sequence[LazyResult[Any]], known: Mapping[LazyResult[Any], bytes] = NONE_KNOWN
) -> list[str]:
    """The same as JSON texts, most often in a third of the time."""
    index = dict(zip(lazies, range(len(lazies)), strict=True))
    writer = NodeWriter(index, known)
    write, last, head = writer.text, None, ""
    texts: list[str] = []
    for lazy in lazies:
        task, args = lazy.task, lazy.args
        if task is last and len(args) == 1 and lazy._policies is None and not lazy.kwargs:
            value = args[0]  # as ``NodeWriter.text`` does it
            if type(value) is int and _LEAST < value < _HUGE and type(lazy) is LazyResult:
                texts.append(f'{head}{value}],"kwargs":{{}}}}')
                continue
        texts.append(write(lazy))
        if type(task) is Task and type(lazy) is LazyResult:
            last, head = task, writer.head(task)
    return texts


def from_json(text: str, *, modules: Iterable[str] = ()) -> Graph:
    """Read a graph written by ``to_json``.

    Only the listed modules are imported, and only tasks, marked functions (``cs.portable``), known
    types and loaders of classes (``cs.storable``) are called. The text decides which
    tasks are called with which arguments, which environment variables are read and how much is
    computed. Run only text from a source that you trust with that.

    Args:
        text: JSON.
        modules: Names of modules that may be imported for it. Modules that are imported already
            may always be used.

    Returns:
        A graph of new lazy values; run its ``.target``.

    Raises:
        TaskNotImportedError: It names an object of another module.
        SerializationError: ``text`` is not the JSON of a graph, or a task no longer exists.
        ArgumentError: ``modules`` is not a collection of module names.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise SerializationError(f"from_json() takes text made by to_json(), but got {short(text)}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("cascade") != _VERSION:
        raise SerializationError(f"not a cascade graph of version {_VERSION}: {text[:60]!r}")
    nodes = document.get("nodes", [])
    if not isinstance(nodes, list):
        raise SerializationError(f"its nodes are not a list but {short(nodes)}")
    lazies = read_nodes(nodes, Resolver(modules))
    if not lazies:
        raise SerializationError("the graph has no nodes")
    return build_graph(lazies[-1])


def read_nodes(
    nodes: list[Any],
    resolver: Resolver,
    known: Mapping[bytes, LazyResult[Any]] = NO_KEYS,
    keys: Sequence[bytes | None] = (),
    reading: Callable[..., ValueReader] = ValueReader,
) -> list[LazyResult[Any]]:
    """The lazy values written by ``NodeWriter``, each after its inputs.

    Args:
        known: Key → lazy value, for inputs that were written by their keys.
        keys: The key of each node; one that is in ``known`` is not made again.
        reading: Makes a reader of a resolver, the lazy values so far, and ``known``.

    Raises:
        SerializationError: One cannot be read; the message has its index.
    """
    lazies: list[LazyResult[Any]] = []
    reader = reading(resolver, lazies, known)
    for place, node in enumerate(nodes):
        key = keys[place] if keys else None
        found = None if key is None else known.get(key)
        try:
            lazies.append(_read_node(node, reader) if found is None else found)
        except SerializationError:
            raise
        except UNREADABLE as error:
            raise SerializationError(f"node {place} cannot be read: {told(error)}") from error
    return lazies


class NodeWriter(ValueWriter):
    """Writes nodes, whose inputs are in ``index`` or ``known``."""

    def __init__(
        self,
        index: Mapping[LazyResult[Any], int],
        known: Mapping[LazyResult[Any], bytes] = NONE_KNOWN,
    ) -> None:
        super().__init__(self._described, index, known)
        self._tasks: dict[Operation, str] = {}
        #: Task → the begin of the text of each of its calls.
        self._heads: dict[Operation, str] = {}
        self._lazy: LazyResult[Any] | None = None

    def node(self, lazy: LazyResult[Any]) -> dict[str, Any]:
        """A node as it stands in a document.

        Raises:
            SerializationError: A part of it has no JSON form; the message names the node.
        """
        self._lazy = lazy
        try:
            body = self._body(lazy)
        except RecursionError:
            self.refuse("a container in it is nested too deep")
        policies = lazy._policies
        if policies is None:
            return body
        if policies.conditions:
            body["if"] = [self.place(c) for c in policies.conditions]
        if policies.predecessors:
            body["after"] = [self.place(p) for p in policies.predecessors]
        if policies.name is not None:
            body["named"] = policies.name
        body |= self.calls(policies.calls)
        if policies.amounts:
            amounts = policies.amounts.items()
            unseen = [n for n, a in amounts if a not in self.index and a not in self.known]
            if unseen:  # a map's input: only its items need it, and they are made when it runs
                self.refuse(f"the lazy amount of '{unseen[0]}' for each of its items")
            body["amounts"] = {name: self.place(amount) for name, amount in amounts}
        return body

    def text(self, lazy: LazyResult[Any]) -> str:
        """The same as JSON. Calls with plain arguments are written without an encoder."""
        task = lazy.task
        if type(lazy) is LazyResult and lazy._policies is None and type(task) is Task:
            self._lazy = lazy
            head = self.head(task)
            args = self._plain_arguments(lazy)
            if args is not None and not lazy.kwargs:
                return f'{head}{args}],"kwargs":{{}}}}'
        if task is GATHER and lazy._policies is None:
            places = self._plain_list(lazy)
            if places is not None:
                return f'{{"gather":[{places}]}}'
        return _encode(self.node(lazy))

    def head(self, task: Task[..., Any]) -> str:
        """The beginning of the text of each call of a task."""
        head = self._heads.get(task)
        if head is None:
            head = self._heads[task] = f'{{"task":{_encode(self.task(task))},"args":['
        return head

    def _plain_list(self, lazy: LazyResult[Any]) -> str | None:
        """The items of a list of nodes; None if it is another container, or has other items."""
        container, inputs = fill(*lazy.args), lazy._dependencies
        if type(container) is not list or len(container) != len(inputs):
            return None
        if not all(map(is_, container, inputs)):
            return None
        places = [*map(self.index.get, inputs)]
        if None in places or not places:
            return None  # one is known to the reader
        digits = str(places)[1:-1]  # all ints in one call
        return '{"$node":' + digits.replace(", ", '},{"$node":') + "}"

    def _plain_arguments(self, lazy: LazyResult[Any]) -> str | None:
        """The positional arguments of a call; None if one is neither plain nor a node."""
        texts = []
        for value in lazy.args:
            kind = type(value)
            if kind is int and _LEAST < value < _HUGE:
                texts.append(repr(value))
            elif kind in _ATOMS:
                texts.append(_text(value))
            elif kind is LazyResult and value in self.index:
                texts.append(f'{{"$node":{self.index[value]}}}')
            else:
                return None
        return ",".join(texts)

    def _body(self, lazy: LazyResult[Any]) -> dict[str, Any]:
        if type(lazy) is LazyResult and isinstance(lazy.task, Task):
            return {
                "task": self.task(lazy.task),
                "args": [v if _is_plain(v) else self.value(v) for v in lazy.args],
                "kwargs": self.named(lazy.kwargs) if lazy.kwargs else {},
            }
        if isinstance(lazy, MappedLazyResult):
            plan, *columns = lazy.args
            if plan.window is not None:
                self.refuse(f"the window of its map of '{plan.task.name}'")
            over = {**dict(zip(plan.names, columns, strict=True)), **plan.shared}
            body: dict[str, Any] = {"map": self.task(plan.task), "over": self.named(over)}
            if plan.fallbacks:
                body["fallbacks"] = fallbacks.bodies(plan.fallbacks, self)
            return body | ({"catches": True} if plan.catches else {})
        if isinstance(lazy, Router):
            routes = [[self.value(k), self.value(v)] for k, v in lazy.routes.items()]
            return {"router": self.value(lazy.selector), "routes": routes}
        if isinstance(lazy, FallbackResult):
            fallback, source = lazy.args
            return {
                lazy.task.name: fallbacks.fallback_body(fallback, self),
                "of": self.place(source),
            }
        if isinstance(lazy, Source):
            return self.source(lazy)
        if lazy.task is GATHER:
            return {"gather": self._container(lazy)}
        name = OPERATOR_NAMES.get(lazy.task.func) or self.refuse(f"its {lazy.task!r}")
        return {"operator": name, "args": [self.value(v) for v in lazy.args]}

    def task(self, task: Task[..., Any]) -> str:
        found = self._tasks.get(task)
        if found is None:
            found = self._tasks[task] = super().task(task)
        return found

    def _described(self) -> str:
        lazy = self._lazy
        assert lazy is not None
        return f"node '{lazy.name}' ({lazy.callsite})"

    def _container(self, lazy: LazyResult[Any]) -> Any:
        container = fill(*lazy.args)
        # The recipe has unwrapped the literals: a new search must not find their contents.
        try:
            found = gathered(container, lazy._code, lazy._lasti)._dependencies
        except ArgumentError:
            self.refuse("a task or an inject(…) inside cs.literal(…)")
        if sorted(f.number for f in found) != sorted(d.number for d in lazy._dependencies):
            self.refuse("a lazy value inside cs.literal(…)")
        return self.value(container)


def _text(value: str | bool | None) -> str:
    if type(value) is str:
        return encode_basestring_ascii(value)
    return "null" if value is None else "true" if value else "false"


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _ATOMS or (kind is int and _LEAST < value < _HUGE)


def _read_node(node: Mapping[str, Any], reader: ValueReader) -> LazyResult[Any]:
    if not isinstance(node, dict):
        raise TypeError(f"it is not an object but {short(node)}")
    lazy = _read_body(node, reader)
    if "named" in node:
        lazy.named(node["named"])
    if isinstance(lazy, FallbackResult):
        return lazy  # policies belong to the node before it
    if lazy._policies is not None:  # declared by its task; the node has what the call made of them
        lazy._policies.calls = PLAIN_CALLS
    if len(node) == len(_CALL) and node.keys() == _CALL:  # most nodes
        return lazy
    cache = cache_in(node)
    if cache is not None:
        lazy.with_cache(cache)
    for condition in node.get("if", ()):
        lazy.run_if(reader.earlier(condition))
    if "retry" in node:
        lazy.with_retry(**reader.retry(node["retry"]))
    if "timeout" in node:
        lazy.with_timeout(reader.constant(node["timeout"]))
    if "priority" in node:
        lazy.with_priority(node["priority"])
    if "checkpoint" in node:
        every = node["checkpoint"]
        lazy.with_checkpoint(every is not False, every=None if every is False else every)
    amounts = {n: reader.constant(v) for n, v in node.get("capacities", {}).items()}
    amounts |= {n: reader.earlier(place) for n, place in node.get("amounts", {}).items()}
    if amounts:
        lazy.with_capacity(**amounts)
    return lazy.after(*(reader.earlier(p) for p in node.get("after", ())))


def _read_body(node: Mapping[str, Any], reader: ValueReader) -> LazyResult[Any]:
    read = reader.value
    if "task" in node:
        arguments = {name: read(v) for name, v in node["kwargs"].items()}
        given_args = node["args"]
        if not JSON_ATOMS.issuperset(map(type, given_args)):
            given_args = [*map(read, given_args)]
        task, ordered, given = reader.call(node["task"], given_args, arguments)
        return task(*ordered, **given)
    if "map" in node:
        over = {name: read(v) for name, v in node["over"].items()}
        mapped = reader.mapped(node["map"])
        lazy: MappedLazyResult[Any] = mapped.map(
            return_exceptions=node.get("catches", False), **over
        )
        lazy.args[0].fallbacks = fallbacks.read_bodies(node.get("fallbacks", ()), reader)
        return lazy
    if "router" in node:
        routes = {read(key): read(route) for key, route in node["routes"]}
        return Router(selector=read(node["router"]), routes=routes)
    if "operator" in node:
        args = tuple(map(read, node["args"]))
        func = operator_at(node["operator"])
        first = next((arg for arg in args if isinstance(arg, LazyResult)), None)
        if first is None:
            raise ValueError("none of its args is a node")
        return first._combine(func, args, from_json.__code__, 0)
    if "param" in node or "env" in node:
        return reader.source(node)
    if (name := fallbacks.kind_of(node)) is not None:
        kept = fallbacks.read_fallback(name, node[name], reader)
        return with_fallback(reader.earlier(node["of"]), *kept, from_json.__code__, 0)
    if "gather" in node:
        container = read(node["gather"])
        if not is_container(type(container)):
            raise ValueError(f"it gathers no container, but {short(container)}")
        return gathered(container, from_json.__code__, 0)
    raise ValueError(f"its kind is not one of {', '.join(KINDS)}")
