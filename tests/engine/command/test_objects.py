"""Dataclasses and models of pydantic: as options of a target, and as JSON."""

import dataclasses
import json
import subprocess
import sys

import pytest

from cascade.command.objects import ObjectReader

SHOP = """
import enum
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
import cascade as cs

class Size(enum.Enum):
    SMALL = "s"
    BIG = "b"

@dataclass
class Item:
    sku: str
    price: Decimal
    size: Size = Size.SMALL

    def __post_init__(self):
        if self.price < 0:
            raise ValueError("a price is at least 0")

@dataclass(frozen=True)
class Order:
    items: list[Item]
    gift: Item | None = None
    day: date = date(2024, 1, 20)
    paid: bool = False
    notes: dict[str, int] = field(default_factory=dict)

@cs.task
def price(order: Order) -> Decimal:
    return sum((item.price for item in order.items), Decimal(0))

@cs.task
def same(order: Order = Order([Item("tea", Decimal("1.5"))])) -> Order:
    return order

@cs.task
def easy(settings: "Settings") -> str:
    return settings.name

@dataclass
class Settings:
    name: str = "usual"

param = same(cs.Param("order", type=Order, description="What they buy."))
"""
MODELS = """
from datetime import date
from typing import Annotated
from pydantic import BaseModel, ConfigDict, Field, model_validator
import cascade as cs

class Address(BaseModel):
    city: str
    zip_code: str = ""

class Customer(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str = Field(description="Their name.")
    age: int = Field(ge=0, alias="yearsOld")
    born: date | None = None
    home: Address | None = None
    tags: list[str] = []
    vip: bool = False

    @model_validator(mode="after")
    def check(self):
        if self.name == "nobody":
            raise ValueError("nobody buys nothing")
        return self

class Visits(BaseModel):
    at: list[Address]

@cs.task
def greet(customer: Customer) -> Customer:
    return customer

@cs.task
def visit(visits: Visits) -> int:
    return len(visits.at)
"""


@pytest.fixture
def shop(cascade, tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return cascade


def printed(outcome):
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


TEA = {"sku": "tea", "price": "1.5", "size": "s"}
USUAL: dict[str, object] = {
    "items": [TEA],
    "gift": None,
    "day": "2024-01-20",
    "paid": False,
    "notes": {},
}


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--order.paid"], {"paid": True}),
        (["--order.day=2024-02-01", "--no-order.paid"], {"day": "2024-02-01"}),
        (["--order.items", '[{"sku": "milk", "price": "2"}]'],
         {"items": [{"sku": "milk", "price": "2", "size": "s"}]}),
        (["--order.gift.sku", "cup", "--order.gift.price", "7.25", "--order.gift.size", "BIG"],
         {"gift": {"sku": "cup", "price": "7.25", "size": "b"}}),
        (["--order.gift", '{"sku": "cup", "price": "1"}', "--order.gift.price", "2"],
         {"gift": {"sku": "cup", "price": "2", "size": "s"}}),
        (["--order", '{"items": [], "notes": {"a": 1}}', "--order.paid"],
         {"items": [], "paid": True, "notes": {"a": 1}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", ["same", "param"])
def test_a_dataclass_is_given_as_json_or_field_by_field(shop, words, changed, target):
    if target == "param" and "--order" not in words:
        words = ["--order", json.dumps(USUAL), *words]
    outcome = shop("run", f"shop.py:{target}", *words, "--json")

    assert printed(outcome) == {**USUAL, **changed}


@pytest.mark.parametrize("data", [{"a": "5", "b": 2}, {"a": 5, "b": 2.0}, {"a": "x", "b": None}])
def test_data_of_one_of_several_types_stays_as_it_is(data):
    @dataclasses.dataclass
    class Mixed:
        a: int | str
        b: float | int | None

    made = ObjectReader(Mixed)(data)

    assert [(type(value), value) for value in vars(made).values()] == [
        (type(value), value) for value in data.values()
    ]


def test_an_object_is_read_from_a_file(shop, tmp_path):
    (tmp_path / "order.json").write_text(json.dumps(USUAL))

    assert shop("run", "shop.py:price", "--order", "@order.json").out == "Decimal('1.5')\n"
    assert shop("run", "shop.py:price", "--order", "@odrer.json") == (
        2, "", "cascade: --order cannot read odrer.json: No such file or directory\n"
    )  # fmt: skip


def test_an_object_whose_fields_have_defaults_may_be_left_out(shop):
    assert shop("run", "shop.py:easy").out == "usual\n"
    assert shop("run", "shop.py:easy", "--settings.name=other").out == "other\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--order is required, or options of its fields; see --help"),
        (["--order.paid"], "--order.items is required; see --help"),
        (["--order", "{"], "--order is not valid JSON: Expecting property name enclosed in "),
        (["--order", "[]"], "--order: must be a JSON object, but is [] (declared at shop.py:31)"),
        (["--order", "[]", "--order.paid"], "--order must be a JSON object, but is []"),
        (["--order.items", '[{"sku": "a", "price": "x"}]'],
         "--order.items[0].price: must be Decimal, but is 'x' (declared at shop.py:31)"),
        (["--order.items", '[{"sku": "a", "price": "1"}, {"sku": 3}]'],
         "--order.items[1].price is required; see --help\n"
         "--order.items[1].sku: must be str, but is 3 (declared at shop.py:31)"),
        (["--order.items", '[{"sku": "a", "price": "-1"}]'],
         "--order.items[0]: a price is at least 0 (declared at shop.py:31)"),
        (["--order.items", "[]", "--order.day", "soon"],
         "--order.day: must be date, but is 'soon' (declared at shop.py:31)"),
        (["--order.items", "[]", "--order.gift.size", "BIGG"],
         'Invalid value "BIGG" for --order.gift.size. Choose from: "SMALL", "BIG".'),
        (["--order", '{"items": [], "payed": true}'],
         "--order payed: Order has no such field (did you mean 'paid'?) (declared at shop.py:31)"),
        (["--order.item", "[]"], "Unknown option: --order.item. Did you mean --order.items?"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_option(shop, words, message):
    outcome = shop("run", "shop.py:price", *words)

    assert (outcome.code, outcome.out) == (2, "")
    assert sorted(outcome.err.removeprefix("cascade: ").splitlines())[0].startswith(
        sorted(message.splitlines())[0]
    )
    assert len(outcome.err.splitlines()) == len(message.splitlines())


def test_the_help_lists_the_fields(shop):
    page = " ".join(shop("run", "shop.py:param", "--help").out.replace("│", "").split())

    assert "What they buy. Order, as JSON or @FILE." in page
    assert "--order.gift.size CHOICE [choices: SMALL, BIG] [default: SMALL]" in page
    assert "--order.day DATE [default: 2024-01-20]" in page


def test_a_model_of_pydantic_is_validated_by_it(shop):
    words = ["--customer.name", "Ada", "--customer.age", "36", "--customer.born", "1815-12-10"]
    words += ["--customer.home.zip-code", "0150", "--customer.home.city", "Oslo", "--customer.vip"]
    outcome = shop("run", "models.py:greet", *words, "--json")

    assert printed(outcome) == {
        "name": "Ada", "age": 36, "born": "1815-12-10", "tags": [], "vip": True,
        "home": {"city": "Oslo", "zip_code": "0150"},
    }  # fmt: skip
    assert "--customer.name TEXT " in (page := shop("run", "models.py:greet", "--help").out)
    assert "Their name." in page


@pytest.mark.parametrize(
    ("target", "words", "lines"),
    [
        ("greet", ["--customer.age=-1"],
         ["--customer.name is required; see --help",
          "--customer.age: Input should be greater than or equal to 0, but is -1 (declared at "]),
        ("greet", ["--customer", '{"name": "Ada", "yearsOld": 1}', "--customer.age", "x"],
         ["--customer.age: Input should be a valid integer"]),
        ("greet", ["--customer.name=nobody", "--customer.age=1"],
         ["--customer: Value error, nobody buys nothing (declared at "]),
        ("visit", ["--visits.at", '[{"city": "Oslo"}, {"city": 7}]'],
         ["--visits.at[1].city: Input should be a valid string, but is 7 (declared at "]),
    ],
)  # fmt: skip
def test_the_errors_of_pydantic_are_told_at_their_options(shop, target, words, lines):
    outcome = shop("run", f"models.py:{target}", *words)

    assert outcome.code == 2
    told = outcome.err.removeprefix("cascade: ").splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(start) for line, start in zip(told, lines, strict=True)), told


def test_a_durable_run_keeps_the_data_and_not_the_object(shop):
    words = ["shop.py:same", "--order.paid", "--run-id=one", "--store=sqlite:///runs.db", "--json"]
    first, again = shop("run", *words), shop("run", *words)

    assert printed(first) == printed(again) == {**USUAL, "paid": True}
    params = shop("runs", "show", "one", "--store=sqlite:///runs.db").out.partition("result")[0]
    assert "{'order': {'day': '2024-01-20'" in params


VALUES = """
import enum, dataclasses, datetime, math, pathlib, typing
import cascade as cs

class Level(enum.IntEnum):
    LOW = 1

class Kind(enum.Enum):
    A = "a"

class Named(str, enum.Enum):
    B = "b"

class Point(typing.NamedTuple):
    x: int
    y: object

@dataclasses.dataclass
class Node:
    name: str
    inner: object = None

def nested():
    key = datetime.date(2024, 1, 20)
    when = datetime.timedelta(days=1, seconds=3, microseconds=500_000)
    first = Node("b", {key: {Kind.A: Level.LOW, Named.B: 2, Level.LOW: 3, 0.5: 4, math.inf: 5}})
    return Node("a", [first, (when, pathlib.Path("x")), Point(1, 2)])

def numbers():
    import numpy
    return Node("n", {"i": numpy.int64(3), "f": numpy.float32(0.5), "b": numpy.bool_(True),
                      "a": numpy.arange(3), "d": numpy.datetime64("2024-01-20")})

def holding(bad):
    return Node("a", [{"k": Node("b", (1, bad))}])

def model(bad):
    import pydantic
    class Deep(pydantic.BaseModel):
        ok: int = 1
        parts: list[typing.Any]
    return [Deep(parts=[0, {"z": bad}])]

@cs.task
def give(which: str) -> object:
    loop = Node("self")
    loop.inner = [loop]
    return {
        "nested": nested, "numbers": numbers,
        "complex": lambda: holding(1j), "nan": lambda: holding(float("nan")),
        "key": lambda: holding({(1, 2): 3}), "loop": lambda: loop,
        "model": lambda: model(object()),
    }[which]()
"""


@pytest.mark.parametrize(
    ("which", "form"),
    [
        ("nested", {"name": "a", "inner": [
            {"name": "b", "inner": {"2024-01-20": {
                "a": 1, "b": 2, "1": 3, "0.5": 4, "Infinity": 5}}},
            ["P1DT3.5S", "x"], [1, 2]]}),
        ("numbers", {"name": "n", "inner": {
            "i": 3, "f": 0.5, "b": True, "a": [0, 1, 2], "d": "2024-01-20"}}),
    ],
)  # fmt: skip
def test_values_become_json_at_any_depth(shop, tmp_path, which, form):
    (tmp_path / "values.py").write_text(VALUES)

    assert printed(shop("run", "values.py:give", "--which", which, "--json")) == form


@pytest.mark.parametrize(
    ("which", "fault"),
    [
        ("complex", "its part .inner[0]['k'].inner[1]: an object of type complex has none; "),
        ("nan", "its part .inner[0]['k'].inner[1]: JSON has no nan; "),
        ("key", "its part .inner[0]['k'].inner[1]: its key (1, 2) has no form as text; "),
        ("loop", "its part .inner[0]: it contains itself; "),
        ("model", "its part [0].parts[1]['z']: an object of type object has none; "),
    ],
)
def test_a_value_without_a_json_form_is_named_by_its_path(shop, tmp_path, which, fault):
    (tmp_path / "values.py").write_text(VALUES)
    outcome = shop("run", "values.py:give", "--which", which, "--json")

    assert (outcome.code, outcome.out) == (1, "")
    start = f"cascade: the value of values.py:give has no JSON form: {fault}"
    assert outcome.err.startswith(start), outcome.err


def test_pydantic_is_not_imported_for_dataclasses(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    code = (
        "import sys; from cascade.command.main import main\n"
        "assert main(['run', 'shop.py:same', '--order.paid', '--json', '--no-connect']) == 0\n"
        "assert not {'pydantic', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
