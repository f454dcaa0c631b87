"""Readings: digests of functions and values, shared by the hashes of several tasks."""

from __future__ import annotations

from hashlib import blake2b
from types import CodeType
from typing import Any

from cascade.graph.guards import content_of
from cascade.spec.bytecode import Lookups, lookups, meaning
from cascade.spec.digest import SIZE


class Readings:
    """Digests of functions and values, each made by the first of several walks.

    Later walks do not see changes of a value, so use new readings after one may have changed.
    """

    def __init__(self) -> None:
        #: By id, because the hash of a code object reads all of it. The objects are kept, so that
        #: no other object gets the id.
        self._codes: dict[int, tuple[CodeType, str, Lookups]] = {}
        self._contents: dict[int, tuple[Any, bytes | None]] = {}

    def code(self, code: CodeType) -> tuple[str, Lookups]:
        """The digest of a code object's meaning, and the names that it looks up."""
        known = self._codes.get(id(code))
        if known is None:
            made = blake2b(meaning(code), digest_size=SIZE).hexdigest()
            known = self._codes[id(code)] = code, made, lookups(code)
        return known[1], known[2]

    def content(self, value: Any) -> bytes | None:
        """The digest of a value; None if it has none."""
        known = self._contents.get(id(value))
        if known is None:
            known = self._contents[id(value)] = value, content_of(value)
        return known[1]
