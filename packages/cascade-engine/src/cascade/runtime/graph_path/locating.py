"""Locating: which node the calling code belongs to, for ``cs.current``."""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import Any

from cascade.runtime.current import Place, attempt_here
from cascade.runtime.graph_path.lanes.spares import Spare
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Work


def locate(parts: RunParts) -> Place | None:
    """The call of a task that is being made in this thread; None if that cannot be told."""
    found = _found(parts)
    if found is None:
        return None
    if not isinstance(found, Work):
        return Place(found, found, found.task)
    step = found.steps if found.loop is None else None
    return Place(found.node, found.source, found.operation, found.attempt, step)


def _found(parts: RunParts) -> Any:
    """The node that this thread works on, or its work."""
    here = attempt_here.get()
    if here is not None and here[0] is parts.run:
        return here[1]
    me = get_ident()
    pool = parts.dispatch.workers
    item = None if pool is None else pool.item_of(me)
    if item is not None:
        return item[1] if isinstance(item, tuple) else item
    if not parts.run.is_own_thread(me):
        return None
    pump, lane = parts.made("pump"), parts.made("event_loop_lane")
    mark = None if pump is None else pump.mark
    if isinstance(mark, Spare) and mark.runs_for(parts.run):
        return mark.work or mark.node
    return None if lane is None else lane.working.get(asyncio.current_task(parts.run.loop))
