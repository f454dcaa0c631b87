"""``node_keys``: nodes are identified by their content, in every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.graph.flows import join as gathered_in
from tests.graph.programs import programs

from cascade.graph.build import in_order
from cascade.graph.naming import ROOT, context_of, node_keys
from cascade.graph.serialize import from_json, to_json
from cascade.spec.blueprint import literal
from cascade.spec.caching import ByArguments
from cascade.spec.digest import digest
from cascade.spec.errors import ArgumentError, SerializationError
from cascade.spec.lazy_types import gather
from cascade.spec.params import Param
from cascade.spec.routing import Router
from cascade.spec.task import task


def _in_flows(func):
    """A task that is named alike wherever this file is imported from."""
    func.__module__ = "flows"
    return task(func)


@_in_flows
def load(path, sep=","): ...


@_in_flows
def clean(rows, strict=True): ...


@_in_flows
def join(*parts): ...


def key(lazy, **options):
    return node_keys(lazy, **options)[lazy]


GOLDEN = [
    ("load", "338f6cc5b878f4c5a0f9316bfb781712"),
    ("param strict", "21b16f713c7184c2fd5311548da4e01b"),
    ("load", "f0dc0ffc317b272aae505989f76b7c59"),
    ("gt", "3db741bcb2e105c32bb1fa19d6d4db90"),
    ("clean", "20cf676cd523c88f5e787c0cd3f64a11"),
    ("load", "e4909ac0595545b99d196441f479883c"),
    ("load", "53e5e3e0d6febac1d2f2ddc94e48a8c6"),
    ("gather", "c962d12e44fc5ca5a4532c708ab60594"),
    ("router", "b708e56f3e47361ad988097454a88881"),
    ("load.map", "0f64fdb500de686d5704ddb562029712"),
    ("getitem", "4a68285faed80922e1538d4727897374"),
    ("gather", "59b41a089176bcd58564162efbc5395c"),
    ("join", "e63e2cd37cc505ebd08d5111f248f289"),
]

# -- parts of a key -------------------------------------------------------------------------------


def test_keys_are_the_same_in_every_process_on_every_python():
    """Written down once. Stores outlive processes and Pythons, so these do not change."""
    rows = clean(load("a.csv", sep=";"), strict=Param("strict", type=bool)).run_if(load("b") > 1)
    routed = Router(selector=load("kind"), routes={"x": rows, 2: [load("c"), 3]})
    target = join(routed, {"all": [load.map(path=["d", "e"]), (rows[0],)]}, literal(("f",)))

    found = [(lazy.name, node_key.hex()) for lazy, node_key in node_keys(target).items()]

    assert found == GOLDEN


def test_calls_with_the_same_content_have_the_same_key_in_two_graphs():
    assert key(clean(load("a"))) == key(clean(load("a")))


@pytest.mark.parametrize(
    "other",
    [
        lambda: clean(load("b")),
        lambda: clean(load("a"), False),
        lambda: clean(load("a"), strict=True),
        lambda: load(load("a")),
        lambda: clean(clean(load("a"))),
        lambda: clean("a"),
        lambda: clean([load("a")]),
        lambda: clean(load("a")).run_if(load("b")),
        lambda: clean.map(rows=[load("a")]),
        lambda: clean(literal("a")),
    ],
)
def test_another_task_argument_input_or_condition_gives_another_key(other):
    assert key(other()) != key(clean(load("a")))


def test_policies_that_do_not_change_the_value_are_not_part_of_the_key():
    lazy = clean(load("a")).with_retry(3).with_timeout(5).after(load("b")).keep()
    lazy.with_cache(ByArguments(_Backend()))

    assert key(lazy) == key(clean(load("a")))


@pytest.mark.parametrize("value", [0, 255, -7, 1 << 70, True, None, 0.5, "a", b"a"], ids=repr)
def test_a_call_with_one_plain_argument_has_the_key_that_it_has_with_policies(value):
    """Such calls have a way of their own to their keys, as most calls of large graphs are so."""
    assert key(load(value)) == key(load(value).with_retry(2))


class _Backend:
    def get(self, key): ...

    def put(self, key, value, ttl): ...


def test_items_of_a_map_that_catches_errors_have_other_keys():
    assert key(load.map(path=["a"], return_exceptions=True)) != key(load.map(path=["a"]))


def test_other_nodes_of_the_graph_do_not_change_a_key():
    alone = clean(load("a"))
    first = clean(load("a"))
    keys = node_keys(join(load("z"), first, clean(load("b"))))

    assert keys[first] == key(alone)


def test_the_order_of_creation_does_not_matter():
    b, a = load("b"), load("a")
    c, d = load("a"), load("b")

    assert key(join(a, b)) == key(join(c, d))


def test_the_same_graph_in_another_context_has_other_keys():
    lazy = load("a")

    assert key(lazy, context=ROOT) == key(lazy)
    assert key(lazy, context=b"another") != key(lazy)


def test_nodes_of_another_graph_are_not_entered():
    inner = load("a")
    outer = clean(inner)
    keys = node_keys(outer, known={inner: b"known"})

    assert list(keys) == [outer]
    assert keys[outer] != key(outer)


def test_routes_have_keys():
    route = load("a")
    router = Router(selector=load("b"), routes={"x": route, "y": 2})

    assert route in node_keys(router)
    assert key(router) != key(Router(selector=load("b"), routes={"x": load("c"), "y": 2}))
    assert key(router) != key(Router(selector=load("b"), routes={"z": load("a"), "y": 2}))


# -- equal nodes ----------------------------------------------------------------------------------


def test_equal_nodes_have_keys_of_their_own():
    rolls = [load("dice") for _ in range(3)]

    assert len({*node_keys(gather(*rolls)).values()}) == 4


def test_equal_nodes_for_different_users_keep_their_keys_in_another_order_of_creation():
    def keys(first, second):
        """``load("dice")`` once for join and once for clean, created in the order given."""
        made = {}
        for user in (first, second):
            made[user] = load("dice")
        target = join(made["join"], clean(made["clean"]))
        found = node_keys(target)
        return found[made["join"]], found[made["clean"]]

    assert keys("join", "clean") == keys("clean", "join")
    assert len(set(keys("join", "clean"))) == 2


def test_lines_around_a_call_do_not_change_the_keys_of_equal_nodes():
    code = "def made():\n    return join(load('dice'), load('dice'))\n"

    def keys(source):
        names = {"load": load, "join": join}
        exec(source, names)
        return list(node_keys(names["made"]()).values())

    edited = "\n# a line\n\n" + code.replace("    return", "    # another\n    return")
    assert keys(code) == keys(edited)


def test_equal_containers_share_a_key_and_their_users_do_not():
    source = load("a")
    target = gather(join([source]), join([source]))

    keys = node_keys(target)
    first, second = target._dependencies

    assert keys[first.args[0]] == keys[second.args[0]]
    assert keys[first] != keys[second]


def test_users_of_equal_nodes_differ_with_them():
    target = gather(clean(load("dice")), clean(load("dice")))

    assert len({*node_keys(target).values()}) == 5


def test_equal_nodes_in_maps_have_keys_of_their_own():
    rows = [load("dice") for _ in range(50)]
    target = gather(load.map(path=rows), clean.map(rows=[load("dice") for _ in range(50)]))

    assert len({*node_keys(target).values()}) == 105


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_nodes_has_one_key_whatever_their_order_in_memory(kind):
    def made(numbers):
        lazies = {number: load(number) for number in numbers}
        return key(gather([kind(lazies.values()), lazies[3], kind([(lazies[5], "x")])]))

    numbers = list(range(40))

    assert made(numbers) == made(numbers[::-1])
    assert made(numbers) != made([*numbers, 41])


def test_equal_nodes_of_a_set_are_told_apart_by_their_order_of_creation():
    assert len({*node_keys(gather({load("dice") for _ in range(9)})).values()}) == 10


# -- names ----------------------------------------------------------------------------------------


def test_a_name_is_part_of_the_key():
    keys = {key(load("a")), key(load("a").named("x")), key(load("a").named("y"))}

    assert len(keys) == 3
    assert key(load("a").named("x")) == key(load("a").named("x"))


def test_named_nodes_keep_their_keys_where_equal_ones_are_added():
    def keys(*others):
        first = load("dice").named("first")
        target = join(*[load("dice") for _ in others], first)
        return node_keys(target)[first]

    assert keys() == keys(1) == keys(1, 2)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_is_a_text(name):
    with pytest.raises(ArgumentError, match=r"named\(\) of .*'load'.* takes a text"):
        load("a").named(name)


# -- properties -----------------------------------------------------------------------------------


@given(programs())
def test_all_nodes_of_a_program_have_keys_of_their_own(program):
    keys = node_keys(program[-1])

    named = [node_key for lazy, node_key in keys.items() if lazy.name != "gather"]
    assert len({*named}) == len(named)


@given(programs(), st.binary(), st.binary())
def test_a_program_has_other_keys_in_each_context(program, one, other):
    keys = [{*node_keys(program[-1], context=context).values()} for context in (one, other)]

    assert (keys[0] == keys[1]) is (one == other)
    assert one == other or keys[0].isdisjoint(keys[1])


def test_each_step_of_a_loop_is_a_context_of_its_own():
    node = bytes(16)

    assert len({ROOT, *(context_of(node, step) for step in range(20))}) == 21


calls = st.lists(
    st.tuples(
        st.sampled_from([load, clean, join]),
        st.lists(st.integers(0, 20), min_size=1, max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def made_of(recipe, order):
    """A node for each number in ``order``, whose inputs are older in the recipe; by number."""
    made = {}

    def node(number):
        if number not in made:
            call, inputs, wrapped = recipe[number]
            older = [node(i % number) for i in inputs if number]
            parts = [older] if wrapped else older
            made[number] = call(f"call {number}", *parts[: 1 if call is not join else None])
        return made[number]

    for number in order:
        node(number)
    return made


@given(calls, st.data())
def test_unrelated_edits_rename_nothing(recipe, data):
    """Other nodes are added, left out, or made earlier or later."""
    numbers = range(len(recipe))
    before = made_of(recipe, numbers)
    kept = data.draw(st.lists(st.sampled_from(numbers), unique=True, min_size=1))
    after = made_of(recipe, data.draw(st.permutations(kept)))
    extra = [load(f"extra {n}") for n in range(data.draw(st.integers(0, 3)))]

    old = node_keys(join(*before.values()))
    new = node_keys(join(*extra, *[after[number] for number in kept], *extra))

    assert [new[after[number]] for number in kept] == [old[before[number]] for number in kept]


@given(calls)
def test_keys_are_the_same_after_json(recipe):
    lazies = made_of([(_PORTABLE[call], *rest) for call, *rest in recipe], range(len(recipe)))
    target = gathered_in(*lazies.values())

    again = from_json(to_json(target)).target

    assert [*node_keys(again).values()] == [*node_keys(target).values()]
    assert len(in_order(again)) == len(in_order(target))


_PORTABLE = dict.fromkeys((load, clean, join), gathered_in)

#: Nodes that functions and arguments tell apart, also in comprehensions, in a file of its own.
_EQUAL_NODES = """
from cascade.graph.naming import node_keys
from cascade.spec.task import task

def load(path): ...
def join(*parts): ...

load.__module__ = join.__module__ = "flows"
load, join = task(load), task(join)

def made():
    many = [load("dice") for _ in range(3)]
    also = {number: load("coin") for number in range(2)}
    alone = [(lambda: load("coin"))() for _ in range(2)]
    names = {load(name) for name in ("ada", "bob", "cy", "dan")}
    return join(join(*many), join(*also.values()), *alone, names, {"a", "b", ("c", 1.5)})

print(*[key.hex() for key in node_keys(made()).values()])
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_equal_nodes_have_the_same_keys_in_every_process_on_every_python(seed):
    """Written down once, as those above."""
    root = Path(__file__).parents[2]
    sources = [str(root / "packages" / name / "src") for name in ("cascade-spec", "cascade-graph")]
    keys = subprocess.run(
        [sys.executable, "-c", _EQUAL_NODES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources), "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert len({*keys}) == len(keys) == 15
    assert digest(sorted(keys)).hex() == "5a44c485c7fa6267ef83269d452e4520"


# -- nodes without a key --------------------------------------------------------------------------


class Client: ...


def test_an_argument_without_a_digest_is_named():
    with pytest.raises(
        SerializationError,
        match=r"task 'load' \(at .*\): its argument 'sep' has no digest: it is a Client, a type "
        r"whose content is not defined; define it with cs.digestible",
    ):
        node_keys(clean(load("a", sep=Client())), strict=True)


def test_a_positional_argument_without_a_digest_is_counted():
    with pytest.raises(SerializationError, match=r"its argument no\. 2 has no digest: it holds a"):
        node_keys(load("a", [Client()]), strict=True)


def test_an_argument_without_a_digest_counts_by_its_type():
    assert key(load("a", Client())) == key(load("a", Client()))
    assert key(load("a", Client())) != key(load("a", object()))
    assert key(load([Client(), 1])) != key(load([Client(), 2]))


def test_a_value_that_contains_itself_counts_by_its_type():
    loop = []
    loop.append(loop)

    assert key(load("a", loop)) != key(load("a"))
    with pytest.raises(SerializationError, match="contains itself"):
        node_keys(load("a", loop), strict=True)
