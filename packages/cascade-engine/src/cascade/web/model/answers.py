"""Answers: values for signals, read from the entries of a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Form = Mapping[str, Any]


def start_of(form: Form) -> Any:
    """What a new form has in its place: texts, choices and switches; for fields, by name."""
    if form.get("kind") == "fields":
        return {field["name"]: _start_of_field(field) for field in form["fields"]}
    if form.get("kind") == "yes or no":
        return False
    if form.get("kind") == "choice":
        return form["choices"][0] if form["choices"] and not form.get("none") else None
    return ""


def _start_of_field(field: Mapping[str, Any]) -> Any:
    form, default = field["form"], field.get("default")
    if default is None:
        return start_of(form)
    if form.get("kind") in ("yes or no", "choice"):
        return default
    return str(default)


def value_of(form: Form, given: Any, name: str = "the value") -> Any:
    """The value that a form was filled in with.

    Args:
        form: See ``cascade.runtime.control.forms``.
        given: In the shape of ``start_of``.
        name: What it is called, for messages.

    Raises:
        ValueError: A part of it does not fit.

    >>> value_of({"kind": "whole number"}, "7")
    7
    """
    kind = form.get("kind")
    if kind == "fields":
        return {
            field["name"]: value_of(field["form"], given.get(field["name"]), field["name"])
            for field in form["fields"]
        }
    if kind in ("yes or no", "choice"):
        return given
    text = given or ""
    if not text.strip() and (form.get("none") or kind == "json"):
        return None
    if kind == "text":
        return text
    return _read(kind, text, name)


def _read(kind: Any, text: str, name: str) -> Any:
    try:
        if kind == "whole number":
            return int(text)
        if kind == "number":
            return float(text)
        return json.loads(text)
    except ValueError:
        wanted = kind if kind in ("whole number", "number") else "value in JSON"
        raise ValueError(f"{name} must be a {wanted}, but is {text.strip()!r}") from None
