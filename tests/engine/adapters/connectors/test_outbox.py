"""Outbox: what waits, in which order, and what gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade as cs
from cascade.adapters.connectors.outbox import MAX_ATTEMPTS, MAX_PAYLOAD, Message, Outbox


def filled(*numbers: int, limit: int = 100) -> Outbox:
    outbox = Outbox(limit)
    for number in numbers:
        outbox.put(Message("a", b"%d" % number))
    return outbox


def numbers(found) -> list[int]:
    return [int(queued.message.payload) for queued in found]


def test_the_oldest_are_taken_first():
    outbox = filled(1, 2, 3)

    assert numbers(outbox.take(2)) == [1, 2]
    assert numbers(outbox.take(2)) == [3]
    assert outbox.take(2) == []
    assert (len(outbox), outbox.dropped) == (0, 0)


@given(st.integers(1, 5), st.lists(st.integers(0, 99), max_size=12))
def test_a_full_outbox_keeps_the_newest(limit, given_numbers):
    outbox = filled(*given_numbers, limit=limit)

    assert outbox.dropped == max(0, len(given_numbers) - limit)
    assert numbers(outbox.take(99)) == given_numbers[-limit:]


def test_what_comes_back_is_the_oldest_again_and_knows_that_it_was_sent():
    outbox = filled(1, 2, 3, 4)
    taken = outbox.take(3)

    assert outbox.put_back(taken[1:]) == []

    taken = outbox.take(3)
    assert numbers(taken) == [2, 3, 4]
    assert [queued.attempts for queued in taken] == [1, 1, 0]


def test_what_comes_back_to_a_full_outbox_gives_way_to_the_newer():
    outbox = filled(1, 2, 3, limit=3)
    taken = outbox.take(2)
    outbox.put(Message("a", b"4"))
    outbox.put_back(taken)

    assert outbox.dropped == 1
    assert numbers(outbox.take(3)) == [2, 3, 4]


def test_what_was_sent_in_vain_too_often_is_given_up():
    outbox = filled(1, 2)
    for _ in range(MAX_ATTEMPTS - 1):
        assert outbox.put_back(outbox.take(1)) == []

    assert [message.payload for message in outbox.put_back(outbox.take(1))] == [b"1"]
    assert outbox.dropped == 1
    assert numbers(outbox.take(2)) == [2]


def test_what_is_cleared_or_given_up_counts_as_dropped():
    outbox = filled(1, 2, 3)
    outbox.give_up(outbox.take(1))
    assert outbox.dropped == 1

    outbox.clear()

    assert (len(outbox), outbox.dropped) == (0, 3)


def test_a_payload_that_no_packet_can_hold_is_refused():
    with pytest.raises(cs.ArgumentError, match=f"has {MAX_PAYLOAD + 1} bytes"):
        Message("a", bytes(MAX_PAYLOAD + 1)).check()
    Message("a", bytes(MAX_PAYLOAD)).check()
