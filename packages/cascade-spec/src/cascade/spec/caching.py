"""Caches of nodes: the key of a call and the place of its value (rule R10).

A cache belongs to a node as a whole. Its key is made from the node's first arguments; its value is
the final one, after all tail calls and continuations. Failures and skips are never kept. A
CachePolicy makes the keys, a CacheBackend keeps the values.

``ByArguments`` makes keys of the task's own code and the content of its arguments: 16 bytes, the
same in every process. Only if an object without content is among them, the key is a tuple that
holds this object, for use in this process. ``cs.ByCode`` makes keys of all code that a task can
call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from hashlib import blake2b
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from cascade.spec.checks import is_number
from cascade.spec.digest import SIZE, Digester, UndigestibleError, digest
from cascade.spec.digest_places import place_of_fault
from cascade.spec.encodings import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.protocols import CacheBackend
from cascade.spec.wording import name_of, short

if TYPE_CHECKING:
    from cascade.spec.task_class import Task


@runtime_checkable
class CachePolicy(Protocol):
    """The cache of a node.

    When a node runs, ``key`` is called first and once, then ``load`` with that key. On a miss the
    node computes its value, and ``save`` is called with the same key if it succeeds. Each method
    gets the node's first ``arguments`` by parameter name, complete with defaults: a tuple under the
    name of ``*args``, a dict under that of ``**kwargs``, and ``Inject`` markers in place of
    resources. A policy must not change them.

    The methods are called from workers and from the event loop's thread, for many nodes at once.
    They must be thread-safe and quick, because the event loop may wait for them.

    Policies are hashable. Calls with equal keys under equal policies that run at the same time are
    made once.

    An error raised by a method is the node's error: a cache that cannot be read or written fails
    the run. ``with_retry`` does not repeat it, because retries apply to calls of the task. A policy
    that prefers computing to failing catches the error in ``load`` and returns a miss.
    """

    def key(self, task: Task[..., Any], arguments: Mapping[str, Any]) -> Hashable:
        """The key of the call; calls with equal keys share one value."""

    def load(self, key: Any, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        """(True, the value), which may be None; (False, None) on a miss."""

    def save(self, key: Any, arguments: Mapping[str, Any], value: Any) -> None:
        """Keep the node's value. The task may have changed the objects in ``arguments`` since."""


class SharedCache(Protocol):
    """A cache that makes equal calls of several runs once, also of runs in other processes.

    A policy has one as its attribute ``shared``, or has no such attribute, or None. A node whose
    value ``load`` does not have claims its key. If that is refused, another run makes the call, and
    the node waits, without a thread.
    """

    @property
    def wait(self) -> float | None:
        """Seconds that a node waits at most before it makes the call as well; None for no limit."""

    def claim(self, key: Any, wake: Callable[[], object]) -> bool:
        """Whether the node makes the call, and ``leave`` will be called after it.

        Otherwise ``wake`` is called, once and from any thread, when the call may be over. Then the
        node asks ``load`` again, and claims again if it has to.
        """

    def leave(self, key: Any) -> None:
        """The call of a claimed key is over. ``save`` was called before, if it has a value."""

    def flush(self) -> None:
        """Write what was saved, for other processes. Called when an engine ends."""


class PlannedCache(Protocol):
    """A cache that knows the values of nodes before a run, by their plan keys.

    A policy has one as its attribute ``plans``, or has no such attribute, or None. Plan keys are in
    ``cascade.graph.plan_keys``. A *plan* is what ``find_plans`` gives for one: an object with the
    attributes ``key`` (of the entry) and ``expires`` (seconds since the epoch, or None).
    """

    @property
    def ignored(self) -> frozenset[str]:
        """Parameters that do not count."""

    @property
    def lasts(self) -> bool:
        """Whether entries never end."""

    def head(self, task: Task[..., Any]) -> bytes:
        """What the plan keys of a task's calls begin with: its code."""

    def find_plans(self, plans: Collection[bytes]) -> Mapping[bytes, Any]:
        """Plan key → plan, for the nodes that have an entry."""

    def load_plan(self, plan: Any) -> tuple[bool, Any]:
        """(True, the value of the entry), or (False, None) if it is gone."""

    def load_plans(self, plans: Iterable[Any]) -> Iterable[tuple[bytes, Any]]:
        """The key and the value of those of these entries that are there."""

    def keep_plans(self, plans: Iterable[tuple[bytes, bytes, float | None]]) -> None:
        """Note the entries of nodes: plan key, digest of the key, and end."""


class ByArguments:
    """Keys made of the task and its arguments, compared by type and value.

    - Values are compared by type and content; ``cascade.spec.digest`` defines content.
    - Other hashable objects are compared by type and by their own ``==``. An object without ``==``
      of its own equals only itself, even after it has changed.
    - Of a resource only the name counts.

    Functions that were defined twice with the same code, name and module are one task, if the
    variables of their closures are numbers and texts. A function with other variables, and any
    other callable, equals only itself. Everything else that a task reads (globals, files, functions
    it calls) is not in the key: change ``version`` when that changes, or use ``cs.ByCode``.

    A key is 16 bytes, the same in every process, unless an object without content is among the
    arguments; see ``cascade.spec.digest``. A backend may therefore be shared by processes.

    A hit gives the same object that was kept, so a task that changes its inputs in place changes it
    for all users. Keys keep objects without a digest alive. Two policies are equal if they have the
    same backend and equal options.

    Args:
        backend: Keeps the values, for example ``LRUCache()``; may be shared by any number of
            policies and tasks.
        ttl: Seconds for which a value is valid; None for as long as there is room.
        ignore: Parameters, or keys of ``**kwargs``, that do not affect the value, such as a
            logger. Names that a task does not have are without effect.
        version: Values kept under another version are not found.

    Raises:
        ArgumentError: An option is invalid. From ``key``: an argument, or the task's callable, has
            no known type and is not hashable; or an argument contains itself or is nested too
            deep.

    Attributes:
        backend: As above.

    Cost of a key: about a microsecond plus 0.2 per argument that is a number or text, and another
    one if any is not; 0.03 per element of a list, tuple or set whose elements have one plain type,
    0.2 to 0.4 per element of other containers.
    """

    def __init__(
        self,
        backend: CacheBackend,
        *,
        ttl: float | None = None,
        ignore: Iterable[str] = (),
        version: str = "",
    ) -> None:
        if not is_backend(backend):
            raise ArgumentError(
                "ByArguments takes a CacheBackend, an object with get and put such as LRUCache(), "
                f"but got {short(backend)}"
            )
        if ttl is not None and not (is_number(ttl, 0) and ttl):
            raise ArgumentError(
                f"ttl must be seconds > 0, or None for no limit, but is {short(ttl)}"
            )
        self._ignored = check_ignore(ignore)
        self.backend = backend
        self._ttl = ttl
        self._version = version
        self._made_of = (id(backend), ttl, self._ignored, version)
        self._hash = hash(self._made_of)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._made_of == other._made_of

    def __hash__(self) -> int:
        return self._hash

    def key(self, task: Task[..., Any], arguments: Mapping[str, Any]) -> Hashable:
        func: Any = task.func
        own: _OwnCode | None = task.derived.get("own code")
        if (
            own is None
            or type(func) is not FunctionType
            or own.code is not func.__code__
            or own.version != self._version
            or own.count != len(arguments)
            or self._ignored
        ):
            return self._written(task, arguments)
        # The bytes that ``_written`` writes as well, for arguments that are numbers and texts.
        parts = [own.digest]
        try:
            for name, prefix in own.names:
                value = arguments[name]
                parts += (prefix, ATOMS[type(value)](value))
        except KeyError:
            return self._written(task, arguments)
        return blake2b(b"".join(parts), digest_size=SIZE).digest()

    def _written(self, task: Task[..., Any], arguments: Mapping[str, Any]) -> Hashable:
        """The key of any call."""
        writer, name = Digester([]), ""
        writer.parts.append(_identity(task, self._version, writer))
        arguments = counting(task, arguments, self._ignored)
        try:
            for name in sorted(arguments):
                writer.put(b"name", name.encode())
                writer.write(arguments[name])
        except UndigestibleError as error:
            place = place_of_fault(arguments[name], is_faulty)
            raise unfit(task, name, place, error) from None
        content = blake2b(b"".join(writer.parts), digest_size=SIZE).digest()
        return (content, *writer.objects) if writer.objects else content

    def load(self, key: Any, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        return self.backend.get(key)

    def save(self, key: Any, arguments: Mapping[str, Any], value: Any) -> None:
        self.backend.put(key, value, self._ttl)


def check_ignore(ignore: Iterable[str]) -> frozenset[str]:
    """The names of parameters to ignore.

    Raises:
        ArgumentError: ``ignore`` is one string, which would be taken as its letters.
    """
    if isinstance(ignore, str):
        raise ArgumentError(
            f"ignore takes names of parameters, but got one string\n"
            f"    wrong:  ignore={short(ignore)}\n"
            f"    right:  ignore={{{short(ignore)}}}"
        )
    return frozenset(ignore)


def counting(
    task: Task[..., Any], arguments: Mapping[str, Any], ignored: Collection[str]
) -> Mapping[str, Any]:
    """The arguments that are part of a key: not the ignored ones, nor empty surplus ones."""
    parameters = task.parameters
    if not (ignored or parameters.var_positional or parameters.var_keyword):
        return arguments
    surplus = (parameters.var_positional, parameters.var_keyword)
    counted = {}
    for name, value in arguments.items():
        if name == parameters.var_keyword and ignored:
            value = {n: v for n, v in value.items() if n not in ignored}
        if name in ignored or (name in surplus and not value):
            continue  # a missing *args may also be an empty tuple
        counted[name] = value
    return counted


def is_faulty(value: Any) -> bool:
    """Whether a part of an argument cannot be part of a key in this process."""
    try:
        Digester([]).write(value)
    except UndigestibleError:
        return True
    return False


def unfit(task: Task[..., Any], name: str, place: str, error: UndigestibleError) -> ArgumentError:
    """The error for an argument that cannot be part of a key, because of its part at ``place``."""
    at = f" (at {name}{place})" if place else ""
    return ArgumentError(
        f"task '{task.name}': the argument '{name}' cannot be part of a cache key: "
        f"{error}{at}; leave it out with ignore={{'{name}'}}, or give the node a "
        "CachePolicy with a key() of your own"
    )


def cache_policy(
    cache: CachePolicy | CacheBackend, ttl: float | None, ignore: Iterable[str], version: str
) -> CachePolicy:
    """``cache`` itself if it is a policy; for a backend, ``ByArguments`` with the other options.

    Raises:
        ArgumentError: ``cache`` is neither, an option is invalid, or a policy comes with options.
    """
    if not _is_policy(cache):
        if not is_backend(cache):
            raise ArgumentError(
                "a cache is a CacheBackend, with get and put, such as LRUCache(), or a "
                "CachePolicy, with key, load and save, such as FileExists('out/{name}.csv'), "
                f"but got {short(cache)}"
            )
        return ByArguments(cache, ttl=ttl, ignore=ignore, version=version)
    options = {"ttl": ttl is not None, "ignore": bool(ignore), "version": bool(version)}
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise ArgumentError(
            f"{' and '.join(given)} can be given for a cache that is a CacheBackend; "
            f"{short(cache)} is a CachePolicy, which makes its own keys"
        )
    return cache


def _is_policy(cache: Any) -> TypeGuard[CachePolicy]:
    return _has_methods(cache, "key", "load", "save")


def is_backend(cache: Any) -> TypeGuard[CacheBackend]:
    """Whether it has the methods of a CacheBackend."""
    return _has_methods(cache, "get", "put")


def _has_methods(cache: Any, *names: str) -> bool:
    # isinstance() with a protocol takes ten times as long, for each node.
    if isinstance(cache, type):
        return False  # a class has the attributes of its instances, but is not one of them
    return all(callable(getattr(cache, name, None)) for name in names)


class _OwnCode:
    """The own code of a task that is a plain function, as part of keys.

    Attributes:
        code, version: The code object and the version that the digest stands for.
        digest: Of the name, the version and the code.
        names: Name of each argument → the bytes before its value in a key, in the key's order.
        count: The number of arguments; -1 if a key has more than the digest and these.
    """

    __slots__ = ("code", "count", "digest", "names", "version")

    def __init__(self, task: Task[..., Any], func: FunctionType, version: str) -> None:
        from cascade.spec.bytecode import meaning  # dis: 5 ms

        self.code, self.version = func.__code__, version
        self.digest = digest((name_of(task), version, meaning(func.__code__)))
        parameters, writer = task.parameters, Digester(None)
        self.names: list[tuple[str, bytes]] = []
        for name in sorted({*parameters.positional, *parameters.keyword}):
            writer.put(b"name", name.encode())
            self.names.append((name, b"".join(writer.parts)))
            writer.parts.clear()
        has_more = func.__closure__ or parameters.var_positional or parameters.var_keyword
        self.count = -1 if has_more else len(self.names)

    def is_of(self, func: FunctionType, version: str) -> bool:
        """Whether a function has this code and version now."""
        return func.__code__ is self.code and version == self.version


def _identity(task: Task[..., Any], version: str, writer: Digester) -> bytes:
    """What tells tasks of the same name apart: the code, or the callable itself."""
    func = task.func
    if isinstance(func, FunctionType) and _is_plain(func):
        own: _OwnCode | None = task.derived.get("own code")
        if own is None or not own.is_of(func, version):
            own = task.derived["own code"] = _OwnCode(task, func, version)
        if not func.__closure__:
            return own.digest
        return digest([own.digest, *(cell.cell_contents for cell in func.__closure__)])
    try:
        hash(func)
    except Exception as error:
        raise ArgumentError(
            f"task '{task.name}': its callable is a {type(func).__qualname__}, whose hash fails "
            f"({error}), so it cannot be part of a cache key; make it hashable, or give the node "
            "a CachePolicy with a key() of your own"
        ) from None
    writer.put_object(func)
    return digest((name_of(task), version))


def _is_plain(func: FunctionType) -> bool:
    """Whether its closure, if any, has numbers and texts only."""
    try:
        return all(type(cell.cell_contents) in ATOMS for cell in func.__closure__ or ())
    except ValueError:  # a variable has no value yet
        return False
