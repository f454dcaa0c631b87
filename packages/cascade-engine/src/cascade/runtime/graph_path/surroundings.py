"""Surroundings: what all parts of one graph run have in common."""

from __future__ import annotations

from typing import NamedTuple

from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.run_end import RunEnd
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.run import Run


class Surroundings(NamedTuple):
    """Given to each part of a graph run.

    Attributes:
        run: The run.
        lock: Guards the nodes, their segments, and what is sent to the lanes.
        reports: Publishes the events of nodes.
        end: The result or error of the run, and whether it ends.
    """

    run: Run
    lock: BiasedLock
    reports: Reports
    end: RunEnd
