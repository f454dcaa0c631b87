"""The codec of durable runs: values to bytes and back.

The bytes are JSON in UTF-8 with the forms of ``cascade.graph.forms``. A plain value, made of dicts
with text keys, lists, texts, numbers, bools and None, is encoded in C; the check that it is plain
is, too, level by level. It takes about as long as ``json.dumps``. Other values are walked in
Python, except for rows of plain ones.

Types are exact and content is kept, also of nan, infinities and surrogates. Identity is not: a list
that occurs twice comes back as two lists.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Sequence
from gc import get_referents
from json.encoder import encode_basestring
from typing import Any, Final, Literal

from cascade.graph.forms import JSON_ATOMS, UNREADABLE
from cascade.graph.references import Resolver
from cascade.graph.stored_values import DEEPEST, Refusal, StoredReader, StoredWriter, located
from cascade.spec.errors import ArgumentError, NotStorableError, SerializationError
from cascade.spec.wording import error_text, short

_PLAIN: Final = JSON_ATOMS | {list, dict}
#: Size of a level from which on repeated objects are looked at once.
_MANY: Final = 10_000
_SMALL: Final = 1 << 64
#: Most members of a dict that is written without an encoder.
_FEW: Final = 16
_CONSTANTS: Final = {True: "true", False: "false", None: "null"}
_CONSTANT_TYPES: Final = frozenset({bool, type(None)})
_SIGNED = b'{"$signed":"'
_BODY = b'","body":'
_SIGNATURE = 64  # hex digits of a SHA-256


_encode = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    separators=(",", ":"),
).encode
_scan: Final = vars(json.JSONDecoder())["scan_once"]  # in C; its wrappers are not


class Codec:
    """Values to bytes and back.

    Reading a body may import the modules of the tasks and classes that it names: any of them, or
    those in ``modules``. A program that can write to the store can therefore make its readers
    import these modules. With ``signing_key``, bodies that were not written with the key are
    refused before they are parsed.

    Args:
        signing_key: Puts an HMAC-SHA256 on each body.
        serializer: ``"json"``; or ``"pickle"``, which pickles objects that have no stored form.
            Unpickling can call anything, so it takes a key.
        modules: Names of the modules that may be imported; others must be imported already. None:
            any module.

    Attributes:
        resolver: Finds the tasks and classes that a body names.

    Raises:
        ArgumentError: ``signing_key`` is empty or no bytes; there is no such serializer;
            ``"pickle"`` without a key; or ``modules`` are not names.
    """

    def __init__(
        self,
        *,
        signing_key: bytes | str | None = None,
        serializer: Literal["json", "pickle"] = "json",
        modules: Iterable[str] | None = None,
    ) -> None:
        key = signing_key.encode() if isinstance(signing_key, str) else signing_key
        if key is not None and not (isinstance(key, bytes) and key):
            raise ArgumentError(
                "signing_key must be a text or bytes, and not empty, but is of type "
                f"{type(signing_key).__name__}"
            )
        if serializer not in ("json", "pickle"):
            raise ArgumentError(f"serializer must be 'json' or 'pickle', not {short(serializer)}")
        if serializer == "pickle" and key is None:
            raise ArgumentError(
                "serializer='pickle' needs a signing_key: unpickling runs whatever the bytes "
                "say, so the store must not be able to change them"
            )
        self._key = key
        self._pickles = serializer == "pickle"
        self.resolver = Resolver(trusted=True) if modules is None else Resolver(modules)

    def dumps(self, value: Any, purpose: bytes = b"") -> bytes:
        """Encode and seal a value.

        Args:
            purpose: What the value is for, as its run and node. A sealed body cannot take the place
                of one with another purpose.

        Raises:
            NotStorableError: A part of it has no stored form; the message has the place in it.
        """
        body = self.encode(value)
        return body if self._key is None else self.seal(body, purpose)

    def dumps_atoms(self, values: Sequence[Any]) -> list[str]:
        """``dumps`` for numbers, bools and None, as texts; together, in a fraction of the time."""
        if self._key is None:
            try:
                texts = _encode(values)[1:-1].split(",")
            except ValueError:  # nan, an infinity or a huge int
                texts = []
            if len(texts) == len(values):
                return texts
        return [self.dumps(value).decode() for value in values]

    def loads(self, body: bytes, purpose: bytes = b"") -> Any:
        """Decode what ``dumps`` returned for this purpose.

        Raises:
            SerializationError: It is not, the signature is not that of the key, or a class is not
                found in this process.
        """
        if self._key is None and not body.startswith(_SIGNED):
            return self.decode(body)
        return self.decode(self.unseal(body, purpose))

    def loads_plain(self, bodies: Sequence[bytes]) -> list[Any] | None:
        """Decode bodies that ``dumps`` returned, together, in a fraction of the time.

        None if one of them is signed, damaged, or no plain JSON: then ``loads`` has to read each.
        """
        if self._key is not None:
            return None
        try:
            text = (b"[%b]" % b",".join(bodies)).decode()
            if '"$' in text:
                return None
            forms, end = _scan(text, 0)
        except (ValueError, RecursionError, StopIteration):
            return None
        return forms if end == len(text) and len(forms) == len(bodies) else None

    def encode(self, value: Any) -> bytes:
        """A value as JSON, without a signature.

        Raises:
            NotStorableError: A part of it has no stored form; the message has the place in it.
        """
        body = self.encode_small(value)
        if body is None:
            body = _encoded_plain(value)
        return self._walked(value) if body is None else body

    def encode_small(self, value: Any) -> bytes | None:
        """``encode`` for a text, a number, or a small dict of these; None if the value is not one.

        An encoder is made for each call of json, which takes longer than most such values.
        """
        kind = type(value)
        if kind in JSON_ATOMS or (kind is dict and len(value) <= _FEW):
            return _small(value)
        return None

    def encode_if_storable(self, value: Any) -> bytes | None:
        """``encode``, but None for a value that has no stored form.

        Takes a fraction of the time in which ``encode`` finds the place at fault.
        """
        body = self.encode_small(value)
        if body is None:
            body = _encoded_plain(value)
        if body is None:
            try:
                body = self._written(value)
            except Exception:  # code of the value's classes may raise anything
                return None
        return body

    def decode(self, body: bytes) -> Any:
        """The value that ``encode`` has encoded.

        Raises:
            SerializationError: It is not, or a class is not found in this process.
        """
        try:
            text = body.decode()
            form, end = _scan(text, 0)
        except (ValueError, RecursionError) as error:
            raise SerializationError(f"a stored value is not JSON: {error}") from None
        except StopIteration as stop:
            raise SerializationError(
                f"a stored value is not JSON: no value at place {stop.value}"
            ) from None
        if end != len(text):
            raise SerializationError(f"a stored value is not JSON: more text at place {end}")
        return self.value_of(form) if '"$' in text else form

    def value_of(self, form: Any) -> Any:
        """The value of a form that was read as JSON.

        Raises:
            SerializationError: It is not one, or a class is not found in this process.
        """
        try:
            return StoredReader(self._pickles, self.resolver).value(form)
        except SerializationError:
            raise
        except (*UNREADABLE, OSError) as error:
            raise SerializationError(
                f"a stored value cannot be read: {error_text(error)}"
            ) from error

    def seal(self, body: bytes, purpose: bytes = b"") -> bytes:
        """JSON with its signature, if there is a key; it is JSON again."""
        if self._key is None:
            return body
        return b"".join((_SIGNED, self._signature(body, purpose), _BODY, body, b"}"))

    def unseal(self, body: bytes, purpose: bytes = b"") -> bytes:
        """The content of a sealed message.

        Raises:
            SerializationError: The signature is not that of the key for this purpose.
        """
        start = len(_SIGNED) + _SIGNATURE
        signed = body.startswith(_SIGNED) and body[start : start + len(_BODY)] == _BODY
        if self._key is None:
            if signed:
                raise SerializationError("a stored value is signed; give the signing_key")
            return body
        inner = body[start + len(_BODY) : -1]
        if not signed or not hmac.compare_digest(
            body[len(_SIGNED) : start], self._signature(inner, purpose)
        ):
            raise SerializationError(
                "the signature of a stored value is missing or wrong: it was changed, moved, "
                "or written with another signing_key"
            )
        return inner

    def _walked(self, value: Any) -> bytes:
        try:
            return self._written(value)
        except Refusal as refusal:
            raise located(value, refusal, self._pickles) from refusal.__cause__
        except Exception as error:  # raised by code of the value's classes, or a thread changed it
            raise NotStorableError(
                f"the value has no stored form: encoding it fails ({error_text(error)})", ""
            ) from error

    def _written(self, value: Any) -> bytes:
        form = StoredWriter(self._pickles).value(value)
        try:
            return _encode(form).encode()
        except ValueError:  # nan, an infinity, a surrogate or a huge int in some row
            form = StoredWriter(self._pickles, careful=True).value(value)
            return _encode(form).encode()

    def _signature(self, body: bytes, purpose: bytes) -> bytes:
        assert self._key is not None
        message = b"%d:%b%b" % (len(purpose), purpose, body)
        return hmac.digest(self._key, message, "sha256").hex().encode()


def _encoded_plain(value: Any) -> bytes | None:
    """A value that JSON can hold; None if another way has to be taken."""
    try:
        names = _names_if_plain(value)
        if names is not None:
            text = _encode(value)
            if not names or '"$' not in text or not any(name[:1] == "$" for name in names):
                return text.encode()
    except (ValueError, RuntimeError):
        pass  # nan, an infinity, a surrogate or a huge int; or the walk fails as well
    return None


def _small(value: Any) -> bytes | None:
    """A value, or a dict of such values, as JSON; None if another way has to be taken."""
    try:
        if type(value) is not dict:
            text = _atom(value)
            return None if text is None else text.encode()
        members = []
        for name, item in value.items():
            text = _atom(item)
            if text is None or type(name) is not str or name[:1] == "$":
                return None
            members.append(f"{encode_basestring(name)}:{text}")
        return f"{{{','.join(members)}}}".encode()
    except UnicodeEncodeError:  # a surrogate
        return None


def _atom(value: Any) -> str | None:
    kind = type(value)
    if kind is int:
        return repr(value) if -_SMALL < value < _SMALL else None
    if kind is str:
        return encode_basestring(value)
    if kind is float:
        return repr(value) if value - value == 0 else None  # no nan and no infinity
    return _CONSTANTS.get(value) if kind in _CONSTANT_TYPES else None


def _names_if_plain(value: Any) -> Iterable[str] | None:
    """The keys of dicts in a value that JSON can hold, apart from some numbers and texts; or None.

    Each level is looked at in C.
    """
    if type(value) in JSON_ATOMS:
        return ()
    names: set[str] = set()
    level = [value]
    for _ in range(DEEPEST + 1):
        kinds = set(map(type, level))
        if not kinds <= _PLAIN:
            return None
        if dict in kinds:
            keys = set().union(*[item for item in level if type(item) is dict])
            if not {str}.issuperset(map(type, keys)):
                return None
            names |= keys
        elif list not in kinds:
            return names
        if len(level) > _MANY:  # perhaps the same few containers again and again
            level = [*{id(item): item for item in level}.values()]
        level = get_referents(*level)
    return None
