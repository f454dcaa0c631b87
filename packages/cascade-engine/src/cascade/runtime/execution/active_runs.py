"""The active runs of this process, for signals and for warnings about waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cascade.runtime.execution.thread_waits import ThreadWaits


class ActiveRun(Protocol):
    """The view of others on an active run."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def thread_waits(self) -> ThreadWaits:
        """Its calls on threads, and those that wait for one. From any thread."""

    def under_way(self) -> Iterable[str]:
        """The names of the calls that it waits for now."""


#: Changed in the threads of event loops; copy it before a look from another thread.
runs: set[ActiveRun] = set()
