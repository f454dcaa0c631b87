"""Host processes: each executes durable runs with an engine of its own, for the driver's engine.

The driver names the runs; their programs, steps, signals and results are in the store. If the
process is killed, another one claims its runs there.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import pickle
import threading
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any, Final

from cascade.adapters.executors.process_slots import not_started, starting
from cascade.adapters.executors.process_worker import Settings, prepare
from cascade.runtime.elsewhere.host_messages import DONE, READY, Message, NotReady
from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Host

#: Seconds that a host may take to hand over its runs: it waits for their plain functions.
_PATIENCE: Final = 60.0
_log: Final = logging.getLogger("cascade.executors")


class HostProcess:
    """One process, in the view of the driver.

    Args:
        context: The context of ``multiprocessing``.
        settings: For the process.
        entry, options, told: See ``HostingExecutor``.

    Raises:
        ExecutorError: It cannot be started.
    """

    def __init__(
        self,
        context: Any,
        settings: Settings,
        entry: str,
        options: bytes,
        told: Callable[[Host, Any], None],
    ) -> None:
        self.runs: set[str] = set()
        #: See ``Host``.
        self.exit_code: int | None = None
        self._told = told
        self._lock = threading.Lock()
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        settings = settings.now()
        name, given = settings.name("cascade host"), (theirs, settings, entry, options)
        self._process = context.Process(target=main, args=given, name=name)
        try:
            with starting:
                self._process.start()
        finally:
            theirs.close()
        # Before multiprocessing waits for it, without an end, if the engine was not closed.
        self._finalizer = util.Finalize(self, _kill, (self._process,), exitpriority=10)
        self.pid: int = self._process.pid
        answer = self._received()
        if answer != READY:
            self._process.join(_PATIENCE)
            if isinstance(answer, NotReady):
                raise ExecutorError(f"a host process cannot make its engine: {answer.problem}")
            raise not_started(self._process.exitcode)
        threading.Thread(target=self._listen, name="cascade host", daemon=True).start()

    def send(self, message: Message) -> None:
        """See ``Host``."""
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send_bytes(pickle.dumps(message, 5))

    def close(self) -> None:
        """See ``Host``; one that takes too long is killed."""
        self.send(DONE)
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            _log.error("a host process was killed while it handed over %s", sorted(self.runs))
            self._process.kill()
            self._process.join()

    def _listen(self) -> None:
        while (message := self._received()) is not None:
            self._told(self, message)
        self._process.join(_PATIENCE)
        self.exit_code = self._process.exitcode
        self._told(self, None)

    def _received(self) -> Any:
        try:
            return pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        except Exception as problem:  # its code has changed meanwhile; it can be told nothing more
            _log.error("a host process was killed: its message was not read: %s", problem)
            self._process.kill()
            return None


def _kill(process: Any) -> None:
    """The program ends: nothing is waited for, and the runs can be resumed."""
    with contextlib.suppress(Exception):  # it has ended by itself
        process.kill()


def main(pipe: Connection, settings: Settings, entry: str, options: bytes) -> None:
    """The life of a host process.

    Args:
        pipe, settings, options: See ``HostProcess``.
        entry: Name of the module whose ``main(pipe, options)`` the process calls.
    """
    prepare(settings)
    importlib.import_module(entry).main(pipe, options)
