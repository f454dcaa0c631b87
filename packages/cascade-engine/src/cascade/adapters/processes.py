"""Names of processes that others can tell from each other, and whether such a process still lives.

A name says which process it is, on which boot of which machine. On the same machine the lease of a
durable run is therefore over as soon as its process has ended, and a program that is started again
after ``kill -9`` need not wait for it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_SEPARATOR = "/"
#: Errors of a process that has too many files open, or no memory, and so cannot ask about others.
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def own_name() -> str:
    """The name of this process: host, boot, process namespace, process id, its start, and a random
    part."""
    return _name(os.getpid())  # after a fork, the child is another process


@cache
def _name(pid: int) -> str:
    parts = [*_machine(), str(pid), _start_of(pid) or "?", secrets.token_hex(4)]
    return _SEPARATOR.join(parts)


def dead_among(owners: Iterable[str]) -> list[str]:
    """The owners that are processes of this machine which have ended.

    An owner on another machine, in another container, or whose name was not made by ``own_name`` is
    never among them: its lease has to run out.
    """
    return [owner for owner in owners if _has_ended(owner)]


def _has_ended(owner: str) -> bool:
    host, boot, namespace, pid, start, *rest = [*owner.split(_SEPARATOR), *[""] * 5]
    if (host, boot, namespace) != _machine()[:3] and (host, boot) == _machine()[:2]:
        return False  # another container: its process ids mean nothing here
    if host != _machine()[0] or not rest[0] or not pid.isdigit():
        return False
    if boot != _machine()[1]:
        return "?" not in (boot, _machine()[1])  # the machine was started again
    now = _start_of(int(pid))
    if now is None:
        return not _exists(int(pid))
    return "?" not in (start, now) and start != now


@cache
def _machine() -> tuple[str, str, str]:
    """Host, boot and process namespace."""
    return socket.gethostname().replace(_SEPARATOR, "_"), _boot(), _namespace()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "?"


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "?"


def _start_of(pid: int) -> str | None:
    """The start of a process, in ticks since the boot.

    None if the process has ended, or if the system does not tell; ``"?"`` if this process has too
    few resources to ask.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        return "?" if error.errno in _SHORT_OF else None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # unknown: there, ``os.kill`` sends Ctrl-C, or ends the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return not Path(f"/proc/{pid}/stat").exists() or _start_of(pid) is not None
