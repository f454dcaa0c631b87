"""Outbox: the order of waiting messages, and which are dropped."""

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


def test_returned_messages_are_the_oldest_again_and_keep_their_attempts():
    outbox = filled(1, 2, 3, 4)
    taken = outbox.take(3)

    assert outbox.put_back(taken[1:]) == []

    taken = outbox.take(3)
    assert numbers(taken) == [2, 3, 4]
    assert [queued.attempts for queued in taken] == [1, 1, 0]


def test_messages_returned_to_a_full_outbox_give_way_to_newer_ones():
    outbox = filled(1, 2, 3, limit=3)
    taken = outbox.take(2)
    outbox.put(Message("a", b"4"))
    outbox.put_back(taken)

    assert outbox.dropped == 1
    assert numbers(outbox.take(3)) == [2, 3, 4]


def test_a_message_is_dropped_after_too_many_attempts():
    outbox = filled(1, 2)
    for _ in range(MAX_ATTEMPTS - 1):
        assert outbox.put_back(outbox.take(1)) == []

    assert [message.payload for message in outbox.put_back(outbox.take(1))] == [b"1"]
    assert outbox.dropped == 1
    assert numbers(outbox.take(2)) == [2]


def test_cleared_and_given_up_messages_count_as_dropped():
    outbox = filled(1, 2, 3)
    outbox.give_up(outbox.take(1))
    assert outbox.dropped == 1

    outbox.clear()

    assert (len(outbox), outbox.dropped) == (0, 3)


def test_a_payload_that_no_packet_can_hold_is_refused():
    with pytest.raises(cs.errors.ArgumentError, match=f"has {MAX_PAYLOAD + 1} bytes"):
        Message("a", bytes(MAX_PAYLOAD + 1)).check()
    Message("a", bytes(MAX_PAYLOAD)).check()


def said(outbox: Outbox) -> list[tuple[str, bytes]]:
    return [(queued.message.topic, queued.message.payload) for queued in outbox.take(10_000)]


def test_nothing_gives_way_while_there_is_a_connection():
    outbox = Outbox(3)
    outbox.set_connected(True)
    for number in range(5_000):
        outbox.put(Message("a", b"%d" % number))

    assert outbox.dropped == 0
    assert numbers(outbox.take(9_999)) == list(range(5_000))


def test_a_connection_that_is_lost_leaves_the_newest():
    outbox = Outbox(3)
    outbox.set_connected(True)
    for number in range(10):
        outbox.put(Message("a", b"%d" % number))
    outbox.set_connected(False)

    assert outbox.dropped == 7
    assert numbers(outbox.take(99)) == [7, 8, 9]


def test_the_newest_retained_message_of_a_topic_is_the_last_to_give_way():
    outbox = Outbox(3)
    outbox.put(Message("state", b"old", retain=True))
    outbox.put(Message("other", b"1", retain=True))
    outbox.put(Message("state", b"new", retain=True))
    for number in range(100):
        outbox.put(Message("burst", b"%d" % number))

    assert said(outbox) == [("other", b"1"), ("state", b"new"), ("burst", b"99")]
    assert outbox.dropped == 100


def test_retained_messages_alone_are_bounded_too():
    outbox = Outbox(3)
    for number in range(100):
        outbox.put(Message(f"t{number}", b"x", retain=True))

    assert said(outbox) == [("t97", b"x"), ("t98", b"x"), ("t99", b"x")]


def test_connected_or_not_there_is_a_most_of_bytes():
    outbox = Outbox(1_000, max_bytes=10_000)
    outbox.set_connected(True)
    outbox.put(Message("state", b"x" * 1_000, retain=True))
    for _ in range(100):
        outbox.put(Message("a", b"x" * 1_000))

    assert outbox._bytes <= 10_000
    assert next(topic for topic, _ in said(outbox)) == "state"
    assert outbox.dropped > 90
    assert outbox._bytes == 0


def test_one_message_may_be_longer_than_that():
    outbox = Outbox(1, max_bytes=100)
    outbox.put(Message("a", bytes(1_000)))

    assert len(outbox) == 1


def test_a_retained_message_that_comes_back_does_not_replace_a_newer_one():
    outbox = Outbox(2)
    outbox.put(Message("state", b"old", retain=True))
    taken = outbox.take(1)
    outbox.put(Message("state", b"new", retain=True))
    outbox.put(Message("a", b"1"))
    outbox.put_back(taken)

    assert said(outbox) == [("state", b"new"), ("a", b"1")]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.booleans()),
            st.sampled_from(["take", "back", "lose", "connect"]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_order_and_counts_hold(actions):
    outbox = Outbox(4)
    made, sent, taken = 0, [], []
    for action in actions:
        if isinstance(action, tuple):
            outbox.put(Message(action[0], b"%d" % made, retain=action[1]))
            made += 1
        elif action == "take":
            sent += [int(q.message.payload) for q in taken]
            taken = outbox.take(2)
        elif action == "back":
            outbox.put_back(taken)
            taken = []
        else:
            outbox.set_connected(action == "connect")
    waiting = numbers(outbox.take(9_999))

    assert waiting == sorted(waiting)
    assert (len(outbox), outbox._bytes, outbox._kept) == (0, 0, {})
    given_up = outbox.dropped
    assert len(sent) + len(taken) + len(waiting) + given_up == made


def test_dropped_messages_leave_the_queues():
    outbox = Outbox(3)
    outbox.put(Message("state", b"x", retain=True))
    for number in range(10_000):
        outbox.put(Message("a", b"%d" % number))

    assert len(outbox._queued) + len(outbox._expendable) < 200
