"""Keys of nodes: names that are the same in every process.

A key is a digest of the node's task, the content of its arguments, the keys of the nodes that it
needs, and the policies that affect its value. It therefore does not depend on the order in which
nodes are made, on other nodes of the graph, or on line numbers. Keys are made on demand; a run that
keeps nothing makes none.

Nodes that are equal in all of this are told apart by their place in the source and by the argument
that they are for their first user; if these are equal too, by their order of creation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from cascade.graph.build import build_graph
from cascade.spec.digest import Digester, UndigestibleError, digest
from cascade.spec.errors import InternalError, SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task
from cascade.spec.wording import name_of

#: 16 bytes.
NodeKey: TypeAlias = bytes

#: The context of the graph that a run begins with.
ROOT: Final = b"root"
_NONE_KNOWN: Final[Mapping[LazyResult[Any], NodeKey]] = MappingProxyType({})


def node_keys(
    target: LazyResult[Any],
    *,
    context: bytes = ROOT,
    known: Mapping[LazyResult[Any], NodeKey] = _NONE_KNOWN,
) -> dict[LazyResult[Any], NodeKey]:
    """The keys of ``target`` and of all nodes that it needs, routes of routers included.

    Takes some 8 µs per node with plain arguments.

    Args:
        context: Where the graph belongs: ``ROOT``, or the key of the node that continues as it.
        known: Keys of nodes that belong to other graphs of the run; these are not entered.

    Raises:
        CycleError: Nodes wait for each other.
        SerializationError: An argument has no digest.
    """
    lazies = build_graph(target, routes=True, known=known.__contains__).lazies
    keys = dict(known)
    users = _first_users(lazies)
    for level in _levels(lazies, known):
        contents: dict[bytes, list[LazyResult[Any]]] = {}
        for lazy in level:
            contents.setdefault(_content(lazy, context, keys), []).append(lazy)
        for content, equal in contents.items():
            if len(equal) == 1:
                keys[equal[0]] = content
            else:
                keys.update(_told_apart(content, equal, users))
    return {lazy: keys[lazy] for lazy in lazies}


def _levels(
    lazies: Iterable[LazyResult[Any]], known: Iterable[LazyResult[Any]]
) -> list[list[LazyResult[Any]]]:
    """The nodes by the longest path to them. Equal nodes are on one level, below their users."""
    depths = dict.fromkeys(known, -1)
    levels: list[list[LazyResult[Any]]] = []
    for lazy in lazies:
        depth = 1 + max((depths[source] for source in _inputs(lazy)), default=-1)
        depths[lazy] = depth
        if depth == len(levels):
            levels.append([])
        levels[depth].append(lazy)
    return levels


def _inputs(lazy: LazyResult[Any]) -> Sequence[LazyResult[Any]]:
    """The nodes whose keys are part of the key of ``lazy``."""
    choices = [other for _, other in lazy._choices]
    return (*lazy._dependencies, *lazy._conditions, *choices)


def _content(
    lazy: LazyResult[Any], context: bytes, keys: Mapping[LazyResult[Any], NodeKey]
) -> bytes:
    writer = Digester(None, keys)
    task = lazy.task
    named = isinstance(task, Task)
    writer.put(b"task" if named else b"node", (name_of(task) if named else task.name).encode())
    writer.put(b"in", context)
    try:
        for value in lazy.args:
            if isinstance(value, LazyResult):
                writer.put(b"key", keys[value])
            else:
                writer.write(value)
        for name in sorted(lazy.kwargs):
            value = lazy.kwargs[name]
            writer.put(b"name", name.encode())
            if isinstance(value, LazyResult):
                writer.put(b"key", keys[value])
            else:
                writer.write(value)
    except UndigestibleError:
        raise _unfit(lazy, keys) from None
    if lazy._policies is not None:
        for condition in lazy._conditions:
            writer.put(b"if", keys[condition])
        if lazy._policies.calls.catches:
            writer.put(b"catches", b"")
    return writer.digest()


def _unfit(lazy: LazyResult[Any], keys: Mapping[LazyResult[Any], NodeKey]) -> SerializationError:
    """The error for a node that cannot be named; it names the argument at fault."""
    for place, value in (*enumerate(lazy.args, 1), *lazy.kwargs.items()):
        if isinstance(value, LazyResult):
            continue
        try:
            digest(value, keys)
        except UndigestibleError as error:
            which = f"'{place}'" if isinstance(place, str) else f"no. {place}"
            return SerializationError(
                f"task '{lazy.name}' (at {lazy.callsite}): its argument {which} has no digest: "
                f"{error}"
            )
    raise InternalError(f"task '{lazy.name}' has no digest, but its arguments do")


def _first_users(
    lazies: Iterable[LazyResult[Any]],
) -> dict[LazyResult[Any], tuple[str, str]]:
    """Node → its first user, by name, and its argument there."""
    users: dict[LazyResult[Any], tuple[str, str]] = {}
    for lazy in lazies:
        for place, value in (*enumerate(lazy.args), *lazy.kwargs.items()):
            if isinstance(value, LazyResult):
                users.setdefault(value, (lazy.name, str(place)))
    return users


def _told_apart(
    content: bytes,
    equal: Iterable[LazyResult[Any]],
    users: Mapping[LazyResult[Any], tuple[str, str]],
) -> dict[LazyResult[Any], NodeKey]:
    keys: dict[LazyResult[Any], NodeKey] = {}
    count: Counter[Any] = Counter()
    for lazy in sorted(equal, key=attrgetter("number")):
        code = lazy._code
        # Lines are counted from the function's first line, so code above it may change.
        line = lazy.callsite.lineno - code.co_firstlineno
        site = (code.co_qualname, line, *users.get(lazy, ("", "")))
        keys[lazy] = digest((content, site, count[site]))
        count[site] += 1
    return keys
