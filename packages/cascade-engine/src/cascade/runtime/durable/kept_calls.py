"""Kept calls: the idempotency key of a call, and its transaction in the store (D3, D5).

An attempt in a transaction is made on one thread: begin, call the function, write its outcome,
commit. Another attempt of the same call, after a timeout, begins only when it is certain that no
earlier one will commit; if one has, it takes that value instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import update_wrapper
from typing import Any, Final

from cascade.runtime.durable.journal import Journal
from cascade.spec.blueprint import TailCall
from cascade.spec.errors import LeaseLostError, ResourceError, StoreError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject
from cascade.spec.run_rows import Outcome
from cascade.spec.run_store import StoreTransaction

_NONE: Final = object()
#: Seconds until a store that was away is tried again.
_AGAIN: Final = 0.1


class Once:
    """What the attempts of one call have in common: at most one of them commits.

    Attributes:
        lock: Held by an attempt from its decision to commit until the end of the commit.
        value: The value of the attempt that has committed.
    """

    __slots__ = ("lock", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Any = _NONE


class _RollBack(Exception):
    """Ends a transaction whose task has failed."""


class KeptCall:
    """One attempt of a call in a durable run.

    Args:
        journal: The journal of the run.
        node: The node of the call.
        task: The name of its task.
    """

    def __init__(self, journal: Journal, node: LazyResult[Any], task: str) -> None:
        self._journal = journal
        self._node = node
        self._task = task

    def idempotency_key(self) -> str:
        """A text for this call alone, in all processes (D3).

        It is made of the id of the run, the key of the node, and the number of its step.
        """
        key, step, _ = self._journal.place_of(self._node)
        return f"{self._journal.run_id}/{key.hex()}/{step}"

    def transacting(
        self, func: Callable[..., Any], is_abandoned: Callable[[], bool]
    ) -> Callable[..., Any]:
        """``func`` in a transaction, for a worker. Markers among its arguments are filled there.

        Args:
            is_abandoned: Whether the call was given up. Asked before the commit.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            transactions = self._journal.transactions
            key, _, owner = self._journal.place_of(self._node)
            once = transactions.once(key, Once)
            with once.lock:
                if once.value is not _NONE:
                    return once.value
            # A store without transactions refuses here; that is an error of the task.
            transacting = transactions.begin()
            failure: BaseException | None = None
            try:
                with ExitStack() as until_committed:
                    with self._begun(transacting) as opened:
                        try:
                            value = func(*_filled(opened, args), **_named(opened, kwargs))
                            self._refuse_continuing(value)
                            body = transactions.entry(key, self._task, owner, value)
                        except BaseException as error:
                            failure = error
                            raise _RollBack from error
                        until_committed.enter_context(once.lock)
                        if is_abandoned():
                            raise _RollBack
                        opened.keep(Outcome(key, 0, body))
                    transactions.committed(key)
                    once.value = value
            except _RollBack:
                if failure is None:  # it is raised nowhere
                    raise
            except LeaseLostError:
                self._journal.desk.listener.lost_lease()
                raise
            except StoreError as error:  # whether it was committed may be unknown
                self._journal.desk.listener.failed(error)
                raise
            if failure is not None:
                raise failure
            return value

        return update_wrapper(call, func)

    @contextmanager
    def _begun(
        self, transacting: AbstractContextManager[StoreTransaction]
    ) -> Iterator[StoreTransaction]:
        """The transaction; as long as the lease holds, the store may come back before it begins."""
        with ExitStack() as stack:
            while True:
                try:
                    opened = stack.enter_context(transacting)
                    break
                except StoreError as error:
                    if not error.transient or self._journal.desk.is_overdue:
                        raise
                time.sleep(_AGAIN)
                transacting = self._journal.transactions.begin()
            yield opened

    def _refuse_continuing(self, value: Any) -> None:
        if isinstance(value, (TailCall, LazyResult)):
            what = "a tail call" if isinstance(value, TailCall) else "a lazy value"
            raise ResourceError(
                f"task '{self._task}' takes cs.transaction, so its value is committed together "
                f"with its effects, but it returned {what}; nothing was committed\n"
                "    wrong:  def agent(n, tx=cs.inject(cs.transaction)): return agent.tail(n + 1)\n"
                "    right:  def agent(n, last=None): return agent.tail(n + 1, pay(n))"
            )


def _filled(opened: StoreTransaction, args: Iterable[Any]) -> list[Any]:
    return [opened.connection if _is_marker(value) else value for value in args]


def _named(opened: StoreTransaction, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {n: opened.connection if _is_marker(v) else v for n, v in kwargs.items()}


def _is_marker(value: Any) -> bool:
    return type(value) is Inject
