"""LogLines: the lines that a process logs, while a view looks at them."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from cascade.runtime.run import current_run
from cascade.runtime.telemetry.texts import Texts

#: Most lines that wait to be shown; older ones are dropped.
_MOST = 500
#: Most bytes of a line.
_MOST_OF_A_LINE = 1000


class LogLines(logging.Handler):
    """Takes the records that reach the root logger, from any thread.

    Only those that the program lets through: it changes no level.

    Args:
        texts: Redacts the lines.

    Attributes:
        left_out: Lines that were dropped, because more came than can be shown.
    """

    def __init__(self, texts: Texts) -> None:
        super().__init__()
        self._texts = texts
        self._rows: deque[list[Any]] = deque()
        self.left_out = 0

    def open(self) -> None:
        """Take records from now on."""
        logging.getLogger().addHandler(self)

    def close(self) -> None:
        """Take none any more."""
        logging.getLogger().removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._rows) >= _MOST:
            self.left_out += 1
            return
        try:
            message = record.getMessage()
        except Exception:  # the arguments do not fit the format, or their __str__ fails
            message = str(record.msg)
        run = current_run.get(None)
        self._rows.append(
            [record.created, record.levelname, record.name, "" if run is None else run.id, message]
        )

    def take(self, count: int) -> list[list[Any]]:
        """The next rows: time, level, logger, run id, message."""
        rows = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
        for row in rows:
            row[4] = self._texts.clean(row[4], _MOST_OF_A_LINE)
        return rows
