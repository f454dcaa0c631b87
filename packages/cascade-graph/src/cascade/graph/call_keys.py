"""Keys of calls by code and content, the same in every process: what ``cs.ByCode`` looks up.

The key of a call is a digest of

- the task: module and name, its ``version``, and that of the cache
- its code, with everything that it names, transitively (``codehash``)
- its arguments, by content (``spec.digest``). Of a function among them, and of the class of an
  object, the code counts as well.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from functools import partial
from hashlib import blake2b
from types import FunctionType, MethodType
from typing import Any, Final

from cascade.graph.codehash import CodeHash, code_hash, code_of
from cascade.graph.libraries import is_library, top_of
from cascade.spec.caching import counting, unfit
from cascade.spec.digest import SIZE, Digester, UndigestibleError, digest
from cascade.spec.digest_places import place_of_fault
from cascade.spec.encodings import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task
from cascade.spec.wording import name_of

#: The digest of an argument that was left out, and whose default has no content, such as a mark.
_LEFT_OUT: Final = b"default".ljust(SIZE, b"\0")
_NO_KEYS: Final[Mapping[LazyResult[Any], bytes]] = {}


class CallKey:
    """The key of one call; equal if the digest is.

    Attributes:
        digest: 16 bytes.
        task: ``module:name``.
        code: The hash of the code.
        args: Parameter → digest of its argument.
        began: When the call was found to be a miss, by ``perf_counter``; 0 before.
        ends: When the entry of the call ends, in seconds since the epoch; None for never.
        is_kept: Whether the call has an entry now.
        is_claimed: Whether others wait for the call.
    """

    __slots__ = ("args", "began", "code", "digest", "ends", "is_claimed", "is_kept", "task")

    def __init__(self, digest: bytes, task: str, code: CodeHash, args: Mapping[str, bytes]) -> None:
        self.digest = digest
        self.task = task
        self.code = code
        self.args = args
        self.began = 0.0
        self.ends: float | None = None
        self.is_kept = self.is_claimed = False

    def found(self, ends: float | None) -> None:
        """The call has an entry until ``ends``."""
        self.ends, self.is_kept = ends, True

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, CallKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<call of {self.task}, {self.digest.hex()}>"


class _Code(Mapping[Any, bytes]):
    """Function, method or partial → bytes for its code; lazy value → its key."""

    def __init__(self, keys: Mapping[LazyResult[Any], bytes], own: str | None) -> None:
        self._keys = keys
        self._own = own

    def get(self, key: Any, default: Any = None) -> Any:
        if isinstance(key, LazyResult):
            return self._keys.get(key, default)
        return default if (code := self._code(key)) is None else code

    def _code(self, thing: Any) -> bytes | None:
        if isinstance(thing, Task):
            return name_of(thing).encode() + code_hash(thing).digest.encode()
        if isinstance(thing, FunctionType):
            if is_library(thing.__module__, self._own):
                return None
            return code_of(thing).digest.encode()
        if isinstance(thing, MethodType):
            bound = CallDigester(self._own, self._keys)
            bound.write((thing.__func__, thing.__self__))
            return bound.digest()
        if isinstance(thing, partial):
            bound = CallDigester(self._own, self._keys)
            bound.write((thing.func, thing.args, thing.keywords))
            return bound.digest()
        return None

    def __getitem__(self, key: Any) -> bytes:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class CallDigester(Digester):
    """Writes arguments, with the code of functions and of the user's classes among them.

    Args:
        own: The package of the task; its modules are the user's also if they are installed.
        keys: The keys of lazy values.
    """

    __slots__ = ("_keys", "_own")

    def __init__(self, own: str | None, keys: Mapping[LazyResult[Any], bytes] = _NO_KEYS) -> None:
        super().__init__(None, _Code(keys, own))
        self._own = own
        self._keys = keys

    def begin(self, objects: list[Hashable] | None) -> Digester:
        return CallDigester(self._own, self._keys)

    def put_type(self, tag: bytes, kind: type) -> None:
        super().put_type(tag, kind)
        if not is_library(kind.__module__, self._own):
            self.put(b"code", code_of(kind).digest.encode())


def digest_of_argument(value: Any, own: str | None) -> bytes:
    """The digest of an argument of a task in the package ``own``."""
    encode = ATOMS.get(type(value))
    if encode is not None:
        return blake2b(encode(value), digest_size=SIZE).digest()
    writer = CallDigester(own)
    writer.write(value)
    return writer.digest()


def head_of(task: Task[..., Any], version: str = "") -> tuple[bytes, CodeHash]:
    """The part of the key that all calls of a task share, and the hash of its code.

    Raises:
        ArgumentError: A variable of the function's closure has no content.
    """
    code = code_hash(task)
    known = task.derived.get("head")
    if known is None or known[0] is not code or known[1] != version:
        _check_closure(task, code)
        head = digest((name_of(task), task.version, version, code.digest))
        known = task.derived["head"] = code, version, head
    return known[2], code


def call_key(
    task: Task[..., Any],
    arguments: Mapping[str, Any],
    *,
    ignored: Collection[str] = (),
    version: str = "",
) -> CallKey:
    """The key of a call.

    Args:
        arguments: All of them, by name, as ``CachePolicy.key`` gets them.
        ignored: Parameters that do not count.
        version: Of the cache.

    Raises:
        ArgumentError: An argument, or a variable of the function's closure, has no content.

    Cost: some 4 µs, plus the digests of the arguments and of the mutable values that the code
    names.
    """
    head, code = head_of(task, version)
    own, defaults = top_of(task.__module__), task.parameters.defaults
    args: dict[str, bytes] = {}
    counted = counting(task, arguments, ignored)
    for name in sorted(counted):
        value = counted[name]
        try:
            args[name] = digest_of_argument(value, own)
        except UndigestibleError as error:
            if name in defaults and value is defaults[name]:
                args[name] = _LEFT_OUT  # its type is part of the code
                continue
            raise unfit(task, name, _place(value, own), error) from None
    parts = [head]
    for name, part in args.items():
        parts += (b"%d:" % len(name), name.encode(), part)
    made = blake2b(b"".join(parts), digest_size=SIZE).digest()
    return CallKey(made, name_of(task), code, args)


def _place(value: Any, own: str | None) -> str:
    def is_faulty(part: Any) -> bool:
        try:
            digest_of_argument(part, own)
        except UndigestibleError:
            return True
        return False

    return place_of_fault(value, is_faulty)


def _check_closure(task: Task[..., Any], code: CodeHash) -> None:
    """Refuse a variable of the function's own closure that has no content.

    Two functions that a factory has made with two of them would have one key.
    """
    if "__wrapped__" in getattr(task.func, "__dict__", ()):
        return  # of a decorator: its variables are mostly tools, such as a lock
    mark = f"{name_of(task.func)} (variable " if isinstance(task.func, FunctionType) else "\0"
    for name, kind in code.untracked.items():
        if name.startswith(mark):
            variable = name.removeprefix(mark).rstrip(")")
            raise ArgumentError(
                f"task '{task.name}': the variable '{variable}' of its closure cannot be part of a "
                f"cache key: it is a {kind}, a type whose content is not defined; define it with "
                "cs.digestible, or make it an argument and leave it out with "
                f"ignore={{'{variable}'}}"
            )
