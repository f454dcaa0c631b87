"""A message from outside is a constraint in exactly one form, or is refused with a reason."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cascade as cs
from cascade.runtime.control.messages import (
    MOST_BYTES,
    RefusedMessageError,
    Steering,
    payload_for,
    read_steering,
    topic_for,
)

NOW = 1_000_000.0


def read(topic, payload, prefix="cascade"):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return read_steering(prefix, topic, payload, lambda: NOW)


patterns = st.text(
    st.characters(exclude_characters="+#/", exclude_categories=["Cs", "Cc", "Cn"]),
    min_size=1,
    max_size=20,
)
scopes = st.just("global") | patterns.map(lambda pattern: f"task:{pattern}")
ttls = st.none() | st.floats(0.001, 1e6)
constraints = st.one_of(
    st.builds(cs.Constraint, scopes, st.just("pause"), ttl=ttls),
    st.builds(cs.Constraint, scopes, st.just("concurrency"), st.integers(1, 10**9), ttl=ttls),
    st.builds(
        cs.Constraint,
        scopes,
        st.just("rate_limit"),
        st.builds("{}/{}".format, st.integers(1, 10**6), st.sampled_from("smhd")),
        st.integers(1, 10**6),
        ttls,
    ),
)


@given(constraints, st.sampled_from(["cascade", "team/a"]))
def test_a_published_constraint_is_read_back_equal(constraint, prefix):
    topic = topic_for(prefix, constraint.scope, constraint.kind)
    steering = read_steering(prefix, topic, payload_for(constraint, lambda: NOW), lambda: NOW)

    assert (steering.scope, steering.kind) == constraint.key
    found = steering.constraint
    assert (found.value, found.burst) == (constraint.value, constraint.burst)
    if constraint.ttl is None:
        assert found.ttl is None
    else:
        assert found.ttl == pytest.approx(constraint.ttl, abs=1e-6)


@given(scopes, st.sampled_from(["pause", "concurrency", "rate_limit"]))
def test_a_removal_has_an_object_or_nothing(scope, kind):
    topic = topic_for("cascade", scope, kind)

    assert read(topic, payload_for(None)) == read(topic, b"") == Steering(scope, kind, None)


def test_the_messages_of_the_docstring():
    assert read("cascade/constraints/global/pause", {}).constraint == cs.Constraint(
        "global", "pause"
    )
    four = read("cascade/constraints/task/fetch_*/concurrency", {"value": 4, "ttl": 60})
    assert four.constraint == cs.Constraint("task:fetch_*", "concurrency", 4, ttl=60.0)
    rate = {"value": "10/s", "burst": 5, "until": NOW + 7}
    ten = read("cascade/constraints/task/fetch/rate_limit", rate)
    assert ten.constraint == cs.Constraint("task:fetch", "rate_limit", "10/s", 5, 7.0)


def test_an_expired_constraint_is_read_as_a_removal():
    steering = read("cascade/constraints/global/pause", {"until": NOW - 1})
    assert steering.constraint is None


@pytest.mark.parametrize("scope", ["task:a/b", "task:a+", "task:#", "task:a\0"])
def test_a_scope_that_no_topic_can_have_is_refused_before_it_is_sent(scope):
    with pytest.raises(cs.errors.ArgumentError, match="cannot be sent"):
        topic_for("cascade", scope, "pause")


@pytest.mark.parametrize(
    ("scope", "complaint"),
    [
        ("task:a\nb", "U\\+000A"),
        ("task:" + "a*" * 129, "258 characters, and at most 256 are allowed"),
    ],
)
def test_nor_is_one_that_no_engine_would_take(scope, complaint):
    with pytest.raises(cs.errors.ArgumentError, match=complaint):
        topic_for("cascade", scope, "pause")
    with pytest.raises(RefusedMessageError):
        read(f"cascade/constraints/task/{scope.partition(':')[2]}/pause", {})


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("cascade/constraints/global/paus", {}, r"'paus' \(did you mean 'pause'\?\)"),
        ("cascade/constraints/global", {}, "ends in 'global'"),
        ("cascade/constraints/pause", {}, "the scope ''"),
        ("cascade/constraints/task/pause", {}, "the scope 'task'"),
        ("cascade/constraints/task//pause", {}, "the scope 'task/'"),
        ("cascade/constraints/task/a/b/pause", {}, "the scope 'task/a/b'"),
        ("cascade/constraints/global/pause", b"{", "not valid JSON"),
        ("cascade/constraints/global/pause", b"\xff\xfe", "not valid JSON"),
        ("cascade/constraints/global/pause", b"[" * 2000, "not valid JSON"),
        ("cascade/constraints/global/pause", [], r"not a JSON object but \[\]"),
        ("cascade/constraints/global/pause", None, "not a JSON object but None"),
        ("cascade/constraints/global/pause", {"value": 1}, "takes no value"),
        ("cascade/constraints/global/pause", {"tll": 1}, r"'tll' \(did you mean 'ttl'\?\)"),
        ("cascade/constraints/global/pause", {"ttl": 0}, "ttl is 0"),
        ("cascade/constraints/global/pause", {"ttl": True}, "ttl is True"),
        ("cascade/constraints/global/pause", {"ttl": None}, "ttl is None"),
        ("cascade/constraints/global/pause", {"until": "soon"}, "until is 'soon'"),
        ("cascade/constraints/global/pause", b'{"ttl": 1e999}', "ttl is inf"),
        ("cascade/constraints/global/pause", b'{"ttl": NaN}', "NaN, which is not valid JSON"),
        ("cascade/constraints/global/pause", {"ttl": 1, "until": 2}, "both"),
        ("cascade/constraints/global/pause", b'{"ttl": 1, "ttl": 2}', "twice"),
        ("cascade/constraints/global/pause", {"remove": False}, "exactly"),
        ("cascade/constraints/global/pause", {"remove": True, "ttl": 1}, "exactly"),
        ("cascade/constraints/global/concurrency", {}, "≥ 1, but is None"),
        ("cascade/constraints/global/concurrency", {"value": 0}, "≥ 1"),
        ("cascade/constraints/global/concurrency", {"value": "4"}, "≥ 1"),
        ("cascade/constraints/global/rate_limit", {"value": 10}, "write '10/s'"),
        ("cascade/constraints/global/rate_limit", {"value": "1/s", "burst": 0}, "burst"),
        (
            "cascade/constraints/global/rate_limit",
            b'{"value": "1/s", "burst": ' + b"9" * 400 + b"}",
            "burst must be less than 1e15",
        ),
        ("cascade/constraints/global/pause", b'{"ttl": ' + b"1" * MOST_BYTES + b"}", "bytes"),
    ],
)
def test_malformed_messages_are_refused_with_a_reason(topic, payload, reason):
    with pytest.raises(RefusedMessageError, match=reason):
        read(topic, payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
fields = st.sampled_from(["value", "burst", "ttl", "until", "remove", "other"])


@given(
    st.text(max_size=40)
    | st.builds("cascade/constraints/{}/{}".format, st.text(), st.text())
    | st.sampled_from(
        ["cascade/constraints/global/pause", "cascade/constraints/task/a/rate_limit"]
    ),
    st.binary() | st.dictionaries(fields, json_values).map(lambda body: json.dumps(body).encode()),
)
@example("cascade/constraints/global/rate_limit", b'{"value": "' + b"9" * 3000 + b'/s"}')
@example("cascade/constraints/global/concurrency", b'{"value": ' + b"9" * 4000 + b"}")
@example("cascade/constraints/global/pause", b'{"ttl": 1e400}')
def test_whatever_comes_is_read_or_refused(topic, payload):
    """And nothing else: no other error, and nothing that is no constraint."""
    try:
        steering = read_steering("cascade", topic, payload, lambda: NOW)
    except RefusedMessageError:
        return
    if steering.constraint is not None:
        assert steering.constraint.key == (steering.scope, steering.kind)
        assert steering.constraint.ttl is None or math.isfinite(steering.constraint.ttl)
