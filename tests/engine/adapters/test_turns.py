"""Turns: which calls go to a worker together, by the durations of earlier ones."""

from cascade.adapters.executors.turns import Turns
from cascade.spec.remote_calls import RemoteCall
from cascade.spec.wire import Packed


def call(name):
    return RemoteCall(name, Packed(name.encode(), b""), b"", print)


def turns(*noted, seconds=0.05):
    made = Turns(256, seconds)
    for name, duration, alone in noted:
        made.note(call(name), duration, alone=alone)
    return made


def sizes(waiting, names, workers=1):
    waiting.add(call(name) for name in names)
    found = []
    while len(waiting):
        found.append(len(waiting.take(workers)))
    return found


def test_short_calls_go_together_and_unknown_ones_alone():
    assert sizes(turns(("a", 0.012, False)), "aaaaaaa") == [4, 3]
    assert sizes(turns(), "aab") == [1, 1, 1]


def test_calls_with_large_values_go_alone_although_they_are_short():
    waiting = turns(("large", 0.01, True), ("short", 0.001, False))
    assert sizes(waiting, ["large", "large", "short", "short"]) == [1, 1, 2]
    assert waiting.expects(b"large") == 0.01  # so a call that needs one may follow it
    assert waiting.expects(b"short") == 0.001


def test_a_task_whose_values_are_small_again_shares_turns_by_and_by():
    waiting = turns(("a", 0.01, True), *[("a", 0.001, False)] * 20)
    assert waiting.expects(b"a") < 0.002
    assert sizes(waiting, "aaaa") == [4]


def test_what_was_not_seen_for_long_is_forgotten():
    waiting = turns(("large", 0.01, True), *[(f"t{n}", 0.001, False) for n in range(5000)])
    assert waiting.expects(b"large") is None
