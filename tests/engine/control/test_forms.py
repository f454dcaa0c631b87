"""Forms for signals, made from annotations; and values that are made from what forms give."""

import enum
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pydantic
import pytest

from cascade.runtime.control.forms import built, form_of
from cascade.web.model.answers import start_of, value_of


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Place:
    shop: str
    shelf: int = 3


@dataclass
class Approval:
    ok: bool
    by: str = "nobody"
    size: Size = Size.SMALL
    place: Place | None = None
    tags: list[str] = field(default_factory=list)


class Answer(TypedDict):
    ok: bool
    why: NotRequired[str]


class Model(pydantic.BaseModel):
    amount: float
    kind: Literal["a", "b"] = "a"


Tree = make_dataclass("Tree", [("left", "Tree")])
Tree.__module__ = __name__  # where its annotation is looked up


@pytest.mark.parametrize(
    ("annotation", "form"),
    [
        (bool, {"kind": "yes or no"}),
        (int, {"kind": "whole number"}),
        (float, {"kind": "number"}),
        (str, {"kind": "text"}),
        (str | None, {"kind": "text", "none": True}),
        (Literal["a", 2], {"kind": "choice", "choices": ["a", 2]}),
        (Size, {"kind": "choice", "choices": ["s", "l"]}),
        (list[int], {"kind": "json"}),
        (int | str, {"kind": "json"}),
        (Any, {"kind": "json"}),
        (None, {"kind": "json"}),
        (
            Answer,
            {
                "kind": "fields",
                "fields": [
                    {"name": "ok", "form": {"kind": "yes or no"}},
                    {"name": "why", "form": {"kind": "text"}, "default": None},
                ],
            },
        ),
        (
            Model,
            {
                "kind": "fields",
                "fields": [
                    {"name": "amount", "form": {"kind": "number"}},
                    {
                        "name": "kind",
                        "form": {"kind": "choice", "choices": ["a", "b"]},
                        "default": "a",
                    },
                ],
            },
        ),
    ],
)
def test_an_annotation_has_a_form(annotation, form):
    assert form_of(annotation) == form


def test_a_dataclass_has_a_field_for_each_of_its_own():
    form = form_of(Approval)
    assert [one["name"] for one in form["fields"]] == ["ok", "by", "size", "place", "tags"]
    assert form["fields"][3]["form"]["none"] is True
    assert start_of(form)["by"] == "nobody"


def test_a_class_that_has_itself_as_a_field_has_a_form_that_ends():
    form, depth = form_of(Tree), 0
    while form["kind"] == "fields":
        form, depth = form["fields"][0]["form"], depth + 1
    assert depth < 10


def test_what_a_form_gives_becomes_what_the_task_wants():
    form = form_of(Approval)
    given = start_of(form) | {"ok": True, "size": "l", "tags": '["new"]'}
    given["place"] = {"shop": "Oslo", "shelf": "7"}
    value = value_of(form, given)
    assert built(Approval, value) == Approval(True, "nobody", Size.LARGE, Place("Oslo", 7), ["new"])
    assert built(Model, {"amount": 2}) == Model(amount=2)
    assert built(Answer, {"ok": True}) == {"ok": True}
    assert built(None, [1]) == [1]
    assert built(Place | None, None) is None


@pytest.mark.parametrize(
    ("form", "given", "said"),
    [
        ({"kind": "whole number"}, "1.5", "must be a whole number, but is '1.5'"),
        ({"kind": "number"}, "", "must be a number, but is ''"),
        ({"kind": "json"}, "{", "must be a value in JSON, but is '{'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(form, given, said):
    with pytest.raises(ValueError, match=said):
        value_of({"kind": "fields", "fields": [{"name": "n", "form": form}]}, {"n": given})


def test_a_value_that_does_not_fit_the_class_is_refused():
    with pytest.raises(ValueError, match="is no Size"):
        built(Size, "huge")
    with pytest.raises(ValueError, match="is no Place"):
        built(Place, {"shop": "Oslo", "roof": 1})


def test_an_empty_field_is_none_where_none_is_allowed():
    assert value_of({"kind": "whole number", "none": True}, "") is None
    assert value_of({"kind": "json"}, " ") is None
    assert value_of({"kind": "text"}, "") == ""
