"""The private folder in which the connectors of one user on one machine meet.

Only its owner may enter it, so every process that reaches a file or the socket in it is that
user's. It has:

- ``hub.lock``, which the process of the hub holds (``HubLock``), and ``hub.sock``, its socket;
- ``members/ID``: the process and the last will of each connected connector;
- ``retained/HASH``: the last retained message of each topic.

The last two are for the next hub: the process of this one may be killed, or the last to leave.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cascade.adapters.connectors.local_frames import as_json, from_json
from cascade.adapters.connectors.outbox import Message
from cascade.spec.errors import ConnectorError
from cascade.spec.wording import short

#: Most bytes of the path of a Unix socket, on the strictest of the supported systems.
_MAX_PATH = 103


def default_folder() -> Path:
    """``cascade`` in the runtime folder of this user; without one, in the folder for temporary
    files, with the user's number in its name."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime, "cascade")
    return Path(tempfile.gettempdir(), f"cascade-{os.getuid() if hasattr(os, 'getuid') else 0}")


class LocalFolder:
    """The files of the folder at ``path``.

    Raises:
        ConnectorError: The system has no Unix sockets, or the path is too long for one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "hub.sock"
        self.lock = path / "hub.lock"
        self._members = path / "members"
        self._retained = path / "retained"
        if sys.platform == "win32":
            raise ConnectorError(
                "connectors of one machine meet at a Unix socket, which Python has not on Windows; "
                "use MqttConnector and a broker"
            )
        if len(os.fsencode(self.socket)) > _MAX_PATH:
            raise ConnectorError(
                f"the path {short(str(self.socket))} is too long for a socket, which has at most "
                f"{_MAX_PATH} bytes; set XDG_RUNTIME_DIR to a shorter path, or give folder="
            )

    def prepare(self) -> None:
        """Make the folder, or check that no other user may enter it.

        Raises:
            ConnectorError: It cannot be made, or others may enter it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            fault = self._fault()
            if fault is not None:
                raise ConnectorError(
                    f"cannot connect: the folder {self.path} {fault}; it must be a folder of yours "
                    "with mode 700, because everyone who may enter it can steer your engines"
                )
            self._members.mkdir(mode=0o700, exist_ok=True)
            self._retained.mkdir(mode=0o700, exist_ok=True)
        except ConnectorError:  # which is an OSError, too
            raise
        except OSError as error:
            raise ConnectorError(
                f"cannot connect: the folder {self.path} cannot be made: {error.strerror}"
            ) from None

    def _fault(self) -> str | None:
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return "is no folder"
        if found.st_uid != os.getuid():
            return f"belongs to another user, number {found.st_uid}"
        if found.st_mode & 0o077:
            return f"may be entered by others: its mode is {stat.S_IMODE(found.st_mode):o}"
        return None

    # -- members ------------------------------------------------------------------------------

    def keep_member(self, name: str, process: str, will: Message | None) -> None:
        """Keep a member's process and last will, until ``forget_member``."""
        document = {"process": process, "will": as_json(will)}
        _write(self._members / name, json.dumps(document).encode())

    def forget_member(self, name: str) -> None:
        (self._members / name).unlink(missing_ok=True)

    def members(self) -> dict[str, tuple[str, Message | None]]:
        """Name → process and last will, of all that did not say that they leave."""
        found = {}
        for file in self._files(self._members):
            with suppress(OSError, ValueError, KeyError, TypeError):
                document = json.loads(file.read_bytes())
                found[file.name] = document["process"], from_json(document["will"])
        return found

    # -- retained messages --------------------------------------------------------------------

    def retain(self, topic: str, payload: bytes) -> None:
        """Keep the last retained message of a topic; an empty one is forgotten."""
        file = self._retained / hashlib.blake2b(topic.encode(), digest_size=16).hexdigest()
        if payload:
            _write(file, topic.encode() + b"\n" + payload)
        else:
            file.unlink(missing_ok=True)

    def retained(self) -> dict[str, bytes]:
        """Topic → payload."""
        found = {}
        for file in self._files(self._retained):
            with suppress(OSError, ValueError):
                topic, _, payload = file.read_bytes().partition(b"\n")
                found[topic.decode()] = payload
        return found

    def _files(self, folder: Path) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            yield from sorted(file for file in folder.iterdir() if file.name[0] != ".")


class HubLock:
    """The right to be the hub of a folder; the system takes it back when the process ends."""

    def __init__(self, folder: LocalFolder) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self) -> bool:
        """Whether this object has the lock now; never waits."""
        import fcntl  # Unix only

        file = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, b"%d\n" % os.getpid())
        self._file = file
        _held.add(self)
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _held.discard(self)

    def holder(self) -> str:
        """The process that has it, for error messages."""
        with suppress(OSError, ValueError):
            return f"process {int(self._folder.lock.read_text())}"
        return "a process"


#: The locks of this process. A forked child inherits them, and would hold them after its parent.
_held: set[HubLock] = set()


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def _write(file: Path, content: bytes) -> None:
    """Replace a file as a whole: a process may be killed at any time."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_bytes(content)
    new.replace(file)
