"""The codec of stored values: what comes back is what was stored, or an error says why not."""

import datetime as dt
import json
import math
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.graph import stored
from tests.graph.stored import (
    Cart,
    Colour,
    Frozen,
    Level,
    Money,
    Order,
    Pair,
    Point,
    Refused,
    Right,
    Slotted,
    Word,
    step,
)

from cascade.graph.codec import Codec
from cascade.graph.storable import storable
from cascade.spec.errors import (
    ArgumentError,
    DefinitionError,
    NotStorableError,
    SerializationError,
    StoredError,
)

CODEC = Codec()
ROOT = Path(__file__).parents[2]


def again(value):
    return CODEC.loads(CODEC.dumps(value))


def shape(value):
    """A value with the types of all its parts, so that ``==`` compares these, and nan."""
    kind = type(value)
    if isinstance(value, dict):
        inner = [(shape(k), shape(v)) for k, v in value.items()]
        return kind, getattr(value, "default_factory", None), inner
    if kind is deque:
        return kind, value.maxlen, [*map(shape, value)]
    if kind in (set, frozenset):
        return kind, {repr(shape(v)) for v in value}
    if isinstance(value, (list, tuple)):
        return kind, [*map(shape, value)]
    if kind is Frozen:
        return kind, shape(value.inner)
    if kind is Order:
        return kind, shape(value.number), shape(value.items)
    if kind in (float, complex, Decimal):
        return kind, repr(value)
    if isinstance(value, (dt.datetime, dt.time)):
        return kind, value.isoformat(), value.fold, repr(value.tzinfo)
    return kind, value


def order(number, items):
    made = object.__new__(Order)
    made.number, made.items = number, items
    return made


# -- round trips ----------------------------------------------------------------------------------

surrogates = st.text(st.characters(exclude_categories=()))
zones = st.none() | st.timezones() | st.just(dt.UTC)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    surrogates,
    st.just("$tuple"),
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=zones),
    st.times(),
    st.timedeltas(),
    st.sampled_from(
        [*Colour, *Level, *Word, *Right, Right.READ | Right.WRITE, Right(0), ..., step]
    ),
)


def is_equal(value):
    """Whether a value equals itself; a nan does not, and comparing some is an error."""
    return not (isinstance(value, (float, complex, Decimal)) and "nan" in repr(value).lower())


names = st.text() | st.sampled_from(["$dict", "$tuple", "$"]) | surrogates
keys = leaves.filter(
    lambda value: not isinstance(value, (float, complex, Decimal)) or is_equal(value)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(names, inner),
        st.dictionaries(keys, inner),
        st.dictionaries(keys, inner).map(OrderedDict),
        st.dictionaries(keys, inner).map(lambda d: defaultdict(list, d)),
        st.frozensets(keys),
        st.sets(keys),
        st.lists(inner).map(lambda items: deque(items, 7)),
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner),
        st.builds(order, inner, st.lists(inner)),
    ),
    max_leaves=20,
)


@given(values)
@example({"\ud83d": "\ud83d\ude00"})
@example([math.nan, -0.0, math.inf])
@example({"a": {"$b": 1}})
@example({True: 1, 2.0: 3})
@example([Decimal("NaN123"), Decimal("sNaN")])
def test_a_value_comes_back_with_all_its_types(value):
    assert shape(again(value)) == shape(value)


@given(values)
def test_a_body_is_json_in_utf_8(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(CODEC.dumps(value).decode(), parse_constant=refuse)


@given(values)
def test_a_value_that_came_back_has_the_same_bytes(value):
    assert CODEC.dumps(again(value)) == CODEC.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"x"),
        Counter("abca"),
        Counter({"a": -1}),
        range(1, 9, 2),
        slice(1, None),
        1 << 20_000,
        [1 << 20_000],
        [5, -(1 << 100)],
        Fraction(1, 3),
        UUID(int=5),
        Path("a/b"),
        PurePosixPath("/a"),
        PureWindowsPath("c:\\a"),
        dt.timezone(dt.timedelta(hours=2), "there"),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        Pair(1, [2]),
        Cart("ada"),
        [Money(5), {"a": (Money(6),)}],
        Colour.CRIMSON,
        defaultdict(None, {1: 2}),
        ("a", ["b"] * 20_000),
        [[{"n": n} for n in range(12_000)]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_come_back_as_well(value):
    found = again(value)

    assert type(found) is type(value)
    assert found == value


def test_a_plain_value_is_plain_json():
    value = {"n": 1, "notes": ["ä", 2.5, None, True]}

    assert CODEC.dumps(value) == '{"n":1,"notes":["ä",2.5,null,true]}'.encode()


def test_sets_have_the_same_bytes_whatever_the_hash_seed():
    code = (
        "from cascade.graph.codec import Codec; import sys;"
        "sys.stdout.buffer.write(Codec().dumps([{'a', 'b', 'c', 'd'}, frozenset([('x', 1), 'y'])]))"
    )
    bodies = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(bodies) == 1


def test_a_class_with_slots_is_stored_by_its_attributes():
    value = Slotted()
    value.left = [1]

    found = again(value)

    assert found == value
    assert not hasattr(found, "right")
    assert CODEC.dumps(value).startswith(b'{"$storable":["slotted","tests.graph.stored",')


def test_utc_comes_back_as_the_one_object():
    assert again([dt.UTC])[0] is dt.UTC


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {1: x}, Frozen, Point])
def test_values_of_the_deepest_kind_come_back_from_deep_stacks(wrap):
    value = 0
    for _ in range(100 if wrap is not Point else 50):
        value = wrap(value)

    def below(levels):
        return again(value) if levels == 0 else below(levels - 1)

    assert shape_of_chain(below(200)) == shape_of_chain(value)
    with pytest.raises(NotStorableError, match="nested more than 100 levels deep"):
        CODEC.dumps([wrap(value) for _ in range(60)] and deeper(wrap, value))


def deeper(wrap, value):
    for _ in range(60):
        value = wrap(value)
    return value


def shape_of_chain(value):
    """The types from outside in, without recursion."""
    kinds = []
    while value != 0:
        kinds.append(type(value))
        if isinstance(value, dict):
            value = value[1]
        else:
            value = value.inner if isinstance(value, Frozen) else value[0]
    return kinds


# -- errors as values -----------------------------------------------------------------------------


def raised(make):
    try:
        raise make()
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 2),
        KeyError("k"),
        FileNotFoundError(2, "gone", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        Refused("ada", amount=5),
        NotStorableError("no", ".a"),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_as_itself(error):
    error.add_note("a note")
    found = again([error])[0]

    assert type(found) is type(error)
    assert str(found) == str(error)
    assert repr(vars(found)) == repr(vars(error))
    assert repr(found.args) == repr(error.args)


def test_an_error_keeps_its_cause():
    error = ValueError("second")
    error.__cause__ = KeyError("first")

    assert repr(again(error).__cause__) == "KeyError('first')"


def test_an_os_error_knows_its_file():
    found = again(FileNotFoundError(2, "gone", "a.txt"))

    assert (found.errno, found.filename) == (2, "a.txt")


@pytest.mark.parametrize(
    "make",
    [
        lambda: type("Local", (ValueError,), {})("its text"),
        lambda: ValueError(threading.Lock(), "its text"),
    ],
)
def test_an_error_that_cannot_be_rebuilt_keeps_its_text_and_traceback(make):
    found = again([raised(make)])[0]

    assert type(found) is StoredError
    assert "its text" in str(found)
    assert "in raised" in found.traceback
    assert found.type_name.rpartition(":")[2] in ("Local", "ValueError")


# -- what has no form -----------------------------------------------------------------------------


class Client:
    def __repr__(self) -> str:
        return "<client>"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Client(), ""),
        ([1, [2, Client()]], "[1][1]"),
        ([0, 0, 0, {"user": order(1, Client())}], "[3]['user'].items"),
        ({("a", 1): Point(1, (Client(),))}, "[('a', 1)].y[0]"),
        (OrderedDict(a=deque([Client()])), "['a'][0]"),
        ({Client(): 1}, "(the key <client>)"),
        ({1, Client()}, "(the member <client>)"),
        (Frozen([math.nan, Client]), ".inner[1]"),
    ],
)
def test_the_error_has_the_place_of_the_part_without_a_form(value, place):
    with pytest.raises(NotStorableError) as caught:
        CODEC.dumps(value)

    assert caught.value.place == place
    assert str(caught.value).startswith(f"{place or 'the value'} has no stored form: it is <")


def test_the_place_goes_through_registered_classes():
    cart = Cart("ada")
    cart.items.append(Client())

    with pytest.raises(NotStorableError) as caught:
        CODEC.dumps({"cart": cart})

    assert caught.value.place == "['cart'].dump()['items'][0]"


class Rows(list): ...


class Text(str): ...


class Number(int): ...


class Fixed(dt.tzinfo):
    def utcoffset(self, _):
        return dt.timedelta()


@pytest.mark.parametrize(
    "value",
    [
        Rows(),
        Text("x"),
        Number(3),
        {Text("x"): 1},
        [[[Number(1)]]],
        dt.datetime(2026, 1, 1, tzinfo=Fixed()),  # type: ignore[abstract]
        memoryview(b"x"),
        step(1),
        len,
        int,
        (n for n in range(3)),
        [object()],
    ],
    ids=lambda value: type(value).__name__,  # the texts of some have addresses
)
def test_nothing_is_stored_as_something_near(value):
    with pytest.raises(NotStorableError):
        CODEC.dumps(value)


def test_a_registered_function_that_fails_is_told():
    class Bad: ...

    def fails(_):
        raise KeyError("boom")

    storable(Bad, fails, fails)

    with pytest.raises(NotStorableError, match=r"cs\.storable has for Bad fails: KeyError: 'boom'"):
        CODEC.dumps([Bad()])


def test_a_value_whose_code_fails_while_it_is_read_is_told():
    class Odd(tuple):
        _make = classmethod(tuple)

        def __iter__(self):
            raise RuntimeError("changed")

    Odd.__qualname__ = "Odd"
    globals()["Odd"] = Odd
    with pytest.raises(NotStorableError, match=r"encoding it fails \(RuntimeError: changed\)"):
        CODEC.dumps(Odd([1]))


# -- registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((3,), "takes a class, but got 3"),
        ((int,), "int has a stored form already"),
        ((Decimal,), "Decimal has a stored form already"),
        ((Client, str), "got no load"),
        ((Client, None, str), "got no dump"),
    ],
)
def test_a_wrong_registration_is_refused(arguments, problem):
    with pytest.raises(DefinitionError, match=problem):
        storable(*arguments)


def test_two_classes_cannot_have_one_name():
    with pytest.raises(DefinitionError, match=r"belongs to tests\.graph\.stored:Slotted"):
        storable(name="slotted")(Client)


def test_a_class_may_be_registered_again_as_reloading_a_module_does():
    first = type("Again", (), {})
    second = type("Again", (), {})
    storable(first)
    storable(second)

    assert type(again(second())) is second
    assert type(again(first())) is second


def test_a_numpy_array_is_stored_by_two_functions():
    numpy = pytest.importorskip("numpy", reason="needs numpy: pip install numpy")

    class Array(numpy.ndarray): ...

    storable(
        Array,
        lambda array: (array.dtype.str, array.shape, array.tobytes()),
        lambda parts: numpy.frombuffer(parts[2], parts[0]).reshape(parts[1]).copy().view(Array),
    )
    array = numpy.arange(6.0).reshape(2, 3).view(Array)

    assert (again({"a": array})["a"] == array).all()


def test_another_process_finds_classes_by_import():
    cart = Cart("ada")
    cart.items.append(order(3, [Money(5), Word.YES, Point(1), step, Refused("x", amount=1)]))
    code = (
        "import sys; from cascade.graph.codec import Codec;"
        "value = Codec().loads(sys.stdin.buffer.read());"
        "assert 'tests.graph.stored' in sys.modules;"
        "money, *_, error = value.items[0].items;"
        "print(type(value).__name__, money.cents, error.amount)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=CODEC.dumps(cart),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )

    assert result.stdout.split() == [b"Cart", b"5", b"1"], result.stderr.decode()


# -- hostile bodies -------------------------------------------------------------------------------

TAGS = [
    *("$tuple", "$set", "$frozenset", "$deque", "$dict", "$ordered", "$counter", "$defaultdict"),
    *("$namedtuple", "$dataclass", "$member", "$flags", "$float", "$int", "$str", "$error"),
    *("$failure", "$task", "$unset", "$storable", "$bytes", "$datetime", "$time", "$timedelta"),
    *("$timezone", "$decimal", "$fraction", "$uuid", "$zone", "$path", "$range", "$complex"),
    *("$pickle", "$node", "$literal", "$nothing", "$"),
]
REFERENCES = [
    *("os:system", "builtins:eval", "builtins:exec", "subprocess:Popen", "tests.graph.stored:step"),
    *("tests.graph.stored:Order", "tests.graph.stored:Point", "tests.graph.stored:Colour"),
    *("tests.graph.stored:Right", "tests.graph.stored:Refused", "builtins:tuple", "enum:Enum"),
    *("no_such_module:x", ":", "", "slotted", "builtins:BaseException", "builtins:int"),
]
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(REFERENCES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(st.sampled_from(REFERENCES), inner).map(list),
        st.dictionaries(st.text(max_size=3) | st.sampled_from(TAGS), inner, max_size=2),
        st.tuples(st.sampled_from(TAGS), inner).map(lambda pair: {pair[0]: pair[1]}),
    ),
    max_leaves=15,
)


@given(documents)
def test_a_hostile_document_is_read_as_data_or_refused(document):
    with suppress(SerializationError):
        CODEC.loads(json.dumps(document).encode())


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()))
def test_values_are_read_together_as_one_by_one(values):
    bodies = [Codec().dumps(value) for value in values]
    read = Codec().loads_plain(bodies)
    assert read is None or read == [Codec().loads(body) for body in bodies]


def test_plain_values_are_read_together():
    values = [1, "ä,]", None, 2.5, True, [1, [2]], {"a": {"b": 3}}]
    assert Codec().loads_plain([Codec().dumps(value) for value in values]) == values
    assert Codec().loads_plain([]) == []


@pytest.mark.parametrize(
    "bodies",
    [
        [b"1,2"],
        [b"1", b""],
        [b"1", b"2]"],
        [b"[1", b"2]"],
        [b"\xff"],
        [b'{"$tuple":[1]}'],
        [b"nan"],
    ],
)
def test_what_is_not_plain_is_not_read_together(bodies):
    assert Codec().loads_plain(bodies) is None


def test_signed_values_are_not_read_together():
    codec = Codec(signing_key="key")
    assert codec.loads_plain([codec.dumps(1)]) is None
    assert Codec().loads_plain([codec.dumps(1)]) is None


@given(st.binary())
def test_bytes_that_are_no_body_are_refused(body):
    for codec in (CODEC, SIGNED):
        with suppress(SerializationError):
            codec.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b"[" * 10**6 + b"]" * 10**6,
        b'{"$tuple":' * 10**5 + b"0" + b"}" * 10**5,
        b'{"$set":[' * 300 + b"]}" * 300,
        b"1" * 5000,
        b"",
        b"\xff\xfe",
        b'{"$range":[1,2,0]}',
        b'{"$error":["builtins:SystemExit"]}',
        b'{"$error":["builtins:ValueError",[],5,null]}',
        b'{"$error":["builtins:ValueError",[],{},5]}',
        b'{"$zone":"America"}',
        b'{"$zone":"../../etc/passwd"}',
        b'{"$datetime":["2026-01-01",7,null]}',
        b'{"$namedtuple":["tests.graph.stored:Point",[1,2,3]]}',
        b'{"$dataclass":["tests.graph.stored:Order",{"__class__":1}]}',
        b'{"$member":["tests.graph.stored:Colour","mro"]}',
        b'{"$flags":["tests.graph.stored:Right",1000]}',
        b'{"$flags":["tests.graph.stored:Right",-1]}',
        b'{"$pickle":"gASVAAAA"}',
        b'{"$storable":["x","no_such_module",1]}',
        b'{"$storable":["tests.graph.stored:Cart","tests.graph.stored",1]}',
    ],
)
def test_a_hostile_body_is_refused(body):
    with pytest.raises(SerializationError):
        CODEC.loads(body)


def test_reading_calls_no_class_that_a_body_names(monkeypatch):
    called = []
    for kind in (Order, Point, Refused, Colour):
        monkeypatch.setattr(kind, "__init__", lambda *_args, **_named: called.append(1))
    for body in (
        b'{"$dataclass":["tests.graph.stored:Order",{"number":1}]}',
        b'{"$namedtuple":["tests.graph.stored:Point",[1,2]]}',
        b'{"$error":["tests.graph.stored:Refused",[1],{},null]}',
        b'{"$member":["tests.graph.stored:Colour","RED"]}',
    ):
        CODEC.loads(body)

    assert called == []


# -- signatures -----------------------------------------------------------------------------------

SIGNED = Codec(signing_key="secret")


@given(values)
def test_a_signed_value_comes_back(value):
    body = SIGNED.dumps(value, b"run/node")

    assert shape(SIGNED.loads(body, b"run/node")) == shape(value)
    assert json.loads(body).keys() == {"$signed", "body"}


@given(st.data())
def test_no_byte_of_a_signed_body_can_be_changed(data):
    body = bytearray(SIGNED.dumps({"paid": False, "at": (1, 2)}))
    place = data.draw(st.integers(0, len(body) - 2))  # the last one is the bracket around it
    body[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SerializationError, match="signature"):
        SIGNED.loads(bytes(body))


@pytest.mark.parametrize(
    "read",
    [
        lambda body: SIGNED.loads(body, b"other"),
        lambda body: Codec(signing_key="other").loads(body, b"node"),
        lambda body: SIGNED.loads(CODEC.dumps(1), b"node"),
        lambda body: SIGNED.loads(body[:-1], b"node"),
        lambda body: SIGNED.loads(body + b"}", b"node"),
    ],
)
def test_a_body_is_refused_with_another_key_purpose_or_none(read):
    with pytest.raises(SerializationError, match="the signature of a stored value is missing"):
        read(SIGNED.dumps({"a": 1}, b"node"))


def test_a_signed_body_needs_the_key():
    with pytest.raises(SerializationError, match="give the signing_key"):
        CODEC.loads(SIGNED.dumps(1))


@pytest.mark.parametrize("key", [b"", "", 5])
def test_a_wrong_key_is_refused(key):
    with pytest.raises(ArgumentError, match="signing_key must be"):
        Codec(signing_key=key)


def test_pickles_need_a_key():
    with pytest.raises(ArgumentError, match="needs a signing_key"):
        Codec(serializer="pickle")
    with pytest.raises(ArgumentError, match="must be 'json' or 'pickle'"):
        Codec(serializer="marshal")


def test_what_has_no_form_is_pickled_if_that_was_asked_for():
    codec = Codec(signing_key="secret", serializer="pickle")
    value = {"a": Text("x"), "b": [1, Rows([2])]}

    found = codec.loads(codec.dumps(value))

    assert (type(found["a"]), type(found["b"][1])) == (Text, Rows)
    with pytest.raises(SerializationError, match="it with serializer='pickle'"):
        SIGNED.loads(codec.dumps(value))
    with pytest.raises(NotStorableError, match=r"\['lock'\] .* cannot be pickled"):
        codec.dumps({"lock": threading.Lock()})


def test_the_module_of_the_classes_is_the_one_that_bodies_name():
    assert stored.__name__ == "tests.graph.stored"


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize(
    "values",
    [
        [],
        [1, -3, True, False, None, 0.1, -1.7976931348623157e308, 1e-7, 2**70],
        [1, math.nan, 2],
        [math.inf, -math.inf],
        [7, 10**5000],
    ],
    ids=["none", "plain", "nan", "infinities", "huge"],
)
def test_atoms_are_encoded_together_as_one_by_one(key: str | None, values: list[Any]) -> None:
    codec = Codec(signing_key=key)
    assert codec.dumps_atoms(values) == [codec.dumps(value).decode() for value in values]
