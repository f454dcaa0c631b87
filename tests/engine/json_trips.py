"""Targets and blueprints mean the same after a trip through JSON."""

import asyncio

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json
from cascade.graph.serialize import from_json, to_json
from cascade.runtime.vm import VirtualMachine


def check_graph(make, run_on):
    """A graph is the same after the trip: its JSON, and its value by ``run_on``."""
    text = to_json(make())
    target = from_json(text).target

    assert run_on(target) == run_on(make())
    assert to_json(target) == text


def check_blueprint(make, inputs=()):
    """The same of a blueprint, which is given ``inputs``."""
    text = blueprint_to_json(BlueprintBuilder().build(make()))
    blueprint = blueprint_from_json(text)

    assert cs.verify(blueprint)
    assert asyncio.run(VirtualMachine().execute(blueprint, inputs)) == cs.run(make())
    assert blueprint_to_json(blueprint) == text
