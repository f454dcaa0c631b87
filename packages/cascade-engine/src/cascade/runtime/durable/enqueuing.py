"""``cs.enqueue(store, target)``: have a worker execute a run; no engine is needed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack, overload

from cascade.graph.codec import Codec
from cascade.runtime.durable.handles import StoredRun, opened
from cascade.runtime.durable.programs import Wanted, check_same, wanted
from cascade.runtime.options import new_id, settings, takes
from cascade.runtime.semantics.parameter_names import check_parameter_names
from cascade.spec.callsite import users_frame
from cascade.spec.checks import check_priority, is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.params import check_params
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

R = TypeVar("R")


class EnqueueOptions(TypedDict, total=False):
    """Options of ``cs.enqueue``; see EnqueueSettings."""

    at: datetime | float | None
    priority: int
    params: Mapping[str, Any] | None
    signing_key: bytes | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueSettings:
    """The options of a run that is enqueued.

    Attributes:
        at: When workers may begin it: a datetime with a time zone, or seconds since the epoch. At
            once by default.
        priority: Runs with a higher one are claimed first; a run that waits gains 1 a second (M24).
        params: Values for the target's ``Param`` nodes; other names are refused (M22).
        signing_key: That of the engines which serve the store.
    """

    at: datetime | float | None = None
    priority: int = 0
    params: Mapping[str, Any] | None = None
    signing_key: bytes | str | None = None

    def __post_init__(self) -> None:
        check_priority("priority", self.priority)
        object.__setattr__(self, "params", check_params(self.params))
        at: Any = self.at
        if isinstance(at, datetime) and at.tzinfo is not None:
            object.__setattr__(self, "at", at.timestamp())
        elif at is not None and not is_number(at, 0):
            raise ArgumentError(
                "at takes a datetime with a time zone, or seconds since the epoch, but got "
                f"{short(at)}"
            )


@overload
def enqueue(
    store: RunStore | str,
    target: LazyResult[R],
    run_id: str | None = None,
    **options: Unpack[EnqueueOptions],
) -> StoredRun[R]: ...
@overload
def enqueue(
    store: RunStore | str,
    target: Any,
    run_id: str | None = None,
    **options: Unpack[EnqueueOptions],
) -> StoredRun[Any]: ...
@takes(EnqueueOptions, EnqueueSettings)
def enqueue(
    store: RunStore | str,
    target: Any,
    run_id: str | None = None,
    **options: Unpack[EnqueueOptions],
) -> StoredRun[Any]:
    """Put a run into a store, for a worker to execute: ``engine.serve`` or ``cascade work``.

    The run is committed when this returns. The worker finds the tasks by their names, so these have
    to be at the top level of modules, and not in ``__main__``.

    Args:
        store: A RunStore, or the URL of one, which is opened for the call.
        target: A lazy value, or a container of lazy values.
        run_id: Names the run for ever; random if left out. A second call with the same id and
            target creates nothing, and gives the run that is there (D1).

    Raises:
        SerializationError: Another process could not read the target; the message names the node.
        RunConflictError: The id belongs to another target, or has other parameters (D1).
        ArgumentError: An argument is invalid.
        StoreError: The store cannot be used.
    """
    new = _wanted("enqueue", target, run_id, options)
    return _put(store, *new)


@takes(EnqueueOptions, EnqueueSettings)
async def enqueue_async(
    store: RunStore | str,
    target: Any,
    run_id: str | None = None,
    **options: Unpack[EnqueueOptions],
) -> StoredRun[Any]:
    """``enqueue`` for coroutines: the event loop goes on while the store writes."""
    new = _wanted("enqueue_async", target, run_id, options)
    return await asyncio.to_thread(_put, store, *new)


def _wanted(
    call: str, target: Any, run_id: str | None, options: EnqueueOptions
) -> tuple[Codec, Wanted]:
    how = settings(EnqueueSettings, call, options, EnqueueOptions.__optional_keys__)
    frame = users_frame(sys._getframe(2))
    lazy = as_lazy(target, frame.f_code, frame.f_lasti)
    if not isinstance(lazy, LazyResult):
        raise ArgumentError(f"{call}() takes a lazy value, such as task(…), not {short(target)}")
    params, at = check_params(how.params), how.at
    check_parameter_names(params, lazy)
    codec = Codec(signing_key=how.signing_key, modules=())
    made = new_id() if run_id is None else run_id
    assert not isinstance(at, datetime)
    new = wanted(codec, made, lazy, params, priority=how.priority, at=at, portable=True)
    return codec, new


def _put(store: RunStore | str, codec: Codec, new: Wanted) -> StoredRun[Any]:
    with opened(store) as there:
        (created,) = there.create([new.new])
        if not created.new:
            check_same(codec, new, created.run, there.load(created.run.number))
    return StoredRun(store, codec, new.new.run_id, new.new.target)
