"""Topics and patterns as MQTT 3.1.1 defines them (section 4.7), for every connector.

A topic consists of levels with ``/`` between them; levels may be empty. In a pattern the level
``+`` stands for any one level. ``#`` may only be the last level, and stands for the level before it
and all levels below: ``a/#`` matches ``a``, ``a/b`` and ``a/b/c``. A pattern that begins with a
wildcard matches no topic that begins with ``$``, which brokers reserve for themselves.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

#: Most bytes of a topic or pattern in UTF-8.
MAX_BYTES = 65535

# Surrogates have no UTF-8. Control characters and noncharacters may make a broker close the
# connection, as mosquitto does; the queue would be sent again and close the next one.
_NONCHARACTERS = "".join(
    chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)
)
_FORBIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")


def check_topic(topic: str) -> None:
    """Refuse an invalid topic.

    Raises:
        ArgumentError: It is not a string, has a wildcard, or breaks a rule of MQTT.
    """
    if not isinstance(topic, str):
        raise ArgumentError(f"a topic must be a str, but is {short(topic)}")
    _check_topic(topic)


@lru_cache(maxsize=1024)  # programs publish on the same few topics again and again
def _check_topic(topic: str) -> None:
    _check_text("topic", topic)
    if "+" in topic or "#" in topic:
        raise ArgumentError(
            f"the topic {short(topic)} has a wildcard, but a message goes to one topic; wildcards "
            "are only for patterns of subscriptions"
        )


def check_pattern(pattern: str) -> None:
    """Refuse an invalid pattern.

    Raises:
        ArgumentError: It is not a string, has a misplaced wildcard, or breaks another rule.
    """
    if not isinstance(pattern, str):
        raise ArgumentError(f"a pattern must be a str, but is {short(pattern)}")
    _check_text("pattern", pattern)
    levels = pattern.split("/")
    for number, level in enumerate(levels, 1):
        if len(level) > 1 and ("+" in level or "#" in level):
            raise ArgumentError(
                f"level {number} of the pattern {short(pattern)} is {short(level)}, and a wildcard "
                "stands for a whole level; write '+' for any one level, '#' for all below"
            )
        if level == "#" and number < len(levels):
            raise ArgumentError(
                f"level {number} of the pattern {short(pattern)} is '#', which must be the last; "
                "write '+' for any one level"
            )


def matches(pattern: str, topic: str) -> bool:
    """Whether a message on ``topic`` matches ``pattern``; both must be valid.

    >>> matches("agents/+/state", "agents/7/state"), matches("agents/#", "agents")
    (True, True)
    >>> matches("#", "$SYS/uptime"), matches("$SYS/#", "$SYS/uptime")
    (False, True)
    """
    if topic.startswith("$") and pattern.startswith(("+", "#")):
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


def _check_text(kind: str, text: str) -> None:
    if not text:
        raise ArgumentError(f"a {kind} must have at least one character, but is ''")
    found = _FORBIDDEN.search(text)
    if found:
        raise ArgumentError(
            f"the {kind} {short(text)} has the character U+{ord(found[0]):04X} at index "
            f"{found.start()}, which MQTT does not carry; take it out"
        )
    size = len(text.encode())
    if size > MAX_BYTES:
        raise ArgumentError(
            f"the {kind} {short(text)} has {size} bytes of UTF-8, and MQTT carries {MAX_BYTES}; "
            "put long content into the payload"
        )
