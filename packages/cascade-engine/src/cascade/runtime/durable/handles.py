"""StoredRun: the handle of a run in a store, which some worker executes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, TypeVar, cast

from cascade.adapters.processes import dead_among
from cascade.adapters.stores.urls import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.runs import value_of
from cascade.spec.errors import RunCancelledError, RunNotFoundError, StoredError
from cascade.spec.run_rows import FINISHED, RunRecord, RunStatus
from cascade.spec.run_store import RunStore

R = TypeVar("R")
#: Seconds between two looks at a run that is waited for. The store's news shorten them.
POLL: Final = 1.0


@contextmanager
def opened(store: RunStore | str) -> Iterator[RunStore]:
    """A store that is given; or the one that a URL names, which is closed at the end."""
    if isinstance(store, RunStore):
        yield store
        return
    made = open_store(store)
    try:
        yield made
    finally:
        made.close()


class StoredRun(Generic[R]):
    """A run in a store: ``handle = cs.enqueue(store, target)``, ``await handle.result()``.

    The run does not depend on it: a process that has enqueued one may end. A store that was named
    by its URL is opened for each call.

    Attributes:
        run_id: Names the run in the store.
        target: Name of the target.
    """

    def __init__(self, store: RunStore | str, codec: Codec, run_id: str, target: str) -> None:
        self.run_id = run_id
        self.target = target
        self._store = store
        self._codec = codec

    @property
    def status(self) -> RunStatus:
        """Its state in the store, such as ``"enqueued"`` or ``"succeeded"``.

        Raises:
            RunNotFoundError: The run was deleted.
            StoreError: The store cannot be used.
        """
        with opened(self._store) as store:
            return self._found(store).status

    def cancel(self) -> bool:
        """Ask the run to end, in whatever process it is; False if it has ended already.

        A run that no process executes is cancelled at once.

        Raises:
            RunNotFoundError: The run was deleted.
            StoreError: The store cannot be used.
        """
        with opened(self._store) as store:
            if self._found(store).status in FINISHED:
                return False
            store.cancel(self.run_id, dead=dead_among(store.owners()))
            return True

    async def result(self) -> R:
        """The value of the target, once the run has ended; may be awaited more than once.

        Raises:
            RunCancelledError: The run was cancelled.
            RunNotFoundError: It was deleted.
            NotStorableError: It has succeeded, but its value has no stored form.
            SerializationError: Its value cannot be read in this process.
            StoreError: The store cannot be used.
            Exception: The error of the run.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def heard() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)

        with opened(self._store) as store:
            stop = await asyncio.to_thread(store.subscribe, heard)
            try:
                while (run := await asyncio.to_thread(self._found, store)).status not in FINISHED:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL):
                            await news.wait()
                    news.clear()
                result = (await asyncio.to_thread(store.load, run.number)).result
            finally:
                stop()
        return cast(R, self._value(run, result))

    def _found(self, store: RunStore) -> RunRecord:
        run = store.find(self.run_id)
        if run is None:
            raise RunNotFoundError(f"{store!r} has no run {self.run_id!r}", self.run_id)
        return run

    def _value(self, run: RunRecord, result: bytes | None) -> Any:
        if run.status is RunStatus.SUCCEEDED:
            return value_of(self._codec, run, result)
        if run.status is RunStatus.CANCELLED:
            raise RunCancelledError(f"run {self.run_id!r} was cancelled", self.run_id)
        error = self._codec.loads(result) if result else None
        if not isinstance(error, BaseException):
            error = StoredError(f"run {self.run_id!r} is {run.status}", "", "")
        raise error

    def __repr__(self) -> str:
        return f"<StoredRun {self.run_id} of '{self.target}'>"
