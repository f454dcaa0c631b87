"""The floor for Dask: calls by hand, of which each begins once, with its error and its duration.

As for Cascade's turns, a plugin of the scheduler gives the permission to begin. All calls are given
to the cluster at once; there is no graph, no limit, no retry, no event and no cancel.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

_distributed: Any = import_module("distributed")
_Plugin: Any = import_module("distributed.diagnostics.plugin").SchedulerPlugin


class _Marks(_Plugin):  # type: ignore[misc]  # a peer, which is not declared
    """The calls that have begun, in the scheduler."""

    name = "cascade-floor"
    idempotent = True

    def __init__(self) -> None:
        self._begun: set[str] = set()

    async def start(self, scheduler: Any) -> None:
        """Answer workers."""
        scheduler.handlers["cascade_floor"] = self.begin

    def begin(self, call: str) -> bool:
        """Whether a call may begin."""
        is_new = call not in self._begun
        self._begun.add(call)
        return is_new


class DaskFloor:
    """Calls by hand.

    Args:
        client: A client of the cluster.
    """

    name: Final = "calls by hand"

    def __init__(self, client: Any) -> None:
        self._client = client
        client.register_plugin(_Marks())

    def fan(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> list[Any]:
        """The values of two calls that take that of another one, which stays there."""
        made = self._submit(make, of)
        return [
            self._value(end)
            for end in self._client.gather([self._submit(use, made) for _ in range(2)])
        ]

    def _submit(self, func: Callable[[Any], Any], given: Any) -> Any:
        return self._client.submit(_make, uuid4().hex, func, given, pure=False, retries=0)

    def _value(self, end: tuple[Any, str | None, float]) -> Any:
        value, problem, _ = end
        if problem is not None:
            raise RuntimeError(problem)
        return value


def _make(call: str, func: Callable[[Any], Any], given: Any) -> tuple[Any, str | None, float]:
    """The end of a call."""
    worker: Any = _distributed.get_worker()
    asking = worker.scheduler.cascade_floor(call=call)
    if not asyncio.run_coroutine_threadsafe(asking, worker.loop.asyncio_loop).result():
        raise RuntimeError(f"call {call} was begun before")
    value, problem, began = None, None, perf_counter()
    try:
        value = func(given[0] if type(given) is tuple else given)
    except BaseException:
        problem = traceback.format_exc()
    return value, problem, perf_counter() - began
