"""Large values, each stored once in a run, however many outcomes and records mention it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from cascade.runtime.durable.desk import Desk

#: Size in bytes from which on a value is stored apart.
LARGE: Final = 32_768


class Blobs:
    """The large values of one run. Use it under the run's lock.

    Args:
        desk: Takes what is to be written.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        #: What mentions large values → their digests; digest → how many mention it.
        self._held: dict[bytes, Sequence[bytes]] = {}
        self._mentions: Counter[bytes] = Counter()

    def write(self, body: bytes) -> bytes:
        """Write a large value, unless it is there; its digest. ``hold`` has to follow."""
        digest = blake2b(body, digest_size=16).digest()
        if not self._mentions[digest]:
            self._desk.blob(digest, body)
        return digest

    def hold(self, holder: bytes, digests: Sequence[bytes]) -> None:
        """Keep these for ``holder``, and drop those that it has mentioned before."""
        before = self._held.pop(holder, ())
        if digests:
            self._held[holder] = digests
            self._mentions.update(digests)
        for digest in before:
            self._mentions[digest] -= 1
            if not self._mentions[digest]:
                del self._mentions[digest]
                self._desk.drop_blob(digest)

    def release(self, holder: bytes) -> None:
        """Drop what only ``holder`` has mentioned."""
        if holder in self._held:
            self.hold(holder, ())
