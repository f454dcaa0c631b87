"""Losses: the processes that a hosted run has lost, and when it has lost too many.

A run may be what ends its processes. But other runs are in the same process, and lose it as well.
So runs that have lost two in a row without any progress begin on trial, one after the other. A
process that ends during a trial counts against the run on trial, and one without other runs against
its only run.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Final

from cascade.spec.errors import ExecutorError, WorkerLostError
from cascade.spec.run_rows import RunRecord

#: How many processes in a row may count against a run without any progress.
MOST_LOSSES: Final = 5
#: How many processes in a row may end before they begin a run.
MOST_STARTS: Final = 10
#: Losses in a row after which a run begins on trial, and the seconds of a trial.
_SUSPECT: Final = 2
TRIAL: Final = 0.5
#: Seconds until the next process is used, from the second loss in a row on, and twice as many after
#: each further one.
_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class HostLostError(Exception):
    """The process of a run has ended.

    Args:
        exit_code: Its exit code, if that is known.
        blamed: The run that this counts against, if that is known.
    """

    def __init__(self, exit_code: int | None, blamed: str | None) -> None:
        super().__init__(exit_code, blamed)
        self.exit_code = exit_code
        self.blamed = blamed


class Losses:
    """The processes that one run has lost in a row.

    Args:
        run: The run before its first process.
    """

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._epoch = run.epoch
        #: Processes that were lost since the last progress: all, those that count against the run,
        #: and those that ended before they began it.
        self._lost = self._blamed = self._not_begun = 0

    @property
    def on_trial(self) -> bool:
        """Whether the run begins on trial."""
        return self._lost >= _SUSPECT

    def add(self, lost: HostLostError, run: RunRecord | None) -> float:
        """Count a loss; returns the seconds to wait before the next process is used.

        Args:
            lost: The loss.
            run: The run as its store knows it now.

        Raises:
            ExecutorError: Too many processes have ended before they began the run.
            WorkerLostError: Too many have ended while they executed it, without any progress.
        """
        epoch, recoveries = (self._epoch, 0) if run is None else (run.epoch, run.recoveries)
        if epoch == self._epoch:
            self._not_begun += 1
            if self._not_begun >= MOST_STARTS:
                raise self._never_begun()
        elif recoveries == 0:  # it was claimed, and something was committed since
            self._lost = self._blamed = self._not_begun = 0
        self._epoch = epoch
        if lost.blamed not in (None, self._run.run_id):  # that explains it
            self._lost = 0
            return 0.0
        self._lost += 1
        self._blamed += recoveries > 0 and lost.blamed is not None
        if self._blamed >= MOST_LOSSES:
            raise self._too_many(lost.exit_code)
        if self._lost < _SUSPECT:
            return 0.0
        return min(_PAUSE * 2.0 ** min(self._lost - _SUSPECT, 10), _LONGEST_PAUSE)

    def _never_begun(self) -> ExecutorError:
        return ExecutorError(
            f"{self._not_begun} host processes ended one after the other before they began run "
            f"{self._run.run_id!r}; their own errors are on standard error"
        )

    def _too_many(self, code: int | None) -> WorkerLostError:
        run = self._run
        return WorkerLostError(
            f"{self._blamed} host processes have ended one after the other while they executed run "
            f"{run.run_id!r} of '{run.target}', which made no progress in them; the last one has "
            f"ended{how_ended(code)}{memory_hint(code)}\n"
            "    The run is dead in its store; start it again by its run_id to try once more",
            run.target,
            code,
        )


def how_ended(code: int | None) -> str:
    """How a process has ended, to follow "has ended"."""
    if code is None:
        return ""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f", killed by {signal.Signals(-code).name}"
    return f" with exit code {code}"


def memory_hint(code: int | None) -> str:
    """A question about memory, to follow ``how_ended``; empty for most exit codes."""
    is_killed = code is not None and -code == getattr(signal, "SIGKILL", 0) != 0
    return "; was the system out of memory?" if is_killed else ""
