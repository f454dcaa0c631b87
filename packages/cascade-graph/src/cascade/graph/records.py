"""Continuation records: lazy values and tail calls that calls returned, for stores (R4, R5).

A record is JSON. One of a graph, which a task returned::

    {"graph": {"cascade": 1, "nodes": [node, …]}, "target": place, "keys": [key, …]}

and one of a tail call, which is also the snapshot of a loop between two steps::

    {"task": "module:name", "step": 3, "args": {name: value, …}, "blueprint": id, "version": "2",
     "lazy": {name: place, …}, "apart": {name: digest, …}, "amounts": {capacity: amount},
     "nodes": [node, …], "keys": [key, …]}

Nodes are those of ``cascade.graph.serialize``, and values those of ``cascade.graph.codec``. A place
is the index of a node, or the key of a node that the run knows already, which is never written
again. ``keys`` has the key of each node, because keys of equal nodes cannot be made again without
the source that made the nodes; null for nodes that have none. Of ``*args`` and ``**kwargs``,
``lazy`` has the places of their lazy elements: ``{name: {index or name: place, …}}``. ``apart`` has
large arguments, which are stored by themselves. ``version`` is that of the task, and
``versions`` those of the tasks of the nodes, if they have any: ``{task: [version, parameters]}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

from cascade.graph.build import in_order
from cascade.graph.codec import Codec
from cascade.graph.forms import UNREADABLE
from cascade.graph.naming import NodeKey, hex_of
from cascade.graph.references import Resolver, reference_to
from cascade.graph.serialize import nodes_of, read_nodes, texts_of
from cascade.graph.stored_calls import StoredCallReader, versions_of
from cascade.graph.values import NO_KEYS, NONE_KNOWN, ValueReader
from cascade.spec.blueprint import Literal
from cascade.spec.errors import ArgumentError, NotStorableError, SerializationError
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult, as_lazy, gathered
from cascade.spec.task import Task
from cascade.spec.wording import error_text, name_of, short

Keys: TypeAlias = Mapping[LazyResult[Any], NodeKey]
_VERSION: Final = 1
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Apart(NamedTuple):
    """How large arguments are stored by themselves.

    Attributes:
        size: From which size on, in bytes.
        keep: Stores a body, and gives its digest.
    """

    size: int
    keep: Callable[[bytes], bytes]


class GraphRecord(NamedTuple):
    """A task returned a lazy value.

    Attributes:
        keys: The keys of the nodes that were made for it.
    """

    target: LazyResult[Any]
    keys: dict[LazyResult[Any], NodeKey]


class TailRecord(NamedTuple):
    """A task returned a tail call.

    Attributes:
        args: Its arguments by name, as they were written; some may be lazy. See ``fitted``.
        step: Number of tail calls of the node before this one.
        amounts: Capacities that each step takes, by name, if they were computed.
        blueprint: The id of the blueprint that it enters, or goes on in.
        keys: The keys of the nodes among and below the arguments.
        version: The version that the task had.
    """

    task: Task[..., Any]
    args: dict[str, Any]
    step: int
    amounts: dict[str, float]
    blueprint: str | None
    keys: dict[LazyResult[Any], NodeKey]
    version: str | None = None


def graph_record(
    target: LazyResult[Any],
    keys: Keys,
    known: Keys = NONE_KNOWN,
    lazies: Sequence[LazyResult[Any]] | None = None,
) -> bytes:
    """Write that a task returned ``target``.

    Args:
        keys: The keys of the nodes of the graph.
        known: The keys of nodes that the run knew before; these are written as keys.
        lazies: The nodes of the graph, in the order of ``in_order``, if they were found before.

    Raises:
        SerializationError: A node has no JSON form: its task cannot be imported by its name, or an
            argument or a policy has none. The message names the node.
    """
    if target in known:
        lazies, place = (), _encode(known[target].hex())
    else:
        if lazies is None:
            lazies = in_order(target, routes=True, known=known.__contains__)
        place = str(len(lazies) - 1)
    nodes = ",".join(texts_of(lazies, known))
    graph = f'{{"cascade":{_VERSION},"nodes":[{nodes}]}}'
    named, rest = _texts_of_keys(_keys_of(lazies, keys)), _joined(_versions(lazies))
    return f'{{"graph":{graph},"target":{place},"keys":{named}'.encode() + rest + b"}"


def tail_record(
    codec: Codec,
    task: Task[..., Any],
    args: Mapping[str, Any],
    step: int,
    *,
    amounts: Mapping[str, float] | None = None,
    blueprint: str | None = None,
    keys: Keys = NONE_KNOWN,
    known: Keys = NONE_KNOWN,
    apart: Apart | None = None,
    reference: str | None = None,
) -> bytes:
    """Write that a node continues by calling ``task`` with ``args``.

    Plain arguments take about as long as ``json.dumps``.

    Args:
        args: The arguments by name.
        step: Number of tail calls of the node before this one.
        amounts: Capacities that each step takes, by name, if they were computed.
        blueprint: The id of the blueprint that it enters, or goes on in.
        keys: The keys of the lazy values among and below the arguments.
        known: The keys of nodes that the run knew before; these are written as keys.
        apart: Stores large arguments by themselves.
        reference: The name by which the task can be imported, if that was found before.

    Raises:
        NotStorableError: An argument has no stored form.
        SerializationError: The task cannot be imported by its name, or a lazy argument has no form.
    """
    reference = reference or reference_to(task)
    if reference is None:
        raise SerializationError(
            f"the task {name_of(task)} cannot be imported by that name; define it at the top "
            "level of a module"
        )
    own = task.parameters.injections
    if own:  # each process opens resources for itself
        args = {n: v for n, v in args.items() if n not in own or not _is_same(v, own[n])}
    rest: dict[str, Any] = {"amounts": dict(amounts)} if amounts else {}
    lazy: dict[str, Any] = {}
    body = codec.encode_small(args if type(args) is dict else dict(args))
    if body is None or (apart is not None and len(body) >= apart.size):
        body, lazy, large = _one_by_one(codec, task, args, apart)
        if large:
            rest["apart"] = large
    if task.version is not None:
        rest["version"] = task.version
    if blueprint is not None:
        rest["blueprint"] = blueprint
    if lazy:
        rest |= _lazy_arguments(lazy, keys, known)
    return b'{"task":%b,"step":%d,"args":%b%b}' % (_text(reference), step, body, _joined(rest))


def digests_in(body: bytes) -> list[bytes]:
    """The digests of the arguments that are stored apart from a record.

    Raises:
        SerializationError: It is no record.
    """
    if b'"apart":' not in body:
        return []
    try:
        return [*map(bytes.fromhex, json.loads(body).get("apart", {}).values())]
    except UNREADABLE as error:
        raise SerializationError(f"a record cannot be read: {error_text(error)}") from error


def read_record(
    codec: Codec,
    body: bytes,
    known: Mapping[NodeKey, LazyResult[Any]] = NO_KEYS,
    fetch: Callable[[bytes], bytes] | None = None,
) -> GraphRecord | TailRecord:
    """Read a record. The codec's resolver finds the tasks and classes that it names.

    Args:
        known: Key → lazy value, for the nodes that the run knows. These are not made again.
        fetch: Gives an argument that is stored apart by its digest.

    Raises:
        TaskNotImportedError: It names an object of a module that may not be imported.
        SerializationError: It is no record, a task or a class no longer exists, or it refers to a
            node that is not in ``known``.
        CodeChangedError: A task has another version, or does not take the arguments any more (D9).
    """
    try:
        document = json.loads(body)
        if "graph" in document:
            return _read_graph(codec.resolver, document, known)
        return _read_tail(codec, document, known, fetch)
    except SerializationError:
        raise
    except UNREADABLE as error:
        raise SerializationError(f"a record cannot be read: {error_text(error)}") from error


def _one_by_one(
    codec: Codec, task: Task[..., Any], args: Mapping[str, Any], apart: Apart | None
) -> tuple[bytes, dict[str, Any], dict[str, str]]:
    """The plain arguments as JSON, the lazy ones, and the digests of the large ones.

    Each is encoded once, as it may be large.

    Raises:
        NotStorableError: An argument has no stored form.
    """
    members: list[bytes] = []
    lazy: dict[str, Any] = {}
    large: dict[str, str] = {}
    for name, value in args.items():
        body = None if isinstance(value, LazyResult) else codec.encode_if_storable(value)
        if body is None:
            plain, found = _separated(task, name, value)
            if found is not None:
                lazy[name] = found
            if plain is found:  # the whole argument is lazy
                continue
            body = codec.encode_if_storable(plain)
            if body is None:  # raises the error, which has the place
                members.append(codec.encode({name: plain})[1:-1])
                continue
        if apart is not None and len(body) >= apart.size:
            large[name] = apart.keep(codec.seal(body)).hex()
        else:
            members.append(b"%b:%b" % (_text(name), body))
    return b"{%b}" % b",".join(members), lazy, large


def _separated(task: Task[..., Any], name: str, value: Any) -> tuple[Any, Any]:
    """The plain part of an argument, and the lazy one or None; the same if all of it is lazy.

    The lazy elements are given by index for ``*args``, and by name for ``**kwargs``.

    Raises:
        NotStorableError: The argument has no stored form.
    """
    if name == task.parameters.var_positional:
        plain, found = _separated_items(dict(enumerate(value)))
        return [*plain.values()], found or None
    if name == task.parameters.var_keyword:
        plain, found = _separated_items(value)
        return plain, found or None
    settled = _settled(value)
    if isinstance(settled, LazyResult) and type(value) is not Literal:
        return settled, settled
    return settled, None


def _separated_items(items: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Items with None in place of lazy ones, and these."""
    plain, lazy = {}, {}
    for key, value in items.items():
        plain[key] = settled = _settled(value)
        if isinstance(settled, LazyResult) and type(value) is not Literal:
            plain[key], lazy[key] = None, settled
    return plain, lazy


def _settled(value: Any) -> Any:
    """An argument of a tail call as that of a call: lazy if there are lazy values in it (M2)."""
    if isinstance(value, Literal):
        return value.value
    try:
        return as_lazy(value, tail_record.__code__, 0)
    except ArgumentError as error:
        raise NotStorableError(f"an argument has no stored form: {error}", "") from error


def _is_same(value: Any, own: Inject) -> bool:
    return (
        isinstance(value, Inject)
        and value.resource_name == own.resource_name
        and value.definition is own.definition
    )


def lazy_ones(lazy: Mapping[str, Any]) -> list[LazyResult[Any]]:
    """The lazy values among the arguments of a call; those of ``*args`` are in a mapping."""
    found: list[LazyResult[Any]] = []
    for value in lazy.values():
        found += [value] if isinstance(value, LazyResult) else value.values()
    return found


def _lazy_arguments(lazy: Mapping[str, Any], keys: Keys, known: Keys) -> dict[str, Any]:
    together = gathered(lazy_ones(lazy), _lazy_arguments.__code__, 0)
    lazies = in_order(together, routes=True, known=known.__contains__)[:-1]
    index = {node: place for place, node in enumerate(lazies)}

    def place_of(value: Any) -> Any:
        if isinstance(value, LazyResult):
            return known[value].hex() if value in known else index[value]
        return {str(key): place_of(inner) for key, inner in value.items()}

    places = {name: place_of(value) for name, value in lazy.items()}
    nodes, key_list = nodes_of(lazies, known), _keys_of(lazies, keys)
    return {"lazy": places, "nodes": nodes, "keys": key_list, **_versions(lazies)}


def _versions(lazies: Iterable[LazyResult[Any]]) -> dict[str, Any]:
    found = versions_of(lazies)
    return {"versions": found} if found else {}


def _keys_of(lazies: Sequence[LazyResult[Any]], keys: Keys) -> Sequence[str | None]:
    try:
        return hex_of(map(keys.__getitem__, lazies)) if lazies else ()
    except KeyError:
        return [None if key is None else key.hex() for key in map(keys.get, lazies)]


def _texts_of_keys(keys: Sequence[str | None]) -> str:
    """As JSON. Hex digits need no encoder."""
    try:
        return '["' + '","'.join(cast("Sequence[str]", keys)) + '"]' if keys else "[]"
    except TypeError:  # one is None
        return _encode(keys)


def _read_graph(
    resolver: Resolver, document: Mapping[str, Any], known: Mapping[NodeKey, LazyResult[Any]]
) -> GraphRecord:
    if document["graph"]["cascade"] != _VERSION:
        raise ValueError("it is a graph of another version")
    keys, find = _read_nodes(resolver, document["graph"]["nodes"], document, known)
    return GraphRecord(find(document["target"]), keys)


def _read_tail(
    codec: Codec,
    document: Mapping[str, Any],
    known: Mapping[NodeKey, LazyResult[Any]],
    fetch: Callable[[bytes], bytes] | None,
) -> TailRecord:
    task = codec.resolver.task(document["task"])
    args, step = codec.value_of(document["args"]), document["step"]
    if type(args) is not dict or type(step) is not int:
        raise TypeError("its arguments are no dict, or its step is no int")
    for name, digest in document.get("apart", {}).items():
        if fetch is None:
            raise LookupError(f"its argument {short(name)} is stored apart")
        args[name] = codec.loads(fetch(bytes.fromhex(digest)))
    keys, find = _read_nodes(codec.resolver, document.get("nodes", ()), document, known)
    for name, place in document.get("lazy", {}).items():
        if not isinstance(place, dict):
            args[name] = find(place)
            continue
        for key, inner in place.items():  # of *args or **kwargs
            items = args[name]
            items[int(key) if isinstance(items, list) else key] = find(inner)
    amounts, blueprint = document.get("amounts", {}), document.get("blueprint")
    return TailRecord(task, args, step, amounts, blueprint, keys, document.get("version"))


def _read_nodes(
    resolver: Resolver,
    nodes: Any,
    document: Mapping[str, Any],
    known: Mapping[NodeKey, LazyResult[Any]],
) -> tuple[dict[LazyResult[Any], NodeKey], Callable[[Any], LazyResult[Any]]]:
    """The keys of the nodes, and a function that finds the node at a place."""
    keys = document.get("keys", ())
    if len(nodes) != len(keys):
        raise ValueError("it has not a key for each node")
    found = [None if key is None else bytes.fromhex(key) for key in keys]
    reading = partial(StoredCallReader, document.get("versions", {}))
    lazies = read_nodes(nodes, resolver, known, found, reading)
    pairs = zip(lazies, found, strict=True)
    named = {lazy: key for lazy, key in pairs if key is not None and key not in known}
    return named, ValueReader(resolver, lazies, known).earlier


def _dumps(document: Mapping[str, Any]) -> bytes:
    return _encode(document).encode()


@lru_cache(maxsize=256)
def _text(reference: str) -> bytes:
    return _encode(reference).encode()


def _joined(rest: Mapping[str, Any]) -> bytes:
    """More members of an object."""
    return b"," + _dumps(rest)[1:-1] if rest else b""
