"""Notebooks: whether this process is the kernel of one, and whether a cell has made a call."""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any, Final

#: The module whose function executes the code of a cell.
_EXECUTES: Final = "IPython.core.interactiveshell"
_COROUTINES: Final = (
    inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)


def kernel() -> Any:
    """The IPython shell of this notebook's kernel; None in any other process.

    The shell of IPython in a terminal is none: it has no kernel. IPython is never imported.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = getattr(ipython, "get_ipython", lambda: None)()
    return shell if getattr(shell, "kernel", None) is not None else None


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
