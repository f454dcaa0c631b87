"""The medium between fireflies: it carries flashes and wakes waiting agents.

An agent has a place in the medium and waits there until a time, resting or listening; a listener
also until a neighbour flashes. The events of one instant happen in rounds. First all agents whose
time has come are woken. When each of them has made its step and waits again, the listeners that saw
a flash are woken, once each, with the number of flashes that they saw; and so on, until no agent
flashes. A flash therefore takes no time, and a flash that triggers others does so within one
instant. A round costs one message per listener, however many have flashed.

Events happen in the order of their times and *at* those times, however late the event loop gets to
them. In real time the clock paces the medium, but adds no jitter: the events are the same as in
virtual time, float for float. ``lag`` is its current delay.
"""

from __future__ import annotations

import asyncio
import heapq
from math import inf

from cascade.observatory.agents.topology import Topology

#: Agents that are woken before the event loop's other work gets a turn: some milliseconds' worth.
BATCH = 256
#: Most entries of the timetable per place before void ones are removed together.
_ENTRIES = 4

Heard = int | None
"""The result of a wait: the flashes that were seen; 0 if the time came first, None at the end."""


class Medium:
    """Places for agents, which see each other flash. Made and used in one event loop.

    Time begins when an agent waits in each place.

    Args:
        topology: Which places see each other.
        end: Seconds after which all waits end.
        observers: Number of additional places, which see nothing; they come last.

    Attributes:
        now: Seconds since the beginning, of the current events.
        zeros: For each place, the time of its oscillator's phase 0, past or extrapolated; its agent
            maintains it.
        last: For each place the time of its last flash; minus infinity before the first.
        flashes: Number of flashes so far.
        wakes: Number of times that agents were woken, which equals their steps.
        lag: Seconds by which the medium is late.
    """

    # Not a container for the search for lazy values (R2), however large it is.
    def __init__(self, topology: Topology, end: float, observers: int = 0) -> None:
        places = len(topology) + observers
        self.topology = topology
        self.end = end
        self.now = 0.0
        self.zeros = [0.0] * len(topology)
        self.last = [-inf] * len(topology)
        self.flashes = 0
        self.wakes = 0
        self.lag = 0.0
        self._log: list[tuple[float, int]] = []
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._over = False
        #: For each place the future that its agent awaits; None while the agent makes a step.
        self._waiting: list[asyncio.Future[Heard] | None] = [None] * places
        self._until = [0.0] * places
        self._is_listening = bytearray(places)
        #: A heap of (until, place); entries of waits that have ended are void.
        self._timetable: list[tuple[float, int]] = []
        #: Agents that do not wait: they make a step, or have not come yet.
        self._busy = places
        self._to_wake: list[tuple[int, Heard]] = []
        self._flashing: list[int] = []

    # -- for agents, in their steps -----------------------------------------------------------

    def listen(self, place: int, until: float) -> asyncio.Future[Heard]:
        """A future that ends with a neighbour's flash, or at ``until``."""
        self._is_listening[place] = 1
        return self._wait(place, until)

    def rest(self, place: int, until: float) -> asyncio.Future[Heard]:
        """A future that ends at ``until``; flashes in the meantime are not seen.

        An ``until`` of now lets the current instant end first.
        """
        self._is_listening[place] = 0
        return self._wait(place, until)

    def flash(self, place: int) -> None:
        """Flash now. The agent must rest next, because its own flash does not affect it."""
        self.last[place] = self.now
        self.flashes += 1
        self._log.append((self.now, place))
        self._flashing.append(place)

    def take_log(self) -> list[tuple[float, int]]:
        """(time, place) of the flashes since the last call."""
        log, self._log = self._log, []
        return log

    # -- rounds -------------------------------------------------------------------------------

    def _wait(self, place: int, until: float) -> asyncio.Future[Heard]:
        future: asyncio.Future[Heard] = self._loop.create_future()
        if self._over:
            future.set_result(None)
            return future
        self._waiting[place] = future
        self._until[place] = until
        heapq.heappush(self._timetable, (until, place))
        self._busy -= 1
        if not self._busy:
            # Not at once: other work gets its turn, and the last agent has yet to await its future.
            self._loop.call_soon(self._go_on)
        return future

    def _go_on(self) -> None:
        """All agents wait: wake the next batch of this round, of the next round, or of a later
        time.
        """
        if not self._to_wake and self._flashing:
            flashing, self._flashing = self._flashing, []
            self._to_wake = self.topology.hearing(flashing, self._is_listening)
        if not self._to_wake:
            self._turn_to(self._next_due())
        if self._to_wake:
            self._wake(self._to_wake[:BATCH])
            self._to_wake = self._to_wake[BATCH:]
            if self._over and self._to_wake:  # the others do not return
                self._loop.call_soon(self._go_on)

    def _next_due(self) -> float:
        """When the next wait ends by itself; removes void entries before it."""
        table, until, waiting = self._timetable, self._until, self._waiting
        if len(table) > _ENTRIES * len(waiting):
            table[:] = [(until[place], place) for place, one in enumerate(waiting) if one]
            heapq.heapify(table)
        while table:
            due, place = table[0]
            if until[place] == due and waiting[place] is not None:
                return due
            heapq.heappop(table)
        return inf

    def _turn_to(self, due: float) -> None:
        """Advance to ``due``, at most the end; or set a timer if the clock is behind."""
        is_end = due > self.end
        due = max(min(due, self.end), self.now)  # a wait for the past ends now
        clock = self._loop.time()
        if self._began is None:
            self._began = clock
        if clock < self._began + due:
            self._loop.call_at(self._began + due, self._go_on)
            return
        self.now, self.lag = due, clock - self._began - due
        if is_end:
            self._over = True
            self._to_wake = [(place, None) for place, one in enumerate(self._waiting) if one]
            return
        table = self._timetable
        while table and table[0][0] <= due:
            until, place = heapq.heappop(table)
            if self._until[place] == until and self._waiting[place] is not None:
                self._until[place] = -inf  # an earlier wait may have left an equal entry
                self._to_wake.append((place, 0))

    def _wake(self, batch: list[tuple[int, Heard]]) -> None:
        waiting = self._waiting
        for place, heard in batch:
            future, waiting[place] = waiting[place], None
            if future is not None and not future.done():  # done if its agent was cancelled
                self._busy += 1
                future.set_result(heard)
        self.wakes += len(batch)
