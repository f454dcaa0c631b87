"""The benchmark of loops computes correctly and writes its report; no test checks a time.

The tiers are pytest-benchmarks as well: ``hatch test tests/observatory/test_tco_performance.py
--benchmark-enable --benchmark-only`` times them.
"""

import asyncio
import itertools

import pytest
from tests.observatory.reports import check_printed, report_of

import cascade as cs
from cascade.observatory.benchmarks import loops, peers, steps
from cascade.observatory.benchmarks.contenders import Cascade, EventLoop
from cascade.observatory.benchmarks.delays import delays_beside
from cascade.observatory.benchmarks.findings import Findings
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.pages import charts_in, curves_in
from cascade.runtime.loops.fused import is_traced

STEPS = 1_000
TIERS = ["interpreted", "generated", "fused"]

of_each_loop = pytest.mark.parametrize("loop", loops.LOOPS, ids=lambda loop: loop.name)


def cascade_of(tier):
    if tier == "fused" and is_traced():
        pytest.skip("a debugger or coverage traces lines, so nothing is fused")
    return Cascade(tier=tier)


# -- the tiers, as pytest-benchmarks --------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@of_each_loop
def test_steps_on_the_virtual_machine(benchmark, loop, tier):
    arguments = loop.arguments(STEPS)
    benchmark.group = loop.name
    with cascade_of(tier) as cascade:
        value = benchmark(lambda: cascade.run(lambda: loop.task(**arguments), use_vm=True))
    assert value == loop.plain(**arguments)


@of_each_loop
def test_steps_on_the_graph_path(benchmark, loop):
    arguments = loop.arguments(STEPS)
    benchmark.group = loop.name
    with Cascade() as cascade:
        value = benchmark(lambda: cascade.run(lambda: loop.task(**arguments)))
    assert value == loop.plain(**arguments)


@of_each_loop
def test_steps_of_a_bare_while(benchmark, loop):
    arguments = loop.arguments(STEPS)
    benchmark.group = loop.name
    benchmark(lambda: loop.plain(**arguments))


@of_each_loop
def test_steps_of_a_trampoline(benchmark, loop):
    benchmark.group = loop.name
    value = loop.plain(**loop.arguments(STEPS))
    assert benchmark(lambda: loop.bounce(STEPS)) == value
    if loop is not loops.EVEN_ODD:
        assert loop.bounce_checked(STEPS) == value


@pytest.mark.parametrize("loop", [loops.COUNTDOWN, loops.EVEN_ODD], ids=lambda loop: loop.name)
def test_a_loop_that_counts_its_steps_gives_the_same(loop):
    for size in (0, 1, STEPS):
        assert loop.counted(**loop.arguments(size)) == loop.plain(**loop.arguments(size))


@of_each_loop
def test_steps_of_an_asyncio_loop(benchmark, loop):
    arguments = loop.arguments(STEPS)
    benchmark.group = loop.name
    with EventLoop() as by_hand:
        value = benchmark(lambda: by_hand.wait_for(lambda: loop.turns(**arguments)))
    assert value == loop.plain(**arguments)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("body", ["turns", "inbox"])
def test_steps_of_an_agent(benchmark, body, tier):
    benchmark.group = f"agent, {body}"

    def agent():
        if body == "turns":
            return loops.take_turns(STEPS)
        return loops.read_inbox(STEPS, loops.inbox_of(1))

    with cascade_of(tier) as cascade:
        value = benchmark(lambda: cascade.run(agent, use_vm=True))
    assert value == (0 if body == "turns" else STEPS)


@pytest.mark.parametrize("task", [loops.descend, loops.descend_by_chains], ids=lambda t: t.name)
def test_recursion_on_the_graph_path(benchmark, task):
    benchmark.group = "recursion"
    with Cascade() as cascade:
        assert benchmark(lambda: cascade.run(lambda: task(100))) == 0


# -- the bodies -----------------------------------------------------------------------------------


@of_each_loop
@pytest.mark.parametrize("size", [2, 17, 300])
def test_a_loop_makes_as_many_steps_as_it_says(loop, size):
    steps = loop.steps(size)
    assert steps >= size
    arguments = loop.arguments(size)

    async def run(most):
        async with cs.Engine(tier="interpreted") as engine:
            return await engine.run(loop.task(**arguments), use_vm=True, max_steps=most)

    assert asyncio.run(run(steps)) == loop.plain(**arguments)
    with pytest.raises(cs.errors.StepLimitError):
        asyncio.run(run(steps - 1))


@pytest.mark.parametrize(
    "task",
    [*(loop.task for loop in loops.LOOPS), loops.take_turns, loops.read_inbox, loops.root_of],
    ids=lambda task: task.name,
)
def test_every_tier_can_be_had_for_the_tasks(task):
    if is_traced():
        pytest.skip("a debugger or coverage traces lines, so nothing is fused")
    assert cs.explain(task).tier == "fused"


def test_those_by_hand_compute_the_same():
    async def by_hand():
        return (
            await loops.take_turns_by_hand(5),
            await loops.read_inbox_by_hand(5, loops.inbox_of(3)),
        )

    assert asyncio.run(by_hand()) == (0, 15)
    assert loops.descend_by_calls(5) == 0
    assert loops.by_position(loops.root_of.func, {"value": 2.0}) == pytest.approx(2**0.5)


# -- the harness ----------------------------------------------------------------------------------


async def spin():
    for _ in itertools.count():
        await asyncio.sleep(0)


def test_delays_are_measured_until_time_is_up():
    delays = asyncio.run(delays_beside([spin(), spin()], 0.01))
    assert 0 < delays.median <= delays.p99 <= delays.most


def test_delays_beside_work_that_fails_or_ends_are_refused():
    async def fail():
        raise KeyError("lost")

    async def end():
        pass

    with pytest.raises(KeyError, match="lost"):
        asyncio.run(delays_beside([fail(), spin()], 0))
    with pytest.raises(
        ValueError, match=r"^the works must run until they are cancelled, but one has ended$"
    ):
        asyncio.run(delays_beside([spin(), end()], 0))


def test_the_peak_is_measured_from_the_memory_before():
    kept = bytearray(1_000_000)
    assert 2_000_000 <= peak_bytes(lambda: bytearray(2_000_000)) < 2_500_000
    assert peak_bytes(lambda: None) < 500_000
    assert len(kept) == 1_000_000


def test_findings_state_small_bounds_as_factors():
    found = Findings()
    found.target("cost", 1.0, most=2)
    found.target("speed", 1.0, least=40_000)
    found.target("delay", 1.0, most=10, unit="ms")
    assert [target["unit"] for target in found.targets] == ["×", "", "ms"]
    assert [target["met"] for target in found.as_json()["targets"]] == [True, False, True]


def test_a_contender_has_one_colour_in_all_charts():
    def measured(*names):
        one = {"median": 1e-6, "quartiles": [1e-6, 2e-6]}
        contenders = [{"name": name, **one} for name in names]
        return {"section": "s", "unit": "step", "contenders": contenders}

    document = {
        "measurements": {
            "one, 1 000 steps": measured("a", "b"),
            "one, 10 000 steps": measured("a"),
            "two, 10 at once": measured("c", "b", "wide plain calls"),
            "two, 100 at once": measured("c"),
            "alone": measured("a"),
        }
    }
    one, two = curves_in(document)

    assert (one.title, two.title) == ("one", "two")
    assert (one.x_label, two.x_label, one.y_label) == ("steps", "agents", "µs per step")
    colours = {curve.name: curve.colour for chart in (one, two) for curve in chart.curves}
    assert [curve.colour for curve in two.curves] == [colours["c"], colours["b"]]
    assert len(set(colours.values())) == 3
    assert (one.curves[0].xs, one.curves[0].ys) == ([1_000, 10_000], [1, 1])
    assert one.curves[0].ranges == [(1, 2), (1, 2)]
    assert [curve.bold for curve in one.curves] == [True, False]
    assert one.y_range == two.y_range == (1, 10)
    assert curves_in(document, ["two"])[0].title == "two"


@pytest.mark.parametrize(
    "peer",
    [peers.PydanticGraph, peers.Burr, peers.LangGraph],
    ids=lambda peer: peer.distribution,
)
def test_peers_count_down(peer, counter_of):
    assert counter_of(peer).count_down(20) == 0


# -- the program ----------------------------------------------------------------------------------


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_the_benchmark_of_loops_runs_and_writes_its_report(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "CALLS", 1_000)
    monkeypatch.setattr(steps, "pythons_of_this_machine", dict)  # test_other_pythons.py has them
    report = report_of(steps.PROGRAM, tmp_path, "--quick")
    written = report.written

    titles = {f"{loop.name}, 100 steps" for loop in loops.LOOPS}
    titles |= {"recursion, 100 steps", "inbox"}
    titles |= {"making a loop", "watching"}
    assert titles <= set(written["measurements"])
    names = [c["name"] for c in written["measurements"]["countdown, 100 steps"]["contenders"]]
    assert names == [
        "fused",
        "generated",
        "interpreted",
        "graph path",
        "bare while",
        "counted steps",
        "trampoline",
        "checked trampoline",
        "asyncio loop",
    ]
    assert written["benchmark"] == "tco_performance"
    assert written["memory_bytes"].keys() == {"fused", "generated", "interpreted"}
    assert all(set(delays) == {"p50", "p99", "max"} for delays in written["delay_ms"].values())
    check_printed(report)
    assert len(charts_in(written)) >= 10
