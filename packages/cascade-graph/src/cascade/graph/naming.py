"""Keys of nodes: names that are the same in every process.

A key is a digest of the node's task, the content of its arguments, the keys of the nodes that it
needs, and the policies that affect its value. It therefore does not depend on the order in which
nodes are made, on other nodes of the graph, or on line numbers. Keys are made on demand; a run that
keeps nothing makes none.

Nodes that are equal in all of this are told apart by the function that made them and by the
argument that they are for their first user; if these are equal too, by their order of creation.
``lazy.named("…")`` tells them apart by a name, which is part of the key. Containers with lazy
values are not told apart: nothing is stored of them, and equal ones have equal values.

Keys of equal nodes change with the code around them, so they are not made again from a graph that
was written as JSON: ``cascade.graph.records`` keeps them beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, repeat
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from cascade.graph.build import in_order
from cascade.spec.containers import GATHER, Recipe
from cascade.spec.digest import SIZE, Digester, UndigestibleError, digest
from cascade.spec.encodings import ATOMS
from cascade.spec.errors import InternalError, SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.task import Task
from cascade.spec.wording import name_of

#: 16 bytes.
NodeKey: TypeAlias = bytes

#: The context of the graph that a run begins with.
ROOT: Final = b"root"
_NONE_KNOWN: Final[Mapping[LazyResult[Any], NodeKey]] = MappingProxyType({})
_LEFT_OUT: Final = frozenset({"<locals>", "<listcomp>", "<setcomp>", "<dictcomp>"})
_SETS: Final = (set, frozenset)
_NO_USER: Final = ("", "")
_KEY_IF: Final = b"if%d:" % SIZE
_KEY: Final = b"key%d:" % SIZE


def hex_of(keys: Iterable[NodeKey]) -> list[str]:
    """The keys in hex digits, all at once: a fifth of the time."""
    return b"".join(keys).hex(" ", SIZE).split()


def context_of(key: NodeKey, step: int = 0) -> bytes:
    """The context of the graph that a call returned.

    Args:
        key: The node whose call it was.
        step: The number of tail calls that the node made before; each step has names of its own.
    """
    return b"%b/%d" % (key, step)


def node_keys(
    target: LazyResult[Any],
    *,
    context: bytes = ROOT,
    known: Mapping[LazyResult[Any], NodeKey] = _NONE_KNOWN,
    strict: bool = False,
) -> dict[LazyResult[Any], NodeKey]:
    """The keys of ``target`` and of all nodes that it needs, routes of routers included.

    Takes some 2 µs per node with plain arguments.

    Args:
        context: Where the graph belongs: ``ROOT``, or that of the call which returned it.
        known: Keys of nodes that belong to other graphs of the run; these are not entered.
        strict: Refuse arguments that have no digest. Otherwise these count by place and type alone.

    Raises:
        CycleError: Nodes wait for each other.
        SerializationError: An argument has no digest; only if ``strict``.
    """
    lazies = in_order(target, routes=True, known=known.__contains__ if known else None)
    namer = _Namer(context, known, strict)
    for level in _levels(lazies):
        namer.name(level, lazies)
    return dict(zip(lazies, map(namer.keys.__getitem__, lazies), strict=True))


class _Depths(dict[LazyResult[Any], int]):
    """The levels of nodes; 0 for those without inputs, and for nodes of other graphs.

    These are not noted, as there may be very many.
    """

    __slots__ = ()

    def __missing__(self, lazy: LazyResult[Any]) -> int:
        return 0


class _Keys(dict[LazyResult[Any], NodeKey]):
    """The keys of new nodes, and those of known ones below them."""

    __slots__ = ("_known",)

    def __init__(self, known: Mapping[LazyResult[Any], NodeKey]) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, lazy: LazyResult[Any]) -> NodeKey:
        return self._known[lazy]

    def get(self, lazy: Any, default: Any = None) -> Any:
        found = super().get(lazy)
        return self._known.get(lazy, default) if found is None else found

    def __contains__(self, lazy: object) -> bool:
        return super().__contains__(lazy) or lazy in self._known


def _levels(lazies: Iterable[LazyResult[Any]]) -> list[list[LazyResult[Any]]]:
    """The nodes by the longest path to them. Equal nodes are on one level, below their users."""
    depths = _Depths()
    depth_of = depths.__getitem__
    lowest: list[LazyResult[Any]] = []
    levels, add_lowest = [lowest], lowest.append
    for lazy in lazies:
        if type(lazy) is LazyResult and lazy._policies is None:
            inputs: Sequence[LazyResult[Any]] = lazy._dependencies
        else:
            inputs = _inputs(lazy)
        if not inputs:
            add_lowest(lazy)
            continue
        depth = depths[lazy] = 1 + max(map(depth_of, inputs))
        if depth == len(levels):
            levels.append([])
        levels[depth].append(lazy)
    return levels


def _inputs(lazy: LazyResult[Any]) -> Sequence[LazyResult[Any]]:
    """The nodes whose keys are part of the key of ``lazy``."""
    if type(lazy) is LazyResult:  # the most common class, and one without choices
        policies = lazy._policies
        return lazy._dependencies if policies is None else lazy._dependencies + policies.conditions
    choices = [other for _, other in lazy._choices]
    return (*lazy._dependencies, *lazy._conditions, *choices)


class _Namer:
    """Makes the keys of one graph.

    Attributes:
        keys: The keys made so far, and those known before.
    """

    def __init__(
        self, context: bytes, known: Mapping[LazyResult[Any], NodeKey], strict: bool
    ) -> None:
        self.keys = _Keys(known)
        self._strict = strict
        self._context = context
        #: Task, or the name of another operation → a hash of what all keys of its calls begin with.
        self._heads: dict[Operation | str, Any] = {}
        #: Node → its first user and the argument there; made when equal nodes are met.
        self._users: Mapping[LazyResult[Any], tuple[str, object]] | None = None
        self._places = _Places()

    def name(self, level: Sequence[LazyResult[Any]], lazies: Iterable[LazyResult[Any]]) -> None:
        """Make the keys of a level; those of the levels below exist."""
        contents = self._contents(level)
        self.keys.update(zip(level, contents, strict=True))
        if len(set(contents)) == len(contents):
            return
        several: dict[bytes, list[LazyResult[Any]]] = {}
        for lazy, content in zip(level, contents, strict=True):
            several.setdefault(content, []).append(lazy)
        for content, equal in several.items():
            if len(equal) > 1 and equal[0].task is not GATHER:
                if self._users is None:
                    self._users = _first_users(lazies)
                self.keys.update(_told_apart(content, equal, self._users, self._places))

    def _contents(self, level: Iterable[LazyResult[Any]]) -> list[bytes]:
        """The digests of a level, mostly of calls with one plain argument of the same task."""
        contents: list[bytes] = []
        add, last, begin = contents.append, None, None
        for lazy in level:
            args = lazy.args
            if len(args) != 1 or lazy._policies is not None or lazy.kwargs:
                add(self._content(lazy))
                continue
            value = args[0]
            if type(value) is int:  # as ``ATOMS`` has it, without a call
                encoded = b"int%x;" % value
            elif (encode := ATOMS.get(type(value))) is not None:
                encoded = encode(value)
            else:
                add(self._content(lazy))
                continue
            task = lazy.task
            if begin is None or task is not last:
                last, begin = task, self._head(task).copy
            whole = begin()  # quicker than a new one
            whole.update(encoded)
            add(whole.digest())
        return contents

    def _content(self, lazy: LazyResult[Any]) -> bytes:
        """The digest of everything that makes a node what it is."""
        task = lazy.task
        parts: list[bytes] = []
        try:
            if task is GATHER:
                parts += self._container(lazy)
            else:
                for value in lazy.args:
                    encode = ATOMS.get(type(value))
                    if encode is not None:
                        parts.append(encode(value))
                    else:
                        parts += self._argument(value)
            for name, value in sorted(lazy.kwargs.items()) if lazy.kwargs else ():
                parts.append(b"name%d:%b" % (len(name.encode()), name.encode()))
                encode = ATOMS.get(type(value))
                parts += self._argument(value) if encode is None else (encode(value),)
        except UndigestibleError:
            raise _unfit(lazy, self.keys) from None
        policies = lazy._policies
        if policies is not None:
            parts += [_KEY_IF + self.keys[condition] for condition in policies.conditions]
            if policies.calls.catches:
                parts.append(b"catches0:")
            if policies.name is not None:
                given = policies.name.encode("utf-8", "surrogatepass")
                parts.append(b"named%d:%b" % (len(given), given))
        whole = self._head(task).copy()
        whole.update(b"".join(parts))
        digest: bytes = whole.digest()
        return digest

    def _argument(self, value: Any) -> Sequence[bytes]:
        """The encoding of one argument; a lazy one is its key."""
        if isinstance(value, LazyResult):
            return _KEY, self.keys[value]
        writer = Digester(None, self.keys, lenient=not self._strict)
        try:
            writer.write(value)
        except UndigestibleError:  # it contains itself, or is nested too deep
            if self._strict:
                raise
            return b"a:", name_of(type(value)).encode(), b";"
        return writer.parts

    def _container(self, lazy: LazyResult[Any]) -> Iterable[bytes]:
        """The encoding of a container with lazy values in it, perhaps very many."""
        recipe, *leaves = lazy.args
        if _is_unordered(lazy):
            return [self._recipe(recipe, leaves)]
        keys = map(self.keys.__getitem__, leaves)
        return [*self._argument(recipe), *chain.from_iterable(zip(repeat(_KEY), keys))]

    def _recipe(self, recipe: Recipe, leaves: Sequence[LazyResult[Any]]) -> bytes:
        """The digest of a container with sets in it, whose leaves have no certain order."""
        built: list[bytes] = []
        for kind, items, holes in recipe.steps:
            filled = items.copy()
            for position, source in holes:
                inner = self.keys[leaves[source]] if source >= 0 else built[~source]
                filled[position] = "hole", inner
            places = [] if kind in _SETS else [position for position, _ in holes]
            content = frozenset(filled) if kind in _SETS else filled
            writer = Digester(None, self.keys, lenient=not self._strict)
            writer.write((kind, content, places))
            built.append(writer.digest())
        return built[-1]

    def _head(self, task: Operation) -> Any:
        """The hash with which the keys of all calls of a task begin."""
        is_task = isinstance(task, Task)
        part = task if is_task else task.name  # each operator has an Operation of its own
        head = self._heads.get(part)
        if head is None:
            writer = Digester(None)
            name = name_of(task) if isinstance(task, Task) else task.name
            writer.put(b"task" if is_task else b"node", name.encode())
            writer.put(b"in", self._context)
            head = self._heads[part] = blake2b(b"".join(writer.parts), digest_size=SIZE)
        return head


def _is_unordered(lazy: LazyResult[Any]) -> bool:
    """Whether a container has a set in it that holds lazy values."""
    return any(kind in _SETS for kind, _, _ in lazy.args[0].steps)


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
) -> dict[LazyResult[Any], tuple[str, object]]:
    """Node → its first user, by name, and its argument there."""
    users: dict[LazyResult[Any], tuple[str, object]] = {}
    for lazy in lazies:
        if not lazy._dependencies:
            continue
        unordered = lazy.task is GATHER and _is_unordered(lazy)
        for place, value in (*enumerate(lazy.args), *lazy.kwargs.items()):
            if isinstance(value, LazyResult) and value not in users:
                users[value] = lazy.name, None if unordered else place
    return users


class _Places:
    """The functions in the source that made the nodes, by name.

    Lines would change with every edit of the function, and Pythons before 3.12 give comprehensions
    a code of their own.
    """

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, lazy: LazyResult[Any]) -> str:
        code = lazy._code
        known = self._known.get(id(code))
        if known is None:
            names = [name for name in code.co_qualname.split(".") if name not in _LEFT_OUT]
            known = self._known[id(code)] = ".".join(names) or "<module>"
        return known


def _told_apart(
    content: bytes,
    equal: Iterable[LazyResult[Any]],
    users: Mapping[LazyResult[Any], tuple[str, object]],
    places: _Places,
) -> dict[LazyResult[Any], NodeKey]:
    keys: dict[LazyResult[Any], NodeKey] = {}
    count: Counter[bytes] = Counter()
    for lazy in sorted(equal, key=attrgetter("number")):
        user, argument = users.get(lazy, _NO_USER)
        site = f"{places.of(lazy)}\0{user}\0{argument}".encode("utf-8", "surrogatepass")
        number = count[site]
        count[site] = number + 1
        whole = b"%b%d:%b#%d" % (content, len(site), site, number)
        keys[lazy] = blake2b(whole, digest_size=SIZE).digest()
    return keys
