"""The benchmark of limits computes correctly and writes its report; no test checks a time.

Its bodies are pytest-benchmarks as well: ``hatch test tests/observatory/test_governance.py
--benchmark-enable --benchmark-only`` times them.
"""

import json

import pytest
from tests.in_process import call

from cascade.observatory.benchmarks import flood, limits, wakeups
from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.limits import SCOPES, limit
from cascade.observatory.benchmarks.loops import count_down
from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.shapes import WIDE

# -- the bodies, as pytest-benchmarks -------------------------------------------------------------


@pytest.mark.parametrize("which", SCOPES)
def test_nodes_of_a_wide_graph_under_limits(benchmark, which):
    benchmark.group = "limits, a wide graph"
    with Cascade() as cascade:
        limit(cascade.engine, which)
        contender = cascade.contender(WIDE, 100)
        assert benchmark(contender.run) == contender.expected


@pytest.mark.parametrize("which", SCOPES)
def test_steps_of_a_loop_under_limits(benchmark, which):
    benchmark.group = "limits, a loop"
    with Cascade(tier="auto") as cascade:
        limit(cascade.engine, which)
        assert benchmark(lambda: cascade.run(lambda: count_down(1_000), use_vm=True)) == 0


@pytest.mark.parametrize("hold", [wakeups.hold_in_the_loop, wakeups.hold_on_a_thread])
def test_calls_that_wait_for_each_other(benchmark, hold):
    benchmark.group = "limits, wake-ups"
    with Cascade(capacities={"slots": 1}) as cascade:

        def calls():
            return [hold(number).with_capacity(slots=1) for number in range(20)]

        assert benchmark(lambda: cascade.run(calls)) == list(range(20))


# -- measured bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [wakeups.hold_in_the_loop, wakeups.hold_on_a_thread])
def test_gaps_are_between_calls_that_waited_for_each_other(hold):
    wakeups.forget()
    with Cascade(capacities={"slots": 1}) as cascade:
        value = cascade.run(lambda: [hold(n).with_capacity(slots=1) for n in range(20)])
    assert value == list(range(20))
    found = wakeups.gaps()
    assert len(found) == 19
    assert min(found) >= 0


def test_calls_that_overlap_have_no_gaps():
    wakeups.forget()
    with Cascade() as cascade:
        cascade.run(lambda: [wakeups.hold_in_the_loop(n) for n in range(1)])
    with pytest.raises(ValueError, match="one after the other"):
        wakeups.gaps()


@pytest.mark.parametrize("absent", ["aiomqtt", "mosquitto"])
def test_a_flood_that_cannot_come_says_what_it_lacks(monkeypatch, absent):
    monkeypatch.setattr(flood, "find_spec", lambda name: None if name == absent else object())
    monkeypatch.setattr(flood.shutil, "which", lambda name, path: None if name == absent else name)

    named = {"aiomqtt": "cascade-observatory[flood]", "mosquitto": "mosquitto"}
    assert flood.lacking() == f"{named[absent]} is not installed"


def test_the_program_writes_its_figures(tmp_path):
    figures = tmp_path / "figures.json"
    page = tmp_path / "new" / "page.html"
    options = ("--max=100", "--rounds=1", f"--json={figures}", f"--plot={page}")
    done = call(lambda words: limits.PROGRAM.run(write_page, words), *options, cwd=tmp_path)
    document = json.loads(figures.read_text(encoding="utf-8"))
    assert document["benchmark"] == "governance"
    lacking = flood.lacking()
    assert document["measurements"].keys() == {
        "limits, a wide graph",
        "limits, a fused loop",
        "limits, control plane",
        *([] if lacking else ["limits, a flood"]),
    }
    assert (f"flood: not measured, because {lacking}" in done.stdout) is bool(lacking)
    assert [target["figure"] for target in document["targets"]] == [
        "limits for others: a wide graph",
        "limits for others: a fused loop",
        "idle control plane: a fused loop",
        *([] if lacking else ["speed in a flood: a fused loop"]),
        "wake-up in the event loop: p99",
        "wake-up on workers: p99",
    ]
    assert "<svg viewBox" in page.read_text(encoding="utf-8")
    assert str(figures) in done.stdout.replace("\n", "")
