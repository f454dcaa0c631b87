"""LogContext: log records of tasks know their run, their node and their attempt."""

from __future__ import annotations

import logging
from typing import Any, Final

from cascade.runtime.current import call_here

#: The attributes that a record gets.
FIELDS: Final = ("run_id", "task", "node", "item", "attempt", "step")


class LogContext(logging.Filter):
    """Adds the call of the task that logs to each record of a handler; it drops no record.

    The attributes are ``run_id``, ``task``, ``node``, ``item``, ``attempt`` and ``step``, with the
    meaning that they have in ``cs.current()``. A record keeps an attribute that it has already, as
    those of ``cs.EventLogger`` do.

    Add it to a handler: a filter of a logger does not see the records of the loggers below.

    Where the call is not known, an attribute is ``missing``: outside of a run all of them; in a
    thread or asyncio task that a task has started all, or all but ``run_id``. A compiled loop does
    not count single steps, so ``step`` is missing there.

    Args:
        missing: The value of attributes that are not known.

    Cost: some microseconds for each record that reaches the handler; nothing for any other call.

    >>> import cascade as cs, sys
    >>> handler = logging.StreamHandler(sys.stdout)
    >>> handler.addFilter(cs.LogContext())
    >>> handler.setFormatter(logging.Formatter("%(run_id)s %(task)s %(attempt)s: %(message)s"))
    >>> log = logging.getLogger("reports")
    >>> log.addHandler(handler)
    >>> @cs.task
    ... def load(path):
    ...     log.warning("no header in %s", path)
    >>> cs.run(load("a.csv"), run_id="monday")
    monday load 1: no header in a.csv
    >>> log.removeHandler(handler)
    """

    def __init__(self, missing: Any = "-") -> None:
        super().__init__()
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; always true."""
        known, has = call_here(), record.__dict__
        for name in FIELDS:
            if name not in has:
                has[name] = known.get(name, self._missing)
        return True
