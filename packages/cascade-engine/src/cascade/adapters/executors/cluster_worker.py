"""The worker's side of a cluster: makes the calls of a turn, and tells of them."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from cascade.runtime.elsewhere.serving import Server
from cascade.spec.remote_calls import serving

#: Bytes of outcomes that go with the message that a turn has ended; larger ones are fetched.
_INLINE: Final = 1 << 14

#: The end of one call: kind, data, steps, links, place in the results, seconds.
End = tuple[str, bytes, int, int, int | None, float]


class Answer(NamedTuple):
    """What becomes of a turn."""

    number: int
    ends: list[End]
    #: Large outcomes as bytes, and values that stay.
    results: list[Any]


class BegunElsewhereError(Exception):
    """A turn was begun before: its worker has ended, and its effects may have happened.

    Args:
        owner: The executor.
        turn: The number of the turn.
        worker: The address of the worker that has begun it; empty if it was withdrawn.
    """

    def __init__(self, owner: str, turn: int, worker: str) -> None:
        super().__init__(owner, turn, worker)
        self.owner = owner
        self.turn = turn
        self.worker = worker


class ClusterWorker:
    """Makes turns. One for each worker process; its threads may make several at a time."""

    def __init__(self) -> None:
        self._server = Server()

    def close(self) -> None:
        """Close the resources of its calls."""
        self._server.close()

    def make(
        self,
        packed: bytes,
        inputs: Sequence[Any],
        begin: Callable[[int], None],
        begun: Callable[[int], None],
    ) -> Answer:
        """Make the calls of a turn.

        Args:
            packed: See ``Turn.packed``.
            inputs: The values that its calls need.
            begin: Raises an error if the turn must not begin here.
            begun: Called for a turn with a timeout when it begins.
        """
        number, is_timed, large, tasks, calls = pickle.loads(packed)
        begin(number)
        if is_timed:
            begun(number)
        self._server.learn(tasks)
        ends: list[End] = []
        results: list[Any] = []
        left = _INLINE
        for name, token, arguments, spins, links, places, keeps in calls:
            kept: list[Any] | None = [] if keeps else None
            given = [inputs[place] for place in places]
            call = name, token, arguments, spins, links, given, kept, large
            one, seconds = self._server.measured(*call)
            place = None
            if kept:
                place = len(results)
                results += kept
            elif len(one.data) > left:
                place = len(results)
                results.append(one.data)
                one = one._replace(data=b"")
            left -= len(one.data)
            ends.append((one.kind, one.data, one.steps, one.links, place, seconds))
        return Answer(number, ends, results)


class HostPipe:
    """The pipe of a host: between the thread that executes runs, and the driver.

    Args:
        send: Sends bytes to the driver.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.send_bytes = send
        #: None at the end.
        self._arrived: SimpleQueue[bytes | None] = SimpleQueue()

    def put(self, messages: Iterable[bytes]) -> None:
        """The driver has sent messages."""
        for message in messages:
            self._arrived.put(message)

    def end(self) -> None:
        """The driver has gone."""
        self._arrived.put(None)

    def recv_bytes(self) -> bytes:
        """The next message.

        Raises:
            EOFError: The driver has gone.
        """
        data = self._arrived.get()
        if data is None:
            raise EOFError
        return data


class Forwarding(logging.Handler):
    """Sends the log records of tasks to the driver.

    Args:
        tell: Sends one, as data.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record that a task has made. A failure is the record's, and not the task's."""
        task = serving.get(None)
        if task is not None:
            try:
                self._tell({**_content(record), "cascade_task": task})
            except Exception:
                self.handleError(record)


def _content(record: logging.LogRecord) -> dict[str, Any]:
    """A record as data."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    own = ("name", "levelno", "levelname", "pathname", "filename", "lineno", "funcName")
    return {**{name: getattr(record, name) for name in own}, "created": record.created, "msg": text}
