"""Marks: which calls of a pool's turns have begun, in a file that the driver and its workers map.

A pool does not tell which of several calls have begun when one of its processes ends, and some
pools then make them again. So a worker marks each call before it begins, and begins none that is
marked. The file has no name on Linux: workers open it through the driver's entry in ``/proc``, and
it is gone with the driver, however that ends. Workers on other machines do not find it, and make
their calls without marks.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from struct import Struct
from typing import Final, NamedTuple

#: Most calls of one turn.
MOST_CALLS: Final = 256
#: Bytes that tell this file from others with its name; before the slots.
_TOKEN: Final = 16
#: A slot: the number of its turn, whether a worker has seen it, and two bytes for each call.
_NUMBER: Final = Struct("=Q")
_SEEN: Final = _NUMBER.size
_CALLS: Final = _SEEN + 8
_SLOT: Final = _CALLS + 2 * MOST_CALLS
_BEGUN, _WITHDRAWN = 0, 1


class Place(NamedTuple):
    """Where the marks of one turn are, for its worker."""

    path: str
    token: bytes
    slot: int
    number: int


class Marks:
    """The file, in the driver. Not thread-safe.

    Args:
        turns: Most turns at the same time.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, turns: int) -> None:
        size = _TOKEN + turns * _SLOT
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("cascade-marks")
            self._path, self._name = f"/proc/{os.getpid()}/fd/{file}", None
        else:
            file, self._name = tempfile.mkstemp(prefix="cascade-marks-")
            self._path = self._name
        self._file = file
        os.ftruncate(file, size)
        self._bytes = mmap.mmap(file, size)
        self._token = os.urandom(_TOKEN)
        self._bytes[:_TOKEN] = self._token
        self._free = list(range(turns))
        self._last = 0

    def place(self) -> Place:
        """A slot for the next turn, without any marks."""
        slot = self._free.pop()
        self._last += 1
        at = _at(slot)
        self._bytes[at : at + _SLOT] = bytes(_SLOT)
        _NUMBER.pack_into(self._bytes, at, self._last)
        return Place(self._path, self._token, slot, self._last)

    def forget(self, place: Place) -> None:
        """A turn has ended; no worker may begin a call of it any more."""
        _NUMBER.pack_into(self._bytes, _at(place.slot), 0)
        self._free.append(place.slot)

    def is_seen(self, place: Place) -> bool:
        """Whether a worker has found the marks of a turn."""
        return self._bytes[_at(place.slot) + _SEEN] == 1

    def has_begun(self, place: Place, call: int) -> bool:
        """Whether a call of a turn has begun, if its worker has found the marks."""
        return self._bytes[_of(place.slot, call) + _BEGUN] == 1

    def withdraw(self, place: Place, call: int) -> None:
        """Let the worker leave out a call, if it sees this in time."""
        self._bytes[_of(place.slot, call) + _WITHDRAWN] = 1

    def close(self) -> None:
        """Remove the file; no turn is under way any more."""
        self._bytes.close()
        os.close(self._file)
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name)


class TurnMarks:
    """The marks of one turn, in its worker.

    Args:
        place: Where they are.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._bytes = _opened(place)
        if self._bytes is not None and self._is_current():
            self._bytes[_at(place.slot) + _SEEN] = 1

    def refusal(self, call: int) -> bytes | None:
        """Mark that a call begins; the reason if it must not: it has begun, or was withdrawn."""
        marks, at = self._bytes, _of(self._place.slot, call)
        if marks is None:
            return None
        if not self._is_current() or marks[at + _BEGUN]:
            return b"begun"
        marks[at + _BEGUN] = 1
        return b"withdrawn" if marks[at + _WITHDRAWN] else None

    def _is_current(self) -> bool:
        assert self._bytes is not None
        (number,) = _NUMBER.unpack_from(self._bytes, _at(self._place.slot))
        return bool(number == self._place.number)


#: The file that this worker has opened last.
_open: dict[tuple[str, bytes], mmap.mmap] = {}


def _opened(place: Place) -> mmap.mmap | None:
    """The file of a turn; None if this process does not find it."""
    found = _open.get(place[:2])
    if found is None:
        try:
            with open(place.path, "r+b") as file:
                found = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError):
            return None
        if found[:_TOKEN] != place.token:
            return None
        _open.clear()
        _open[place[:2]] = found
    return found


def _at(slot: int) -> int:
    return _TOKEN + slot * _SLOT


def _of(slot: int, call: int) -> int:
    return _at(slot) + _CALLS + 2 * call
