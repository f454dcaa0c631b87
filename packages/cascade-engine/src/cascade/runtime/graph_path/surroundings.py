"""Surroundings: the objects that all parts of one graph run share."""

from __future__ import annotations

from typing import NamedTuple

from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.run_end import RunEnd
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.run import Run


class Surroundings(NamedTuple):
    """The objects that all parts of one graph run share.

    Attributes:
        run: The run.
        lock: Guards the nodes, their segments, and the bookkeeping of the lanes.
        reports: Publishes the events of nodes.
        end: The result or error of the run, and whether it is ending.
    """

    run: Run
    lock: BiasedLock
    reports: Reports
    end: RunEnd
