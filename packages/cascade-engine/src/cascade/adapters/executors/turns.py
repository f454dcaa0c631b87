"""Turns: the calls that wait for a worker, and how many of them go to one together.

Sending one call to a process takes ten times as long as a trivial function. So a worker gets as
many calls at once as take about 10 ms, or 50 ms on a cluster, by the durations of earlier calls of
the same task, but leaves the other idle workers their share. A task that was never measured goes
alone, and so does a call that may be ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from cascade.spec.remote_calls import RemoteCall

#: Seconds that the calls of one turn should take, for processes of this machine.
TURN: Final = 0.01
#: The least seconds that a call counts for.
_LEAST: Final = 2e-6
#: Most tasks whose durations are remembered.
_MOST_KNOWN: Final = 4096


class Turns:
    """The waiting calls of one executor. Not thread-safe.

    Args:
        most: Most calls of one turn.
        seconds: How long the calls of one turn should take.
    """

    def __init__(self, most: int, seconds: float = TURN) -> None:
        self._most = most
        self._target = seconds
        self._waiting: deque[RemoteCall] = deque()
        #: Token of a task → seconds that a call takes, smoothed.
        self._seconds: OrderedDict[bytes, float] = OrderedDict()
        #: Those among them that go alone → the seconds that a call really takes.
        self._alone: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, calls: Iterable[RemoteCall], *, first: bool = False) -> None:
        """Let calls wait, as the last or as the first ones."""
        if first:
            self._waiting.extendleft(reversed([*calls]))
        else:
            self._waiting += calls

    def withdraw(self, call: RemoteCall) -> bool:
        """Take back a call; whether it was waiting."""
        try:
            self._waiting.remove(call)
        except ValueError:
            return False
        return True

    def take(self, workers: int) -> list[RemoteCall]:
        """The calls of the next turn of one of so many idle workers."""
        waiting = self._waiting
        calls = [waiting.popleft()]
        most = min(self._most, -(-(len(waiting) + 1) // workers))
        left = self._target - self._whole(calls[0])
        while waiting and len(calls) < most and not (calls[0].alone or waiting[0].alone):
            left -= self._whole(waiting[0])
            if left < 0:
                break
            calls.append(waiting.popleft())
        return calls

    def _whole(self, call: RemoteCall) -> float:
        """The seconds that a call and its links will take; those of a turn if that is unknown."""
        known = self._seconds.get
        seconds = known(call.task.token, self._target)
        for link in call.links:
            seconds += known(link.task.token, self._target)
        return seconds

    def expects(self, token: bytes) -> float | None:
        """The seconds that a call of the task with this token takes, if that is known."""
        found = self._alone.get(token)
        return self._seconds.get(token) if found is None else found

    def take_all(self) -> list[RemoteCall]:
        """All waiting calls."""
        calls = [*self._waiting]
        self._waiting.clear()
        return calls

    def note(self, call: RemoteCall, seconds: float, *, alone: bool = False) -> None:
        """Record the duration of a call. Longer durations count at once, shorter ones gradually.

        Args:
            call: The call.
            seconds: Its duration.
            alone: Whether its task should share no turn with others from now on.
        """
        token = call.task.token
        if alone:
            self._alone[token] = _smoothed(self._alone.get(token, seconds), seconds)
            seconds = max(seconds, self._target)
        else:
            self._alone.pop(token, None)
        self._seconds[token] = _smoothed(self._seconds.get(token, seconds), seconds)
        if len(self._seconds) > _MOST_KNOWN:
            forgotten, _ = self._seconds.popitem(last=False)
            self._alone.pop(forgotten, None)


def _smoothed(before: float, seconds: float) -> float:
    return max(seconds, 0.7 * before + 0.3 * seconds, _LEAST)
