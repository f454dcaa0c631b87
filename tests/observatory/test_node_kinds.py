"""The benchmarks of kinds of nodes compute correctly; no test looks at a time."""

import asyncio

import pytest
from tests.observatory.reports import check_printed, check_suite, few_nodes_in, report_of

from cascade.observatory.benchmarks import awaiting, maps, nodes, peers
from cascade.observatory.benchmarks.contenders import (
    AsyncioGather,
    Cascade,
    EventLoop,
    InARow,
    TaskGroups,
)
from cascade.observatory.benchmarks.pages import pictured_in
from cascade.observatory.benchmarks.shapes import SHAPES
from cascade.runtime.events import TaskCached

# -- contenders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", awaiting.KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("size", [2, 7, 64])
def test_every_system_computes_every_kind_of_coroutine(kind, shape, size, few_nodes):
    systems = [
        Cascade(tasks=kind.tasks),
        *(system(kind.functions) for system in (AsyncioGather, TaskGroups, InARow)),
    ]
    for system in systems:
        with system:
            contender = system.contender(shape, size)
            assert contender.run() == contender.expected


def test_a_kind_awaits_what_it_says():
    async def turns(kind):
        """Turns of the event loop until a coroutine has ended."""
        ended = asyncio.ensure_future(kind.functions.step(1))
        count = 0
        while not ended.done():
            await asyncio.sleep(0)
            count += 1
        return count

    assert [asyncio.run(turns(kind)) for kind in awaiting.KINDS] == [1, 2, 2]
    timed = awaiting.IN_TIME.tasks.add(1, 2)
    assert timed._policies.calls.timeout == awaiting.LONG


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("size", [1, 50])
def test_every_contender_of_maps_computes_the_same(size, depth, few_nodes):
    with Cascade() as cascade, EventLoop() as loop:
        found = maps._item_contenders(cascade, loop, range(size), depth)
        assert {one.name for one in found} == {
            *(maps.MAP, maps.CALLS, maps.ASYNC_MAP, maps.COMPREHENSION, maps.GATHER)
        }
        for one in found:
            assert one.run() == [number + depth for number in range(size)]


def test_a_loop_copies_its_list_at_each_step():
    class Counting(list):
        copies = 0

        def copy(self):
            Counting.copies += 1
            return Counting(self)

    assert maps.copy_by_hand(7, Counting([1])) == 0
    assert Counting.copies == 7
    with Cascade() as cascade:
        assert cascade.run(lambda: maps.keep_copying(7, [1, 2]), use_vm=True) == 0
        assert cascade.run(lambda: maps.keep_counting(7, [1, 2]), use_vm=True) == 0


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        *(("policies", kind) for kind in nodes.POLICIES),
        *(("resources", kind) for kind in nodes.RESOURCES),
    ],
)
def test_nodes_of_a_kind_give_their_numbers(benchmark, title, kind):
    benchmark.group = title
    make = {**nodes.POLICIES, **nodes.RESOURCES}[kind]
    with Cascade(capacities={"slots": 100}, resources=[nodes.shared, nodes.own]) as cascade:
        assert benchmark(nodes._running(cascade, make, 100)) == list(range(100))


def test_no_call_with_a_cache_finds_its_value():
    """Else its cost would be that of a look."""
    make, calls = nodes.POLICIES[nodes.CACHE], []
    with Cascade() as cascade:
        cascade.engine.bus.subscribe(TaskCached, calls.append)
        for _ in range(2):
            nodes._running(cascade, make, 5)()
    assert calls == []


@pytest.mark.parametrize(
    "peer",
    [peers.PydanticGraph, peers.Burr, peers.LangGraph],
    ids=lambda peer: peer.distribution,
)
def test_peers_count_down_in_an_event_loop(peer, counter_of):
    with EventLoop() as loop:
        contender = peers.counting(counter_of(peer), loop, 20, times=2)
        assert contender.run() == 0
        assert contender.operations == 2


# -- the program ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        few_nodes_in(patch)
        return report_of(nodes.PROGRAM, tmp_path_factory.mktemp("report"), "--quick")


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_the_benchmark_of_kinds_of_nodes_writes_its_report(report):
    written = report.written
    titles = {
        f"{shape}, {kind.name}, 100 nodes" for shape in ("wide", "chain") for kind in awaiting.KINDS
    }
    titles |= {"timeouts", "policies", "resources", "long arguments"}
    titles |= {"map, 100 tasks", "map of map of map, 100 tasks"}
    assert titles <= set(written["measurements"])
    names = [
        one["name"]
        for one in written["measurements"]["wide, returns at once, 100 nodes"]["contenders"]
    ]
    systems = [
        "cascade",
        "asyncio.gather",
        "TaskGroup",
        "awaited in a row",
        "begun early",
        "begun early, watched",
    ]
    assert names == systems
    assert {one["name"] for one in written["measurements"]["policies"]["contenders"]} >= set(
        nodes.POLICIES
    )
    assert {one["section"] for one in written["targets"]} == {
        "timeouts",
        "policies",
        "resources",
        "long arguments",
    }
    check_printed(report)


@pytest.mark.timeout(180)
def test_ratios_are_of_one_process_and_its_rounds(report):
    """A ratio is the median of the ratios of the same rounds, of which there was one."""
    for measured in report.written["measurements"].values():
        base = {one["name"]: one for one in measured["contenders"]}[measured["baseline"]]
        for one in measured["contenders"]:
            assert len(one["seconds_per_operation"]) == 1
            assert one["ratio"]["median"] == pytest.approx(one["median"] / base["median"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["coroutines", "nodes", "maps"])
def test_the_report_has_each_suite_and_its_charts(report, name):
    suite, part = check_suite(report, name)
    several = {t.replace("100", "1 000"): m for t, m in part["measurements"].items()}
    larger = {**part, "measurements": {**part["measurements"], **several}}
    assert [chart.title for chart in pictured_in(larger, suite.drawn)] == list(suite.drawn)
