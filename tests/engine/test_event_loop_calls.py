"""EventLoopCalls: one wake-up of the loop for many calls; Patience: targets worth a wait."""

import threading

import pytest

import cascade as cs
from cascade.runtime.execution.event_loop_calls import EventLoopCalls, Patience


class FakeLoop:
    """Counts the wake-ups that threads ask for."""

    def __init__(self):
        self.planned = []

    def call_soon_threadsafe(self, function):
        self.planned.append(function)

    def turn(self):
        planned, self.planned = self.planned, []
        for function in planned:
            function()


@pytest.fixture
def loop():
    return FakeLoop()


@pytest.fixture
def calls(loop):
    return EventLoopCalls(loop)


def test_calls_share_a_wake_up_and_keep_their_order(loop, calls):
    made = []
    for n in range(3):
        calls.add(made.append, n)
    calls.add_along(made.append, 3)
    assert len(loop.planned) == 1

    loop.turn()
    assert made == [0, 1, 2, 3]

    calls.add(made.append, 4)
    assert len(loop.planned) == 1
    loop.turn()
    assert made == [0, 1, 2, 3, 4]


def test_a_call_that_a_call_adds_is_made_with_it(loop, calls):
    made = []
    calls.add(lambda: calls.add(made.append, "inner"))
    loop.turn()
    loop.turn()
    assert made == ["inner"]


def test_a_call_that_raises_does_not_stop_the_later_ones(loop, calls):
    made = []

    def fault():
        raise ZeroDivisionError

    calls.add(fault)
    calls.add(made.append, 1)
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert made == [1]


def test_a_loop_that_is_closed_is_asked_again_by_the_next_call(loop, calls, monkeypatch):
    def closed(_function):
        raise RuntimeError("Event loop is closed")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", closed)
        with pytest.raises(RuntimeError):
            calls.add(print)
    made = []
    calls.add(made.append, 1)
    assert len(loop.planned) == 1


def test_a_short_wait_ends_with_the_first_call_and_wakes_no_loop(loop, calls):
    made = []
    wait = calls.expect()
    thread = threading.Thread(target=calls.add, args=(made.append, 1))
    thread.start()
    assert wait(60)
    thread.join()
    assert made == [1]
    assert loop.planned == []


def test_an_event_goes_along_and_does_not_end_a_short_wait(loop, calls):
    made = []
    wait = calls.expect()
    calls.add_along(made.append, "event")
    assert not wait(0)
    assert made == ["event"]  # but it is not forgotten
    calls.add_along(made.append, "later")
    loop.turn()
    assert made == ["event", "later"]


def test_a_call_after_a_short_wait_wakes_the_loop_again(loop, calls):
    assert not calls.expect()(0)
    calls.add(print)
    assert len(loop.planned) == 1


@cs.task
def slow():
    """A target that is never ready within a moment."""


def test_waits_in_vain_are_made_ever_more_rarely(loop):
    patience, tried = Patience(), []
    for run in range(100):
        if patience.is_worth_it(slow):
            tried.append(run)
            patience.note(slow, came=False)
    assert tried == [0, 3, 8, 17, 34, 67]


def test_a_wait_that_was_worth_it_is_made_again_at_once():
    patience = Patience()
    patience.note(slow, came=False)
    patience.note(slow, came=True)
    assert patience.is_worth_it(slow)
