"""StoredRun: the handle of a run in a store, which some worker executes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import time
from typing import Any, Final, Generic, TypeVar, cast

from cascade.adapters.stores.urls import open_store
from cascade.graph.codec import Codec
from cascade.graph.durations import duration_text
from cascade.runtime.durable.claiming import dead_for
from cascade.runtime.durable.runs import value_of
from cascade.runtime.telemetry.wording import error_text
from cascade.spec.errors import (
    CascadeError,
    RunCancelledError,
    RunNotFoundError,
    StoredError,
    StoreError,
)
from cascade.spec.run_rows import FINISHED, RunRecord, RunStatus
from cascade.spec.run_store import RunStore

R = TypeVar("R")
_log = logging.getLogger("cascade.stores")
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
        #: Whether the store was not to be reached when it was last asked.
        self._is_away = False

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
            store.cancel(self.run_id, dead=dead_for(self.run_id, store.owners()))
            return True

    async def result(self) -> R:
        """The value of the target, once the run has ended; may be awaited more than once.

        Raises:
            RunCancelledError: The run was cancelled.
            RunNotFoundError: It was deleted.
            NotStorableError: It has succeeded, but its value has no stored form.
            SerializationError: Its value cannot be read in this process.
            StoreError: The store cannot be opened, or trying again would not help. One that is
                away for some time is waited for.
            Exception: The error of the run.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def heard() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)

        with opened(self._store) as store:
            stop = await asyncio.to_thread(store.subscribe, heard)
            try:
                while True:
                    found = await asyncio.to_thread(self._ended, store)
                    if found is not None:
                        return cast(R, self._value(*found))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL):
                            await news.wait()
                    news.clear()
            finally:
                stop()

    def _ended(self, store: RunStore) -> tuple[RunRecord, bytes | None] | None:
        """The run and its result; None if it has not ended, or the store is away."""
        try:
            run = self._found(store)
            if run.status not in FINISHED:
                return None
            loaded = store.load(run.number)
        except StoreError as error:
            if not error.transient:
                raise
            if not self._is_away:
                _log.warning("run %r is waited for: %s", self.run_id, error)
            self._is_away = True
            return None
        self._is_away = False
        return loaded.run, loaded.result

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

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The state of the run in its store, for notebooks; without the store only its name."""
        from cascade.runtime.telemetry.html_tables import html_lines  # only notebooks need it

        try:
            with opened(self._store) as store:
                run = self._found(store)
                result = store.load(run.number).result if run.status is RunStatus.FAILED else None
            lines = _lines(run, self._codec.loads(result) if result else None)
        except CascadeError as error:
            lines = [f"{self.target}, run {self.run_id}", str(error)]
        return {"text/plain": repr(self), "text/html": html_lines(lines)}

    def __repr__(self) -> str:
        return f"<StoredRun {self.run_id} of '{self.target}'>"


def _lines(run: RunRecord, error: Any) -> list[str]:
    """The state of a run for people."""
    state = str(run.status)
    if run.ended is not None:
        state += f" after {duration_text(max(0.0, run.ended - run.created))}"
    else:
        owner = f" in {run.owner}" if run.owner else ""
        state += f"{owner}, created {duration_text(max(0.0, time() - run.created))} ago"
    lines = [f"{run.target}, run {run.run_id}: {state}"]
    if isinstance(error, BaseException):
        lines += [error_text(error), *getattr(error, "__notes__", ())]
    return lines
