"""Notebooks: whether a cell has made a call."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Final

from cascade.spec.shown import kernel

#: The module whose function executes the code of a cell.
_EXECUTES: Final = "IPython.core.interactiveshell"
_COROUTINES: Final = (
    inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)


def is_in_cell(frame: FrameType | None) -> bool:
    """Whether ``frame`` is code of a notebook's cell, or of a function that a cell calls.

    Not so inside a coroutine function: that shares the event loop with others, and can await.
    """
    if kernel() is None:
        return False
    while frame is not None:
        if frame.f_globals.get("__name__") == _EXECUTES:
            return True
        code = frame.f_code
        # A cell with an ``await`` is compiled as a coroutine, which has no name of a function.
        if code.co_flags & _COROUTINES and not code.co_name.startswith("<"):
            return False
        frame = frame.f_back
    return False
