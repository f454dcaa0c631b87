"""Closing several resources: last opened first, each once, whatever the others do."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from cascade.runtime.execution.worker_calls import end_of
from cascade.runtime.resources.faults import raise_all
from cascade.runtime.resources.instance import ResourceInstance


async def close_all(instances: Iterable[ResourceInstance], error: BaseException | None) -> None:
    """Close ``instances``, last opened first, even if the caller is cancelled meanwhile.

    Args:
        instances: In the order of the requests.
        error: The error that ended their use, if any: failures to close become notes on it.

    Raises:
        BaseException: The error of closing, in a group if there are several, and ``error`` is None.
        KeyboardInterrupt, SystemExit: Closing raised it.
        CancelledError: The caller was cancelled.
    """
    asked = list(instances)
    for instance in asked:
        instance.stop_opening()
    cancelled = False
    for instance in asked:
        cancelled |= await instance.settled()
    # Only now the order of opening is known: a thread may have been faster.
    closing = sorted(asked, key=lambda instance: instance.opened_as or math.inf, reverse=True)
    for instance in closing:
        cancelled |= await instance.close()
    failures = [i.failure for i in closing if i.failure is not None]
    raise_all(failures, error)
    if cancelled:
        raise asyncio.CancelledError


async def end_of_call(call: Future[Any]) -> None:
    """Wait until an abandoned ``call`` has ended, or the event loop is about to end."""
    with contextlib.suppress(asyncio.CancelledError):
        await end_of(call, asyncio.get_running_loop())
