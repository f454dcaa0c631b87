"""Shared memory: large values on their way between the driver and a process of this machine.

A value is written into a file without a name (a *memfd*, on Linux), whose descriptor goes through
the pipe. The other process maps it, and closes it: the memory is free when nothing uses the value
any more, and when both have ended, however they end.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, Final
from weakref import WeakSet

from cascade.spec.wire import SHARED_ABOVE, joined

#: Whether this system has such files.
CAN_SHARE: Final = hasattr(os, "memfd_create")
#: Most files that wait in this process at the same time, and most mapped files: each needs a
#: descriptor. Beyond that, values go through the pipe, or are copied.
_MOST: Final = 64
#: Buffers begin at multiples of this.
_ALIGNED: Final = 64


class Parcel:
    """A value in shared memory, in the process that sends it.

    Args:
        file: The descriptor, which ``close`` closes.
        spans: First and last byte of the value's pickle, and of each of its buffers.
    """

    __slots__ = ("__weakref__", "_file", "spans")

    def __init__(self, file: int, spans: Sequence[tuple[int, int]]) -> None:
        self._file: int | None = file
        self.spans = spans
        _waiting.add(self)

    def send(self, pipe: Any) -> None:
        """Send the descriptor; the spans have gone before."""
        assert self._file is not None
        send_handle(pipe, self._file, 0)

    def close(self) -> None:
        """Forget it. May be repeated."""
        file, self._file = self._file, None
        _waiting.discard(self)
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter ends
            self.close()


_waiting: Final[WeakSet[Parcel]] = WeakSet()
_mapped: Final[WeakSet[mmap.mmap]] = WeakSet()


def packed(data: bytes, beside: Sequence[Any]) -> Parcel | bytes:
    """A pickle with its buffers: in shared memory if it is large, otherwise in one piece.

    Args:
        data: The pickle.
        beside: Its buffers, see ``wire.dumps``. They may be changed afterwards.
    """
    if not beside and len(data) < SHARED_ABOVE:
        return data
    if CAN_SHARE and len(_waiting) < _MOST:
        with suppress(OSError):  # no memory, or no descriptor
            return _written([data, *beside])
    return joined(data, beside)


def _written(parts: Sequence[Any]) -> Parcel:
    file = os.memfd_create("cascade")
    try:
        spans, at = [], 0
        for part in parts:
            at += -at % _ALIGNED
            left = memoryview(part)
            spans.append((at, at + len(left)))
            while len(left):
                written = os.pwrite(file, left, at)
                at, left = at + written, left[written:]
    except BaseException:
        os.close(file)
        raise
    return Parcel(file, spans)


def received(pipe: Any, spans: Sequence[tuple[int, int]]) -> tuple[Any, list[Any]]:
    """The pickle and the buffers of a parcel that comes next.

    Raises:
        EOFError, OSError: The sender has ended.
    """
    file = recv_handle(pipe)
    try:
        content = memoryview(_content(file, spans[-1][1]))
    finally:
        os.close(file)
    data, *beside = (content[first:last] for first, last in spans)
    return data, beside


def _content(file: int, size: int) -> Any:
    """The bytes of a file; changes of these are not seen elsewhere."""
    if len(_mapped) < _MOST:
        content = mmap.mmap(file, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        _mapped.add(content)
        return content
    copy = bytearray(size)
    left, at = memoryview(copy), 0
    while at < size:
        at += os.preadv(file, [left[at:]], at)
    return copy
