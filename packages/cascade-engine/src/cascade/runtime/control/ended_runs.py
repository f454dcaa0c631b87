"""EndedRuns: the runs of an engine that end while a view looks."""

from __future__ import annotations

import traceback
from collections import deque
from time import time
from typing import Any

from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.run import Run
from cascade.runtime.telemetry.texts import Texts
from cascade.runtime.telemetry.wording import error_text

#: Most runs that wait to be shown, and most of them with their error.
_MOST, _MOST_ERRORS = 500, 20
#: Most bytes of a traceback; of a longer one the end is kept.
_MOST_OF_A_TRACEBACK = 16_384


class EndedRuns:
    """Notes each run that ends, for ``EngineRuns.on_end``. In the loop's thread.

    Args:
        texts: Redacts names and errors.

    Attributes:
        left_out: Runs that were not noted, because more ended than can be shown.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._rows: deque[dict[str, Any]] = deque()
        self._errors = 0
        self.left_out = 0

    def note(
        self, run: Run, target: str, status: str, seconds: float, error: BaseException | None
    ) -> None:
        """Note a run; its error as text, because its traceback holds the variables of tasks."""
        if len(self._rows) >= _MOST:
            self.left_out += 1
            return
        row: dict[str, Any] = {
            "run": run.id,
            "target": self._texts.clean(target),
            "status": status,
            "seconds": seconds,
            "steps": run.steps.count if "steps" in run.__dict__ else 0,
            "time": time(),
        }
        if isinstance(error, Exception) and self._errors < _MOST_ERRORS:
            self._errors += 1
            row |= self._error(error)
        self._rows.append(row)

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next runs."""
        rows = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
        if not self._rows:
            self._errors = 0
        return rows

    def _error(self, error: Exception) -> dict[str, str]:
        leave_out_machinery(error)
        try:
            told = "".join(traceback.format_exception(error))
        except Exception:  # a broken __str__ or __notes__
            told = error_text(error)
        clean = self._texts.clean
        return {
            "error": clean(error_text(error)),
            "traceback": clean(told, _MOST_OF_A_TRACEBACK, keep_end=True),
        }
