"""``node_keys``: nodes are identified by their content, in every process."""

import pytest

from cascade.graph.naming import ROOT, node_keys
from cascade.spec.blueprint import literal
from cascade.spec.caching import ByArguments
from cascade.spec.errors import SerializationError
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
    ("router", "27c58940da747e838378141ce3bec831"),
    ("load.map", "0f64fdb500de686d5704ddb562029712"),
    ("getitem", "4a68285faed80922e1538d4727897374"),
    ("gather", "59b41a089176bcd58564162efbc5395c"),
    ("join", "c54f5dbd77a93253b5db68ef2b06b2e0"),
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


def test_lines_above_a_function_do_not_change_the_keys_of_equal_nodes():
    code = "def made():\n    return join(load('dice'), load('dice'))\n"

    def keys(source):
        names = {"load": load, "join": join}
        exec(source, names)
        return list(node_keys(names["made"]()).values())

    assert keys(code) == keys("\n# another line\n\n" + code)


def test_users_of_equal_nodes_differ_with_them():
    target = gather(clean(load("dice")), clean(load("dice")))

    assert len({*node_keys(target).values()}) == 5


# -- nodes without a key --------------------------------------------------------------------------


class Client: ...


def test_an_argument_without_a_digest_is_named():
    with pytest.raises(
        SerializationError,
        match=r"task 'load' \(at .*\): its argument 'sep' has no digest: it is a Client, a type "
        r"whose content is not defined; define it with cs.digestible",
    ):
        node_keys(clean(load("a", sep=Client())))


def test_a_positional_argument_without_a_digest_is_counted():
    with pytest.raises(SerializationError, match=r"its argument no\. 2 has no digest: it holds a"):
        node_keys(load("a", [Client()]))
