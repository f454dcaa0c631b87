"""Work that is parked while other threads let it in, begin it, or end its run: orders forced."""

from types import SimpleNamespace

import pytest
from tests.engine.limits.fakes import Limits

from cascade.runtime.strategies.parking import Parking


class SomeWork:
    """The part of a Work that parking uses."""

    operation = policies = ticket = None
    source = SimpleNamespace(number=1)


class Ground:
    """A Parking, one piece of work, and somebody who holds what that needs.

    Attributes:
        meanwhile: Called when the work has just asked, before it knows the answer.
        went_on: How often it was sent to the workers again.
    """

    def __init__(self, held=True):
        self.limits = Limits({"gpu": 1})
        self.holder, _ = self.limits.enter("holder", gpu=1)
        if not held:
            self.limits.resources.leave(self.holder)
        self.meanwhile = lambda: None
        self.went_on = 0
        self.work = SomeWork()
        gate = SimpleNamespace(
            governs=lambda *_: True,
            ticket=lambda *given: self.limits.ticket("work", gpu=1, on_admitted=given[-1]),
            resources=SimpleNamespace(enter=self.enter),
            tell=lambda _ticket: None,
            leave=self.limits.resources.leave,
        )
        self.parking = Parking(SimpleNamespace(gate=gate), self.go_on)

    def enter(self, ticket):
        is_in = self.limits.resources.enter(ticket)
        self.meanwhile()
        return is_in

    def go_on(self, _work):
        self.went_on += 1

    @property
    def free(self):
        return self.limits.resources.available["gpu"]


def test_another_worker_may_begin_what_was_let_in_at_once():
    ground = Ground()
    begun = []

    def another_worker():
        ground.limits.resources.leave(ground.holder)
        begun.append(ground.parking.admits(ground.work))

    ground.meanwhile = another_worker
    assert ground.parking.admits(ground.work) is False
    assert (begun, ground.went_on, ground.free) == ([True], 1, 0)
    ground.parking.left(ground.work)
    assert (ground.free, ground.parking.busy) == (1, False)


def test_the_end_takes_nothing_from_a_call_that_another_worker_has_begun():
    ground = Ground()

    def another_worker_and_the_end():
        ground.limits.resources.leave(ground.holder)
        assert ground.parking.admits(ground.work)
        ground.parking.close()

    ground.meanwhile = another_worker_and_the_end
    assert ground.parking.admits(ground.work) is False
    assert ground.free == 0  # the call is under way
    ground.parking.left(ground.work)
    assert ground.free == 1


def test_a_worker_that_takes_the_last_ticket_while_the_run_ends_breaks_nothing():
    class Raced(dict):
        """Looks full once more, as to a thread that another one overtakes there."""

        def __bool__(self):
            return True

    ground = Ground()
    ground.parking._tickets = Raced()
    ground.parking.close()
    assert ground.parking.admits(ground.work) is False
    assert ground.limits.resources.waiting(ground.limits.run) == []


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_what_asks_while_its_run_ends_begins_nothing(held, before):
    """The end comes just before it asks, or when it has asked and does not know the answer."""
    ground = Ground(held)
    if before:
        ground.parking.close()
    else:
        ground.meanwhile = ground.parking.close
    assert ground.parking.admits(ground.work) is False
    ground.limits.resources.leave(ground.holder)
    assert (ground.free, ground.parking.busy, ground.went_on) == (1, False, 0)
    assert ground.limits.resources.waiting(ground.limits.run) == []
