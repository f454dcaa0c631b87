"""Worker resources: a worker process opens those of the calls that it makes (M7).

One of scope ``engine`` is opened at its first use, for all calls, and closed when the worker ends.
One that failed to open is forgotten, so that the next call tries again. One of scope ``task`` is
opened and closed around each call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from time import perf_counter
from typing import Any, Final, NamedTuple

from cascade.runtime.resources.faults import raise_all
from cascade.runtime.resources.generators import closed, not_opened
from cascade.spec.resource import ResourceDefinition
from cascade.spec.sent_resources import Provision, SentResource

_log: Final = logging.getLogger("cascade.executors")


class _Open(NamedTuple):
    """A resource that is open."""

    definition: ResourceDefinition[Any]
    generator: Any
    context: Context
    value: Any

    def close(self) -> BaseException | None:
        """Close it; the error of that."""
        return closed(self.definition, self.generator, self.context)


class _Spent(threading.local):
    """Seconds for which this thread has opened resources that later calls use as well."""

    seconds = 0.0


class WorkerResources:
    """The resources of one worker process. Its threads may make several calls at a time.

    Args:
        find: The provision of a token.
    """

    def __init__(self, find: Callable[[bytes], Provision]) -> None:
        self._find = find
        self._lock = threading.Lock()
        #: Token → resource of scope ``engine``, or its opening under way.
        self._shared: dict[bytes, Future[Any]] = {}
        #: These in the order of opening.
        self._opened: list[_Open] = []
        self._spent = _Spent()
        #: A provider has one context from open to close; calls have others.
        self._context = copy_context()

    @property
    def seconds(self) -> float:
        """Seconds for which the calling thread has opened resources of scope ``engine`` so far."""
        return self._spent.seconds

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call ``func`` with resources in place of their marks.

        Raises:
            BaseException: The error of the call, of opening, or of closing.
        """
        own: dict[bytes, _Open] = {}

        def given(value: Any) -> Any:
            return self._get(value.token, own) if type(value) is SentResource else value

        try:
            result = func(*map(given, args), **{n: given(v) for n, v in kwargs.items()})
        except BaseException as error:
            raise_all(_closed_all(own.values()), error)
            raise
        raise_all(_closed_all(own.values()), None)
        return result

    def close(self) -> None:
        """Close all, last opened first. Nothing waits for their errors, which are logged."""
        with self._lock:
            opened, self._opened = self._opened, []
            self._shared.clear()
        for error in _closed_all(opened):
            _log.error("a resource of this worker failed to close", exc_info=error)

    def _get(self, token: bytes, own: dict[bytes, _Open]) -> Any:
        """The resource of a token; those of scope ``task`` are added to ``own``."""
        provision = self._find(token)
        if provision.definition.scope != "task":
            return self._get_shared(token, provision)
        found = own.get(token)
        if found is None:
            needs = {name: self._get(needed, own) for name, needed in provision.needs.items()}
            found = own[token] = self._open(provision.definition, needs)
        return found.value

    def _get_shared(self, token: bytes, provision: Provision) -> Any:
        with self._lock:
            found = self._shared.get(token)
            is_first = found is None
            if found is None:
                found = self._shared[token] = Future()
        if is_first:
            began, before = perf_counter(), self._spent.seconds
            try:
                needs = {name: self._get(needed, {}) for name, needed in provision.needs.items()}
                one = self._open(provision.definition, needs)
            except BaseException as error:
                with self._lock:
                    self._shared.pop(token, None)
                found.set_exception(error)
            else:
                with self._lock:
                    self._opened.append(one)
                found.set_result(one.value)
            self._spent.seconds = before + perf_counter() - began
        return found.result()

    def _open(self, definition: ResourceDefinition[Any], needs: dict[str, Any]) -> _Open:
        context = self._context.copy()
        generator: Any = definition.func(**needs)
        try:
            value = context.run(next, generator)
        except BaseException as failure:
            raise not_opened(definition, failure)  # noqa: B904  # it has its cause
        return _Open(definition, generator, context, value)


def _closed_all(opened: Any) -> list[BaseException]:
    """Close resources, last opened first, also after errors; returns the errors."""
    errors = [one.close() for one in reversed([*opened])]
    return [error for error in errors if error is not None]
