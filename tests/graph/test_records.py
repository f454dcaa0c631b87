"""Continuation records: what a call returned comes back in another process, with its keys."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.graph import flows
from tests.graph.flows import join, load, pair
from tests.graph.programs import meaning, programs
from tests.graph.test_codec import shape, values

from cascade.graph.build import in_order
from cascade.graph.codec import Codec
from cascade.graph.naming import context_of, node_keys
from cascade.graph.records import GraphRecord, TailRecord, graph_record, read_record, tail_record
from cascade.spec.blueprint import literal
from cascade.spec.caching import ByArguments
from cascade.spec.errors import NotStorableError, SerializationError
from cascade.spec.lazy_types import gather
from cascade.spec.task import task

CODEC = Codec()
KEY = bytes(range(16))


def read(body, known=()):
    return read_record(CODEC, body, dict(known))


def keys_in_order(target, keys):
    return [keys[lazy] for lazy in in_order(target, routes=True)]


# -- graphs ---------------------------------------------------------------------------------------


@given(programs())
def test_a_graph_comes_back_with_its_keys_and_its_meaning(program):
    target = program[-1]
    keys = node_keys(target, context=context_of(KEY, 3))

    found = read(graph_record(target, keys))

    assert type(found) is GraphRecord
    assert keys_in_order(found.target, found.keys) == keys_in_order(target, keys)


@given(programs(policies=False, sources=False))
def test_a_graph_that_came_back_means_the_same(program):
    target = program[-1]

    found = read(graph_record(target, node_keys(target)))

    assert repr(meaning(found.target)) == repr(meaning(target))


@given(programs(), st.data())
def test_known_nodes_come_back_as_the_ones_that_the_run_has(program, data):
    target = program[-1]
    keys = node_keys(target)
    nodes = in_order(target, routes=True)
    chosen = data.draw(st.lists(st.sampled_from(nodes), unique_by=id))
    known = {lazy: keys[lazy] for lazy in chosen}

    body = graph_record(target, keys, known)
    found = read(body, {key: lazy for lazy, key in known.items()})

    if target in known:
        assert found == (target, {})
        return
    entered = in_order(target, routes=True, known=known.__contains__)
    # An equal container shares the key of a known one, which stands for it.
    unknown = [keys[lazy] for lazy in entered if keys[lazy] not in known.values()]
    assert [*found.keys.values()] == unknown
    outside = {lazy for node in found.keys for lazy in node._dependencies} - found.keys.keys()
    assert outside <= known.keys()


def test_a_known_container_stands_for_each_one_that_is_equal():
    known, equal = gather(1, 2), gather(1, 2)
    target = join(known[0], load(equal[0]))
    keys = node_keys(target)

    body = graph_record(target, keys, {known: keys[known]})
    found = read(body, {keys[known]: known})

    assert [node.task.name for node in found.keys] == ["getitem", "getitem", "load", "join"]
    containers = [
        node for node in in_order(found.target, routes=True) if node.task.name == "gather"
    ]
    assert len(containers) == 1
    assert containers[0] is known


def test_equal_nodes_keep_their_keys_though_their_places_in_the_source_are_lost():
    rolls = [load("dice") for _ in range(3)]
    target = gather(join(rolls[0]), join(rolls[1]), rolls[2])
    keys = node_keys(target)

    found = read(graph_record(target, keys))

    assert keys_in_order(found.target, found.keys) == keys_in_order(target, keys)


def test_a_known_node_is_written_as_its_key_wherever_it_stands():
    before, condition, source = load("a"), load("b") > 1, load("c")
    target = join(source, [source, 1], literal(2)).run_if(condition).after(before)
    target.with_capacity(gpu=source)
    known = {before: bytes(16), condition: KEY, source: KEY[::-1]}

    body = graph_record(target, node_keys(target, known=known), known)
    found = read(body, {key: lazy for lazy, key in known.items()}).target

    assert (found._conditions, found._predecessors) == ((condition,), (before,))
    assert found._amounts == {"gpu": source}
    assert found.args[0] is source
    assert found.args[1].args[1] is source
    assert json.loads(body)["graph"]["nodes"][-1]["args"][0] == {"$known": KEY[::-1].hex()}


def test_a_fallback_of_a_known_node():
    source = load("a")
    target = source.or_else(pair(source, 1))

    body = graph_record(target, node_keys(target), {source: KEY})
    found = read(body, {KEY: source}).target

    assert found.args[1] is source
    assert found.args[0].instead.args[0] is source


def test_a_name_comes_back():
    target = load("a").named("first")

    found = read(graph_record(target, node_keys(target))).target

    assert node_keys(found)[found] == node_keys(target)[target]
    assert found._policies.name == "first"


def test_a_graph_that_has_no_form_is_refused():
    lazy = load("a").with_cache(ByArguments(_Backend()))

    with pytest.raises(SerializationError, match="has no JSON form: its cache"):
        graph_record(lazy, node_keys(lazy))


class _Backend:
    def get(self, key): ...

    def put(self, key, value, ttl): ...


# -- tail calls -----------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), values), st.integers(0))
def test_a_tail_call_comes_back_with_its_arguments(args, step):
    found = read(tail_record(CODEC, load, args, step))

    assert type(found) is TailRecord
    assert (found.task, found.step, found.amounts, found.keys) == (load, step, {}, {})
    assert shape(found.args) == shape(args)


def test_amounts_come_back():
    found = read(tail_record(CODEC, load, {}, 1, amounts={"gpu": 0.5}))

    assert found.amounts == {"gpu": 0.5}


def test_lazy_arguments_come_back_with_their_keys():
    node, known = load("a"), load("b")
    args = {"a": pair(node, known), "b": [node, {"x": known}], "c": (1, "plain"), "d": known}
    keys = node_keys(gather(args["a"], node), context=context_of(KEY, 1), known={known: KEY})

    body = tail_record(CODEC, join, args, 1, keys=keys, known={known: KEY})
    found = read(body, {KEY: known})

    assert found.args["c"] == (1, "plain")
    assert found.args["d"] is known
    assert found.args["a"].args[1] is known
    shared = found.args["a"].args[0]
    assert {shared, known} <= {*in_order(found.args["b"])}
    assert found.keys[shared] == keys[node]
    assert found.keys[found.args["a"]] == keys[args["a"]]


def test_a_literal_argument_is_its_value():
    assert read(tail_record(CODEC, load, {"a": literal([1])}, 0)).args == {"a": [1]}


def test_an_argument_without_a_form_is_named_by_its_place():
    with pytest.raises(NotStorableError) as caught:
        tail_record(CODEC, load, {"notes": [1, object()]}, 0)

    assert caught.value.place == "['notes'][1]"


def test_an_argument_without_a_form_is_named_beside_lazy_ones():
    with pytest.raises(NotStorableError) as caught:
        tail_record(CODEC, load, {"a": load(1), "notes": [1, object()]}, 0)

    assert caught.value.place == "['notes'][1]"


def test_a_task_inside_of_a_function_cannot_be_written():
    @task
    def inner(): ...

    with pytest.raises(SerializationError, match="inner cannot be imported by that name"):
        tail_record(CODEC, inner, {}, 0)


# -- hostile records ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"3",
        b"{}",
        b"[" * 10**6,
        b'{"graph":5}',
        b'{"graph":{"cascade":2,"nodes":[]},"target":0,"keys":[]}',
        b'{"graph":{"cascade":1,"nodes":[]},"target":0,"keys":[]}',
        b'{"graph":{"cascade":1,"nodes":[]},"target":"00","keys":[]}',
        b'{"graph":{"cascade":1,"nodes":[]},"target":"' + b"0" * 32 + b'","keys":[]}',
        b'{"graph":{"cascade":1,"nodes":[{"task":"os:system","args":[],"kwargs":{}}]},'
        b'"target":0,"keys":[null]}',
        b'{"graph":{"cascade":1,"nodes":[{"task":"tests.graph.flows:load","args":[],'
        b'"kwargs":{}}]},"target":0,"keys":[]}',
        b'{"task":"os:system","step":0,"args":{}}',
        b'{"task":"tests.graph.flows:load","step":"0","args":{}}',
        b'{"task":"tests.graph.flows:load","step":0,"args":[]}',
        b'{"task":"tests.graph.flows:load","step":0,"args":{},"lazy":{"a":0}}',
    ],
)
def test_a_malformed_record_is_refused(body):
    with pytest.raises(SerializationError):
        read(body)


def test_a_record_names_the_task_that_is_gone(monkeypatch):
    body = tail_record(CODEC, load, {}, 0)
    monkeypatch.delattr(flows, "load")

    with pytest.raises(SerializationError, match=r"'tests\.graph\.flows:load' cannot be imported"):
        read(body)
