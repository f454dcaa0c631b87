"""Tracebacks of tasks without the machinery that called them.

An error that a task raised has passed workers, futures and the event loop on its way to the caller.
The caller wants to read the own call of the run and then the task's own frames. So the part in
between is left out: frames of Cascade and of the parts of the standard library that it runs on,
from one user frame (or the beginning) to the next, if the engine is among them. Everything that
user code called stays. An error that no task raised stays complete, except StepLimitError, which is
raised deep inside a loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from types import TracebackType

from cascade.spec.errors import StepLimitError

#: Set to 1, it leaves tracebacks complete.
VARIABLE = "CASCADE_FULL_TRACEBACK"

_RUNNING = ("cascade.runtime", "cascade.adapters")
_AUTHORING = ("cascade.spec", "cascade.graph")
_CARRIERS = (asyncio, concurrent.futures, contextlib, threading)


def leave_out_machinery(error: BaseException) -> None:
    """Cut the frames of Cascade's machinery out of ``error.__traceback__``.

    The same applies to its causes, contexts and members of groups. Repeating it changes nothing.
    Frames that the error passes later are added as usual. A function that users call therefore does
    this last, in its own frame; a ``raise`` there adds no frame.

    Args:
        error: Changed in place, unless ``CASCADE_FULL_TRACEBACK`` is set.

    Cost: linear in the frames, some microseconds for an ordinary failure.
    """
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        return
    machinery = _Machinery()
    for failure in _together_with(error):
        # Not by assignment: an error that is a frozen dataclass refuses it.
        is_limit = type(failure) is StepLimitError
        BaseException.with_traceback(failure, machinery.cut_from(failure.__traceback__, is_limit))


def own_folders() -> tuple[str, ...]:
    """The folders of Cascade's layers, which differ between editable installs."""
    return _folders_of(_RUNNING) + _folders_of(_AUTHORING)


class _Machinery:
    """Recognises the frames that lead from a call of a run to its tasks."""

    def __init__(self) -> None:
        self._engine = _folders_of(_RUNNING)
        self._all = own_folders() + _sources_of_carriers()

    def cut_from(self, trace: TracebackType | None, to_the_end: bool) -> TracebackType | None:
        """``trace`` without these frames; ``trace`` itself if there are none.

        Args:
            trace: The traceback of an error.
            to_the_end: Also leave out frames of a run that led to no task: the message then says
                everything.
        """
        entries = list(_entries(trace))
        kept: list[TracebackType] = []
        stretch: list[TracebackType] = []
        for entry in entries:
            if entry.tb_frame.f_code.co_filename.startswith(self._all):
                stretch.append(entry)
                continue
            if not self._leads_to_a_task(stretch):
                kept += stretch
            stretch.clear()
            kept.append(entry)
        if not (to_the_end and self._leads_to_a_task(stretch)):
            kept += stretch  # it led to no task: the error happened there
        return trace if len(kept) == len(entries) else _chain(kept)

    def _leads_to_a_task(self, stretch: Iterable[TracebackType]) -> bool:
        """Whether a run is in it; otherwise the user called asyncio, or a function of Cascade."""
        return any(e.tb_frame.f_code.co_filename.startswith(self._engine) for e in stretch)


def _together_with(error: BaseException) -> Iterator[BaseException]:
    """``error`` and all errors linked to it, each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        failure = todo.pop()
        if failure is None or id(failure) in seen:
            continue
        seen.add(id(failure))
        yield failure
        todo += (failure.__cause__, failure.__context__)
        if isinstance(failure, BaseExceptionGroup):
            todo += failure.exceptions


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _chain(entries: Sequence[TracebackType]) -> TracebackType | None:
    # Made anew: other code may hold on to the old entries.
    chain: TracebackType | None = None
    for entry in reversed(entries):
        chain = TracebackType(chain, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return chain


def _folders_of(packages: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []  # anew each time, as layers are imported when they are first used
    for name in packages:
        package = sys.modules.get(name)
        if package is not None:
            found += package.__path__
    return _as_folders(*found)


@cache
def _as_folders(*paths: str) -> tuple[str, ...]:
    return tuple([os.path.join(path, "") for path in paths])


@cache
def _sources_of_carriers() -> tuple[str, ...]:
    sources = []
    for module in _CARRIERS:
        source = module.__file__ or "?"
        is_package = hasattr(module, "__path__")
        sources.append(os.path.join(os.path.dirname(source), "") if is_package else source)
    return tuple(sources)
