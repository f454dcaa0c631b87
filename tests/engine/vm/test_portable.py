"""Blueprints read from JSON: verified and executed like compiled ones."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.graph.flows import countdown, join, load, mixed, pair
from tests.graph.programs import programs

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json
from cascade.runtime.vm import VirtualMachine

ROOT = Path(__file__).parents[3]


def again(blueprint):
    loaded = blueprint_from_json(blueprint_to_json(blueprint))
    cs.verify(loaded, strict=True)
    return loaded


def outcome(blueprint, *args, **kwargs):
    """The value, or the error of the run if it has no value."""
    try:
        return asyncio.run(VirtualMachine().execute(blueprint, args, kwargs))
    except cs.errors.DependencyMissingError as error:
        return str(error)


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(programs())
def test_a_program_gives_the_same_value_after_the_trip(program):
    blueprint = BlueprintBuilder().build(program[-1], template=False)

    assert repr(outcome(again(blueprint))) == repr(outcome(blueprint))


@settings(deadline=None)
@given(st.integers(), st.lists(st.integers(), max_size=3), st.integers())
def test_a_template_takes_the_same_inputs_after_the_trip(a, rest, c):
    blueprint = BlueprintBuilder().build_task(mixed)
    expected = outcome(blueprint, a, 2, *rest, c=c, z=a)

    assert outcome(again(blueprint), a, 2, *rest, c=c, z=a) == expected


@pytest.mark.parametrize(
    "target",
    [
        pair.map(a=[1, 2, 3]),
        pair.map(a=[load("x"), 2], b=cs.literal(5)),
        cs.Router(selector=load(), routes={load.func(): pair(load("x")), 2: 3}),
        cs.Param("p", default=7) + 1,
        join(cs.Env("CASCADE_NOT_SET", "x"), [load(), {"a": (load(), 1)}]),
    ],
    ids=["map", "map over lazy values", "router", "param", "containers"],
)
def test_other_nodes_than_calls_of_tasks_give_the_same_value(target):
    blueprint = BlueprintBuilder().build(target)
    loaded = again(blueprint)

    assert outcome(loaded) == outcome(blueprint)
    assert outcome(loaded) == outcome(loaded)


def test_a_loop_still_loops():
    blueprint = again(BlueprintBuilder().build(countdown(count=0)))

    assert outcome(blueprint, count=1000) == "done"


def test_another_process_needs_nothing_but_the_text():
    text = blueprint_to_json(BlueprintBuilder().build(pair(load("x"), b=[load("y")])))
    code = (
        "import asyncio, sys\n"
        "from cascade.graph.portable import blueprint_from_json\n"
        "from cascade.runtime.vm import VirtualMachine\n"
        "assert 'tests.graph.flows' not in sys.modules\n"
        "allowed = ['tests.graph.flows']\n"
        "blueprint = blueprint_from_json(sys.stdin.read(), modules=allowed)\n"
        "print(asyncio.run(VirtualMachine().execute(blueprint)))"
    )
    # -c puts the working directory, the repository's root, on the path.
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=text,
        text=True,
        cwd=ROOT,
        check=True,
        capture_output=True,
    )

    assert int(result.stdout) == pair.func(load.func("x"), [load.func("y")])
