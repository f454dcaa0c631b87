"""Work that waits while other threads let it in, begin it, or end its run: orders forced.

``test_orders`` tries all orders of more of them; these are the ones that were wrong once, by hand.
"""

from types import SimpleNamespace

import pytest
from tests.engine.limits.fakes import Limits

from cascade.runtime.graph_path.queues.limit_waits import LimitWaits
from cascade.runtime.limits.gate import Gate
from cascade.spec.policies import PLAIN_CALLS


class SomeWork:
    """The part of a Work that LimitWaits uses."""

    operation = SimpleNamespace(name="work", structural=False)
    policies = PLAIN_CALLS.with_capacities({"gpu": 1})
    source = SimpleNamespace(number=1)
    permit = None


class Ground:
    """A LimitWaits, one piece of work, and somebody who holds what that needs.

    Attributes:
        before: Called when the work is about to ask.
        meanwhile: Called when the work has just asked, before it knows the answer.
        went_on: How often it was sent to the workers again.
    """

    def __init__(self, held=True):
        self.limits = Limits({"gpu": 1})
        self.holder, _ = self.limits.enter("holder", gpu=1)
        if not held:
            self.limits.resources.leave(self.holder)
        self.before = self.meanwhile = lambda: None
        self.went_on = 0
        self.work = SomeWork()
        run, resources = self.limits.run, self.limits.resources
        run.gate = Gate(run, resources, self.limits.constraints)
        self.enter, resources.enter = resources.enter, self.asks
        self.limit_waits = LimitWaits(run, self.go_on)

    def asks(self, permit):
        self.before()
        is_in = self.enter(permit)
        self.meanwhile()
        return is_in

    def go_on(self, _work):
        self.went_on += 1

    @property
    def free(self):
        return self.limits.resources.available["gpu"]


def test_another_worker_may_begin_admitted_work_at_once():
    ground = Ground()
    begun = []

    def another_worker():
        ground.limits.resources.leave(ground.holder)
        begun.append(ground.limit_waits.acquire(ground.work))

    ground.meanwhile = another_worker
    assert ground.limit_waits.acquire(ground.work) is False
    assert (begun, ground.went_on, ground.free) == ([True], 1, 0)
    ground.limit_waits.release(ground.work)
    assert (ground.free, bool(ground.limits.run.admissions.permits)) == (1, False)


def test_the_end_takes_nothing_from_a_call_that_another_worker_has_begun():
    ground = Ground()

    def another_worker_and_the_end():
        ground.limits.resources.leave(ground.holder)
        assert ground.limit_waits.acquire(ground.work)
        ground.limits.run.admit_no_more()

    ground.meanwhile = another_worker_and_the_end
    assert ground.limit_waits.acquire(ground.work) is False
    assert ground.free == 0  # the call is under way
    ground.limit_waits.release(ground.work)
    assert ground.free == 1


def test_admitted_work_that_has_not_begun_waits_again_under_a_pause():
    ground = Ground()
    assert ground.limit_waits.acquire(ground.work) is False
    ground.limits.resources.leave(ground.holder)
    assert (ground.went_on, ground.free) == (1, 0)
    ground.limits.constraints.pause("task:work")
    assert ground.free == 1
    assert ground.limit_waits.acquire(ground.work) is False
    ground.limits.constraints.resume("task:work")
    assert ground.went_on == 2
    assert ground.limit_waits.acquire(ground.work) is True


def test_work_that_waits_again_before_it_looks_is_sent_to_the_workers_once():
    """Twice, and two workers would call it."""
    ground = Ground()
    assert ground.limit_waits.acquire(ground.work) is False
    ground.limits.resources.leave(ground.holder)
    ground.limits.constraints.pause("task:work")
    ground.limits.constraints.resume("task:work")
    assert ground.went_on == 1
    assert ground.limit_waits.acquire(ground.work) is True


def test_recalled_permits_keep_their_places():
    limits = Limits({"gpu": 3})
    begun = []
    holder, _ = limits.enter("holder", gpu=3)
    waiting = [
        limits.enter("w", gpu=1, on_admitted=lambda n=n: begun.append(n))[0] for n in range(5)
    ]
    limits.resources.leave(holder)
    assert begun == [0, 1, 2]
    limits.constraints.pause("task:w")
    assert [limits.resources.begin(permit) for permit in waiting[:3]] == [False] * 3
    limits.constraints.clear()
    assert begun == [0, 1, 2, 0, 1, 2]
    assert [limits.resources.begin(permit) for permit in waiting] == [True] * 3 + [False] * 2


def test_a_new_limit_counts_admitted_work_that_has_not_begun():
    limits = Limits()
    limits.constraints.pause("task:w")
    waiting = [limits.enter("w", on_admitted=lambda: None)[0] for _ in range(3)]
    limits.constraints.resume("task:w")
    limits.constraints.limit_concurrency("task:w", 1)
    assert [limits.resources.begin(permit) for permit in waiting] == [True, False, False]


def test_a_recalled_permit_returns_its_tokens_of_a_rate():
    limits = Limits()
    limits.constraints.limit_rate("task:w", "1/s", burst=2)
    limits.constraints.pause("task:w")
    waiting, _ = limits.enter("w", on_admitted=lambda: None)
    for _ in range(5):
        limits.constraints.resume("task:w")
        limits.constraints.pause("task:w")
    limits.resources.leave(waiting)
    limits.constraints.resume("task:w")
    assert [limits.enter("w")[1] for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("when", ["first", "before", "meanwhile"])
def test_a_request_during_the_end_of_its_run_keeps_nothing(held, when):
    """The end comes before it asks, when it is about to, or when it does not know the answer."""
    ground = Ground(held)
    if when == "first":
        ground.limits.run.admit_no_more()
    else:
        setattr(ground, when, ground.limits.run.admit_no_more)
    begins = ground.limit_waits.acquire(ground.work)
    assert begins is (when == "meanwhile" and not held)  # that was let in before the end
    ground.limits.resources.leave(ground.holder)
    ground.limit_waits.release(ground.work)
    assert (ground.free, bool(ground.limits.run.admissions.permits), ground.went_on) == (
        1,
        False,
        0,
    )
    assert ground.limits.resources.waiting(ground.limits.run) == []
    assert ground.limits.resources.close(ground.limits.run.gate._admissions) == []


@pytest.mark.parametrize("again", [False, True])
def test_a_permit_that_left_is_never_let_in(again):
    limits = Limits({"gpu": 1})
    permit = limits.permit("w", gpu=1)
    limits.resources.leave(permit)
    if again:
        assert limits.resources.enter(permit) is False
        limits.resources.leave(permit)
    assert limits.resources.enter(permit) is False
    assert limits.resources.available == {"gpu": 1}
    assert not limits.resources.begin(permit)


def test_a_callback_that_raises_does_not_stop_the_others():
    limits = Limits({"gpu": 2})
    holder, _ = limits.enter("holder", gpu=2)

    def interrupted():
        raise KeyboardInterrupt

    limits.enter("first", gpu=1, on_admitted=interrupted)
    limits.enter("second", gpu=1)
    with pytest.raises(KeyboardInterrupt):
        limits.resources.leave(holder)
    limits.resources.reconsider()  # a later request
    assert limits.told == ["second"]
