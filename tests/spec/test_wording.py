"""Values and texts in messages: short, in one line, and nothing that a terminal obeys."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade as cs
from cascade.spec.errors import RouteError
from cascade.spec.routing import Routes, choose
from cascade.spec.wording import short, type_name, visible, visible_json

#: Signs for numbers in Arabic and Syriac script: format characters that have a look of their own.
_SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}


def test_no_character_that_is_not_seen_is_left():
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if hidden and code not in _SEEN:
            assert re.fullmatch(r"\\[\w]+", visible(character), re.ASCII), hex(code)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("häuser 你好\u3000→", "häuser 你好\u3000→"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202e\u2066\u200b\ufeff", r"\u202e\u2066\u200b\ufeff"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x9b\x7f", r"\x9b\x7f"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
    ],
)
def test_invisible_characters_are_shown_as_escapes(text, shown):
    assert visible(text) == shown


def test_lines_may_stay():
    assert visible("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"


@given(st.text(st.characters(exclude_categories=())))
def test_json_means_the_same(text):
    shown = visible_json(json.dumps(text, ensure_ascii=False))

    assert json.loads(shown) == text
    assert visible(shown) == shown


class Refuses:
    def __repr__(self):
        raise RuntimeError("no")


class Long:
    def __repr__(self):
        return "x\x1b\n" * 3_000_000


class Liar(type):
    @property
    def __name__(cls):
        raise RuntimeError("no")


class Nameless(metaclass=Liar):
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        Refuses(),
        [Refuses()],
        Long(),
        {"k": [[Long()] * 9] * 9},
        Nameless(),
        10**10_000,
        "\x1b[2J" * 1000,
        type("\x1b" + "N" * 100_000, (), {})(),
    ],
    ids=["refuses", "inside", "long", "nested", "nameless", "int", "str", "type"],
)
def test_any_value_is_short(value):
    shown = short(value)

    assert len(shown) < 1000
    assert visible(shown) == shown


def test_the_name_of_a_type_comes_from_type_itself_and_is_cut_at_100():
    assert type_name(Nameless()) == "Nameless"
    assert len(type_name(type("N" * 1000, (), {})())) == 100


@pytest.mark.parametrize("key", [Refuses(), Long()])
def test_a_key_without_a_route_is_named_shortly(key):
    with pytest.raises(RouteError) as caught:
        choose(Routes({Long(): 1, Refuses(): 2, "a": 3}), key)

    assert "its routes are" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_routes_by_the_thousand_are_not_all_listed():
    with pytest.raises(RouteError) as caught:
        choose(Routes(dict.fromkeys(range(10_000), 1)), "x")

    assert len(str(caught.value)) < 1000


def test_a_bad_route_is_refused_by_a_short_key():
    @cs.task
    def work(): ...

    with pytest.raises(cs.errors.DefinitionError, match="is the task 'work' itself"):
        cs.Router(selector=1, routes={Refuses(): work})
