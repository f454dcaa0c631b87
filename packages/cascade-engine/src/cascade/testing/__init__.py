"""Tests of workflows: virtual time, replaced tasks, recorded events and runs.

``VirtualTime``, ``VirtualEngine``, ``override``, ``EventRecorder`` and ``record_run`` need only
Cascade, and work in any test. Where pytest is installed, its plugin gives the fixtures
``virtual_time``, ``virtual_engine``, ``make_virtual_engine``, ``override_tasks``, ``record_events``
and ``recorded_run``; it imports nothing of Cascade before a test takes one of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.runtime.clock import VirtualLoop as VirtualLoop
    from cascade.runtime.clock import run_virtually as run_virtually
    from cascade.testing.engines import VirtualEngine as VirtualEngine
    from cascade.testing.events import EventRecorder as EventRecorder
    from cascade.testing.overrides import override as override
    from cascade.testing.plugin import virtual_time as virtual_time
    from cascade.testing.recording import Recording as Recording
    from cascade.testing.recording import record_run as record_run
    from cascade.testing.recording import recording_calls as recording_calls
    from cascade.testing.virtual import VirtualTime as VirtualTime
    from cascade.testing.virtual import in_virtual_time as in_virtual_time
else:
    _PLACES = {
        "EventRecorder": "cascade.testing.events",
        "Recording": "cascade.testing.recording",
        "VirtualEngine": "cascade.testing.engines",
        "VirtualLoop": "cascade.runtime.clock",
        "VirtualTime": "cascade.testing.virtual",
        "in_virtual_time": "cascade.testing.virtual",
        "override": "cascade.testing.overrides",
        "record_run": "cascade.testing.recording",
        "recording_calls": "cascade.testing.recording",
        "run_virtually": "cascade.runtime.clock",
        "virtual_time": "cascade.testing.plugin",
    }

    def __getattr__(name: str) -> object:
        # pytest imports this package in each test run of each project that has Cascade.
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_PLACES[name]), name)
        globals()[name] = found
        return found


__all__ = [
    "EventRecorder",
    "Recording",
    "VirtualEngine",
    "VirtualLoop",
    "VirtualTime",
    "in_virtual_time",
    "override",
    "record_run",
    "recording_calls",
    "run_virtually",
    "virtual_time",
]
