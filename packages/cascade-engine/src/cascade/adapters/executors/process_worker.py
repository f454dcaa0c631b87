"""The worker process of a ProcessExecutor: its main function, and the memory that it shares.

The driver sends a *turn*: some calls. For each call the worker writes into the shared memory that
it begins, and then its outcome. So whenever the process ends, the driver knows which calls were
done, which one had begun, and which ones may be made elsewhere. Outcomes that are too large for the
memory go through the pipe, very large ones through memory of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from struct import Struct
from typing import Any, Final, NamedTuple, Self, get_args

from cascade.adapters.executors.shared_memory import CAN_SHARE, packed, received
from cascade.runtime.elsewhere.serving import Server
from cascade.spec.remote_calls import Kind, Outcome

#: Bytes of the shared memory, most calls of one turn, and the place of the first outcome.
SIZE: Final = 1 << 18
MOST_CALLS: Final = 256
_FIRST: Final = 16 + MOST_CALLS
#: Messages of the worker, by their first byte.
READY, BEGUN, LARGE, SHARED, DONE = b"r", b"b", b"l", b"s", b"d"

_COUNT: Final = Struct("=I")
#: Kind, whether it is in the pipe, steps, seconds, size.
_HEAD: Final = Struct("=BBIdQ")
_KINDS: Final[Sequence[Kind]] = get_args(Kind)
#: Libraries of numbers start this many threads in each worker, unless the user has set it.
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
)


class Board:
    """The shared memory, in either process.

    Args:
        memory: ``SIZE`` bytes.
    """

    def __init__(self, memory: Any) -> None:
        self._bytes = memoryview(memory).cast("B")
        self._at = _FIRST
        self._done = 0

    def clear(self) -> None:
        """Forget the last turn. In the driver."""
        self._bytes[:_FIRST] = bytes(_FIRST)

    def rewind(self) -> None:
        """Begin a turn. In the worker."""
        self._at, self._done = _FIRST, 0

    @property
    def begun(self) -> int:
        """The number of calls of this turn that have begun."""
        return int(_COUNT.unpack_from(self._bytes, 0)[0])

    def begin(self, place: int) -> bool:
        """Note that a call begins; False if it was withdrawn."""
        _COUNT.pack_into(self._bytes, 0, place + 1)
        return not self._bytes[16 + place]

    def withdraw(self, place: int) -> None:
        """Let the worker leave out a call, if it sees this in time."""
        self._bytes[16 + place] = 1

    def put(self, outcome: Outcome, seconds: float) -> bool:
        """Write the outcome of the last call; whether its data fits in."""
        size = len(outcome.data)
        fits = self._at + (MOST_CALLS - self._done) * _HEAD.size + size <= SIZE
        fits = fits and not outcome.beside
        kind = _KINDS.index(outcome.kind)
        _HEAD.pack_into(self._bytes, self._at, kind, not fits, outcome.steps, seconds, size)
        self._at += _HEAD.size
        if fits:
            self._bytes[self._at : self._at + size] = outcome.data
            self._at += size
        self._done += 1
        _COUNT.pack_into(self._bytes, 4, self._done)
        return fits

    def outcomes(self, large: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Outcome, float]]:
        """The outcomes so far, with their seconds.

        Args:
            large: Data and buffers of the outcomes that came through the pipe.
        """
        at, from_pipe = _FIRST, iter(large)
        for _ in range(_COUNT.unpack_from(self._bytes, 4)[0]):
            kind, in_pipe, steps, seconds, size = _HEAD.unpack_from(self._bytes, at)
            at += _HEAD.size
            beside: Any = ()
            if in_pipe:
                found = next(from_pipe, None)
                if found is None:
                    return  # the worker has ended before it could send it
                data, beside = found
            else:
                data = bytes(self._bytes[at : at + size])
                at += size
            yield Outcome(_KINDS[kind], data, steps, beside=beside), seconds


class Settings(NamedTuple):
    """What a worker process is told at its start."""

    threads: int
    preload: tuple[str, ...]
    #: The folder for temporary files of the driver's ``multiprocessing``, if it has one.
    folder: str | None
    #: Whether the environment sets the threads of libraries of numbers itself.
    is_set: bool = False

    def now(self) -> Settings:
        """These settings, with the present environment of the driver."""
        return self._replace(is_set=any(name in os.environ for name in _THREADS))

    def name(self, name: str) -> str:
        """The name of a process, which sets these threads where it arrives."""
        return _Name(name, self)


class _Name(str):
    """The name of a process; sets the threads of libraries when it is unpickled.

    It is the one thing of ours that ``multiprocessing`` unpickles before it imports the main
    module, which may import numpy: that reads the variables only then. By ``eval``, because Cascade
    may not be importable yet.
    """

    __slots__ = ("_settings",)
    _settings: Settings

    def __new__(cls, name: str, settings: Settings) -> Self:
        made = super().__new__(cls, name)
        made._settings = settings
        return made

    def __reduce__(self) -> Any:
        defaults = {} if self._settings.is_set else _limits(self._settings.threads)
        merged = f"{{**{defaults!r}, **__import__('os').environ}}"
        return eval, (f"__import__('os').environ.update({merged}) or {str(self)!r}",)


def _limits(most: int) -> dict[str, str]:
    """The variables that give libraries of numbers so many threads."""
    return dict.fromkeys(_THREADS, str(most))


def main(pipe: Connection, memory: Any, settings: Settings) -> None:
    """The life of a worker process."""
    prepare(settings)
    server = Server(shares=CAN_SHARE)
    pipe.send_bytes(READY)
    try:
        _serve(pipe, Board(memory), server)
    finally:
        server.close()


def prepare(settings: Settings) -> None:
    """Tie this process to its driver: it ignores Ctrl-C, and ends when the driver has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    _limit_threads(settings)
    threading.Thread(target=_end_with_driver, args=(settings.folder,), daemon=True).start()
    for module in settings.preload:
        importlib.import_module(module)


def _limit_threads(settings: Settings) -> None:
    """Give numeric libraries their number of threads, unless the user has set it.

    Libraries that this process imports read the variables. A fork server that was told to preload
    them has imported them before; threadpoolctl, if it is installed, limits these.
    """
    for name, most in _limits(settings.threads).items():
        os.environ.setdefault(name, most)
    if not settings.is_set and "numpy" in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("threadpoolctl").threadpool_limits(settings.threads)


def _serve(pipe: Connection, board: Board, server: Server) -> None:
    """Make turns until the driver has closed the pipe."""
    while True:
        try:
            tasks, alone, calls = pickle.loads(pipe.recv_bytes())
            calls = [
                (name, token, received(pipe, given) if type(given) is list else given, spins)
                for name, token, given, spins in calls
            ]
        except (EOFError, OSError):  # the driver has closed it, or has ended
            return
        server.learn(tasks)
        board.rewind()
        for place, call in enumerate(calls):
            if board.begin(place):
                if alone:
                    pipe.send_bytes(BEGUN)
                outcome, seconds = server.measured(*call)
            else:
                outcome, seconds = Outcome("failed"), 0.0
            if not board.put(outcome, seconds):
                _send_large(pipe, outcome)
            del outcome
        del calls, call  # with the arguments
        pipe.send_bytes(DONE)


def _send_large(pipe: Connection, outcome: Outcome) -> None:
    """Send the data of an outcome."""
    data = packed(outcome.data, outcome.beside)
    if isinstance(data, bytes):
        pipe.send_bytes(LARGE + data)
        return
    pipe.send_bytes(SHARED + pickle.dumps(data.spans, 5))
    data.send(pipe)
    data.close()


def _end_with_driver(folder: str | None) -> None:
    """End this process when the driver has ended, even in the middle of a call."""
    driver = parent_process()
    if driver is not None:
        wait([driver.sentinel])
        if folder is not None:  # a driver that was killed could not remove it
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
        os._exit(1)
