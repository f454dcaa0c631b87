"""Warnings of calls that block the event loop: the fault, its place, and the remedy."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any, Final

from cascade.spec.callsite import CallSite

#: The mode of the coroutines of maps with windows, for ``warn``.
OF_A_MAP: Final = "map"
_log = logging.getLogger("cascade.blocking")
#: Warnings given so far, in the form of the module ``warnings``.
_said: dict[str | tuple[str, type[Warning], int], int] = {}


class BlockingCallWarning(RuntimeWarning):
    """A task blocks the event loop."""


@dataclass(frozen=True, slots=True)
class BlockedStep:
    """A step of a coroutine that takes too long, and was found while it still ran."""

    #: The owner of the step, as given to ``BlockingMonitor.watch``.
    owner: Any
    #: How long it had run when it was found.
    seconds: float
    #: How long it may run.
    threshold: float
    #: The innermost line outside of libraries.
    place: CallSite
    #: The stack from the coroutine inward, in the form of a traceback.
    stack: str
    #: Name of the plain function that straight-line code calls within the step, if any.
    plain: str | None = None


def describe(task: str, blocked: BlockedStep) -> str:
    """The fault of a step of the coroutine task ``task``, its place, and the remedy."""
    return (
        f"the coroutine task '{task}' blocks the event loop and everything that shares it: one "
        f"step has taken {_rounded(blocked.seconds)} s so far\n"
        f"    at {blocked.place}:  {blocked.place.source}\n"
        "    make it a plain function, which runs on a thread:  @cs.task on def, not async def\n"
        "    or put the call on a thread:                         await asyncio.to_thread(…)\n"
        "    or allow it, for good or a number of seconds:        @cs.task(may_block=True)"
    )


def describe_call(task: str, mode: str, blocked: BlockedStep) -> str:
    """The same for a call of the plain task ``task`` in the event loop's thread."""
    why = "has mode='inline'" if mode == "inline" else "is known to be slow from now on"
    what = "give it a thread of its own" if mode == "inline" else "its next calls run on a worker"
    return (
        f"the plain task '{task}' blocks the event loop and everything that shares it: one call "
        f"has taken {_rounded(blocked.seconds)} s so far\n"
        f"    at {blocked.place}:  {blocked.place.source}\n"
        f"    it {why}; {what}\n"
        '    a thread from the first call on:  @cs.task(mode="blocking")'
    )


def describe_map(part: str, blocked: BlockedStep) -> str:
    """The same for a map with a window that reads, folds or closes in the event loop (M29)."""
    return (
        f"the event loop and everything that shares it are blocked by the {part}: one step has "
        f"taken {_rounded(blocked.seconds)} s so far\n"
        f"    at {blocked.place}:  {blocked.place.source}\n"
        "    in an async iterator, put the call on a thread:  await asyncio.to_thread(…)\n"
        "    or give the map a plain iterator:                a slow one is read on a thread\n"
        "    fold with a task that is a plain function:       it runs on a thread"
    )


def warn(task: str, blocked: BlockedStep, mode: str | None = None) -> None:
    """Give a BlockingCallWarning, at the blocking line; from any thread.

    ``mode`` is the mode of a plain task, or OF_A_MAP; None for a coroutine task.

    If a filter turns warnings into errors, there is no place to raise it, because the task is in
    the middle of a call. It then goes to the logger ``cascade.blocking``, as an error.
    """
    if mode is None:
        message = describe(task, blocked)
    elif mode == OF_A_MAP:
        message = describe_map(task, blocked)
    else:
        message = describe_call(task, mode, blocked)
    filename, lineno = blocked.place
    try:
        warnings.warn_explicit(message, BlockingCallWarning, filename, lineno, registry=_said)
    except BlockingCallWarning:
        _log.error(message)


def _rounded(seconds: float) -> str:
    # Rounded, so that one line gives the same text each time, which is then shown once.
    return f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.1g}"
