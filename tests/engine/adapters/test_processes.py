"""Whether the process of an owner has ended."""

import os
import sys

from cascade.adapters import processes


def test_on_windows_no_process_is_signalled_to_see_whether_it_exists(monkeypatch):
    """There, signal 0 is Ctrl-C, and each other one ends the process."""
    signals = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    monkeypatch.setattr(sys, "platform", "win32")

    assert processes._exists(os.getpid())
    assert signals == []
