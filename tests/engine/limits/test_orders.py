"""Races of limits, forced: any two actions of threads on a run's permits, in hundreds of orders.

Each order runs workers that ask for two pieces of work, and beside them two more threads that give
back, close the run, let time pass, change constraints or cancel. Whatever the order: each piece of
work is called once at most, and once if the run was not closed; never by two at the same time where
there is room for one; none begins under a pause that was set before; and nothing is left over.
"""

import itertools
import threading
from collections import deque
from types import SimpleNamespace

import pytest
from tests.engine.limits import fakes
from tests.engine.limits.fakes import Limits
from tests.engine.limits.orders import Deadlock, Orders

from cascade.runtime.graph_path.queues import limit_waits
from cascade.runtime.graph_path.queues.limit_waits import LimitWaits
from cascade.runtime.limits import (
    admission,
    capacities,
    constraints,
    gate,
    permit_queue,
    permits,
    rules,
)
from cascade.runtime.limits.gate import Gate
from cascade.runtime.limits.permits import CALLED, INSIDE, NEW, OUT, WAITING, Permit
from cascade.spec.policies import PLAIN_CALLS

WATCHED = [
    admission,
    capacities,
    constraints,
    gate,
    limit_waits,
    permit_queue,
    permits,
    rules,
]
#: Of each pair: in each run of the tests, and with ``-m thorough``.
FEW, MANY = 10, 2_000
#: What may become of the state of a permit; any may leave, more than once.
STEPS = {(NEW, INSIDE), (NEW, WAITING), (WAITING, CALLED), (CALLED, WAITING), (CALLED, INSIDE)}
#: Turns after which work that is never admitted has been forgotten.
PATIENCE = 20_000


class WatchedPermit(Permit):
    """A permit that takes no step that there is not."""

    @property
    def state(self):
        return self._state

    @state.setter
    def state(self, following):
        before = getattr(self, "_state", NEW)
        assert following in (OUT, NEW) or (before, following) in STEPS
        self._state = following


@pytest.fixture(autouse=True)
def permits_are_watched(monkeypatch):
    monkeypatch.setattr(gate, "Permit", WatchedPermit)
    monkeypatch.setattr(fakes, "Permit", WatchedPermit)


class Piece:
    """The part of a Work that LimitWaits uses.

    Attributes:
        calls: How often it was called.
    """

    def __init__(self, number, **amounts):
        self.operation = SimpleNamespace(name="work", structural=False)
        self.policies = PLAIN_CALLS.with_capacities(amounts) if amounts else PLAIN_CALLS
        self.source = SimpleNamespace(number=number)
        self.permit = None
        self.calls = 0


class World:
    """The limits of an engine, a run with two pieces of work, and another that holds the gpu."""

    def __init__(self, orders):
        self.orders = orders
        self.limits = Limits({"gpu": 1})
        self.limits.resources.lock = orders.lock()
        self.rules = self.limits.constraints
        self.holder, _ = self.limits.enter("stranger", gpu=1)
        self.rules.limit_concurrency("task:other", 1)
        self.rules.limit_rate("task:w*", "1000/s", burst=5)
        self.gate = Gate(self.limits.run, self.limits.resources, self.rules)
        self.limits.run.gate = self.gate
        self.limits.run.is_own_thread = self.is_loops_thread
        #: The thread that moves the loop, None if there is none: then each may act for it.
        self.mover = None
        self.ready = deque()
        self.limit_waits = LimitWaits(self.limits.run, self.ready.append)
        self.pieces = [Piece(1, gpu=1), Piece(2, gpu=1)]
        self.ready.extend(self.pieces)
        self.busy = 0  # calls under way
        #: The permits that were in when the run was closed; None before.
        self.closed = None
        #: The scope of a pause → the permits that were in when it began.
        self.paused = {}
        self.others = 0  # threads that may still change something
        self.own = self.limits.permit("work", gpu=1, on_admitted=lambda: self.called(self.own))

    # -- actions of threads -------------------------------------------------------------------

    def work(self):
        """A worker: call ready work, until there is none and nothing can change that."""
        for _ in range(PATIENCE):
            if self.ready:
                self.look_at(self.ready.popleft())
            elif not self.others:
                return
            else:
                self.orders.give_way()
        raise AssertionError("work was forgotten")

    def look_at(self, piece):
        if self.limit_waits.acquire(piece):
            with self.call(piece.permit):
                piece.calls += 1
            self.limit_waits.release(piece)

    def release(self):
        self.limits.resources.leave(self.holder)

    def close(self):
        self.limits.run.admit_no_more()
        self.closed = self.inside()

    def expire(self):
        """A pause that ends by itself. Its scope is its own: it must not take another's place."""
        self.mover = threading.get_ident()
        self.rules.pause("task:wo*", ttl=1)
        self.orders.give_way()
        self.limits.loop.advance(2)

    def is_loops_thread(self, ident):
        return self.mover in (None, ident)

    def pause(self, scope="task:work"):
        self.rules.pause(scope)
        self.paused[scope] = self.inside()

    def inside(self):
        return [t for t in self.limits.resources._inside if t.state == INSIDE]

    def pause_and_resume(self):
        """Its scope is its own, too: to resume must not end another's pause."""
        self.pause("task:wor*")
        self.orders.give_way()
        del self.paused["task:wor*"]
        self.rules.resume("task:wor*")
        self.orders.give_way()
        self.pause("task:wor*")

    def limit(self):
        self.rules.limit_concurrency("task:work", 2)
        self.rules.limit_concurrency("global", 1)
        self.rules.remove("global")

    def rate(self):
        self.rules.limit_rate("task:w*", "2000/s", burst=3)
        self.rules.limit_rate("task:w*", "500/s")

    def ask(self):
        """A coroutine that asks, and waits."""
        if self.limits.resources.enter(self.own):
            self.own_call()

    def called(self, permit):
        if self.limits.resources.begin(permit):
            self.own_call()

    def own_call(self):
        self.orders.give_way()
        self.limits.resources.leave(self.own)

    def cancel(self):
        """It is cancelled: before it asks, while it waits, when it is in."""
        self.limits.resources.leave(self.own)

    # -- invariants ---------------------------------------------------------------------------

    def call(self, permit):
        world = self

        class Call:
            def __enter__(self):
                paused = world.paused.values()
                assert all(permit in inside for inside in paused), "it began under a pause"
                assert world.closed is None or permit in world.closed, "it began after the end"
                world.busy += 1
                assert world.busy == 1, "two hold what there is one of"
                world.orders.give_way()

            def __exit__(self, *_error):
                world.busy -= 1

        return Call()

    def threads(self, *names):
        """Functions for threads: workers, and those named."""

        def counted(function):
            def run():
                try:
                    function()
                finally:
                    self.others -= 1

            return run

        others = [getattr(self, name) for name in names if name != "work"]
        self.others = len(others)
        self.mover = 0 if "expire" in names else None  # 0 is no thread
        return [self.work] * (1 + names.count("work")) + [counted(other) for other in others]

    def end(self):
        """Let the rest go on by itself, and check the end."""
        self.mover = None
        self.paused.clear()
        self.rules.clear()
        self.limits.loop.advance(10)
        self.release()
        self.work()
        assert [p.calls for p in self.pieces if p.calls > 1] == []
        if self.closed is None:
            assert [p.calls for p in self.pieces] == [1, 1], "work was forgotten"
        self.limits.resources.leave(self.own)
        self.limits.run.admit_no_more()
        assert self.limits.resources.close(self.gate._admissions) == []
        assert self.is_whole()

    def is_whole(self):
        at = self.limits.resources
        return (
            at.available == at.total
            and not (at._inside or at._called or at._lines or at._owners or at.later)
            and self.limits.loop.pending == []
        )


DEEDS = [
    "work",
    "release",
    "close",
    "expire",
    "pause",
    "pause_and_resume",
    "limit",
    "rate",
    "ask",
    "cancel",
]
PAIRS = list(itertools.combinations(DEEDS, 2))


def in_orders(names, orders, **options):
    """Have threads do the named actions in many orders; how often one lost its turn."""
    switches = 0
    for seed in range(orders):
        order = Orders(f"{names} {seed}", WATCHED, **options)
        world = World(order)
        try:
            order.run(*world.threads(*names))
            world.end()
        except BaseException as error:
            error.add_note(f"in order {seed} of {names}, {options}")
            raise
        switches += order.switches
    return switches


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_no_order_of_two_leaves_anything(pair):
    assert in_orders(pair, FEW) > FEW


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_no_order_of_two_leaves_anything_in_thousands(pair):
    assert in_orders(pair, MANY) > MANY
    assert in_orders(pair, MANY // 4, fine=True, often=0.05) > MANY // 4


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("three", list(itertools.combinations(DEEDS, 3)), ids="-".join)
def test_no_order_of_three_leaves_anything(three):
    assert in_orders(three, MANY // 4) > MANY // 4


# -- the tool -------------------------------------------------------------------------------------


def test_orders_are_the_same_for_the_same_seed():
    def seen(seed):
        order = Orders(seed, WATCHED)
        world = World(order)
        order.run(*world.threads("release", "limit"))
        return order.switches, [piece.calls for piece in world.pieces]

    assert [seen(n) for n in range(20)] == [seen(n) for n in range(20)]
    assert len({seen(n)[0] for n in range(20)}) > 5


def test_orders_find_a_counter_without_a_lock():
    """A counter without a lock loses counts in some orders; one with a lock in no order."""

    def counted(seed, locked):
        from tests.engine.limits import test_orders

        order = Orders(seed, [test_orders], often=0.5)
        lock = order.lock()
        count = [0]

        def add():
            with lock if locked else SimpleNullLock():
                before = count[0]
                count[0] = before + 1

        order.run(add, add, add)
        return count[0]

    assert {counted(n, locked=True) for n in range(60)} == {3}
    assert {counted(n, locked=False) for n in range(60)} == {1, 2, 3}


class SimpleNullLock:
    def __enter__(self):
        pass

    def __exit__(self, *_error):
        pass


def test_orders_find_a_deadlock():
    def tried(seed):
        from tests.engine.limits import test_orders

        order = Orders(seed, [test_orders], often=0.5)
        one, two = order.lock(), order.lock()

        def forward():
            with one:
                order.give_way()
                with two:
                    pass

        def backward():
            with two:
                order.give_way()
                with one:
                    pass

        try:
            order.run(forward, backward)
        except Deadlock:
            return True
        return False

    assert {tried(n) for n in range(60)} == {True, False}
