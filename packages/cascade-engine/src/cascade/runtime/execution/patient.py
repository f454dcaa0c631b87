"""Patient futures: those that an asyncio task awaits despite cancels."""

from __future__ import annotations

import asyncio
from typing import Any


class Patient(asyncio.Future[Any]):
    """A future that refuses to be cancelled, so that a cancelled task waits for it all the same.

    The task gets its CancelledError when the future is done. That is what ``asyncio.wait`` in a
    loop does, without a future and two callbacks for each wait.
    """

    def cancel(self, msg: Any = None) -> bool:
        """False: whatever has called this has to wait."""
        return False
