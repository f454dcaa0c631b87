"""``to_json`` and ``from_json``: the same program in another process."""

import functools
import json
import math
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.graph import flows
from tests.graph.flows import Colour, Group, Point, Row, database, join, load, pair, query
from tests.graph.programs import meaning, programs

from cascade.graph.build import build_graph
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json, content_hash
from cascade.graph.serialize import from_json, to_json
from cascade.spec.blueprint import literal
from cascade.spec.containers import fill
from cascade.spec.errors import SerializationError
from cascade.spec.kept_calls import idempotency_key, transaction
from cascade.spec.lazy_types import gather
from cascade.spec.operators import eq
from cascade.spec.params import Env, Param
from cascade.spec.resource import inject, resource
from cascade.spec.routing import Router
from cascade.spec.task import task

ROOT = Path(__file__).parents[2]


def again(target):
    """The target after a trip through JSON."""
    return from_json(to_json(target)).target


def argument_again(value):
    """A plain argument after a trip through JSON."""
    (result,) = again(join(value)).args
    return result


def document(target):
    return json.loads(to_json(target))


# -- the format -----------------------------------------------------------------------------------


def test_a_graph_is_nodes_with_inputs_before_users_and_the_target_last():
    source = load("x.csv")
    target = pair(source, b=[source, 1]).run_if(eq(source, 3)).after(load())

    assert document(target) == {
        "cascade": 1,
        "nodes": [
            {"task": "tests.graph.flows:load", "args": ["x.csv"], "kwargs": {}},
            {"gather": [{"$node": 0}, 1]},
            {
                "task": "cascade.spec.operators:eq",
                "args": [{"$node": 0}, 3],
                "kwargs": {},
            },
            {"task": "tests.graph.flows:load", "args": [], "kwargs": {}},
            {
                "task": "tests.graph.flows:pair",
                "args": [{"$node": 0}],
                "kwargs": {"b": {"$node": 1}},
                "if": [2],
                "after": [3],
            },
        ],
    }


def test_every_other_kind_of_node_has_a_form():
    mapped = pair.map(a=[1, 2], b=literal(3))
    param = Param("n", default=2, type=int, description="how many")
    router = Router(selector=Param("size"), routes={"s": mapped, 1: "plain"})
    target = join(router, Env("HOME", None), Env("USER"), param, param > 1, param[1:], -param)

    assert document(target)["nodes"][:-1] == [
        {"map": "tests.graph.flows:pair", "over": {"a": [1, 2], "b": {"$literal": 3}}},
        {"param": "n", "type": "builtins:int", "description": "how many", "default": 2},
        {"param": "size", "type": "builtins:str", "description": ""},
        {"router": {"$node": 2}, "routes": [["s", {"$node": 0}], [1, "plain"]]},
        {"env": "HOME", "default": None},
        {"env": "USER"},
        {"operator": "gt", "args": [{"$node": 1}, 1]},
        {"operator": "slice", "args": [{"$node": 1}, 1, None, None]},
        {"operator": "neg", "args": [{"$node": 1}]},
    ]


def test_amounts_are_numbers_or_nodes():
    amount = load()
    target = pair(1).with_capacity(gpu=amount, disk=0.5, net=2)

    assert document(target)["nodes"][-1] == {
        "task": "tests.graph.flows:pair",
        "args": [1],
        "kwargs": {},
        "capacities": {"disk": 0.5, "net": 2},
        "amounts": {"gpu": 0},
    }
    loaded = again(target)
    assert loaded._calls.capacities == (("disk", 0.5), ("net", 2))
    assert [type(amount) for _, amount in loaded._calls.capacities] == [float, int]
    assert [(n, lazy.name) for n, lazy in loaded._amounts.items()] == [("gpu", "load")]
    assert loaded._special


def test_a_priority_is_kept():
    assert document(pair(1).with_priority(-2))["nodes"][-1]["priority"] == -2
    assert again(pair(1).with_priority(-2))._calls.priority == -2
    assert again(pair.map(a=[1]).with_priority(3))._policies.calls.priority == 3
    assert "priority" not in document(pair(1).with_priority(0))["nodes"][-1]


def test_of_a_map_amounts_are_for_its_items():
    mapped = pair.map(a=[1, 2]).with_capacity(gpu=1)

    (form,) = document(mapped)["nodes"]
    assert form["capacities"] == {"gpu": 1}
    assert again(mapped)._policies.calls.capacities == (("gpu", 1),)
    with pytest.raises(SerializationError, match="the lazy amount of 'gpu' for each of its items"):
        to_json(pair.map(a=[1, 2]).with_capacity(gpu=load()))


@pytest.mark.parametrize("amount", [-1, "1", None, True, {"$float": "inf"}])
def test_invalid_amounts_are_refused(amount):
    made = document(pair(1).with_capacity(gpu=1))
    made["nodes"][0]["capacities"]["gpu"] = amount
    with pytest.raises(SerializationError):
        from_json(json.dumps(made))


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ((1, 2), {"$tuple": [1, 2]}),
        ({3}, {"$set": [3]}),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        ({1: 2}, {"$dict": [[1, 2]]}),
        ({"$node": 0}, {"$dict": [["$node", 0]]}),
        ({"a": 1, "$b": 2}, {"$dict": [["a", 1], ["$b", 2]]}),
        (Point(1, (2,)), {"$namedtuple": ["tests.graph.flows:Point", [1, {"$tuple": [2]}]]}),
        (frozenset({3}), {"$frozenset": [3]}),
        (deque([1], maxlen=2), {"$deque": [2, [1]]}),
        (OrderedDict(a=1), {"$ordered": [["a", 1]]}),
        (defaultdict(int, a=1), {"$defaultdict": ["builtins:int", [["a", 1]]]}),
        (Row(1), {"$dataclass": ["tests.graph.flows:Row", {"key": 1, "cell": None}]}),
        (math.inf, {"$float": "inf"}),
        (literal((1,)), {"$literal": {"$tuple": [1]}}),
        (inject("db"), {"$inject": "db"}),
    ],
)
def test_values_that_json_does_not_have_are_marked(value, form):
    assert document(join(value))["nodes"][0]["args"] == [form]


@pytest.mark.parametrize(
    "make",
    [
        lambda lazy: frozenset({1, lazy}),
        lambda lazy: deque([1, lazy], maxlen=2),
        lambda lazy: OrderedDict([("a", lazy), ("b", 1)]),
        lambda lazy: defaultdict(list, a=lazy),
        lambda lazy: Row("key", [lazy]),
    ],
)
def test_containers_with_lazy_values_come_back_with_their_own_types(make):
    lazy = load()
    (container,) = again(join(make(lazy)))._dependencies
    recipe, *leaves = container.args

    assert repr_of(fill(recipe, *["value" for _ in leaves])) == repr_of(make("value"))
    blueprint = BlueprintBuilder().build(join(make(lazy)))
    text = blueprint_to_json(blueprint)
    assert blueprint_to_json(blueprint_from_json(text)) == text
    assert content_hash(blueprint_from_json(text)) == content_hash(blueprint)


def test_the_attributes_of_an_instance_that_are_no_fields_have_no_json_form():
    row = Row("key")
    row.extra = 1
    with pytest.raises(SerializationError, match="the attribute 'extra' of a Row"):
        to_json(join(row))


@pytest.mark.parametrize(
    "argument",
    [
        {"$dataclass": ["tests.graph.flows:Point", {}]},
        {"$dataclass": ["tests.graph.flows:Row", {"unknown": 1}]},
        {"$defaultdict": ["os:system", []]},
        {"$deque": ["many", []]},
        {"$ordered": [1]},
    ],
)
def test_a_container_that_is_not_as_written_is_refused(argument):
    made = document(join(1))
    made["nodes"][0]["args"] = [argument]
    with pytest.raises(SerializationError):
        from_json(json.dumps(made))


def test_indentation_changes_nothing():
    text = to_json(pair(load()), indent=2)

    assert "\n  " in text
    assert json.loads(text) == document(pair(load()))


def test_the_result_is_json_to_the_letter():
    """No NaN: readers of other languages refuse it."""

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(to_json(join(math.nan, [math.inf, load()])), parse_constant=refuse)


# -- there and back -------------------------------------------------------------------------------


@given(programs(amounts=True))
def test_a_program_means_the_same_after_the_trip(program):
    target = program[-1]
    loaded = from_json(to_json(target)).target
    before, after = build_graph(target, routes=True), build_graph(loaded, routes=True)

    assert [node.name for node in after.nodes] == [node.name for node in before.nodes]
    assert [node.kind for node in after.nodes] == [node.kind for node in before.nodes]
    assert set(after.edges) == set(before.edges)
    assert after.waits == before.waits
    assert meaning(loaded) == meaning(target)


@given(programs(amounts=True))
def test_a_second_trip_changes_nothing(program):
    def ordered(value):
        """With sets in one order: theirs is by chance."""
        if isinstance(value, dict):
            value = {k: ordered(v) for k, v in value.items()}
            if set(value) == {"$set"}:
                value["$set"] = sorted(value["$set"], key=json.dumps)
            return value
        return [ordered(item) for item in value] if isinstance(value, list) else value

    text = to_json(program[-1])

    assert ordered(document(again(program[-1]))) == ordered(json.loads(text))


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("$a", max_size=2), inner, max_size=3),
        st.dictionaries(st.tuples(st.integers(), st.text(max_size=1)), inner, max_size=3),
        st.sets(st.one_of(st.integers(), st.text(max_size=2))),
        st.builds(Point, inner, inner),
        st.builds(Row, inner, inner),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 3])),
        st.frozensets(st.integers()),
        st.dictionaries(st.integers(), inner, max_size=3).map(OrderedDict),
        st.dictionaries(st.integers(), inner, max_size=3).map(lambda d: defaultdict(int, d)),
    ),
    max_leaves=12,
)


@given(_values)
def test_a_plain_argument_is_equal_and_of_the_same_type_after_the_trip(value):
    result = argument_again(value)

    assert result == value
    assert repr_of(result) == repr_of(value)


def repr_of(value):
    """``repr`` with sets in one order, to tell 1 from True and from 1.0."""
    kind = type(value)
    if isinstance(value, (set, frozenset)):
        return (kind, sorted(map(repr_of, value)))
    if isinstance(value, dict):
        return (kind, [(repr_of(k), repr_of(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple, deque)):
        return (kind, getattr(value, "maxlen", None), [repr_of(item) for item in value])
    if isinstance(value, Row):
        return (kind, repr_of(value.key), repr_of(value.cell))
    return repr(value)


def test_not_a_number_comes_back():
    assert math.isnan(argument_again(math.nan))


def test_a_shared_node_is_one_node_again():
    """R3."""
    shared = load()
    loaded = again(join(shared, [shared], pair(shared)))

    assert len(build_graph(loaded)) == 4


def test_younger_edges_come_back():
    first = load("first")
    second = load("second")
    first.after(second)
    (loaded, _) = again(join(first, second))._dependencies

    assert [lazy.args for lazy in loaded._predecessors] == [("second",)]


def test_a_graph_may_be_given_instead_of_its_target():
    target = pair(load())

    assert to_json(build_graph(target)) == to_json(target)


def test_the_routes_of_a_router_come_along():
    """R7."""
    loaded = again(Router(selector=Param("p"), routes={"s": pair(load()), (1, 2): 3}))

    assert len(build_graph(loaded, routes=True)) == 4
    assert loaded.routes[(1, 2)] == 3


def test_a_map_is_a_map_again():
    """R8."""
    source = load()
    loaded = again(pair.map(a=source, b=literal([1])))

    assert loaded.factory is pair
    assert loaded.name == "pair.map"
    assert loaded.args[0].shared == {"b": literal([1])}
    assert [lazy.task for lazy in loaded._dependencies] == [load]


def test_a_task_in_a_class_is_found_by_its_qualified_name():
    assert again(Group.nested()).task is Group.nested


def test_where_a_call_was_written_is_not_kept():
    assert again(load()).callsite.filename.endswith("serialize.py")


def test_another_process_imports_only_the_modules_it_allows():
    text = to_json(pair(load("x"), b=(1, 2)))
    code = (
        "import sys; from cascade.graph.serialize import from_json\n"
        "from cascade.spec.errors import TaskNotImportedError\n"
        "text = sys.stdin.read()\n"
        "try: from_json(text)\n"
        "except TaskNotImportedError as error: assert error.module == 'tests.graph.flows'\n"
        "else: raise AssertionError\n"
        "assert 'tests.graph.flows' not in sys.modules\n"
        "from_json(text, modules=['tests.graph.flows']).target.task.func\n"
        "assert 'tests.graph.flows' in sys.modules"
    )
    # -c puts the working directory, the repository's root, on the path.
    subprocess.run([sys.executable, "-c", code], input=text, text=True, cwd=ROOT, check=True)


# -- injections -----------------------------------------------------------------------------------


def test_an_injection_by_name_comes_back_by_name():
    loaded = again(query("q", inject("db")))

    assert loaded._special
    assert loaded.args[1].resource_name == "db"
    assert loaded.args[1].definition is None


def test_an_injection_by_provider_still_needs_no_registration():
    """``inject(provider)`` carries the provider; by its name alone it had to be registered."""
    by_default, by_hand = again(query("q")), again(join(inject(database)))

    assert by_default.kwargs["db"].definition is database
    assert by_default.kwargs["log"].resource_name == "log"
    assert by_hand.args[0].definition is database


@pytest.mark.parametrize("definition", [transaction, idempotency_key])
def test_what_a_store_gives_to_a_call_can_be_injected(definition):
    assert again(join(inject(definition))).args[0].definition is definition


def test_a_provider_that_cannot_be_imported_is_refused():
    @resource
    def local():
        yield 1

    with pytest.raises(SerializationError, match=r"^node 'join' .* has no JSON form: .*'local'"):
        to_json(join(inject(local)))


# -- size -----------------------------------------------------------------------------------------


def test_a_chain_of_many(many):
    lazy = load()
    for _ in range(many - 1):
        lazy = pair(lazy)

    assert len(from_json(to_json(lazy))) == many


def test_many_arguments(many):
    loaded = again(join(*(load() for _ in range(many))))

    assert len(loaded._dependencies) == many


def test_containers_too_deep_for_json_are_refused_by_name():
    deep = load()
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(SerializationError, match=r"^node 'gather' .* has no JSON form: .* deep"):
        to_json(join(deep))


def test_json_too_deep_to_read_is_refused():
    text = '{"cascade": 1, "nodes": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(SerializationError):
        from_json(text)


# -- graphs without a JSON form -------------------------------------------------------------------


@task
def at_the_top(): ...


def test_a_task_that_cannot_be_imported_is_named_with_the_remedy():
    @task
    def local(): ...

    lazy = local()
    with pytest.raises(TypeError, match=r"^node 'local' \(.*\) has no JSON form: ") as caught:
        to_json(join(lazy))

    assert type(caught.value) is SerializationError
    assert f"({lazy.callsite})" in str(caught.value)
    assert "<locals>.local, which cannot be imported by that name (define it at the top " in str(
        caught.value
    )


@pytest.mark.parametrize(
    "made",
    [task(lambda: 0), task(len), task(functools.partial(load.func)), task(name="x")(load.func)],
)
def test_a_task_without_a_name_of_its_own_is_refused(made):
    lazy = made() if made.name != "len" else made([])
    with pytest.raises(SerializationError, match=r"has no JSON form: its function "):
        to_json(lazy)


def test_a_task_that_another_has_replaced_is_refused(monkeypatch):
    lazy = at_the_top()
    to_json(lazy)
    monkeypatch.setitem(globals(), "at_the_top", load)
    with pytest.raises(SerializationError, match="cannot be imported by that name"):
        to_json(lazy)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        memoryview(b"bytes"),
        literal(len),
        [Path],
        {"local": functools.partial(len)},
    ],
)
def test_an_argument_without_a_form_is_named(value):
    with pytest.raises(SerializationError, match=r"^node 'join' .* has no JSON form: the argument"):
        to_json(join(value))


@pytest.mark.parametrize(
    "value",
    [b"bytes", 1j, range(3), Colour.RED, [Colour.RED], {Colour.RED: 1}, 1 << 20_000, Path("a")],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_keeps_its_exact_type(value):
    """Never written as something near: a StrEnum is no str."""
    found = argument_again(value)

    assert (found, type(found)) == (value, type(value))


def test_a_task_inside_a_literal_is_the_same_task():
    assert argument_again(literal(load)).value is load


def test_a_subclass_of_a_container_is_refused():
    class Rows(list): ...

    with pytest.raises(SerializationError, match=r"of type Rows$"):
        to_json(join(Rows()))


@pytest.mark.parametrize(
    "wrap", [literal, lambda x: literal([x]), lambda x: [literal([x]), load()]]
)
def test_a_lazy_value_inside_a_literal_is_refused(wrap):
    """It is not part of the graph (R2), and must not become so by the trip."""
    hidden = load()
    for target in (join(wrap(hidden)), join(wrap(hidden), hidden)):
        with pytest.raises(SerializationError, match=r"has no JSON form: .*literal"):
            to_json(target)


def test_a_task_or_an_injection_in_a_literal_of_a_container_is_refused():
    for hidden in (load, inject("db")):
        with pytest.raises(SerializationError, match=r"^node 'gather' .* inside cs\.literal\(…\)$"):
            to_json(join([literal(hidden), load()]))


def test_a_param_with_a_type_that_cannot_be_imported_is_refused():
    with pytest.raises(SerializationError, match=r"^node 'param p' .* has no JSON form: its type "):
        to_json(Param("p", type=lambda text: text))
    with pytest.raises(SerializationError, match=r"^node 'param p' .* has no JSON form: its type "):
        to_json(Param("p", type=functools.partial(int, base=16)))


def test_a_plain_value_is_refused():
    with pytest.raises(TypeError, match=r"^expected a lazy value"):
        to_json([1])


# -- text that cannot be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "^from_json\\(\\) takes text made by to_json\\(\\), but got None$"),
        (Path("graph.json"), "^from_json\\(\\) takes text made by .*, but got PosixPath"),
        ("", "^not JSON: "),
        ("{", "^not JSON: "),
        ("[]", r"^not a cascade graph of version 1: '\[\]'$"),
        ("3", "^not a cascade graph of version 1: '3'$"),
        ("{}", "^not a cascade graph of version 1"),
        ('{"cascade": 2, "nodes": []}', "^not a cascade graph of version 1"),
        ('{"cascade": 1}', "^the graph has no nodes$"),
        ('{"cascade": 1, "nodes": []}', "^the graph has no nodes$"),
        ('{"cascade": 1, "nodes": 5}', "^its nodes are not a list but 5$"),
        ('{"cascade": 1, "nodes": {"a": 1}}', "^its nodes are not a list but {'a': 1}$"),
    ],
)
def test_text_of_another_format_is_refused(text, problem):
    with pytest.raises(SerializationError, match=problem):
        from_json(text)


@pytest.mark.parametrize(
    "node",
    [
        {},
        3,
        "gather",
        None,
        {"nothing": 1},
        {"task": "tests.graph.flows:load"},
        {"task": 3, "args": [], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": 3, "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [1, 2], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [{"$node": 0}], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [{"$node": -1}], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [{"$what": 1}], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [{"$float": "x"}], "kwargs": {}},
        {"task": "tests.graph.flows:load", "args": [], "kwargs": {}, "if": [7]},
        {"task": "tests.graph.flows:load", "args": [], "kwargs": {}, "after": ["x"]},
        {"router": 1, "routes": []},
        {"operator": "add", "args": [1, 2]},
        {"operator": "no such", "args": []},
        {"operator": "attrgetter", "args": [{"$node": 0}]},
        {"gather": None},
        {"gather": {"$float": 10**400}},
        {"gather": {"$namedtuple": ["builtins:tuple", []]}},
        {"map": "tests.graph.flows:pair", "over": {"a": "text"}},
    ],
)
def test_a_node_that_cannot_be_read_is_counted(node):
    text = json.dumps({"cascade": 1, "nodes": [node]})
    with pytest.raises(SerializationError, match=r"^node 0 cannot be read: "):
        from_json(text)


LOAD = {"task": "tests.graph.flows:load", "args": [], "kwargs": {}}


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({}, "its kind is not one of task, map, gather, router, param, env, .*, catch"),
        ({"tsak": 1}, "its kind is not one of task, map, .*, catch"),
        ([], r"it is not an object but \[\]"),
        ({"task": LOAD["task"], "args": []}, "it has no 'kwargs'"),
        ({"gather": [{"$node": -1}]}, "-1 is not the index of an earlier node"),
        ({"gather": [{"$node": 1}]}, "1 is not the index of an earlier node"),
        ({"gather": [{"$node": True}]}, "True is not the index of an earlier node"),
        ({"gather": [{"$node": "0"}]}, "'0' is not the index of an earlier node"),
        ({**LOAD, "if": [-1]}, "-1 is not the index of an earlier node"),
        ({**LOAD, "after": [-1]}, "-1 is not the index of an earlier node"),
        ({"gather": [{"$what": 1}]}, r"'\$what' marks no kind of value"),
        ({"operator": "add", "args": [1, 2]}, "none of its args is a node"),
        ({"operator": "call", "args": [{"$node": 0}]}, "'call' is not an operator of lazy values"),
    ],
)
def test_a_malformed_node_is_described(node, problem):
    """A negative index would be that of a node at the end, which is not an earlier one."""
    text = json.dumps({"cascade": 1, "nodes": [LOAD, node]})
    with pytest.raises(SerializationError, match=f"^node 1 cannot be read: {problem}$"):
        from_json(text)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("no.such.module:f", r"is in the module 'no\.such\.module', which is not imported; "),
        ("tests.graph.flows:gone", "cannot be imported: .* has no attribute 'gone'$"),
        ("tests.graph.flows", "cannot be imported"),
        (":load", "cannot be imported"),
        ("tests.graph.flows:not_a_task", r"' is not a task but <function not_a_task"),
        ("os:getcwd", "' is not a task but <built-in function getcwd>$"),
    ],
)
def test_a_task_that_is_not_there_is_named(reference, problem):
    node = {"task": reference, "args": [], "kwargs": {}}
    with pytest.raises(SerializationError, match=problem) as caught:
        from_json(json.dumps({"cascade": 1, "nodes": [node]}))

    assert reference in str(caught.value)


def test_the_helper_module_is_the_one_that_is_imported():
    assert sys.modules["tests.graph.flows"] is flows
    assert fill(*gather(1).args) == [1]
