"""Whether the process of an owner has ended."""

import errno
import os
import subprocess
import sys

from cascade.adapters import processes


def test_on_windows_no_process_is_signalled_to_see_whether_it_exists(monkeypatch):
    """There, signal 0 is Ctrl-C, and each other one ends the process."""
    signals = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    monkeypatch.setattr(sys, "platform", "win32")

    assert processes._exists(os.getpid())
    assert signals == []


def test_a_process_that_cannot_ask_takes_no_other_one_for_dead(monkeypatch):
    """A worker with too many open files must not take over the runs of workers that live."""
    own = processes.own_name()

    def refused(path):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(processes.Path, "read_text", refused)
    assert processes.dead_among([own]) == []


def test_a_process_that_has_ended_is_dead():
    *place, pid, start, chance = processes.own_name().split("/")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    name = "/".join([*place, str(ended.pid), processes._start_of(ended.pid) or "1", chance])
    ended.wait()
    another = "/".join([*place, pid, f"{start}1", chance])
    assert processes.dead_among([name, another]) == [name, another]
