"""The functions behind ``~lazy`` and ``cs.not_(lazy)``."""

from __future__ import annotations

import operator
from typing import Any


def invert(value: Any) -> Any:
    """``not value`` of a bool, ``~value`` of anything else.

    ``~True`` is -2 in Python, which is truthy, so ``run_if(~weekend())`` would always run.
    """
    return not value if isinstance(value, bool) else operator.invert(value)
