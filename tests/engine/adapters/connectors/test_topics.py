"""Topics and patterns: as the text of MQTT 3.1.1 has them, and as a broker takes them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cascade as cs
from cascade.adapters.connectors.topics import (
    MAX_BYTES,
    check_pattern,
    check_topic,
    matches,
)


def means(pattern: list[str], topic: list[str]) -> bool:
    """Section 4.7.1, a level at a time."""
    if pattern == ["#"]:
        return True  # the parent, and any number of levels below it
    if not pattern or not topic:
        return pattern == topic
    return pattern[0] in ("+", topic[0]) and means(pattern[1:], topic[1:])


def defined(pattern: str, topic: str) -> bool:
    """The same, and section 4.7.2: wildcards at the beginning are not for ``$``."""
    hidden = topic[0] == "$" and pattern[0] in "+#"
    return not hidden and means(pattern.split("/"), topic.split("/"))


levels = st.sampled_from(["", "a", "b", "ab", "$a", "$", " ", "ä"])
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
patterns = (
    st.tuples(st.lists(levels | st.just("+"), max_size=5), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@given(patterns, topics)
@example("a/#", "a")
@example("a/+/#", "a")
@example("+/#", "/")
@example("#", "$SYS")
@example("+/a", "$SYS/a")
@example("$SYS/#", "$SYS")
@example("/+", "/")
@example("+", "/")
@example("a/#", "ab")
def test_patterns_match_as_the_standard_says(pattern, topic):
    check_pattern(pattern)
    check_topic(topic)

    assert matches(pattern, topic) is defined(pattern, topic)


@given(topics)
def test_a_topic_is_a_pattern_that_matches_itself(topic):
    check_pattern(topic)

    assert matches(topic, topic)


@given(st.text("a/+#$", max_size=6))
def test_a_pattern_is_valid_where_every_wildcard_is_a_level_and_the_last_if_it_is_for_all(text):
    parts = text.split("/")
    valid = (
        bool(text)
        and all(part in ("+", "#") or not {"+", "#"} & set(part) for part in parts)
        and "#" not in parts[:-1]
    )
    try:
        check_pattern(text)
    except cs.errors.ArgumentError:
        assert not valid
    else:
        assert valid


@given(st.text("a/+#$", max_size=6))
def test_a_topic_is_valid_where_it_has_no_wildcard(text):
    valid = bool(text) and "+" not in text and "#" not in text
    try:
        check_topic(text)
    except cs.errors.ArgumentError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize("check", [check_topic, check_pattern])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"a", "must be a str, but is b'a'"),
        (None, "must be a str, but is None"),
        (["a"], "must be a str, but is"),
        ("", "at least one character"),
        ("a\0", r"U\+0000 at index 1"),
        ("a\x1f", r"U\+001F"),
        ("\x7f", r"U\+007F"),
        ("\x9f", r"U\+009F"),
        ("a\ud800", r"U\+D800"),
        ("\ufffe", r"U\+FFFE"),
        ("\ufdd0", r"U\+FDD0"),
        ("\U0010ffff", r"U\+10FFFF"),
        ("a" * (MAX_BYTES + 1), "has 65536 bytes"),
        ("ä" * (MAX_BYTES // 2 + 1), "has 65536 bytes"),
    ],
)
def test_topics_that_mqtt_cannot_carry_are_refused(check, text, told):
    with pytest.raises(cs.errors.ArgumentError, match=told):
        check(text)


@pytest.mark.parametrize("check", [check_topic, check_pattern])
@pytest.mark.parametrize(
    "text", ["a" * MAX_BYTES, "/", "//", " ", "\ufffd", "\U0001f600", "\ufeff"]
)
def test_topics_that_mqtt_can_carry_are_accepted(check, text):
    check(text)


def combinations(names: list[str], last: list[str]) -> list[str]:
    """All texts of up to three levels."""
    found = [
        "/".join(parts)
        for size in range(3)
        for parts in itertools.product(*[names] * size, names + last)
    ]
    return [text for text in found if text]


async def retained(client, pattern):
    """The topics for which a broker sends something when it is asked for a pattern."""
    await client.subscribe(pattern, 1)
    await client.publish("the/very/end", pattern.encode(), 1)
    found = set()
    async for message in client.messages:
        if str(message.topic) != "the/very/end":
            found.add(str(message.topic))
        elif message.payload == pattern.encode():
            break
    await client.unsubscribe(pattern)
    return found


async def test_a_broker_matches_the_same(mosquitto):
    """Every pattern of up to three levels, asked for where every such topic is retained."""
    aiomqtt = pytest.importorskip(
        "aiomqtt", reason="needs aiomqtt: pip install 'cascade-engine[mqtt]'"
    )
    topics = combinations(["", "a", "b", "$a"], [])
    patterns = combinations(["", "a", "$a", "+"], ["#"])

    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        for topic in topics:
            await client.publish(topic, b"1", qos=1, retain=True)
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe("the/very/end", 1)
        found_by = {pattern: await retained(client, pattern) for pattern in patterns}
    for pattern, found in found_by.items():
        found = {topic for topic in found if not topic.startswith("$SYS")}
        assert found == {topic for topic in topics if matches(pattern, topic)}, pattern
