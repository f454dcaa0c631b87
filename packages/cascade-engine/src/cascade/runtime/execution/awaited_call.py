"""AwaitedCall: a call of a coroutine task from its first step to its last (M13)."""

from __future__ import annotations

import asyncio

from cascade.runtime.execution.cancels import Cancels, IsCancelled
from cascade.runtime.execution.carried_errors import raise_named
from cascade.spec.operation import Operation


class AwaitedCall(Cancels):
    """An awaited call of a coroutine task; one of the run's calls until it is over."""

    __slots__ = ("_calls", "_is_cancelled", "_operation")

    def __init__(
        self,
        operation: Operation,
        calls: dict[object, str],
        is_cancelled: IsCancelled | None = None,
    ) -> None:
        super().__init__()
        self._operation = operation
        self._is_cancelled = is_cancelled
        self._calls = calls
        calls[self] = operation.name

    async def end(self, error: BaseException | None) -> None:
        try:
            if error is None or self.own > 0 or isinstance(error, asyncio.CancelledError):
                await self.settle(error, self.is_cancelled)
            if isinstance(error, RuntimeError):
                raise_named(error, self._operation)
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    def is_cancelled(self, outside: int) -> bool:
        """Whether the engine has cancelled the current asyncio task; see ``IsCancelled``."""
        assert self._is_cancelled is not None
        return self._is_cancelled(outside)

    def over(self) -> None:
        del self._calls[self]
        # An error's traceback holds this object, which holds the run.
        del self._is_cancelled, self._calls
