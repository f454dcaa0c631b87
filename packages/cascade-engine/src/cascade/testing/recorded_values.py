"""Values in recordings: as text to compare, and in a form from which they can be made again."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from typing import Any, Final

from cascade.graph.codec import Codec
from cascade.spec.errors import NotStorableError, SerializationError

#: Most characters of a value's text.
_LONGEST: Final = 1_000
#: Addresses of objects, and lines of lazy values: they change when nothing else does.
_PLACES: Final = re.compile(r" at 0x[0-9a-fA-F]+|(?<=<)(lazy [^<>]*?) at [^<>]*(?=>)")
_CODEC: Final = Codec()
_LOST: Final = {"lost": True}


def text_of(value: Any) -> str:
    """``repr(value)`` without places; of a long one the beginning, with a digest of the rest."""
    try:
        text = _PLACES.sub(lambda found: found[1] or "", repr(value)).replace("\n", " ")
    except Exception as error:  # a broken __repr__ of the user's
        text = f"<{type(value).__qualname__}, whose repr raises {type(error).__name__}>"
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{text[:_LONGEST]}… {len(text)} characters, {digest}"


def kept(value: Any, name: str | None, text: str | None = None) -> Any:
    """The form of a value in the file.

    Args:
        name: That of a parameter, which must have a form.
        text: The text beside it; None is returned if the value can be made from that.

    Raises:
        NotStorableError: The parameter has no stored form.
    """
    if text is not None and _is_written(value, text):
        return None
    try:
        return json.loads(_CODEC.encode(value))
    except (NotStorableError, SerializationError):
        if name is not None:
            raise
        return _LOST


def restored(form: Any, text: str | None = None) -> Any:
    """The value of a form.

    Raises:
        AssertionError: It has none.
    """
    if form is None and text is not None:
        return ast.literal_eval(text)
    if form == _LOST:
        raise AssertionError(
            f"the recording has only the text of the value {text}: objects of its class have no "
            "stored form; use override(…, value=…)"
        )
    return _CODEC.decode(json.dumps(form).encode())


def _is_written(value: Any, text: str) -> bool:
    """Whether Python reads the value from its text."""
    if type(value) not in (str, int, float, bool, type(None), list, tuple, dict):
        return False
    try:
        return bool(ast.literal_eval(text) == value) and repr(ast.literal_eval(text)) == text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
