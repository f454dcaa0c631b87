"""Declared policies in JSON: a node has what its call made of them, not what its task declares."""

import pytest
from tests.graph.flows import fetch

from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json
from cascade.graph.serialize import from_json, to_json


def again(target):
    return from_json(to_json(target)).target


def policies(lazy):
    retry = lazy._calls.retry
    return retry and retry.max_attempts, lazy._calls.timeout, lazy._calls.capacities


@pytest.mark.parametrize(
    "change",
    [
        lambda lazy: lazy,
        lambda lazy: lazy.with_retry(None),
        lambda lazy: lazy.with_timeout(None),
        lambda lazy: lazy.with_capacity(gpu=0),
        lambda lazy: lazy.with_retry(9).with_timeout(9).with_capacity(gpu=2, disk=1),
    ],
)
def test_a_call_and_the_items_of_a_map_are_the_same_after_json(change):
    call = change(fetch("a"))
    assert policies(again(call)) == policies(call)

    items = change(fetch.map(url=["a"]))
    (item,) = items.task.func(*items.args)._dependencies
    read = again(items)
    (same,) = read.task.func(*read.args)._dependencies
    assert policies(same) == policies(item) == policies(call)


@pytest.mark.parametrize("change", [lambda lazy: lazy, lambda lazy: lazy.with_retry(None)])
def test_a_blueprint_is_the_same_after_json(change):
    blueprint = BlueprintBuilder().build(change(fetch("a")))
    read = blueprint_from_json(blueprint_to_json(blueprint))

    (call,) = blueprint.instructions
    (same,) = read.instructions
    assert same.policies.timeout == call.policies.timeout
    assert (same.policies.retry is None) == (call.policies.retry is None)


def test_the_map_of_a_blueprint_is_the_same_after_json():
    blueprint = BlueprintBuilder().build(fetch.map(url=["a"]).with_retry(None).with_timeout(None))
    read = blueprint_from_json(blueprint_to_json(blueprint))

    (plan,) = (call.args[0].value for call in read.instructions)
    items = read.instructions[0].func(plan, ["a"])._dependencies
    assert [policies(item) for item in items] == [(None, None, (("gpu", 1),))]
