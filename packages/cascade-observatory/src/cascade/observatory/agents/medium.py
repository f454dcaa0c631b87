"""The medium between fireflies: it carries flashes, and wakes who waits.

An agent has a place in the medium and waits there until a time, resting or listening; a listener
also until a neighbour flashes. What happens at one time happens in rounds. All whose time has come
are woken; when each of them has made its step and waits again, the listeners that see one of those
who flashed are woken, once each, with the number of flashes that they see; and so on, until nobody
flashes. So a flash takes no time, and one that sets off others does so at one instant. Delivering
a round costs one message a listener, however many have flashed.

Events happen in the order of their times and *at* those times, however late the event loop comes
to them. So in real time the medium is paced by the clock, but no jitter gets into it: what happens
is the same as in virtual time, float for float. ``lag`` tells how late it is.
"""

from __future__ import annotations

import asyncio
import heapq
from math import inf

from cascade.observatory.agents.topology import Topology

#: Agents that are woken between two turns of the event loop's other work, some milliseconds' worth.
BATCH = 256
#: Entries of the timetable for each place before void ones are thrown away together.
_ENTRIES = 4

Heard = int | None
"""What a wait gives: the flashes that were seen; 0 if the time came first, None if the end did."""


class Medium:
    """Places for agents, who see each other flash. Made and used in one event loop.

    Time begins when all places are taken: when an agent waits in each.

    Args:
        topology: Who sees whom.
        end: Seconds after which all waits end.
        observers: How many places there are besides, which see nothing; they come last.

    Attributes:
        now: Seconds since the beginning, of what is happening.
        zeros: For each place when its oscillator has had phase 0, or would have; its agent sees
            to it.
        last: For each place the time of its last flash; minus infinity before.
        flashes: How many there were.
        wakes: How often an agent was woken, which is how many steps they have made.
        lag: Seconds by which the medium is late.
    """

    # Not a container to the search for lazy values (R2), however large it is.
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
        #: For each place what its agent awaits; None while that makes a step.
        self._waiting: list[asyncio.Future[Heard] | None] = [None] * places
        self._until = [0.0] * places
        self._is_listening = bytearray(places)
        #: A heap of (until, place); those of waits that have ended are void.
        self._timetable: list[tuple[float, int]] = []
        #: Agents that do not wait: they make a step, or are yet to come.
        self._busy = places
        self._to_wake: list[tuple[int, Heard]] = []
        self._flashing: list[int] = []

    # -- for agents, in their steps -----------------------------------------------------------

    def listen(self, place: int, until: float) -> asyncio.Future[Heard]:
        """What to await for a neighbour's flash."""
        self._is_listening[place] = 1
        return self._wait(place, until)

    def rest(self, place: int, until: float) -> asyncio.Future[Heard]:
        """What to await for a time only; what flashes meanwhile is not seen.

        An ``until`` that is now lets the instant end first.
        """
        self._is_listening[place] = 0
        return self._wait(place, until)

    def flash(self, place: int) -> None:
        """Flash now. The agent is to rest next, as its own flash does not concern it."""
        self.last[place] = self.now
        self.flashes += 1
        self._log.append((self.now, place))
        self._flashing.append(place)

    def take_log(self) -> list[tuple[float, int]]:
        """(time, place) of the flashes since this was last asked for."""
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
            # Not at once: other work is to have its turn, and the last agent to await this.
            self._loop.call_soon(self._go_on)
        return future

    def _go_on(self) -> None:
        """Now that all wait: wake the next batch of this round, of the next one, or of a later."""
        if not self._to_wake and self._flashing:
            flashing, self._flashing = self._flashing, []
            self._to_wake = self.topology.hearing(flashing, self._is_listening)
        if not self._to_wake:
            self._turn_to(self._next_due())
        if self._to_wake:
            self._wake(self._to_wake[:BATCH])
            self._to_wake = self._to_wake[BATCH:]
            if self._over and self._to_wake:  # the others do not come back
                self._loop.call_soon(self._go_on)

    def _next_due(self) -> float:
        """When the next wait ends by itself; void entries before that are thrown away."""
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
        """Let it be ``due``, or set a timer if the clock is not as far; at most the end."""
        is_end = due > self.end
        due = max(min(due, self.end), self.now)  # whoever waits for the past is woken now
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
                self._until[place] = -inf  # there may be an equal entry, of an earlier wait
                self._to_wake.append((place, 0))

    def _wake(self, batch: list[tuple[int, Heard]]) -> None:
        waiting = self._waiting
        for place, heard in batch:
            future, waiting[place] = waiting[place], None
            if future is not None and not future.done():  # it is if its agent was cancelled
                self._busy += 1
                future.set_result(heard)
        self.wakes += len(batch)
