"""Site: the data that the pages of one server share, and their actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cascade.command.failures import UsageError
from cascade.command.steering import Change, made, removing, setting
from cascade.runtime.control.looks import CANCEL, SIGNAL
from cascade.runtime.limits.rules import Constraint
from cascade.web.model.cache_views import CacheViews
from cascade.web.model.feed import Feed
from cascade.web.model.history import Answer, History

#: The answer to each attempt to change something through a view that may only look.
READ_ONLY: Final = (False, "this view is read-only")
#: Seconds to wait for engines to confirm a change.
_PATIENCE = 3.0


@dataclass(slots=True)
class Site:
    """What pages show and do.

    Attributes:
        feed: The engines.
        read_only: Whether nothing may be changed.
        history: The durable runs; None without a store.
        cache: The cache; None without one.
    """

    feed: Feed
    read_only: bool = False
    history: History | None = None
    cache: CacheViews | None = None

    async def set(self, constraint: Constraint) -> Answer:
        """Set a constraint in all engines."""
        return await self._made(setting(constraint))

    async def remove(self, scope: str, kind: str) -> Answer:
        """Remove a constraint from all engines."""
        try:
            return await self._made(removing(scope, [kind]))
        except UsageError as error:
            return False, str(error)

    async def cancel(self, engine: str, run: str) -> Answer:
        """Ask a run to end."""
        if self.read_only:
            return READ_ONLY
        return await self.feed.order(engine, CANCEL, run)

    async def signal(self, engine: str, run: str, name: str, value: Any) -> Answer:
        """Send a signal to a run under way."""
        if self.read_only:
            return READ_ONLY
        return await self.feed.order(engine, SIGNAL, run, name, value)

    async def fork_stored(
        self, run: str, again: Sequence[str], params: Mapping[str, Any]
    ) -> Answer:
        """Fork a durable run; the id of the new one."""
        return await self._stored(lambda history: history.fork(run, again, params))

    async def resume_stored(self, run: str) -> Answer:
        """Give a durable run to the workers."""
        return await self._stored(lambda history: history.resume(run))

    async def cancel_stored(self, run: str) -> Answer:
        """Ask a durable run to end."""
        return await self._stored(lambda history: history.cancel(run))

    async def signal_stored(self, run: str, name: str, value: Any) -> Answer:
        """Send a signal to a durable run."""
        return await self._stored(lambda history: history.signal(run, name, value))

    async def _stored(self, act: Callable[[History], Answer]) -> Answer:
        if self.read_only:
            return READ_ONLY
        if self.history is None:
            return False, "this view has no store"
        return await asyncio.to_thread(act, self.history)

    async def _made(self, change: Change) -> Answer:
        if self.read_only:
            return READ_ONLY
        feed = self.feed
        try:
            return await made(change, feed.connector, feed.engines, feed.prefix, _PATIENCE)
        except UsageError as error:
            return False, str(error)
