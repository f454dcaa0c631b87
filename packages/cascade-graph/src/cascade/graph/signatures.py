"""Signatures: the identity of a run's target (D1), and how two targets differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from cascade.graph.naming import NodeKey, node_keys
from cascade.graph.values import NONE_KNOWN
from cascade.spec.digest import SIZE
from cascade.spec.errors import SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.wording import short

#: Most nodes whose names a stored signature keeps. Larger targets are still told apart.
_MOST: Final = 1_000
#: Most nodes that a message names.
_SHOWN: Final = 3


class Signature:
    """The identity of a target: a digest of the keys of all of its nodes.

    Two targets with equal ``digest`` are the same program with the same arguments. Arguments that
    have no digest count by their type, so a difference in these alone is missed.

    Attributes:
        digest: 16 bytes.
    """

    __slots__ = ("_keys", "_nodes", "digest")

    def __init__(
        self,
        digest: bytes,
        nodes: dict[NodeKey, str] | None = None,
        keys: Mapping[LazyResult[Any], NodeKey] = NONE_KNOWN,
    ) -> None:
        self.digest = digest
        self._nodes = nodes
        self._keys = keys

    @property
    def nodes(self) -> dict[NodeKey, str]:
        """Key → name of each node, inputs first; empty if there were too many to store."""
        if self._nodes is None:  # it is seldom needed of a large target
            self._nodes = {key: lazy.name for lazy, key in self._keys.items()}
        return self._nodes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_bytes(self) -> bytes:
        """JSON, for stores."""
        nodes = self.nodes if len(self._nodes or self._keys) <= _MOST else {}
        named = [[key.hex(), name] for key, name in nodes.items()]
        return json.dumps({"digest": self.digest.hex(), "nodes": named}).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Signature:
        """Read what ``to_bytes`` wrote.

        Raises:
            SerializationError: It is no signature.
        """
        try:
            found = json.loads(body)
            nodes = {bytes.fromhex(key): str(name) for key, name in found["nodes"]}
            return cls(bytes.fromhex(found["digest"]), nodes)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise SerializationError(f"not the signature of a target: {error}") from None


def signature(target: LazyResult[Any]) -> Signature:
    """The identity of a target. Takes some 2 µs per node."""
    return signature_of(node_keys(target))


def signature_of(keys: Mapping[LazyResult[Any], NodeKey]) -> Signature:
    """The identity of a target whose nodes have these keys."""
    # All of them, because the key of the target leaves out nodes that it only comes after.
    whole = b"".join(sorted(keys.values()))
    digest = blake2b(whole, digest_size=SIZE).digest()
    return Signature(digest, keys=keys)


def difference(stored: Signature, given: Signature) -> str:
    """How a target differs from the one that was stored, for messages.

    Names the nodes where the difference begins, such as "'load' has other arguments". The
    keys of all nodes that use these differ as well.
    """
    if stored == given:
        return "they do not differ"
    if not (stored.nodes and given.nodes):
        return "it has another digest"
    gone, new = _only_in(stored, given), _only_in(given, stored)
    before, now = Counter(stored.nodes.values()), Counter(given.nodes.values())
    told = [f"{short(name)} is new" for name in dict.fromkeys(new) if not before[name]]
    told += [f"{short(name)} is missing" for name in dict.fromkeys(gone) if not now[name]]
    told += [
        f"{short(name)} has {now[name]} nodes instead of {before[name]}"
        for name in dict.fromkeys([*gone, *new])
        if before[name] != now[name] and before[name] and now[name]
    ]
    if not told:
        told = [f"{short(new[0])} has other arguments" if new else "it has other arguments"]
    more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return "; ".join(told[:_SHOWN]) + more


def _only_in(one: Signature, other: Signature) -> list[str]:
    """Names of the nodes that only ``one`` has, inputs first."""
    return [name for key, name in one.nodes.items() if key not in other.nodes]
