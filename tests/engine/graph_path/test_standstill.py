"""A run in which tasks wait for each other names them (R9)."""

import pytest

import cascade as cs
from cascade.runtime.diagnostics.error_notes import notes_of


@cs.task
def double(x):
    return 2 * x


#: The results of the tasks below, by name.
NODES: dict[str, cs.LazyResult[object]] = {}


@cs.task
def report():
    return double(NODES["report"])


@cs.task
def gives(name):
    return NODES[name]


@cs.task
def gives_double(name, _after=None):
    return double(double(NODES[name]))


@cs.task
def tail_with(name):
    return double.tail(NODES[name])


@pytest.fixture(autouse=True)
def no_nodes():
    yield
    NODES.clear()


async def failure_of(engine, target, use_vm):
    with pytest.raises(cs.errors.CycleError) as caught:
        await engine.run(target, use_vm=use_vm)
    return caught.value


async def test_a_task_that_waits_for_its_own_node_is_named(engine, use_vm):
    NODES["report"] = report()
    error = await failure_of(engine, NODES["report"], use_vm)
    assert "report" in str(error)
    assert set(error.cycle) <= {"report", "double"}
    assert error.cycle[0] == error.cycle[-1]
    (note,) = notes_of(error)
    assert "in task 'report', called at " in note
    assert note.endswith("on the path report → double → report")


async def test_on_the_graph_path_the_whole_cycle_is_named(engine):
    NODES["report"] = report()
    error = await failure_of(engine, double(NODES["report"]), False)
    assert error.cycle == ("report", "double", "report")
    assert "'report' ← 'double' ← 'report'" in str(error)
    assert notes_of(error)[0].endswith("on the path double → report → double → report")


async def test_two_tasks_that_give_each_other_are_named(engine):
    NODES["a"], NODES["b"] = gives_double("b"), gives_double("a")
    error = await failure_of(engine, double(NODES["a"]), False)
    assert set(error.cycle) == {"gives_double", "double"}


async def test_a_tail_call_that_waits_for_its_own_node_is_named(engine):
    NODES["tail"] = tail_with("tail")
    error = await failure_of(engine, NODES["tail"], False)
    assert "tail_with" in error.cycle
