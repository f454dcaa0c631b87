"""``blueprint_to_json``, ``blueprint_from_json``, ``content_hash``: the same blueprint elsewhere.

That it is executed to the same value, tests/engine/vm/test_portable.py holds.
"""

import dataclasses
import json
import math
import operator
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.graph.flows import Point, countdown, database, join, load, mixed, pair, query
from tests.graph.programs import programs

from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json, content_hash
from cascade.graph.references import portable
from cascade.graph.serialize import to_json
from cascade.spec.blueprint import Blueprint, Call, Literal, Register, literal
from cascade.spec.caching import ByArguments
from cascade.spec.errors import CycleError, SerializationError
from cascade.spec.lazy_types import gather
from cascade.spec.operators import eq
from cascade.spec.params import Env, Param
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.resource import inject
from cascade.spec.routing import Router
from cascade.spec.task import task

ROOT = Path(__file__).parents[2]


def build(target, **options):
    return BlueprintBuilder().build(target, **options)


def again(blueprint):
    """The blueprint after a trip through JSON."""
    return blueprint_from_json(blueprint_to_json(blueprint))


def document(blueprint):
    return json.loads(blueprint_to_json(blueprint))


def instructions(target):
    return document(build(target, template=False))["instructions"]


class Cache:
    """A cache that has nothing."""

    def get(self, key):
        return None

    def put(self, key, value, ttl=None): ...


# -- the format -----------------------------------------------------------------------------------


def test_a_blueprint_is_a_header_and_instructions():
    target = pair(load("x.csv"), b=[load(), 1]).run_if(eq(load(), 3))

    assert document(build(target)) == {
        "blueprint": 1,
        "registers": 8,
        "entry": 5,
        "rooted": True,
        "args": [0, 1],
        "kwargs": {"a": 0, "b": 1},
        "var_args": None,
        "var_kwargs": None,
        "defaults": [],
        "sources": [[0, 2], [1, 4]],
        "nodes": [],
        "instructions": [
            {"task": "tests.graph.flows:load", "out": 2, "args": ["x.csv"]},
            {"task": "tests.graph.flows:load", "out": 3},
            {
                "gather": {"kind": "list", "steps": [["list", [None, 1], [[0, 0]]]]},
                "out": 4,
                "args": [{"$register": 3}],
            },
            {"task": "tests.graph.flows:load", "out": 5},
            {
                "task": "cascade.spec.operators:eq",
                "out": 6,
                "args": [{"$register": 5}, 3],
            },
            {
                "task": "tests.graph.flows:pair",
                "out": 7,
                "args": [{"$register": 0}],
                "kwargs": {"b": {"$register": 1}},
                "if": [{"$register": 6}],
            },
        ],
    }


def test_inputs_that_collect_and_defaults_are_in_the_header():
    header = document(BlueprintBuilder().build_task(mixed))

    assert header["defaults"] == [[1, 2], [3, 4], [4, {"$tuple": []}], [5, {}]]
    assert (header["var_args"], header["var_kwargs"]) == (4, 5)
    assert (header["instructions"][0]["var_args"], header["entry"]) == (4, 0)


def test_every_other_kind_of_call_has_a_form():
    mapped = pair.map(a=[1, load()], b=literal(3), return_exceptions=True).with_retry(2)
    param = Param("n", default=2, type=int, description="how many")
    forms = instructions(join(mapped, param, Env("HOME"), param > 1, param[1:], inject("db")))

    retry = {"max_attempts": 2, "delay": 0.0, "backoff": 1.0, "max_delay": {"$float": "inf"}}
    retry |= {"jitter": 0.0, "on": "builtins:Exception"}
    assert forms[2]["map"] == {
        "task": "tests.graph.flows:pair",
        "names": ["a"],
        "shared": {"b": {"$literal": 3}},
        "retry": retry,
        "catches": True,
    }
    assert forms[3:] == [
        {
            "param": "n",
            "type": "builtins:int",
            "description": "how many",
            "default": 2,
            "out": 3,
            "args": ["n"],
        },
        {"env": "HOME", "out": 4, "args": ["HOME"]},
        {"operator": "gt", "out": 5, "args": [{"$register": 3}, 1]},
        {"operator": "slice", "out": 6, "args": [{"$register": 3}, 1, None, None]},
        {
            "task": "tests.graph.flows:join",
            "out": 7,
            "args": [*({"$register": place} for place in range(2, 7)), {"$inject": "db"}],
        },
    ]


def test_amounts_are_numbers_or_registers():
    blueprint = build(pair(1).with_capacity(gpu=load(), disk=0.5), template=False)
    form = document(blueprint)["instructions"][-1]
    assert (form["capacities"], form["amounts"]) == ({"disk": 0.5}, {"gpu": {"$register": 0}})
    root = again(blueprint).instructions[-1]
    assert root.policies.capacities == (("disk", 0.5),)
    assert root.amounts == {"gpu": Register(0)}
    others = [pair(1).with_capacity(gpu=load()), pair(1).with_capacity(disk=0.5), pair(1)]
    hashes = [content_hash(build(other)) for other in others]
    assert len({content_hash(blueprint), *hashes}) == 4


def test_a_map_over_a_parameter_hides_its_items_after_the_trip():
    """Notes and events do not show them."""
    loaded = again(build(load.map(path=Param("paths", default=["a"], type=list))))

    assert loaded.instructions[-1].args[0].value.hidden == ("path",)


def test_of_a_map_amounts_are_for_its_items():
    (form,) = instructions(pair.map(a=[1]).with_capacity(gpu=2))
    assert form["map"]["capacities"] == {"gpu": 2}
    with pytest.raises(SerializationError, match="gpu"):
        instructions(pair.map(a=[1]).with_capacity(gpu=load()))


def test_the_routes_of_routers_are_nodes_and_shared_ones_are_one():
    shared = load("shared")
    first = Router(selector=load(), routes={"s": shared, 1: "plain"})
    second = Router(selector="p", routes={"p": pair(shared)})
    made = document(build(gather(first, second)))

    assert made["nodes"] == [
        {"task": "tests.graph.flows:load", "args": ["shared"], "kwargs": {}},
        {"task": "tests.graph.flows:pair", "args": [{"$node": 0}], "kwargs": {}},
    ]
    routers = [form for form in made["instructions"] if "router" in form]
    assert routers == [
        {"router": [["s", {"$node": 0}], [1, "plain"]], "out": 1, "args": [{"$register": 0}]},
        {"router": [["p", {"$node": 1}]], "out": 2, "args": ["p"]},
    ]


def test_policies_of_an_instruction_are_written():
    (form,) = instructions(load().with_timeout(3).with_retry(on=(KeyError, OSError)))

    assert form["timeout"] == 3.0
    assert form["retry"]["on"] == ["builtins:KeyError", "builtins:OSError"]
    (call,) = again(build(load().with_timeout(3).with_retry(4), template=False)).instructions
    assert (call.policies.timeout, call.policies.retry.max_attempts) == (3.0, 4)


def test_the_priority_of_an_instruction_is_written():
    (form,) = instructions(load().with_priority(3))

    assert form["priority"] == 3
    (call,) = again(build(load().with_priority(3), template=False)).instructions
    assert call.policies.priority == 3


def test_an_instruction_without_policies_has_the_plain_ones():
    assert again(build(load())).instructions[0].policies is PLAIN_CALLS


def test_the_result_is_json_to_the_letter_with_any_indentation():
    def refuse(constant):
        raise AssertionError(constant)

    blueprint = build(join(math.nan, [math.inf, load()]), template=False)
    json.loads(blueprint_to_json(blueprint), parse_constant=refuse)

    assert "\n  " in blueprint_to_json(blueprint, indent=2)
    assert json.loads(blueprint_to_json(blueprint, indent=2)) == document(blueprint)


# -- there and back -------------------------------------------------------------------------------


@settings(deadline=None)
@given(programs(amounts=True), st.booleans())
def test_a_second_trip_changes_nothing(program, template):
    blueprint = build(program[-1], template=template)
    loaded = again(blueprint)

    assert document(loaded) == document(blueprint)
    assert content_hash(loaded) == content_hash(blueprint)
    assert hash(loaded) == hash(blueprint) or any(
        isinstance(getattr(call.func, "__self__", None), (Param, Env))
        for call in blueprint.instructions
    )
    assert [call.name for call in loaded.instructions] == [
        call.name for call in blueprint.instructions
    ]
    assert loaded.task is blueprint.task or not isinstance(blueprint.task, type(load))


_plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("$ab", max_size=2), inner, max_size=3),
        st.dictionaries(st.tuples(st.integers()), inner, max_size=3),
        st.sets(st.integers(), max_size=3),
        st.builds(Point, inner, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(_plain, max_size=3), _plain)
def test_a_blueprint_of_plain_values_is_equal_after_the_trip(values, default):
    root = pair(load(*values[:1]), literal([literal(values)])).after(load())
    blueprint = dataclasses.replace(build(root), input_defaults={0: default})
    loaded = again(blueprint)

    assert loaded == blueprint
    assert hash(loaded) == hash(blueprint)
    assert content_hash(loaded) == content_hash(blueprint)  # which tells 1 from 1.0


def test_a_blueprint_made_by_hand_is_equal_after_the_trip():
    calls = [
        Call(load.func, Register(2), [Literal({"$a": 1})], task=load),
        Call(operator.add, Register(1), [Register(0), Literal(1)], conditions=[Literal(True)]),
        Call(pair.func, Register(0), (), {"a": Register(1)}, after=[Register(2)], task=pair),
    ]
    blueprint = Blueprint(calls, 3, [0], {"n": 0}, input_defaults={0: (1, 2)}, entry=1)
    loaded = again(blueprint)

    assert loaded == blueprint
    assert loaded.task is None
    assert [call.task for call in loaded.instructions][::2] == [load, pair]


def test_an_empty_blueprint_is_equal_after_the_trip():
    assert again(Blueprint()) == Blueprint()


def test_sources_of_instructions_are_not_serialised():
    assert [call.source for call in again(build(pair(load()))).instructions] == [None, None]


def test_a_provider_comes_back_as_itself():
    loaded = again(BlueprintBuilder().build_task(query))
    injected = list(loaded.input_defaults.values())

    assert injected[0].definition is database
    assert injected[1].resource_name == "log"


def test_a_long_blueprint(many):
    lazy = load()
    for _ in range(many):
        lazy = pair(lazy)
    blueprint = build(lazy)

    assert again(blueprint) == blueprint


# -- the hash of the content ----------------------------------------------------------------------


def test_programs_that_are_built_twice_have_one_content():
    def program():
        return build(pair([load("a"), {"x": load("b")}], pair.map(a=[1, 2])))

    assert content_hash(program()) == content_hash(program())
    assert len(content_hash(program())) == 64


def test_the_order_of_sets_and_dicts_does_not_change_the_text():
    numbers = list(range(0, 10_000, 97))
    shuffled = random.Random(1).sample(numbers, len(numbers))
    for make in (set, dict.fromkeys, lambda n: {str(i): 0 for i in n}, lambda n: {(*n,): n}):
        one, other = make(numbers), make(numbers if make(numbers) != make(shuffled) else shuffled)
        assert one == other
        assert content_hash(build(load(one), template=False)) == content_hash(
            build(load(other), template=False)
        )
    by_name = [build(pair(a=1, b=2), template=False), build(pair(b=2, a=1), template=False)]
    assert content_hash(by_name[0]) == content_hash(by_name[1])


def test_a_name_of_an_argument_may_look_like_a_mark():
    def named(**given):
        return build(gather(join(**given), Router(selector=1, routes={1: join(**given)})))

    one = named(**{"$set": [1, 3], "$dict": 2, "kwargs": {"map": {"$set": {(1, 2), (3,)}}}})
    other = named(**{"$set": [3, 1], "$dict": 2, "kwargs": {"map": {"$set": {(1, 2), (3,)}}}})

    assert content_hash(one) != content_hash(other)
    assert content_hash(again(one)) == content_hash(one)
    assert again(one).instructions[0] == one.instructions[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pair(1), pair(2)),
        (pair(1), pair(1.0)),
        (pair(1), pair(True)),
        (pair((1,)), pair([1])),
        (pair(1), pair(1, b=2)),
        (pair(1), load(1)),
        (load(), load().with_timeout(1)),
        (load().with_timeout(2), load().with_timeout(1)),
        (pair.map(a=[1]), pair.map(a=[1], return_exceptions=True)),
        (Router(selector=1, routes={1: load()}), Router(selector=1, routes={1: load("x")})),
        (Param("p"), Param("p", default=None)),
        (gather(load(), 1), gather(load(), 2)),
    ],
)
def test_other_programs_have_another_content(one, other):
    assert content_hash(build(one, template=False)) != content_hash(build(other, template=False))


def test_the_content_is_the_same_in_another_process():
    """Where strings have other hashes, and sets another order."""
    code = (
        "from tests.graph.flows import load, pair\n"
        "from cascade.graph.compiler import BlueprintBuilder\n"
        "from cascade.graph.portable import content_hash\n"
        "print(content_hash(BlueprintBuilder().build(pair(load({'a', 'b', 'c', 'd'}), b='x'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    here = content_hash(build(pair(load({"a", "b", "c", "d"}), b="x")))
    assert result.stdout.strip() == here


# -- blueprints without a JSON form ---------------------------------------------------------------


def test_a_function_without_a_task_is_refused_with_the_remedy():
    for func in (len, load.func, lambda: 0):
        blueprint = Blueprint([Call(load.func, Register(0), task=load), Call(func, Register(1))], 2)
        with pytest.raises(SerializationError) as caught:
            blueprint_to_json(blueprint)

        name = blueprint.instructions[1].name
        assert str(caught.value).startswith(
            f"instruction 1 ({name}) has no JSON form: its function"
        )
        assert str(caught.value).endswith("give the call its task: Call(f.func, …, task=f)")


@task
def at_the_top(default=object()): ...  # noqa: B008


def local():
    @task
    def inner(): ...

    return inner()


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (
            local(),
            r"^instruction 0 \(inner\) has no JSON form: its function .*<locals>.inner, which",
        ),
        (pair(1, object()), r"^instruction 0 \(pair\) has no JSON form: the argument <object "),
        (
            pair(load(), len),
            r"^instruction 1 \(pair\) has no JSON form: the argument <built-in function len>",
        ),
        (pair(literal([load()])), r"has no JSON form: a lazy value inside cs\.literal\(…\)$"),
        (load().with_cache(ByArguments(Cache())), r"has no JSON form: its cache <"),
        (
            load().with_retry(on=lambda error: True),
            r"^instruction 0 \(load\) .* its retry on <func",
        ),
        (
            load().with_retry(delay=lambda error, attempt: 1),
            r"^instruction 0 \(load\) .* its retry with the delay <func",
        ),
        (
            Param("p", type=lambda text: text),
            r"^instruction 0 \(param p\) has no JSON form: its type",
        ),
        (load(nested(50_000)), r"^instruction 0 \(load\) has no JSON form: .* nested too deep$"),
        (
            Router(selector=1, routes={1: load(object())}),
            r"^instruction 0 \(router\) has no JSON form: a route of it: node 'load' \(.*argument",
        ),
        (pair.map(a=[1], b=literal(len)), r"^instruction 0 \(pair\.map\) has no JSON form: "),
    ],
)
def test_a_value_without_a_json_form_is_named_with_its_instruction(target, problem):
    blueprint = build(target, template=False)
    for write in (blueprint_to_json, content_hash):
        with pytest.raises(SerializationError, match=problem):
            write(blueprint)


def test_a_default_without_a_form_is_named_with_its_input():
    blueprint = BlueprintBuilder().build_task(at_the_top)
    with pytest.raises(
        SerializationError, match=r"^the default of the input 'default' of 'at_the_top' has no JSON"
    ):
        blueprint_to_json(blueprint)


@pytest.mark.parametrize(
    ("blueprint", "problem"),
    [
        (
            Blueprint(task=load),
            "^the blueprint 'load' has no JSON form: its <task load> is not that",
        ),
        (Blueprint([Call(load.func, 3, task=load)]), r"^instruction 0 \(load\) .*: 3, where a Reg"),  # type: ignore[arg-type]
        (
            Blueprint([Call(load.func, Register("x"), task=load)]),  # type: ignore[arg-type]
            r"^instruction 0 \(load\) has no JSON form: 'x', where an int was expected$",
        ),
        (
            Blueprint([Call(load.func, Register(0), [3], task=load)]),  # type: ignore[list-item]
            r"^instruction 0 \(load\) has no JSON form: 3, where a Register or a Literal",
        ),
        (
            Blueprint([Call(load.func, Register(0), (), {3: Literal(1)}, task=load)]),  # type: ignore[dict-item]
            r"^instruction 0 \(load\) has no JSON form: the name 3, where a str was expected",
        ),
        (
            Blueprint([Call(pair.func, Register(0), task=load)]),
            r"^instruction 0 \(load\) .*: its function <function pair .*, which is not that of its",
        ),
    ],
)
def test_a_faulty_blueprint_made_by_hand_is_refused(blueprint, problem):
    with pytest.raises(SerializationError, match=problem):
        blueprint_to_json(blueprint)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ({"register_count": "many"}, "'many', where an int was expected"),
        ({"entry": True}, "True, where an int was expected"),
        ({"input_args": [None]}, "None, where an int was expected"),
        ({"input_kwargs": {3: 0}}, "the name 3, where a str was expected"),
        ({"input_defaults": {"x": 0}}, "'x', where an int was expected"),
        ({"input_sources": {0: 0.5}}, "0.5, where an int was expected"),
    ],
)
def test_faulty_inputs_are_refused(field, problem):
    """JSON would take them, and give others back."""
    blueprint = dataclasses.replace(build(load()), **field)
    with pytest.raises(
        SerializationError, match=f"^the blueprint 'load' has no JSON form: {problem}$"
    ):
        blueprint_to_json(blueprint)


def test_routes_that_wait_for_each_other_are_a_cycle():
    first, second = load("first"), load("second")
    first.after(second)
    second.after(first)
    with pytest.raises(CycleError):
        blueprint_to_json(build(Router(selector=1, routes={1: first})))


# -- text that cannot be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, r"^blueprint_from_json\(\) takes text made by blueprint_to_json\(\), but"),
        (Path("x"), r"^blueprint_from_json\(\) takes text"),
        ("", "^not JSON: "),
        ("[" * 100_000, "^not JSON: "),
        (b"\xff\xfe\xfa", "^not JSON: "),
        ("1" * 5000, "^not JSON: "),
        ("[]", r"^not a blueprint of version 1: '\[\]'$"),
        ('{"blueprint": 2}', "^not a blueprint of version 1"),
        (to_json(load()), "^not a blueprint of version 1"),
        ('{"blueprint": 1}', "^the blueprint cannot be read: it has no 'nodes'$"),
        (
            '{"blueprint": 1, "nodes": 3}',
            "^the blueprint cannot be read: its nodes must be of type list, but is",
        ),
        ('{"blueprint": 1, "nodes": [3]}', "^node 0 cannot be read: it is not an object but 3$"),
    ],
)
def test_text_of_another_format_is_refused(text, problem):
    with pytest.raises(SerializationError, match=problem):
        blueprint_from_json(text)


LOAD = {"task": "tests.graph.flows:load", "out": 0}


def read(*forms, modules=(), **header):
    made = {**document(Blueprint()), "registers": 9, "instructions": list(forms), **header}
    return blueprint_from_json(json.dumps(made), modules=modules)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (3, "it is not an object but 3"),
        ({}, "its callable is not one of task, map, gather, router, param, env, .*, catch"),
        ({"task": LOAD["task"]}, "it has no 'out'"),
        ({**LOAD, "out": True}, "True is not an int"),
        ({**LOAD, "args": "abc"}, "its args must be of type list, but is 'abc'"),
        ({**LOAD, "kwargs": []}, r"its kwargs must be of type object, but is \[\]"),
        ({**LOAD, "catches": 1}, "its catches must be of type bool, but is 1"),
        ({**LOAD, "after": ["x"]}, "'x' is not an int"),
        ({**LOAD, "args": [{"$node": 0}]}, "0 is not the index of an earlier node"),
        ({**LOAD, "args": [{"$what": 0}]}, r"'\$what' marks no kind of value"),
        ({**LOAD, "args": [{"$float": 10**400}]}, "int too large to convert to float"),
        (
            {**LOAD, "args": [{"$namedtuple": ["builtins:tuple", []]}]},
            ".* is not a namedtuple but .*",
        ),
        ({**LOAD, "priority": "3"}, "its priority is '3', but must be an int"),
        ({**LOAD, "timeout": -1}, "its timeout is -1, but must be a number > 0"),
        ({**LOAD, "capacities": {"gpu": -1}}, ".*numbers ≥ 0, but 'gpu' is -1"),
        ({**LOAD, "capacities": []}, r"its capacities must be of type object, but is \[\]"),
        ({**LOAD, "amounts": []}, r"its amounts must be of type object, but is \[\]"),
        ({**LOAD, "task": "tests.graph.flows:gone"}, ".*flows:gone' cannot be imported: .*"),
        ({**LOAD, "task": "os:system"}, "'os:system' is not a task but <built-in function system>"),
        ({**LOAD, "task": "..:x"}, "'..:x' is in the module '..', which is not imported; .*"),
        ({"operator": "call", "out": 0}, "'call' is not an operator of lazy values"),
        ({"operator": [], "out": 0}, "unhashable type: 'list'"),
        ({"gather": {"kind": "os:system", "steps": []}, "out": 0}, ".* is not a namedtuple but .*"),
        (
            {"gather": {"kind": "list", "steps": [["list", [1], [[0, 0]]]]}, "out": 0},
            r"\[0, 0\] is not a hole of a step",
        ),
        (
            {"gather": {"kind": "list", "steps": [["list", 3, []]]}, "out": 0},
            "the items of a step are no list but 3",
        ),
        (
            {"map": {"task": LOAD["task"], "names": [3], "shared": {}}, "out": 0},
            "3 is not a str",
        ),
    ],
)
def test_an_instruction_that_cannot_be_read_is_counted(form, problem):
    with pytest.raises(SerializationError, match=f"^instruction 1 cannot be read: {problem}$"):
        read(LOAD, form)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"registers": "many"}, "'many' is not an int"),
        ({"entry": None}, "None is not an int"),
        ({"args": {}}, "its args must be of type list, but is {}"),
        ({"defaults": [[0]]}, "not enough values to unpack .*"),
        ({"sources": [[0, "x"]]}, "'x' is not an int"),
        ({"rooted": True}, "it has no instruction whose task could be its own"),
    ],
)
def test_a_malformed_header_is_described(header, problem):
    with pytest.raises(SerializationError, match=f"^the blueprint cannot be read: {problem}$"):
        read(**header)


def test_a_module_that_fails_when_it_is_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "failing_module.py").write_text("raise SystemExit('over')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SerializationError, match=r"'failing_module:x' cannot be imported: over$"):
        read({**LOAD, "task": "failing_module:x"}, modules=["failing_module"])


def test_only_references_are_imported(tmp_path, monkeypatch):
    """A string that looks like one elsewhere is an ordinary string."""
    (tmp_path / "imported_by_mistake.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    name = "imported_by_mistake:x"
    read({**LOAD, "args": [name, [name], {name: name}, {"$inject": name}], "kwargs": {name: name}})

    assert "imported_by_mistake" not in sys.modules


def test_a_type_is_not_called_when_a_parameter_is_read():
    """As Popen would be, with a default that a stranger has chosen."""
    loaded = read(
        {"param": "p", "type": f"{__name__}:Recorded", "description": "", "default": "x", "out": 0}
    )

    assert loaded.instructions[0].func.__self__.default == "x"
    assert Recorded.made == []


@portable
class Recorded:
    made: list = []  # noqa: RUF012

    def __init__(self, text):
        self.made.append(text)


# -- hostile text ---------------------------------------------------------------------------------

_router = Router(selector=Param("p", default="s"), routes={"s": pair.map(a=[load()])})
DOCUMENTS = [
    document(build(target, template=template))
    for target in (
        mixed(load(), 2, [load(), {"x": (1, load())}], c=Point(1, 2.5), z={1}),
        gather(_router, Env("HOME", None), _router[0] > 1),
        query("q").with_retry(2, on=(KeyError,)).with_timeout(1).run_if(load()).after(countdown(1)),
    )
    for template in (True, False)
]
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.just(10**400),
    st.floats(),
    st.sampled_from(
        ["", "$", ":", "x", "os:system", "builtins:object", "tests.graph.flows:load", "sys:exit"]
    ),
)
_anything = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["$node", "$register", "$dict", "$set", "$float", "$literal", "task",
                             "$provider", "$namedtuple", "$inject", "$tuple", "retry", "steps"]),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=6,
)  # fmt: skip


def places(part, path=()):
    """The path of every part of a document."""
    yield path
    if isinstance(part, dict):
        part = part.items()
    elif isinstance(part, list):
        part = enumerate(part)
    else:
        return
    for key, inner in part:
        yield from places(inner, (*path, key))


@st.composite
def damaged(draw):
    """A valid document with some parts replaced or left out."""
    made = json.loads(json.dumps(draw(st.sampled_from(DOCUMENTS))))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(made) if p]))
        part = made
        for key in path[:-1]:
            part = part[key]
        if draw(st.booleans()):
            del part[path[-1]]
        else:
            part[path[-1]] = draw(_anything)
        if not made:
            break
    return json.dumps(made)


def gives_a_blueprint_or_the_error(text):
    try:
        loaded = blueprint_from_json(text)
    except SerializationError as error:
        return bool(str(error))
    return isinstance(loaded, Blueprint) and isinstance(hash(loaded), int)


@settings(deadline=None)
@given(damaged())
def test_a_damaged_document_gives_a_blueprint_or_the_error(text):
    assert gives_a_blueprint_or_the_error(text)


@settings(deadline=None)
@given(st.sampled_from(DOCUMENTS), st.floats(0, 1, exclude_max=True))
def test_a_truncated_document_is_refused(made, share):
    text = json.dumps(made)
    with pytest.raises(SerializationError, match=r"^not JSON: "):
        blueprint_from_json(text[: int(share * len(text))])


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), _anything.map(json.dumps)))
@example("NaN")
def test_any_text_gives_a_blueprint_or_the_error(text):
    assert gives_a_blueprint_or_the_error(text)
